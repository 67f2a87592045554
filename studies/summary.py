"""Estimates with intervals from per-case results: overall, by stratum, by lesion model, and paired differences.

A class without a true voxel in a set of cases has no Dice there. `mean` is the mean pooled Dice of the classes
present; over all test cases these are all five.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffseglung.labels import LESIONS, TISSUES
from diffseglung.phantom.lesions import MODELS
from studies import bootstrap
from studies.baselines import BASELINES
from studies.bootstrap import NAN, Estimate, Numbers
from studies.runner import Job, read_json
from studies.scores import expected_calibration_error

Results = dict[str, list[dict[str, Any]]]
"""Key of a candidate -> its result on every case, in the order of the cases."""
CLUSTERED = "kmeans_radiomics"
SIBLINGS = {
    "physics": ("physics_no_fusion", "rule"), "physics_fast": ("physics",),
    "seeded": ("physics",), "combined": ("seeded",),
    "diffusion": ("diffusion_base",), "simulated_combined": ("simulated",),
}  # fmt: skip
"""Method -> methods without one of its parts: fusion or context, the classifier, the student, the distillation."""
EVERY = "all"


@dataclass(frozen=True)
class Row:
    """One metric of a candidate on a set of cases, for one class or all."""

    method: str
    stratum: str
    tissue: str
    metric: str
    estimate: Estimate


def read_results(jobs: list[Job], candidates: list[str]) -> tuple[list[dict[str, Any]], Results]:
    """Cases and results as the runner wrote them."""
    cases = [read_json(job.results / "case.json") for job in jobs]
    return cases, {key: [_read(job.results / f"{key}.json") for job in jobs] for key in candidates}


def _read(path: Path) -> dict[str, Any]:
    return read_json(path)


def strata(cases: list[dict[str, Any]]) -> dict[str, list[int]]:
    """Name of a set of cases -> their indices: all, and each value of each dimension with more than one."""
    found: dict[str, list[int]] = {EVERY: list(range(len(cases)))}
    for dimension in ("kind", "condition", "severity", "novelty"):
        values = [case["strata"][dimension] for case in cases]
        for value in dict.fromkeys(values):
            if len(set(values)) > 1:
                found[f"{dimension}={value}"] = [i for i, v in enumerate(values) if v == value]
    return found


def column(results: list[dict[str, Any]], tissue: str, name: str) -> Numbers:
    """A score of a class in every case, (N,); NaN where unknown."""
    return _numbers([result["scores"]["classes"][tissue][name] for result in results])


def _numbers(values: list[Any]) -> Numbers:
    return np.array([NAN if value is None else value for value in values], np.float64)


def pooled_dice(results: list[dict[str, Any]], tissue: str, weights: Numbers) -> Numbers:
    """Dice (R,) of the voxels of all cases together; NaN if no case has the class."""
    both, guess, true = (column(results, tissue, f"{k}_voxels") for k in ("both", "predicted", "true"))
    found = bootstrap.ratio(2 * both, guess + true, weights)
    return np.asarray(np.where(weights @ true > 0, found, NAN))


def mean_dice(results: list[dict[str, Any]], weights: Numbers) -> Numbers:
    """The headline (R,): mean over classes of the pooled Dice."""
    return bootstrap.mean_of_known(np.stack([pooled_dice(results, label.name, weights) for label in TISSUES]))


def per_class(results: list[dict[str, Any]], tissue: str, weights: Numbers) -> dict[str, Numbers]:
    """Metric -> statistic (R,) of one class."""

    def of(name: str) -> Numbers:
        return column(results, tissue, name)

    there = of("true_voxels") > 0
    one = np.where(there, of("dice"), NAN)
    bias, spread = bootstrap.mean(of("error_ml"), weights), bootstrap.deviation(of("error_ml"), weights)
    return {
        "dice_pooled": pooled_dice(results, tissue, weights),
        "dice_mean": bootstrap.mean(one, weights),
        "dice_sd": bootstrap.deviation(one, weights),
        "recall": bootstrap.ratio(of("both_voxels"), of("true_voxels"), weights),
        "precision": bootstrap.ratio(of("both_voxels"), of("predicted_voxels"), weights),
        "hd95_mm_mean": bootstrap.mean(of("hd95_mm"), weights),
        "hd95_mm_median": bootstrap.median(of("hd95_mm"), weights),
        "surface_dice_2mm": bootstrap.mean(of("surface_dice_2mm"), weights),
        "error_ml_bias": bias,
        "error_ml_low": bias - 1.96 * spread,
        "error_ml_high": bias + 1.96 * spread,
    }


def overall(results: list[dict[str, Any]], kinds: list[str], weights: Numbers) -> dict[str, Numbers]:
    """Metric -> statistic (R,) over all classes; surface metrics are means over lesion classes."""
    lesions = [per_class(results, label.name, weights) for label in LESIONS]
    healthy = np.array([result["scores"]["healthy_case"] for result in results], bool)
    called = _numbers([result["scores"]["predicted_lesion_fraction"] for result in results])
    real = np.array([kind == "real" for kind in kinds])
    found = {"dice_mean": mean_dice(results, weights)}
    for name in ("hd95_mm_mean", "hd95_mm_median", "surface_dice_2mm"):
        found[name] = bootstrap.mean_of_known(np.stack([lesion[name] for lesion in lesions]))
    found["false_lesion_phantom"] = bootstrap.mean(np.where(healthy & ~real, called, NAN), weights)
    found["false_lesion_real"] = bootstrap.mean(np.where(healthy & real, called, NAN), weights)
    return found | _calibration(results, weights)


def _calibration(results: list[dict[str, Any]], weights: Numbers) -> dict[str, Numbers]:
    """Expected calibration error and Brier score (R,), pooled over the positions of all cases."""
    known = [result["calibration"] for result in results]
    if any(k is None for k in known) or not known:
        return {name: np.full(len(weights), NAN) for name in ("ece", "brier")}
    bins = np.tensordot(weights, np.array([k["bins"] for k in known], np.float64), 1)
    brier = bootstrap.ratio(_numbers([k["brier"] for k in known]), _numbers([k["positions"] for k in known]), weights)
    return {"ece": expected_calibration_error(bins), "brier": brier}


def figures(cases: list[dict[str, Any]], found: Results, *, seed: int = 0) -> Iterator[Row]:
    """Every figure of every candidate on every set of cases. All candidates share the resamples of a set of cases."""
    for stratum, places in strata(cases).items():
        weights = bootstrap.draws(len(places), seed=seed)
        kinds = [cases[i]["strata"]["kind"] for i in places]
        for key, results in found.items():
            here = [results[i] for i in places]
            for metric, values in overall(here, kinds, weights).items():
                yield Row(key, stratum, EVERY, metric, bootstrap.estimate(values, len(here)))
            for label in TISSUES:
                count = int((column(here, label.name, "true_voxels") > 0).sum())
                for metric, values in per_class(here, label.name, weights).items():
                    yield Row(key, stratum, label.name, metric, bootstrap.estimate(values, count))


def best_baseline(found: Results) -> str | None:
    """The HU baseline (not K-means on radiomics) with the best mean Dice; None if there is none."""
    known = {key: results for key, results in found.items() if key in BASELINES and key != CLUSTERED}
    value = {key: float(mean_dice(results, np.ones((1, len(results))))[0]) for key, results in known.items()}
    return max(value, key=lambda key: value[key], default=None)


def differences(cases: list[dict[str, Any]], found: Results, *, seed: int = 0) -> Iterator[Row]:
    """Mean Dice of each method minus that of a reference, on the same resamples; the metric is minus:<reference>."""
    best = best_baseline(found)
    for stratum, places in strata(cases).items():
        weights = bootstrap.draws(len(places), seed=seed)
        mean = {key: mean_dice([results[i] for i in places], weights) for key, results in found.items()}
        for key in found:
            baselines = () if key in BASELINES else (best, CLUSTERED)
            for reference in (*baselines, *SIBLINGS.get(key, ())):
                if reference in found:
                    gain = bootstrap.estimate(mean[key] - mean[reference], len(places))
                    yield Row(key, stratum, EVERY, f"minus:{reference}", gain)


def by_model(cases: list[dict[str, Any]], found: Results, *, seed: int = 0) -> Iterator[Row]:
    """Recall of a class in the cases whose lesions of that class all come from one model; model=<name> is the set."""
    label_of = {model.name: model.label.name for model in MODELS}
    for model, tissue in label_of.items():
        alone = [
            i for i, case in enumerate(cases) if [m for m in case["models"] if label_of.get(m) == tissue] == [model]
        ]
        weights = bootstrap.draws(len(alone), seed=seed)
        for key, results in found.items() if alone else ():
            recall = per_class([results[i] for i in alone], tissue, weights)["recall"]
            yield Row(key, f"model={model}", tissue, "recall", bootstrap.estimate(recall, len(alone)))
