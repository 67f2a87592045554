from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffseglung.case.resample import resample
from diffseglung.io import read_mask
from diffseglung.io.mask_folder import LOBES
from diffseglung.io.nifti import write_nifti
from diffseglung.lungs.masks import adapt_mask
from diffseglung.platform.errors import GeometryError, InputError
from diffseglung.volume import Reorientation, Volume


def relabelled(chest: Any, right: tuple[int, ...], left: tuple[int, ...]) -> Volume:
    """The phantom's lungs as lobes: each side cut into as many stacked parts as labels are given."""
    height = np.indices(chest.lungs.shape)[0]
    out = np.zeros(chest.lungs.shape, np.uint8)
    for side, lobes in ((1, right), (2, left)):
        part = height * len(lobes) // chest.lungs.shape[0]
        out[chest.lungs == side] = np.asarray(lobes)[part[chest.lungs == side]]
    return chest.ct.with_array(out)


@pytest.mark.parametrize(
    ("right", "left"),
    [((1,), (2,)), ((5, 4, 3), (2, 1)), ((14, 13, 12), (11, 10))],
    ids=["lungmask R231", "lungmask LTRCLobes", "TotalSegmentator"],
)
def test_known_label_maps_give_the_sides(chest: Any, right: tuple[int, ...], left: tuple[int, ...]) -> None:
    adapted = adapt_mask(relabelled(chest, right, left), chest.ct)
    assert adapted.array.dtype == np.uint8
    np.testing.assert_array_equal(adapted.array, chest.lungs)


LUNGMASK_R231 = {"right lung": 1, "left lung": 2}
LUNGMASK_LOBES = {"left upper": 1, "left lower": 2, "right upper": 3, "right middle": 4, "right lower": 5}
"""The values that lungmask writes with its models R231 and LTRCLobes."""
TOTALSEGMENTATOR_LOBES = {
    "lung_upper_lobe_left": 10,
    "lung_lower_lobe_left": 11,
    "lung_upper_lobe_right": 12,
    "lung_middle_lobe_right": 13,
    "lung_lower_lobe_right": 14,
}
"""TotalSegmentator 2, class map of the task `total`."""


@pytest.mark.parametrize(
    "names", [LUNGMASK_R231, LUNGMASK_LOBES, TOTALSEGMENTATOR_LOBES], ids=["R231", "LTRCLobes", "TotalSegmentator"]
)
def test_every_label_of_both_tools_lands_on_its_side(chest: Any, names: dict[str, int]) -> None:
    right = tuple(label for name, label in names.items() if "right" in name)
    left = tuple(label for name, label in names.items() if "left" in name)
    mask = relabelled(chest, right, left)
    assert set(np.unique(mask.array)) == {0, *names.values()}
    adapted = adapt_mask(mask, chest.ct).array
    for name, label in names.items():
        assert set(np.unique(adapted[mask.array == label])) == {1 if "right" in name else 2}, name


def test_a_folder_of_lobes_as_totalsegmentator_writes_it(chest: Any, tmp_path: Path) -> None:
    assert TOTALSEGMENTATOR_LOBES == LOBES
    whole = relabelled(chest, (14, 13, 12), (11, 10))
    for name, label in TOTALSEGMENTATOR_LOBES.items():
        write_nifti(tmp_path / f"{name}.nii.gz", whole.with_array((whole.array == label).astype(np.uint8)))
    np.testing.assert_array_equal(adapt_mask(read_mask(tmp_path), chest.ct).array, chest.lungs)


def test_other_structures_of_totalsegmentator_are_left_out(chest: Any) -> None:
    total = relabelled(chest, (14, 13, 12), (11, 10))
    total.array[chest.heart & (chest.lungs == 0)] = 51
    np.testing.assert_array_equal(adapt_mask(total, chest.ct).array, chest.lungs)


@pytest.mark.parametrize(("value", "dtype"), [(1, np.uint8), (255, np.uint8), (True, np.bool_), (1.0, np.float32)])
def test_a_binary_mask_is_split_into_sides(chest: Any, value: float, dtype: type) -> None:
    binary = chest.ct.with_array(np.where(chest.lungs > 0, value, 0).astype(dtype))
    adapted = adapt_mask(binary, chest.ct).array
    np.testing.assert_array_equal(adapted > 0, chest.lungs > 0)
    assert (adapted == chest.lungs).mean() > 0.999


def test_other_axes_of_the_same_box_are_accepted(chest: Any) -> None:
    turned = Reorientation((2, 0, 1), (True, False, True)).apply(chest.ct.with_array(chest.lungs))
    np.testing.assert_array_equal(adapt_mask(turned, chest.ct).array, chest.lungs)


def test_other_voxels_of_the_same_box_are_accepted(chest: Any) -> None:
    coarse = resample(chest.ct.with_array(chest.lungs), (4.0, 5.0, 5.0), order=0)
    adapted = adapt_mask(coarse, chest.ct)
    assert adapted.same_grid(chest.ct)
    assert (adapted.array == chest.lungs).mean() > 0.97


def test_another_place_is_refused(chest: Any) -> None:
    affine = chest.ct.affine.copy()
    affine[2, 3] += 40
    with pytest.raises(GeometryError, match="same box"):
        adapt_mask(Volume(chest.lungs, affine), chest.ct)


@pytest.mark.parametrize(
    ("values", "message"),
    [([0], "empty"), ([0, 3, 700], "unknown meaning"), ([0, 0.4], "not labels"), ([0, -1], "not labels")],
)
def test_a_mask_of_no_known_meaning_is_refused(chest: Any, values: list[float], message: str) -> None:
    picks = np.random.default_rng(0).integers(0, len(values), chest.lungs.shape)
    with pytest.raises(InputError, match=message):
        adapt_mask(chest.ct.with_array(np.asarray(values)[picks]), chest.ct)


@pytest.mark.parametrize(("right", "left"), [((2,), (1,)), ((2, 1), (5, 4, 3)), ((17, 16, 15), (14, 13))])
def test_sides_the_wrong_way_round_or_another_numbering_is_refused(
    chest: Any, right: tuple[int, ...], left: tuple[int, ...]
) -> None:
    with pytest.raises(InputError, match=r"label|numbering"):
        adapt_mask(relabelled(chest, right, left), chest.ct)
