"""Ablations: one row per variant, Dice at the lung positions of development cases, before fusion.

Variants of the rule and unconstrained mixtures need no training. All students are trained on the same targets, the
physics rule in context on unlabelled cases, and differ in their columns. Each row of a group is compared with the first
row of the group by a paired bootstrap over cases.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffseglung.labels import TISSUES
from diffseglung.method.attention import attention_posterior
from diffseglung.method.features import Projection
from diffseglung.method.mixture import fit, fit_by_bic
from diffseglung.method.naming import component_hu, named_posterior, physics_name
from diffseglung.method.radiomics.descriptor import descriptor_names
from diffseglung.platform.config import FeatureConfig, RadiomicsConfig, TissueFitConfig
from diffseglung.tissue.classifier import TissueModel
from diffseglung.tissue.fit import DIFFUSION_DIMENSIONS, draw
from diffseglung.tissue.low_confidence import without_low_confidence_components
from diffseglung.tissue.methods import LESION_LOG_ODDS, PUBLISHED_DIMENSIONS, with_lesion_log_odds
from diffseglung.tissue.rule import PhysicsRule
from diffseglung.tissue.smoothed_rule import SHARPNESS, physics_in_context, sharpened
from studies.bootstrap import Estimate, draws, estimate, mean_of_known, ratio
from studies.probes import Probe, Reading

CLASSES = len(TISSUES)
LEVELS = tuple(range(len(FeatureConfig().steps)))
STUDENT = TissueFitConfig(iterations=800, healthy_weight=1.0)
RAW_TAPS = ("bottleneck", "level2", "level1", "decoder")
Posterior = Callable[[Probe], Tensor]


@dataclass(frozen=True, eq=False)
class Variant:
    """One row: group, name, and the function that returns the class posterior (n, 5) at a case's kept positions.

    probes: the cases as read for this row, in the common order; None: the common probes.
    """

    group: str
    name: str
    posterior: Posterior
    probes: Sequence[Probe] | None = None


def confusion(posterior: Tensor, truth: NDArray[np.int64]) -> NDArray[np.int64]:
    """(5, 5) counts, truth along rows, over positions with known truth."""
    known = truth >= 0
    top = posterior.argmax(1).numpy()[known]
    counts: NDArray[np.int64] = np.bincount(truth[known] * CLASSES + top, minlength=CLASSES**2)
    return counts.reshape(CLASSES, CLASSES)


def in_place(probe: Probe, posterior: Tensor) -> Tensor:
    """The posterior at the kept positions."""
    return posterior[torch.from_numpy(probe.kept)]


def rule_posterior(
    probe: Probe, rule: PhysicsRule | None = None, *, reach_mm: float = 5.0, lesion_log_odds: float = LESION_LOG_ODDS,
    low_confidence: bool = False,
) -> Tensor:  # fmt: skip
    """The rule in context, (N, 5), as in method `physics`.

    reach_mm: 0 for the rule alone.  low_confidence: keep low-confidence components.
    """
    found = physics_in_context(probe.local, probe.where, probe.spacing_mm, rule, reach_mm=reach_mm)
    if reach_mm <= 0:
        return found
    found = with_lesion_log_odds(found, lesion_log_odds)
    return found if low_confidence else without_low_confidence_components(found, probe.where, probe.spacing_mm)


@dataclass(frozen=True, eq=False)
class Lessons:
    """Unlabelled cases, and the posterior of the rule in context at their kept positions."""

    probes: Sequence[Probe]
    targets: Sequence[Tensor]

    @classmethod
    def of(cls, probes: Sequence[Probe]) -> Lessons:
        """Apply the rule to every case."""
        return cls(
            probes,
            [
                in_place(p, sharpened(rule_posterior(p, lesion_log_odds=0.0, low_confidence=True), SHARPNESS))
                for p in probes
            ],
        )

    def student(self, *columns: str, dimensions: int | None, rows: int = 8000) -> Posterior:
        """A tissue model trained on the named columns.  dimensions: principal components kept."""
        picks = [draw(t, rows, 0, i) for i, t in enumerate(self.targets)]
        table = torch.cat([p.rows(*columns)[pick] for p, (pick, _) in zip(self.probes, picks, strict=True)])
        target = torch.cat([t[pick] for t, (pick, _) in zip(self.targets, picks, strict=True)])
        mass = torch.cat([m for _, m in picks])
        keep = None if dimensions is None else min(dimensions, table.shape[1])
        model = TissueModel.fit(table, target, mass, dimensions=keep, config=STUDENT)
        return lambda probe: model.posterior(probe.rows(*columns))

    def joined(self, *columns: str) -> Posterior:
        """A tissue model trained on local descriptors and the principal components of other columns."""
        projection = Projection.fit(
            torch.cat([p.rows(*columns) for p in self.probes]), DIFFUSION_DIMENSIONS, whiten=True
        )
        picks = [draw(t, 8000, 0, i) for i, t in enumerate(self.targets)]

        def table(probe: Probe) -> Tensor:
            return torch.cat([probe.rows("local"), projection(probe.rows(*columns))], dim=1)

        rows = torch.cat([table(p)[pick] for p, (pick, _) in zip(self.probes, picks, strict=True)])
        target = torch.cat([t[pick] for t, (pick, _) in zip(self.targets, picks, strict=True)])
        model = TissueModel.fit(rows, target, torch.cat([m for _, m in picks]), dimensions=None, config=STUDENT)
        return lambda probe: model.posterior(table(probe))


def columns_of(model: str, *taps: str, levels: Sequence[int] = LEVELS) -> list[str]:
    """Column names of taps at noise levels."""
    return [f"{model}/{level}/{tap}" for level in levels for tap in taps]


def rule_variants() -> Iterator[Variant]:
    """The physics rule with and without context, with other distances, and with one part left out at a time."""
    away = (-1e6, 1.0)
    left_out = {
        "no plates": {"net_plate": away}, "no standard deviation": {"net_sd": away},
        "vessels' skewness ignored": {"net_skew": (1e6, 1.0)}, "dark cells ignored": {"net_cells": away},
        "density of surroundings ignored": {"net_surroundings": away},
        "emphysema from 5 mm alone": {"sparse_far": (1e6, 1.0)},
        "GGO by the median alone": {"haze_q25": away, "homogeneous_share": (1e6, 1.0)},
        "homogeneous ground glass ignored": {"homogeneous_share": (1e6, 1.0)},
        "homogeneous ground glass at the surface too": {"homogeneous_depth_mm": away},
    }  # fmt: skip
    yield Variant("rule", "in context, 5 mm (default)", lambda p: in_place(p, rule_posterior(p)))
    for reach in (0.0, 2.0, 3.0, 8.0):
        name = f"in context, {reach:.0f} mm" if reach else "alone"
        yield Variant("rule", name, lambda p, r=reach: in_place(p, rule_posterior(p, reach_mm=r)))  # type: ignore[misc]
    yield Variant("rule", "lesion log odds not raised", lambda p: in_place(p, rule_posterior(p, lesion_log_odds=0.0)))
    yield Variant(
        "rule", "low-confidence components kept", lambda p: in_place(p, rule_posterior(p, low_confidence=True))
    )
    for name, change in left_out.items():
        rule = dataclasses.replace(PhysicsRule(), **change)  # type: ignore[arg-type]
        yield Variant("rule", name, lambda p, r=rule: in_place(p, rule_posterior(p, r)))  # type: ignore[misc]


READINGS = {
    "aligned HU (default)": Reading(), "HU as they are": Reading(intensity="plain"),
    "range of each scan": Reading(intensity="range"), "z-score of each scan": Reading(intensity="z-score"),
    "grid of 1.0 mm": Reading(spacing_mm=1.0), "grid of 2.0 mm": Reading(spacing_mm=2.0),
    "grid of 3.0 mm": Reading(spacing_mm=3.0),
}  # fmt: skip


def reading_variants(gathered: Callable[[Reading], Sequence[Probe]]) -> Iterator[Variant]:
    """The rule in context on scans prepared differently: normalised per scan, or on another grid."""
    for name, reading in READINGS.items():
        yield Variant("reading", name, lambda p: in_place(p, rule_posterior(p)), gathered(reading))


def mixture_variants(model: str, lessons: Lessons) -> Iterator[Variant]:
    """Unconstrained mixtures of projected features: per scan or for the cohort, by K and naming of components."""
    columns = columns_of(model, "projected")
    everyone = torch.cat([p.rows(*columns)[::4] for p in lessons.probes])
    shared = Projection.fit(everyone, PUBLISHED_DIMENSIONS)

    def own(probe: Probe, components: int, names: str) -> Tensor:
        rows = probe.rows(*columns)
        z = Projection.fit(rows, PUBLISHED_DIMENSIONS)(rows)
        mixture = fit(z, components, seed=0) if components else fit_by_bic(z, seed=0)
        return torch.from_numpy(named_posterior(mixture.responsibilities(z).numpy(), probe.hu[probe.kept], rule=names))

    for names in ("published", "physics"):
        for components in (5, 16, 0):
            label = f"K = {components}" if components else "K by BIC, 2 to 8"
            text = f"a mixture per scan, {label}, {names} names"
            yield Variant("mixture", text, lambda p, c=components, n=names: own(p, c, n))  # type: ignore[misc]
    hu = np.concatenate([p.hu[p.kept][::4] for p in lessons.probes])
    for components in (5, 16, 24):
        mixture = fit(shared(everyone), components, seed=0)
        names_of = named_components(mixture.responsibilities(shared(everyone)).numpy(), hu)

        def cohort(probe: Probe, m: object = mixture, names: Tensor = names_of) -> Tensor:
            return m.responsibilities(shared(probe.rows(*columns))) @ names  # type: ignore[attr-defined,no-any-return]

        yield Variant("mixture", f"a mixture for the cohort, K = {components}, physics names", cohort)
    yield Variant(
        "mixture", "attention to class tokens (DAAM, adapted)",
        lambda p: attention_posterior(p.rows(*columns), p.hu[p.kept], len(LEVELS)),
    )  # fmt: skip


def named_components(responsibility: NDArray[np.float32], hu: NDArray[np.float32]) -> Tensor:
    """(K, 5) one-hot: the physics name of each component of a cohort's mixture, from responsibilities and HU (N,)."""
    mean, sd = component_hu(responsibility, hu)
    ids = [physics_name(float(m), float(s)) - 1 for m, s in zip(mean, sd, strict=True)]
    return torch.nn.functional.one_hot(torch.tensor(ids), CLASSES).float()


def student_variants(models: Sequence[str], lessons: Lessons) -> Iterator[Variant]:
    """Students of the rule with different inputs.  models: names of bundles; `base...` is not distilled."""
    yield Variant("student", "local descriptors", lessons.student("local", dimensions=None))
    for model in models:
        raw = model.startswith("base")
        known = lessons.probes[0].columns
        taps = [t for t in RAW_TAPS if f"{model}/0/{t}" in known] if raw else ["projected"]
        columns = columns_of(model, *taps)
        kind = f"diffusion features{' without distillation' if raw else ''}, {model}"
        yield Variant("student", kind, lessons.student(*columns, dimensions=DIFFUSION_DIMENSIONS))
        yield Variant("student", f"local + {kind}", lessons.joined(*columns))


def tap_variants(model: str, lessons: Lessons) -> Iterator[Variant]:
    """Students on different activations of a distilled network, and on single noise levels."""
    choices = {
        "projected": ("projected",), "bottleneck": ("bottleneck",), "decoder": ("decoder",),
        "projected + decoder": ("projected", "decoder"), "bottleneck, levels, decoder": RAW_TAPS,
    }  # fmt: skip
    for name, taps in choices.items():
        yield Variant("taps", name, lessons.student(*columns_of(model, *taps), dimensions=DIFFUSION_DIMENSIONS))
    steps = FeatureConfig().steps
    for level in LEVELS:
        columns = columns_of(model, "projected", levels=[level])
        yield Variant(
            "timesteps", f"t = {steps[level]:g} T", lessons.student(*columns, dimensions=DIFFUSION_DIMENSIONS)
        )


def radiomic_variants(lessons: Lessons) -> Iterator[Variant]:
    """Students on the 34 dense descriptors: all, and each family alone."""
    names = descriptor_names(RadiomicsConfig())
    families = {"all 34": list(range(len(names)))}
    for family in ("HU", "GLCM", "LBP", "Gabor"):
        families[family] = [i for i, name in enumerate(names) if name.startswith(family.lower())]
    for family, chosen in families.items():
        parts = [
            dataclasses.replace(p, columns={"radiomics": p.columns["radiomics"][:, chosen]}) for p in lessons.probes
        ]
        student = Lessons(parts, lessons.targets).student("radiomics", dimensions=None)

        def posterior(probe: Probe, chosen: list[int] = chosen, student: Posterior = student) -> Tensor:
            return student(dataclasses.replace(probe, columns={"radiomics": probe.columns["radiomics"][:, chosen]}))

        yield Variant("radiomics", f"{family} ({len(chosen)})", posterior)


@dataclass(frozen=True)
class VariantScore:
    """A row of the table.  dice: per class, then their mean;  gain: of the mean over the first row of the group."""

    group: str
    name: str
    dice: tuple[Estimate, ...]
    gain: Estimate


def outcomes(variants: Iterable[Variant], probes: Sequence[Probe]) -> Iterator[VariantScore]:
    """Run every variant on every case; Dice pooled over cases, 95 % intervals and paired gains by resampling cases."""
    weights, first = draws(len(probes)), dict[str, NDArray[np.float64]]()
    for variant in variants:
        cases = variant.probes or probes
        counts = np.stack([confusion(variant.posterior(p), p.kept_truth) for p in cases]).astype(np.float64)
        both = np.diagonal(counts, axis1=1, axis2=2)
        total = counts.sum(1) + counts.sum(2)
        classes = [ratio(2 * both[:, c], total[:, c], weights) for c in range(CLASSES)]
        mean = mean_of_known(np.stack(classes))
        gain = mean - first.setdefault(variant.group, mean)
        yield VariantScore(
            variant.group, variant.name, tuple(estimate(v, len(probes)) for v in [*classes, mean]),
            estimate(gain, len(probes)),
        )  # fmt: skip


def markdown(found: Sequence[VariantScore]) -> str:
    """The table, in percent; gains with their interval."""
    lines: list[str] = []
    for group in dict.fromkeys(o.group for o in found):
        lines += [
            "", f"**{group}**", "",
            "| variant | " + " | ".join(t.title for t in TISSUES) + " | mean | against the first |",
            "|---" * (CLASSES + 3) + "|",
        ]  # fmt: skip
        for o in (o for o in found if o.group == group):
            cells = [f"{100 * e.value:.1f}" for e in o.dice]
            change = f"{100 * o.gain.value:+.1f} ({100 * o.gain.low:+.1f} to {100 * o.gain.high:+.1f})"
            lines.append(f"| {o.name} | " + " | ".join(cells) + f" | {change} |")
    return "\n".join(lines[1:]) + "\n"
