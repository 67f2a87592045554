"""The report's pictures show the scan: the right voxels, upright, with the right ids, whatever the grid."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffseglung.labels import LESIONS
from diffseglung.output.report import stacks
from diffseglung.platform import out_of_core
from diffseglung.segmentation import Segmentation
from diffseglung.volume import Reorientation, Volume


def opened(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def turned(segmentation: Segmentation) -> Segmentation:
    """The same patient stored with other axes: x first and flipped."""
    volume = segmentation.ct

    def turn(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array.transpose(2, 0, 1)[::-1])

    affine = volume.affine[:, [2, 0, 1, 3]].copy()
    affine[:3, 3] += affine[:3, 0] * (volume.shape[2] - 1)
    affine[:3, 0] *= -1
    parts = [Volume(turn(v.array), affine) for v in (volume, segmentation.lungs, segmentation.label_map)]
    return replace(segmentation, ct=parts[0], lungs=parts[1], label_map=parts[2])


def test_labels_keep_their_ids_and_places(chest: Segmentation) -> None:
    """Pixels as large as voxels: each picture is the canonical slice, cropped."""
    reduced = stacks.reduce(chest)
    canonical = Reorientation.of(chest.ct).apply(chest.label_map)
    stack = stacks.axial(reduced, 80)
    assert sum((opened(p) == 5 * stacks.LABEL_STEP).sum() for p in stack["labels"]) > 0
    for number, picture in zip(stack["numbers"], stack["labels"], strict=True):
        ids = np.unique(opened(picture) // stacks.LABEL_STEP)
        assert set(ids) == set(np.unique(canonical.array[number - 1]))


def test_density_is_that_of_the_scan_within_steps_and_compression(chest: Segmentation) -> None:
    reduced = stacks.reduce(chest)
    stack = stacks.axial(reduced, 80)
    k = stack["numbers"].index(9)
    grey, ids = opened(stack["ct"][k]), opened(stack["labels"][k]) // stacks.LABEL_STEP
    healthy = stacks.HU_LOW + stacks.HU_STEP * (np.median(grey[ids == 1]) + 0.5)
    assert healthy == pytest.approx(-860, abs=12)


def test_the_stored_orientation_does_not_matter(chest: Segmentation) -> None:
    first, second = (stacks.reduce(item) for item in (chest, turned(chest)))
    np.testing.assert_array_equal(first.hu, second.hu)
    np.testing.assert_array_equal(first.labels, second.labels)
    assert first.pixel_mm == pytest.approx(second.pixel_mm)
    assert first.step_mm == pytest.approx(second.step_mm)


def test_the_patient_s_right_is_on_the_left_and_the_head_on_top(chest: Segmentation) -> None:
    """The right lung has x low (LPS): the left half of each picture; slice numbers fall from head to feet."""
    right = (chest.lungs.array == 1).astype(np.uint8)
    marked = replace(chest, label_map=chest.ct.with_array(right * 4))
    stack = stacks.axial(stacks.reduce(marked), 80)
    assert stack["sides"] == ["R", "L", "A", "P"]
    assert stack["numbers"] == sorted(stack["numbers"], reverse=True)
    picture = opened(stack["labels"][len(stack["labels"]) // 2])
    columns = np.flatnonzero(picture.any(0))
    canonical = Reorientation.of(chest.ct).apply(chest.ct.with_array(right))
    middle = canonical.array.shape[2] / 2
    assert (columns.mean() < picture.shape[1] / 2) == (np.argwhere(canonical.array)[:, 2].mean() < middle)


def test_coronal_pictures_are_the_axial_ones_seen_from_the_front(chest: Segmentation) -> None:
    reduced = stacks.reduce(chest)
    front = stacks.coronal(reduced, 80)
    for number, picture in zip(front["numbers"], front["labels"], strict=True):
        np.testing.assert_array_equal(opened(picture) // stacks.LABEL_STEP, reduced.labels[::-1, number - 1])


def test_amounts_add_up_to_the_volumes(chest: Segmentation) -> None:
    amounts = stacks.reduce(chest).amounts_ml.sum(0)
    for column, label in enumerate(LESIONS):
        assert amounts[column] == pytest.approx(chest.statistics[label.name]["volume_ml"], abs=1e-3)


def test_long_scans_are_shown_by_evenly_chosen_slices(chest: Segmentation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "MOST_AXIAL", 9)
    reduced = stacks.reduce(chest)
    assert len(reduced.slices) == 9
    assert np.ptp(np.diff(reduced.slices)) <= 1
    assert len(reduced.amounts_ml) > 9


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to see its own memory")
def test_slices_that_were_read_leave_memory() -> None:
    """A scan that lives in a mapped file does not come into memory as a whole, however many slices are shown."""

    def resident_mib() -> float:
        return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024

    axes = np.diag([0.7, 0.7, 1.0, 1.0])[:, [2, 1, 0, 3]]
    ct = Volume(out_of_core.zeros((300, 512, 512), np.float32), axes)  # 300 MiB, in a file
    lungs = ct.with_array(np.broadcast_to(np.uint8(1), ct.shape))
    before = resident_mib()
    reduced = stacks.reduce(Segmentation(ct, lungs, lungs, {}))
    kept = (reduced.hu.nbytes + reduced.labels.nbytes) / 2**20
    assert len(reduced.slices) == 300
    assert resident_mib() - before - kept < 100


def test_certainty_travels_in_sixteen_levels(chest: Segmentation) -> None:
    sure = np.where(chest.lungs.array > 0, 200, 0).astype(np.uint8)
    stack = stacks.axial(stacks.reduce(replace(chest, certainty=sure)), 80)
    levels = set(np.unique([opened(p) for p in stack["certainty"]]))
    assert levels <= {0, (200 // 16) * 17}
    assert stacks.axial(stacks.reduce(chest), 80)["certainty"] is None
