"""Laws of `scripts/independent_phantom.py`, on small chests."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import ndimage

from diffseglung.volume import Volume
from studies.runner import folder_jobs, read_case

SCRIPTS = Path(__file__).parents[1] / "scripts"
SEEDS = (1, 2)


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield importlib.import_module("independent_phantom")


@pytest.fixture(scope="module")
def folder(script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cases")
    assert script.main(["-o", str(out), "--small", "--seeds", *map(str, SEEDS)]) == 0
    return out


def values(folder: Path, seed: int) -> tuple[Volume, Volume, Volume]:
    return read_case(folder / f"phantom_{seed:04d}")


def test_the_benchmark_finds_every_case_and_its_strata(folder: Path, tmp_path: Path) -> None:
    assert len(folder_jobs(folder, tmp_path)) == len(SEEDS)
    for path in folder.glob("*/meta.json"):
        spec = json.loads(path.read_text(encoding="utf-8"))["spec"]
        assert {"kind", "condition", "severity", "novelty", "models"} <= spec.keys()
        assert "train" in json.loads(path.read_text(encoding="utf-8"))["use"]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_class_is_there_and_lies_in_the_lungs(folder: Path, seed: int) -> None:
    _, lungs, truth = values(folder, seed)
    assert set(np.unique(truth.array)) == {0, 1, 2, 3, 4, 5}
    assert np.array_equal(truth.array > 0, lungs.array > 0)
    assert (truth.array == 1).sum() > 0.4 * (lungs.array > 0).sum()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_density_of_every_class_is_what_its_name_allows(folder: Path, seed: int) -> None:
    ct, _, truth = values(folder, seed)
    middle = {k: float(np.median(ct.array[truth.array == k])) for k in range(1, 6)}
    assert -920 < middle[1] < -700
    assert middle[2] < middle[1] - 40
    assert middle[1] + 60 < middle[3] < -300
    assert middle[1] + 60 < middle[4] < 0
    assert -300 < middle[5] < 120


def test_a_seed_gives_the_same_bytes(script: ModuleType, folder: Path, tmp_path: Path) -> None:
    assert script.main(["-o", str(tmp_path), "--small", "--seeds", str(SEEDS[0])]) == 0
    for path in (tmp_path / f"phantom_{SEEDS[0]:04d}").iterdir():
        assert path.read_bytes() == (folder / path.parent.name / path.name).read_bytes()


def test_lesions_drawn_into_a_scan_keep_its_lungs_and_all_else(script: ModuleType, folder: Path) -> None:
    ct, lungs, _ = values(folder, SEEDS[1])
    turned = (
        Volume(ct.array[:, ::-1], ct.affine * [1, -1, 1, 1]),
        Volume(lungs.array[:, ::-1], ct.affine * [1, -1, 1, 1]),
    )
    case = script.draw_into(*turned, 4, step=1.4)
    assert np.array_equal(case.lungs.array, turned[1].array)
    assert np.array_equal(case.truth.array > 0, turned[1].array > 0)
    assert {2, 3, 4, 5} <= set(np.unique(case.truth.array))
    reach = [int(np.ceil(6 / s)) for s in ct.spacing_mm]
    near = ndimage.maximum_filter(turned[1].array, [2 * r + 1 for r in reach]) > 0
    assert np.array_equal(case.ct.array[~near], turned[0].array[~near])
    changed = np.abs(case.ct.array - turned[0].array) > 60
    assert (case.truth.array[changed] > 1).mean() > 0.6


def test_a_mask_of_another_scan_is_refused(script: ModuleType, folder: Path, tmp_path: Path) -> None:
    files = [folder / f"phantom_{SEEDS[0]:04d}" / "ct.nii.gz", folder / f"phantom_{SEEDS[1]:04d}" / "lungs.nii.gz"]
    with pytest.raises(SystemExit) as stopped:
        script.main(["-o", str(tmp_path), "--seeds", "1", "--background", *map(str, files)])
    assert stopped.value.code == 2


def test_every_class_has_four_families_or_more(script: ModuleType) -> None:
    lesions = sys.modules["independent_lesions"]
    labels = [family.label for family in lesions.FAMILIES]
    assert all(labels.count(k) >= 4 for k in (2, 3, 4, 5))
    assert len({family.name for family in lesions.FAMILIES}) == len(labels)
