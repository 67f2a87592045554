"""The picture: its planes show the patient the right way round on any grid, and it is always a valid PNG."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from diffseglung.labels import TISSUES
from diffseglung.output.preview import (
    NOTE_LENGTH,
    NOTE_LINES,
    TITLE_LENGTH,
    choose_planes,
    draw,
    lung_plane,
    note_lines,
    scan_title,
)
from diffseglung.output.statistics import measure
from diffseglung.segmentation import Segmentation
from diffseglung.volume import Reorientation, Volume


def canonical_chest() -> tuple[Volume, Volume, Volume]:
    """Right lung with GGO high up and in front, left lung without; canonical axes, 4 x 2 x 2 mm."""
    affine = np.array([[0, 0, 2.0, 0], [0, 2.0, 0, 0], [4.0, 0, 0, 0], [0, 0, 0, 1]])
    lungs = np.zeros((30, 40, 50), np.uint8)
    lungs[3:27, 5:35, 4:22], lungs[3:27, 5:35, 28:46] = 1, 2
    labels = (lungs > 0).astype(np.uint8)
    labels[20:25, 6:12, 6:12] = 3
    ct = Volume(np.where(lungs > 0, -850, 40).astype(np.float32), affine)
    return ct, ct.with_array(lungs), ct.with_array(labels)


def turned(volume: Volume) -> Volume:
    """The same scan stored with other axes: (X flipped, Z, Y)."""
    array = np.ascontiguousarray(volume.array.transpose(2, 0, 1)[::-1])
    affine = volume.affine[:, [2, 0, 1, 3]].copy()
    affine[:3, 3] += affine[:3, 0] * (array.shape[0] - 1)
    affine[:3, 0] *= -1
    return Volume(array, affine)


def test_planes_are_where_the_disease_is_and_the_right_way_round() -> None:
    planes = choose_planes(*canonical_chest())
    assert [plane.title.split()[0] for plane in planes] == ["axial"] * 3 + ["coronal"] * 2 + ["sagittal"]
    axial, coronal, sagittal = planes[0], planes[3], planes[5]
    assert axial.title == "axial upper third"
    for plane, pixel in ((axial, (2, 2)), (coronal, (4, 2)), (sagittal, (4, 2))):
        assert plane.pixel_mm == pixel
        rows, columns = np.nonzero(plane.labels == 3)
        assert len(rows), f"{plane.title} misses the only lesion"
        assert rows.mean() < plane.labels.shape[0] / 2, "front, or head, is on top"
        assert columns.mean() < plane.labels.shape[1] / 2, "patient right, or front, is on the left"
    assert not any((plane.labels == 3).any() for plane in (planes[1], planes[2], planes[4]))


def test_the_lungs_are_shown_on_the_whole_body_the_right_way_round() -> None:
    ct, lungs, _ = canonical_chest()
    hu = ct.array.copy()
    hu[:, :, 48:] = -1000
    plane = lung_plane(ct.with_array(hu), lungs)
    assert plane.labels.shape == plane.hu.shape == (30, 48), "as far as there is tissue"
    right, left = (np.nonzero(plane.labels == side)[1].mean() for side in (1, 2))
    assert right < left
    empty = lung_plane(ct, lungs.with_array(np.zeros_like(lungs.array)))
    assert not empty.labels.any()


@pytest.mark.parametrize("score", [0.3, 0.98])
def test_the_lung_score_stands_by_the_outlines_and_nowhere_else(chest: Segmentation, score: float) -> None:
    with_score = replace(chest, run=chest.run | {"lung_quality": {"score": score}})
    picture, without = (imread(io.BytesIO(draw(s))) for s in (with_score, chest))
    rows, columns = np.nonzero(np.abs(picture - without).max(-1) > 0.1)
    assert len(rows)
    assert rows.min() > 300
    assert np.ptp(rows) < 40
    assert columns.max() < 0.73 * 1920


def test_the_picture_does_not_depend_on_how_the_scan_is_stored() -> None:
    ct, lungs, labels = canonical_chest()
    assert Reorientation.of(turned(ct)).axes != (0, 1, 2)
    stored = [ct, lungs, labels], [turned(volume) for volume in (ct, lungs, labels)]
    first, second = (draw(Segmentation(*volumes, measure(*volumes))) for volumes in stored)
    assert first == second


def test_tilted_grids_and_warnings_are_drawn(chest: Segmentation) -> None:
    picture = imread(io.BytesIO(draw(chest)))
    assert picture.shape == (1080, 1920, 4)
    without = imread(io.BytesIO(draw(replace(chest, run={}))))
    assert np.abs(picture - without)[:110].max() > 0.3, "name and warnings stand above the planes"
    assert np.abs(picture - without)[130:].max() == 0


def test_no_warning_is_lost_without_a_word() -> None:
    assert note_lines([]) == []
    assert note_lines(["noise is 60 HU: do not trust"]) == ["Note: noise is 60 HU: do not trust"]
    for count in (2, 5, 9, 30):
        warnings = [f"figure {n} is off by more than it should be in such a scan: {'so ' * 20}" for n in range(count)]
        lines = note_lines(warnings)
        assert len(lines) <= NOTE_LINES
        assert max(map(len, lines)) <= NOTE_LENGTH
        text = " ".join(lines)
        shown = sum(f"figure {n} " in text for n in range(count))
        assert shown == count or f"; {count - shown} more in run.json" in text


def test_a_short_note_is_not_cut_within_parentheses() -> None:
    reason = "densities are not comparable " * 8
    text = " ".join(
        note_lines([f"tissue has 111 HU (without contrast: 30 to 60): {reason}", f"noise is 60 HU: {reason}"])
    )
    assert text == "Note: tissue has 111 HU (without contrast: 30 to 60); noise is 60 HU"


def test_the_title_is_the_scan_s_name_whatever_is_in_it(chest: Segmentation) -> None:
    assert scan_title("lidc_1011.nii.gz") == "lidc_1011.nii.gz"
    long = scan_title("a" * 80 + "b.nii.gz")
    assert len(long) == TITLE_LENGTH
    assert long.startswith("aaa")
    assert long.endswith("b.nii.gz")
    for name in (r"$\frac{$.nii.gz", "two\nlines", "\u80ba.nii.gz"):  # no formula, control character or missing glyph
        assert draw(replace(chest, run={"input": name})).startswith(b"\x89PNG")
    assert scan_title("\u80ba.nii.gz") == "?.nii.gz"


@pytest.mark.parametrize("value", [0, 1])
def test_lungs_without_any_or_with_nothing_but_healthy_tissue_are_drawn(chest: Segmentation, value: int) -> None:
    lungs = chest.lungs.with_array(chest.lungs.array * np.uint8(value))
    labels = chest.label_map.with_array((lungs.array > 0).astype(np.uint8))
    found = measure(chest.ct, lungs, labels)
    assert draw(replace(chest, lungs=lungs, label_map=labels, statistics=found)).startswith(b"\x89PNG")


def test_colours_differ_for_people_who_see_no_red_or_no_green() -> None:
    """Vienot's simulation of protanopia and deuteranopia keeps every pair of classes apart."""
    rgb = np.array([label.colour for label in TISSUES]) / 255
    linear = rgb**2.2
    protan = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
    deutan = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])
    for simulate in (np.eye(3), protan, deutan):
        seen = np.clip(linear @ simulate.T, 0, 1) ** (1 / 2.2)
        gaps = np.linalg.norm(seen[:, None] - seen[None], axis=-1)
        assert gaps[np.triu_indices(len(TISSUES), 1)].min() > 0.12
