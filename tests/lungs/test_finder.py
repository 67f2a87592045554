from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffseglung.io.nifti import read_nifti
from diffseglung.lungs.finder import find_lungs
from diffseglung.platform.config import LungMaskConfig
from diffseglung.platform.errors import InputError
from diffseglung.volume import Reorientation, Volume


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def turned(ct: Volume, axes: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> Volume:
    """The same scan stored with other axes."""
    return Reorientation(axes, flips).apply(ct)


def test_both_lungs_are_found_each_on_its_side(chest: Any) -> None:
    found = find_lungs(chest.ct)
    assert found.array.dtype == np.uint8
    assert found.same_grid(chest.ct)
    for side in (1, 2):
        assert dice(found.array == side, chest.lungs == side) > 0.96


def test_airways_liver_dome_heart_stomach_and_table_are_no_lung(chest: Any) -> None:
    found = find_lungs(chest.ct).array > 0
    assert found[chest.trachea].mean() < 0.08
    assert found[chest.dome].mean() < 0.01
    assert found[chest.heart & (chest.lungs == 0)].mean() < 0.03
    assert (found & (chest.lungs == 0)).sum() < 0.05 * found.sum()


@pytest.mark.xfail(reason="the network knows chests with bones; of this one it takes in a part")
def test_dense_disease_against_the_chest_wall_is_lung(sick_chest: Any) -> None:
    found = find_lungs(sick_chest.ct).array > 0
    assert found[sick_chest.disease].mean() >= 0.85
    assert dice(found, sick_chest.lungs > 0) > 0.96


def test_without_learned_anatomy_dense_disease_is_lost(sick_chest: Any) -> None:
    found = find_lungs(sick_chest.ct, LungMaskConfig(learned=False)).array > 0
    assert found[sick_chest.disease].mean() < 0.3
    assert dice(found, (sick_chest.lungs > 0) & ~sick_chest.disease) > 0.9


@pytest.mark.parametrize(
    ("axes", "flips"),
    [((0, 1, 2), (True, False, True)), ((2, 0, 1), (False, True, False)), ((1, 2, 0), (True, True, True))],
)
def test_the_mask_does_not_depend_on_how_the_voxels_are_stored(
    chest: Any, axes: tuple[int, int, int], flips: tuple[bool, bool, bool]
) -> None:
    straight = find_lungs(chest.ct)
    back = Reorientation(axes, flips).undo(find_lungs(turned(chest.ct, axes, flips)).array)
    for side in (1, 2):
        assert dice(back == side, straight.array == side) >= 0.99


def test_a_mirrored_patient_has_mirrored_sides(chest: Any) -> None:
    straight = find_lungs(chest.ct).array
    mirrored = find_lungs(chest.ct.with_array(chest.ct.array[:, :, ::-1].copy())).array[:, :, ::-1]
    assert dice(mirrored == 2, straight == 1) > 0.97
    assert dice(mirrored == 1, straight == 2) > 0.97


def test_lungs_cut_at_top_and_bottom_are_found(chest: Any) -> None:
    part = chest.ct.crop((25, 0, 0), (55, 76, 100))
    assert dice(find_lungs(part).array > 0, chest.lungs[25:55] > 0) > 0.94


def test_a_crop_inside_the_body_is_found(chest: Any) -> None:
    part = chest.ct.crop((12, 14, 14), (60, 66, 86))
    assert dice(find_lungs(part).array > 0, chest.lungs[12:60, 14:66, 14:86] > 0) > 0.9


@pytest.mark.parametrize(("columns", "side"), [((0, 46), 1), ((54, 100), 2)])
def test_half_a_thorax_has_one_lung_of_the_right_name(chest: Any, columns: tuple[int, int], side: int) -> None:
    part = chest.ct.crop((0, 0, columns[0]), (75, 76, columns[1]))
    found = find_lungs(part).array
    assert set(np.unique(found)) == {0, side}


@pytest.mark.parametrize("spacing", [4.0, 8.0])
def test_thick_slices_are_no_obstacle(chest: Any, spacing: float) -> None:
    step = round(spacing / 4.0)
    affine = chest.ct.affine.copy()
    affine[:, 0] *= step
    thick = Volume(chest.ct.array[::step], affine)
    assert dice(find_lungs(thick).array > 0, chest.lungs[::step] > 0) > 0.94


@pytest.mark.parametrize("level", [40.0, -1000.0, 0.0])
def test_a_scan_without_lungs_is_refused(level: float, oblique_affine: np.ndarray) -> None:
    with pytest.raises(InputError, match="no lungs"):
        find_lungs(Volume(np.full((30, 40, 40), level, np.float32), oblique_affine))


def test_an_expert_draws_the_same_lungs(shared_data: Path) -> None:
    folder = shared_data / "lctsc_7cases"
    if not folder.is_dir():
        pytest.skip("no expert masks")
    ct = read_nifti(folder / "lctsc_Test-S1-201.nii.gz")
    expert = read_nifti(folder / "lctsc_Test-S1-201_lung.nii.gz").array > 0
    assert dice(find_lungs(ct).array > 0, expert) >= 0.95
