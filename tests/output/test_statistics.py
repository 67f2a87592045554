"""Measurements against numbers known by construction."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from diffseglung.labels import BACKGROUND, LESIONS, TISSUES, UNASSIGNED
from diffseglung.output.record import write_json
from diffseglung.output.statistics import LAA_HU, Tally, measure
from diffseglung.platform.errors import GeometryError
from diffseglung.platform.serialization import plain
from diffseglung.segmentation import Segmentation
from diffseglung.volume import Volume


def density(hu: np.ndarray) -> dict:
    """Densitometry of lung voxels, HU (N,)."""
    tally = Tally()
    tally.add(hu)
    return tally.density()


def measured(chest: Segmentation) -> dict:
    assert chest.posterior is not None
    expected = chest.posterior.sum((0, 1, 2), dtype=np.float64)
    return measure(chest.ct, chest.lungs, chest.label_map, expected)


def test_volumes_are_counts_times_voxel_volume(chest: Segmentation) -> None:
    found = measured(chest)
    voxel_mm3 = 2.5 * 0.8 * 0.7
    for label in TISSUES:
        count = np.count_nonzero(chest.label_map.array == label.id)
        assert found[label.name]["volume"] == pytest.approx(count * voxel_mm3, rel=1e-4)
        assert found[label.name]["volume_ml"] == pytest.approx(count * voxel_mm3 / 1000, abs=6e-4)
    assert found["ggo"]["mean_hu"] == found["ggo"]["intensity"] == -600
    assert found["lung"]["volume_ml"] == pytest.approx(30 * 24 * 32 * voxel_mm3 / 1000, rel=1e-3)


def test_shares_add_up_in_each_lung_and_in_both(chest: Segmentation) -> None:
    found = measured(chest)
    for part in (lambda e: e, lambda e: e["right"], lambda e: e["left"]):
        assert sum(part(found[t.name])["fraction_of_lung"] for t in TISSUES) == pytest.approx(1, abs=1e-5)
        lesions = sum(part(found[t.name])["fraction_of_lung"] for t in LESIONS)
        assert part(found["lesions"])["fraction_of_lung"] == pytest.approx(lesions, abs=1e-5)
    assert found["ggo"]["right"]["volume"] == pytest.approx(2 * found["ggo"]["left"]["volume"])


def test_expected_volumes_follow_the_posterior(chest: Segmentation) -> None:
    found = measured(chest)
    want = 0.8 * found["ggo"]["volume_ml"] + 0.2 * found["emphysema"]["volume_ml"]
    assert found["ggo"]["expected_volume_ml"] == pytest.approx(want, rel=2e-3)
    assert measure(chest.ct, chest.lungs, chest.label_map)["ggo"]["expected_volume_ml"] is None


def rows_of_totalsegmentator(path: Path) -> dict[str, tuple[float, float | None]]:
    """What programs do with TotalSegmentator's statistics.json, {name: {"volume": mm3, "intensity": HU}}."""
    return {
        name: (entry["volume"], entry["intensity"])
        for name, entry in json.loads(path.read_text(encoding="utf-8")).items()
    }


def test_a_parser_of_totalsegmentator_s_statistics_reads_ours(chest: Segmentation, tmp_path: Path) -> None:
    write_json(tmp_path / "statistics.json", measured(chest))
    rows = rows_of_totalsegmentator(tmp_path / "statistics.json")
    assert {label.name for label in TISSUES} < set(rows)
    voxel_mm3 = 2.5 * 0.8 * 0.7
    for label in TISSUES:
        inside = chest.label_map.array == label.id
        volume, intensity = rows[label.name]
        assert volume == pytest.approx(np.count_nonzero(inside) * voxel_mm3, abs=0.05)
        assert intensity == pytest.approx(chest.ct.array[inside].mean(), abs=0.01)
    assert sum(rows[label.name][0] for label in TISSUES) == pytest.approx(rows["lung"][0], abs=0.5)


def test_what_is_absent_is_null_not_zero(chest: Segmentation) -> None:
    only_right = chest.lungs.with_array(np.where(chest.lungs.array == 1, 1, 0).astype(np.uint8))
    found = measure(chest.ct, only_right, chest.label_map)
    left = found["lung"]["left"]
    assert left["volume_ml"] == 0
    assert left["mean_lung_density_hu"] is None
    assert left["LAA-950"] is None
    assert left["percentiles_hu"]["15"] is None
    assert [found["emphysema"]["left"][key] for key in ("fraction_of_lung", "mean_hu", "intensity")] == [None] * 3
    json.dumps(plain(found), allow_nan=False)


def test_densitometry_of_a_known_histogram() -> None:
    hu = np.arange(-1000, 0, dtype=np.float64)
    found = density(hu)
    for limit in LAA_HU:
        assert found[f"LAA{limit}"] == pytest.approx((limit + 1000) / 1000)
    assert found["HAA"] == pytest.approx(0.351)
    assert found["mean_lung_density_hu"] == -500.5
    assert found["percentiles_hu"]["15"] == pytest.approx(np.percentile(hu, 15), abs=0.1)


def test_nothing_changes_when_the_grid_is_flipped(chest: Segmentation) -> None:
    flipped = [v.with_array(v.array[::-1, :, ::-1]) for v in (chest.ct, chest.lungs, chest.label_map)]
    assert measure(*flipped) == measure(chest.ct, chest.lungs, chest.label_map)


def test_grids_that_differ_are_refused(chest: Segmentation) -> None:
    with pytest.raises(GeometryError, match="different grids"):
        measure(chest.ct.crop((0, 0, 0), (10, 10, 10)), chest.lungs, chest.label_map)


def test_percentiles_are_numpys() -> None:
    hu = np.random.default_rng(0).integers(-1024, 200, 997).astype(np.float32)
    found = density(hu)["percentiles_hu"]
    assert list(found) == ["5", "10", "15", "25", "50", "75", "90", "95"]
    for name, value in found.items():
        assert value == pytest.approx(np.percentile(hu, float(name)), abs=0.051)
    assert set(density(np.array([-777.0]))["percentiles_hu"].values()) == {-777.0}


def test_low_attenuation_lies_below_its_limit_and_high_within_both() -> None:
    for limit in LAA_HU:
        found = density(np.array([limit - 0.01, limit, limit + 0.01, 0.0]))
        assert found[f"LAA{limit}"] == 0.25
    assert density(np.array([-600.01, -600.0, -250.0, -249.99]))["HAA"] == 0.5


def test_densities_beyond_all_tissue_count_but_only_as_far_as_they_are_told_apart() -> None:
    found = density(np.array([-3000.0, -3000.0, 9000.0, 9000.0]))
    assert found["mean_lung_density_hu"] == 3000
    assert found["percentiles_hu"]["5"] == -1100
    assert found["percentiles_hu"]["95"] == 4000


def test_densitometry_of_both_lungs_is_that_of_their_voxels_together(chest: Segmentation) -> None:
    found = measured(chest)
    for part, inside in (
        (found["lung"], chest.lungs.array > 0),
        (found["lung"]["right"], chest.lungs.array == 1),
        (found["lung"]["left"], chest.lungs.array == 2),
    ):
        wanted = density(chest.ct.array[inside])
        assert {key: part[key] for key in wanted} == wanted
    assert found["lung"]["right"] != found["lung"]["left"]


def test_lung_without_a_label_is_counted_and_a_class_of_last_resort_told_where_it_occurs(chest: Segmentation) -> None:
    assert measured(chest)["lung"]["unlabelled_voxels"] == 0
    assert UNASSIGNED.name not in measured(chest)
    labels = chest.label_map.array.copy()
    labels[5, 6, 4:7], labels[5, 7, 28:30] = BACKGROUND.id, UNASSIGNED.id
    found = measure(chest.ct, chest.lungs, chest.label_map.with_array(labels))
    assert found["lung"]["unlabelled_voxels"] == 3
    assert found[UNASSIGNED.name]["left"]["volume"] == pytest.approx(2 * 2.5 * 0.8 * 0.7, abs=0.05)
    assert found[UNASSIGNED.name]["right"]["volume"] == 0
    assert found["lung"]["volume"] == measured(chest)["lung"]["volume"]


def test_figures_carry_a_fixed_number_of_digits() -> None:
    """A tenth of a cubic millimetre, three digits of a millilitre, six of a share, two of HU, one of a percentile."""
    hu = Volume(np.array([-700.0, -701.0, -703.0]).reshape(1, 1, 3), np.diag([0.77, 0.83, 1.91, 1]))
    ones = hu.with_array(np.ones(hu.shape, np.uint8))
    labels = hu.with_array(np.array([1, 1, 3], np.uint8).reshape(1, 1, 3))
    found = measure(hu, ones, labels, np.full(5, 1 / 3))
    voxel_mm3 = 0.77 * 0.83 * 1.91
    assert found["healthy"]["volume"] == round(2 * voxel_mm3, 1)
    assert found["healthy"]["volume_ml"] == round(2 * voxel_mm3 / 1000, 3)
    assert found["healthy"]["expected_volume_ml"] == round(voxel_mm3 / 3000, 3)
    assert found["healthy"]["fraction_of_lung"] == 0.666667
    assert found["lung"]["mean_hu"] == found["lung"]["mean_lung_density_hu"] == -701.33
    assert found["lung"]["HAA"] == 0
    assert density(np.array([-990.0, -700, -700]))["LAA-950"] == 0.333333
    assert density(np.array([-700.0, -699.3]))["percentiles_hu"]["15"] == -699.9
