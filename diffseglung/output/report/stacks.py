"""A scan and its labels as stacks of small pictures that a browser decodes one at a time.

Pictures are in radiological convention: axial with front on top, coronal with head on top, patient right on the left.
A picture of the CT is a JPEG of HU in steps of HU_STEP, from which the page computes any window; one of labels is a PNG
of LABEL_STEP times the id; one of certainty is a PNG of the posterior in 16 levels, at half the size.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffseglung.case.prepared import lung_box
from diffseglung.io.plausibility import cross_sections
from diffseglung.labels import ALL, LESIONS
from diffseglung.platform.out_of_core import release
from diffseglung.platform.runtime import spread
from diffseglung.segmentation import Segmentation
from diffseglung.volume import Reorientation

HU_LOW, HU_STEP = -1060.0, 6.0
"""HU of a grey level: HU_LOW + HU_STEP * level; 255 levels reach +470 HU, beyond every window of the page."""
LABEL_STEP = 32
MARGIN_MM = 15.0
WIDEST, MOST_AXIAL, MOST_CORONAL = 400, 320, 96
"""Most pixels across an axial picture; most pictures in a stack, chosen evenly from longer scans."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Reduced:
    """Canonical voxels at the size of the pictures, cropped to the lungs: (pictures, rows, columns) uint8.

    certainty: None if unknown.  pixel_mm: of rows and columns.  step_mm: between pictures.
    slices: index of each picture in the whole scan.  total: slices of the whole scan.
    amounts_ml: of each lesion in each slice of the crop (slices, classes of LESIONS).
    """

    hu: Pixels
    labels: Pixels
    certainty: Pixels | None
    pixel_mm: float
    step_mm: float
    slices: NDArray[np.int64]
    total: int
    amounts_ml: NDArray[np.float64]


def reduce(segmentation: Segmentation) -> Reduced:
    """Reduce a scan in one pass, slice by slice; the result does not grow with the scan."""
    turn = Reorientation.of(segmentation.ct)
    ct, labels = turn.apply(segmentation.ct), turn.apply(segmentation.label_map)
    sure = None if segmentation.certainty is None else turn.view(segmentation.certainty)
    areas = cross_sections(turn.view(segmentation.lungs.array))
    low, high = lung_box(areas, ct.spacing_mm, MARGIN_MM) if areas[0].any() else ((0, 0, 0), ct.shape)
    z_mm, y_mm, x_mm = ct.spacing_mm
    count = min(high[0] - low[0], MOST_AXIAL)
    chosen = np.unique(np.linspace(low[0], high[0] - 1, count).round().astype(np.int64))
    extent = (high[1] - low[1]) * y_mm, (high[2] - low[2]) * x_mm
    pixel = max(min(y_mm, x_mm), max(extent) / WIDEST)
    size = (max(1, round(extent[1] / pixel)), max(1, round(extent[0] / pixel)))  # columns, rows
    box = slice(low[1], high[1]), slice(low[2], high[2])

    def pictures(z: int) -> list[Pixels]:
        grey = np.clip((ct.array[z][box] - HU_LOW) / HU_STEP, 0, 255).astype(np.uint8)
        made = [_resized(grey, size, Image.Resampling.BILINEAR), _resized(labels.array[z][box], size, _NEAREST)]
        if sure is not None:
            made.append(_resized(sure[z][box], size, _NEAREST))
        for array in (ct.array, labels.array, *(() if sure is None else (sure,))):
            release(array)
        return made

    columns = list(zip(*spread(pictures, (int(z) for z in chosen)), strict=True))
    stacked = [np.stack(column) for column in columns]
    return Reduced(
        hu=stacked[0],
        labels=stacked[1],
        certainty=stacked[2] if sure is not None else None,
        pixel_mm=pixel,
        step_mm=z_mm * (chosen[-1] - chosen[0]) / max(1, len(chosen) - 1) or z_mm,
        slices=chosen,
        total=ct.shape[0],
        amounts_ml=_amounts(labels.array[low[0] : high[0], *box], ct.voxel_ml),
    )


_NEAREST = Image.Resampling.NEAREST


def _resized(picture: NDArray[Any], size: tuple[int, int], how: Image.Resampling) -> Pixels:
    image = Image.fromarray(np.ascontiguousarray(picture, np.uint8))
    return np.asarray(image.resize(size, how, reducing_gap=2.0 if how != _NEAREST else None))


def _amounts(labels: NDArray[Any], voxel_ml: float) -> NDArray[np.float64]:
    """Volume in mL of each lesion in each slice of labels (Z, Y, X): (Z, classes)."""
    ids = [label.id for label in LESIONS]

    def counted(z: int) -> NDArray[np.int64]:
        count = np.bincount(labels[z].ravel(), minlength=len(ALL))[ids]
        release(labels)
        return count

    return np.asarray(list(spread(counted, range(len(labels))))) * voxel_ml


def axial(reduced: Reduced, quality: int) -> dict[str, Any]:
    """The stack from head to feet."""
    order = np.arange(len(reduced.slices))[::-1]
    certainty = None if reduced.certainty is None else reduced.certainty[order]
    pixel = reduced.pixel_mm
    return {
        **_stack(reduced.hu[order], reduced.labels[order], certainty, quality),
        "name": "axial",
        "pixel_mm": [pixel, pixel],
        "sides": ["R", "L", "A", "P"],
        "numbers": [int(reduced.slices[k]) + 1 for k in order],
        "total": reduced.total,
    }


def coronal(reduced: Reduced, quality: int) -> dict[str, Any]:
    """The stack from front to back, head on top; rows have the distance of the slices."""
    rows = reduced.hu.shape[1]
    order = np.unique(np.linspace(0, rows - 1, min(rows, MOST_CORONAL)).round().astype(np.int64))

    def turned(stack: Pixels) -> Pixels:
        return np.ascontiguousarray(stack[::-1, order].transpose(1, 0, 2))

    certainty = None if reduced.certainty is None else turned(reduced.certainty)
    return {
        **_stack(turned(reduced.hu), turned(reduced.labels), certainty, quality),
        "name": "coronal",
        "pixel_mm": [reduced.step_mm, reduced.pixel_mm],
        "sides": ["R", "L", "S", "I"],
        "numbers": [int(k) + 1 for k in order],
        "total": rows,
    }


def _stack(hu: Pixels, labels: Pixels, certainty: Pixels | None, quality: int) -> dict[str, Any]:
    """Pictures in base64, and their size."""
    count, rows, columns = hu.shape
    half = None if certainty is None else (certainty[:, ::2, ::2] // 16) * 17
    return {
        "size": [columns, rows],
        "ct": list(spread(lambda k: _encoded(hu[k], "JPEG", quality=quality), range(count))),
        "labels": list(spread(lambda k: _encoded(labels[k] * np.uint8(LABEL_STEP), "PNG"), range(count))),
        "certainty": None if half is None else list(spread(lambda k: _encoded(half[k], "PNG"), range(count))),
    }


def _encoded(pixels: Pixels, form: str, **options: Any) -> str:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, form, **options)
    return base64.b64encode(file.getvalue()).decode("ascii")
