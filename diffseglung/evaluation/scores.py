"""How well a label map agrees with truth: Dice, HD95, surface Dice, volumes, per class.

A class that is absent from both maps has no score (NaN, null in JSON); one that is absent from one map has Dice 0 and
no distance.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diffseglung.errors import GeometryError
from diffseglung.labels import HEALTHY, LESIONS, TISSUES
from diffseglung.volume import Volume

Mask = NDArray[np.bool_]
Spacing = tuple[float, float, float]
NAN = float("nan")


def dice(a: Mask, b: Mask) -> float:
    """2 |a and b| / (|a| + |b|); NaN when both are empty."""
    return _dice(int((a & b).sum()), int(a.sum()), int(b.sum()))


def _dice(both: int, first: int, second: int) -> float:
    return 2 * both / (first + second) if first + second else NAN


def surface_distances(a: Mask, b: Mask, spacing_mm: Spacing) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distances in mm from every surface voxel of `a` to the surface of `b`, and the other way; empty without surfaces.

    A surface voxel is one with a face neighbour outside its mask (the outside of the array counts as outside).
    """
    if not a.any() or not b.any():
        return np.empty(0), np.empty(0)
    box = _bounds(a | b)
    a, b = np.pad(a[box], 1), np.pad(b[box], 1)
    rim_a, rim_b = a & ~ndimage.binary_erosion(a), b & ~ndimage.binary_erosion(b)
    to_b = ndimage.distance_transform_edt(~rim_b, spacing_mm)[rim_a]
    to_a = ndimage.distance_transform_edt(~rim_a, spacing_mm)[rim_b]
    return to_b, to_a


def _bounds(mask: Mask) -> tuple[slice, ...]:
    """Smallest box around a mask."""
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    return tuple(box)


def hd95(distances: tuple[NDArray[np.float64], NDArray[np.float64]]) -> float:
    """The larger of the two directed 95th percentiles, mm; NaN where a surface is missing."""
    if not len(distances[0]) or not len(distances[1]):
        return NAN
    return float(max(np.percentile(distances[0], 95), np.percentile(distances[1], 95)))


def surface_dice(distances: tuple[NDArray[np.float64], NDArray[np.float64]], tolerance_mm: float = 2.0) -> float:
    """Share of both surfaces that lies within the tolerance of the other (Nikolov et al. 2018); NaN without any."""
    total = len(distances[0]) + len(distances[1])
    if not total:
        return NAN
    return float((distances[0] <= tolerance_mm).sum() + (distances[1] <= tolerance_mm).sum()) / total


def score_case(prediction: Volume, truth: Volume, *, surfaces: bool = True) -> dict[str, Any]:
    """Scores of one case: class name -> voxel counts, dice, hd95_mm, surface_dice_2mm, volumes and their difference.

    surfaces: False leaves the distances out (NaN); they cost seconds on a full scan.
    Also `lesion_fraction` of both maps, and `healthy_case`: whether truth holds no lesion.
    """
    if not prediction.same_grid(truth, tolerance_mm=0.05):
        raise GeometryError(
            f"the prediction {prediction.shape} and the truth {truth.shape} lie on different grids",
            remedy="score label maps on the grid of their scan",
        )
    ml = truth.voxel_ml
    classes = {}
    for label in TISSUES:
        guess, true = prediction.array == label.id, truth.array == label.id
        counts = int((guess & true).sum()), int(guess.sum()), int(true.sum())
        distances = surface_distances(guess, true, truth.spacing_mm) if surfaces else (np.empty(0), np.empty(0))
        one_sided = surfaces and bool(counts[1]) != bool(counts[2])
        classes[label.name] = {
            "both_voxels": counts[0], "predicted_voxels": counts[1], "true_voxels": counts[2],
            "dice": _dice(*counts),
            "hd95_mm": hd95(distances),
            "surface_dice_2mm": 0.0 if one_sided else surface_dice(distances),
            "predicted_ml": counts[1] * ml, "true_ml": counts[2] * ml, "error_ml": (counts[1] - counts[2]) * ml,
        }  # fmt: skip
    lung_true = sum(c["true_voxels"] for c in classes.values())
    lung_guess = sum(c["predicted_voxels"] for c in classes.values())
    lesion_true = lung_true - classes[HEALTHY.name]["true_voxels"]
    lesion_guess = lung_guess - classes[HEALTHY.name]["predicted_voxels"]
    return {
        "classes": classes,
        "mean_dice": _mean([c["dice"] for c in classes.values()]),
        "healthy_case": lesion_true == 0,
        "true_lesion_fraction": lesion_true / lung_true if lung_true else NAN,
        "predicted_lesion_fraction": lesion_guess / lung_guess if lung_guess else NAN,
    }


def pool(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """Scores of a set of cases: per class the pooled Dice (voxels of all cases together) and means over cases.

    Volume agreement is the bias and the limits of agreement, mean +- 1.96 sd (Bland and Altman 1986), over all cases.
    `false_lesion_fraction` is the mean predicted lesion share of the cases without any true lesion.
    """
    classes = {}
    for label in TISSUES:
        rows = [case["classes"][label.name] for case in cases]
        total = [sum(r[key] for r in rows) for key in ("both_voxels", "predicted_voxels", "true_voxels")]
        errors = np.array([r["error_ml"] for r in rows])
        spread = float(errors.std(ddof=1)) if len(errors) > 1 else NAN
        bias = float(errors.mean()) if len(errors) else NAN
        classes[label.name] = {
            "dice_pooled": _dice(*total),
            "dice_mean": _mean([r["dice"] for r in rows]),
            "hd95_mm_mean": _mean([r["hd95_mm"] for r in rows]),
            "surface_dice_2mm_mean": _mean([r["surface_dice_2mm"] for r in rows]),
            "cases_with_class": sum(r["true_voxels"] > 0 for r in rows),
            "predicted_ml": sum(r["predicted_ml"] for r in rows), "true_ml": sum(r["true_ml"] for r in rows),
            "error_ml_mean": bias, "error_ml_limits": [bias - 1.96 * spread, bias + 1.96 * spread],
        }  # fmt: skip
    healthy = [case["predicted_lesion_fraction"] for case in cases if case["healthy_case"]]
    return {
        "cases": len(cases),
        "classes": classes,
        "mean_dice_pooled": _mean([c["dice_pooled"] for c in classes.values()]),
        "mean_lesion_dice_pooled": _mean([classes[label.name]["dice_pooled"] for label in LESIONS]),
        "mean_dice": _mean([case["mean_dice"] for case in cases]),
        "healthy_cases": len(healthy),
        "false_lesion_fraction": _mean(healthy),
    }


def calibration_error(
    posterior: NDArray[np.floating[Any]], truth: NDArray[np.integer[Any]], *, bins: int = 15
) -> float:
    """Expected calibration error of the top class (Guo et al. 2017), 0 best.

    posterior: (N, 5) in the order of `labels.TISSUES`. truth: (N,) label ids 1..5. NaN without rows.
    """
    if not len(truth):
        return NAN
    confidence = posterior.max(1).astype(np.float64)
    right = posterior.argmax(1) + 1 == truth
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    weight = np.bincount(index, minlength=bins)
    used = weight > 0
    gap = np.bincount(index, confidence - right, minlength=bins)[used] / weight[used]
    return float(np.abs(gap) @ weight[used] / weight.sum())


def _mean(values: list[float]) -> float:
    """Mean of the values that exist; NaN without any."""
    known = [v for v in values if np.isfinite(v)]
    return float(np.mean(known)) if known else NAN
