"""Training's rows: both stages are trained, and who waits for whom is told."""

from __future__ import annotations

from studies.speed.training import LOADS, Load, rows, synthetic_patches, trainer


def test_both_stages_and_the_teacher_are_timed() -> None:
    found = rows(quick=True)
    assert [any(f"stage {stage}" in row.what for row in found) for stage in (1, 2)] == [True, True]
    assert all(row.cost.seconds > 0 for row in found)
    assert all("waiting" in row.note for row in found if "stage" in row.what and "teacher" not in row.what)


def test_the_sizes_that_users_train_are_among_the_loads(tmp_path) -> None:
    assert {"tiny", "small", "reference"} <= {load.size for load in LOADS}
    with synthetic_patches(4) as patches:
        made = trainer(Load("tiny", updates=1, batch=2), patches, tmp_path)
        assert made.draws.global_batch == 2
