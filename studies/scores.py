"""Agreement of a label map with the ground truth: Dice, HD95, surface Dice, volumes, per class.

A class that is absent from both maps has no score (NaN, null in JSON); one that is absent from one map has Dice 0 and
no distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from diffseglung.labels import HEALTHY, LESIONS, TISSUES
from diffseglung.platform.errors import GeometryError
from diffseglung.volume import Volume

Mask = NDArray[np.bool_]
Spacing = tuple[float, float, float]
Distances = tuple[NDArray[np.float64], NDArray[np.float64]]
NAN = float("nan")


def dice(a: Mask, b: Mask) -> float:
    """2 |a and b| / (|a| + |b|); NaN when both are empty."""
    return _dice(int((a & b).sum()), int(a.sum()), int(b.sum()))


def _dice(both: int, first: int, second: int) -> float:
    return 2 * both / (first + second) if first + second else NAN


@dataclass(frozen=True, eq=False)
class Surface:
    """Surface voxels of one mask: places (N, 3) in mm, flat indices (N,) in its array, a search tree; None without any.

    A surface voxel is one with a face neighbour outside its mask (the outside of the array counts as outside).
    """

    places_mm: NDArray[np.float64]
    index: NDArray[np.intp]
    tree: Any

    @classmethod
    def of(cls, mask: Mask, spacing_mm: Spacing) -> Surface:
        """Surface of a mask. Memory follows the surface, not the volume."""
        if not mask.any():
            return cls(np.empty((0, 3)), np.empty(0, np.intp), None)
        box = _bounds(mask)
        voxels = np.argwhere(_rim(mask[box])) + [side.start for side in box]
        places = voxels * np.asarray(spacing_mm, np.float64)
        index = np.ravel_multi_index(tuple(voxels.T), mask.shape)
        return cls(places, index, cKDTree(places, balanced_tree=False, compact_nodes=False))

    def distances_to(self, other: Surface) -> NDArray[np.float64]:
        """mm from each voxel of this surface to the other; voxels that belong to both are at 0 without a search."""
        apart = ~np.isin(self.index, other.index, assume_unique=True)
        found = np.zeros(len(apart))
        found[apart] = other.tree.query(self.places_mm[apart])[0]
        return found


def distances_between(a: Surface, b: Surface) -> Distances:
    """Distances in mm from every surface voxel of `a` to the surface of `b`, and back; empty unless both exist."""
    if a.tree is None or b.tree is None:
        return np.empty(0), np.empty(0)
    return a.distances_to(b), b.distances_to(a)


def _rim(mask: Mask) -> Mask:
    """Voxels with one of their six neighbours outside the mask."""
    inner = mask.copy()
    for axis in range(3):
        ahead, behind = np.moveaxis(inner, axis, 0), np.moveaxis(mask, axis, 0)
        ahead[1:] &= behind[:-1]
        ahead[:-1] &= behind[1:]
        ahead[0] = ahead[-1] = False
    return mask & ~inner


def _bounds(mask: Mask) -> tuple[slice, ...]:
    """Smallest box around a mask."""
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    return tuple(box)


def hd95(distances: Distances) -> float:
    """The larger of the two directed 95th percentiles, mm; NaN where a surface is missing."""
    if not len(distances[0]) or not len(distances[1]):
        return NAN
    return float(max(np.percentile(distances[0], 95), np.percentile(distances[1], 95)))


def surface_dice(distances: Distances, tolerance_mm: float = 2.0) -> float:
    """Fraction of both surfaces that lies within the tolerance of the other (Nikolov et al. 2018); NaN without any."""
    total = len(distances[0]) + len(distances[1])
    if not total:
        return NAN
    return float((distances[0] <= tolerance_mm).sum() + (distances[1] <= tolerance_mm).sum()) / total


def true_surfaces(truth: Volume) -> dict[int, Surface]:
    """Surface of each class of the ground truth, by label id; computed once for all predictions of a case."""
    return {label.id: Surface.of(truth.array == label.id, truth.spacing_mm) for label in TISSUES}


def score_case(
    prediction: Volume, truth: Volume, *, surfaces: bool = True, known: dict[int, Surface] | None = None
) -> dict[str, Any]:
    """Scores of one case: class name -> voxel counts, dice, hd95_mm, surface_dice_2mm, volumes and their difference.

    surfaces: False skips the distances (NaN), which take seconds on a full scan.
    known: `true_surfaces` of this truth, if several predictions are scored.
    Also `lesion_fraction` of both maps, `healthy_case`: whether the truth has no lesion, and `confusion`.
    """
    if not prediction.same_grid(truth, tolerance_mm=0.05):
        raise GeometryError(
            f"the prediction {prediction.shape} and the truth {truth.shape} lie on different grids",
            remedy="score label maps on the grid of their scan",
        )
    ml = truth.voxel_ml
    if surfaces and known is None:
        known = true_surfaces(truth)
    classes = {}
    for label in TISSUES:
        guess, true = prediction.array == label.id, truth.array == label.id
        counts = int((guess & true).sum()), int(guess.sum()), int(true.sum())
        distances = np.empty(0), np.empty(0)
        if known:
            distances = distances_between(Surface.of(guess, truth.spacing_mm), known[label.id])
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
        "confusion": confusion(prediction, truth),
    }


def confusion(prediction: Volume, truth: Volume) -> list[list[int]]:
    """Voxels by true class (rows) and predicted class (columns), in the order of `labels.TISSUES`.

    Voxels that either map gives to none of the five classes are left out.
    """
    both = truth.array.astype(np.uint8) * np.uint8(16) + prediction.array.astype(np.uint8)
    counts = np.bincount(both.ravel(), minlength=256).reshape(16, 16)
    table: list[list[int]] = counts[1 : len(TISSUES) + 1, 1 : len(TISSUES) + 1].tolist()
    return table


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


def reliability(
    posterior: NDArray[np.floating[Any]], truth: NDArray[np.integer[Any]], *, bins: int = 15
) -> dict[str, Any]:
    """Sums for calibration, which can be added over cases.

    posterior: (N, 5) in the order of `labels.TISSUES`. truth: (N,) label ids 1..5.
    `bins` (3, bins): positions, summed confidence and summed correctness of the top class by its confidence;
    `brier`: summed squared distance between the posterior and the true class (Brier 1950, 0 best, 2 worst).
    """
    rows = posterior.astype(np.float64)
    confidence, right = rows.max(1), rows.argmax(1) + 1 == truth
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    sums = [np.bincount(index, weights, bins).tolist() for weights in (None, confidence, right)]
    true = rows[np.arange(len(rows)), np.asarray(truth, int) - 1]
    return {"bins": sums, "brier": float(((rows**2).sum(1) - 2 * true + 1).sum()), "positions": len(rows)}


def expected_calibration_error(bins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the top class (Guo et al. 2017), 0 best: from the `bins` (..., 3, B) of `reliability`, added over cases.

    Sum of |confidence - correct| / positions; NaN without positions.
    """
    gap = np.abs(bins[..., 1, :] - bins[..., 2, :]).sum(-1)
    count = bins[..., 0, :].sum(-1)
    return np.asarray(np.where(count > 0, gap / np.maximum(count, 1), NAN))


def _mean(values: list[float]) -> float:
    """Mean of the finite values; NaN without any."""
    known = [v for v in values if np.isfinite(v)]
    return float(np.mean(known)) if known else NAN
