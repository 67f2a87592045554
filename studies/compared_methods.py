"""The candidates of a benchmark, and how each is run: methods, the default without fusion or with --fast, baselines.

Key of a candidate: the method's or baseline's name; `<method>_no_fusion`; `<method>_fast`; `<method>_base` on the base
model, whose features were not distilled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseglung.pipeline import Segmenter, describe, label, prepare, restore, sharpen
from diffseglung.platform.config import METHODS, FeatureConfig, SegmentConfig
from diffseglung.platform.errors import CheckpointError, ConfigError
from diffseglung.platform.runtime import Runtime
from diffseglung.tissue.bundle import Bundle
from diffseglung.tissue.local import SHAPED_NAMES
from diffseglung.tissue.methods import LEARNED, WITHOUT_MODEL, Rows
from diffseglung.volume import Volume
from studies.baselines import BASELINES

NO_FUSION, FAST, BASE = "_no_fusion", "_fast", "_base"
ON_BASE = ("published", "attention", "diffusion")
"""Methods that use only a network: two are fitted to each scan, `diffusion` needs a tissue model."""


@dataclass(frozen=True, kw_only=True)
class ComparedMethod:
    """key: name in files;  config: settings of a method, None for a baseline;  base: whether it uses the base model."""

    key: str
    config: SegmentConfig | None = None
    base: bool = False

    @property
    def needs_model(self) -> bool:
        """Whether it needs the model file (or the base model)."""
        return self.config is not None and self.config.method not in WITHOUT_MODEL

    def settings(self) -> dict[str, Any]:
        """All settings, ready for JSON."""
        if self.config is None:
            return {"baseline": self.key}
        features = FeatureConfig(seed=self.config.seed).to_dict() if self.needs_model else None
        return {"method": self.config.to_dict(), "features": features, "base": self.base}


@dataclass(frozen=True, eq=False)
class Prediction:
    """label_map: on the CT's grid;  posterior: (Z, Y, X, 5) float16 there, None for baselines."""

    label_map: Volume
    posterior: NDArray[np.float16] | None


def all_candidates(*, base: bool) -> dict[str, ComparedMethod]:
    """All candidates by key, the default method first; base: whether a base model is given."""
    default = SegmentConfig()
    found = [ComparedMethod(key=default.method, config=default)]
    found.append(ComparedMethod(key=default.method + NO_FUSION, config=replace(default, fusion=False)))
    found.append(ComparedMethod(key=default.method + FAST, config=replace(default, fast=True)))
    found += [
        ComparedMethod(key=name, config=replace(default, method=name)) for name in METHODS if name != default.method
    ]
    if base:
        found += [
            ComparedMethod(key=m + BASE, config=replace(default, method=m), base=True) for m in ON_BASE if m in METHODS
        ]
    found += [ComparedMethod(key=name) for name in BASELINES]
    return {candidate.key: candidate for candidate in found}


def choose(
    names: list[str] | None, model: Bundle | None, base_model: Bundle | None = None
) -> tuple[list[ComparedMethod], list[str]]:
    """The requested candidates (None: all that the models support), and notes on those left out.

    Raises ConfigError for an unknown name, CheckpointError for a requested one that the model does not support.
    """
    known = all_candidates(base=base_model is not None)
    for name in names or []:
        if name not in known:
            remedy = "give --base-model FILE" if name.endswith(BASE) else f"choose of {', '.join(known)}"
            raise ConfigError(f"there is no method {name!r}", remedy=remedy)
    chosen, notes = [], []
    for candidate in known.values() if names is None else [known[name] for name in dict.fromkeys(names)]:
        problem = _unserved(candidate, base_model if candidate.base else model)
        if problem and names is not None:
            raise CheckpointError(problem, remedy="fit it with diffseglung fit, or leave the method out")
        if problem:
            notes.append(f"{candidate.key} is left out: {problem}")
        else:
            chosen.append(candidate)
    return chosen, notes


def _unserved(candidate: ComparedMethod, model: Bundle | None) -> str | None:
    """Why the model cannot serve a candidate; None when it can."""
    if not candidate.needs_model or candidate.config is None:
        return None
    if model is None:
        return "there is no model file"
    method = candidate.config.method
    if method == "student" and model.classes is None:
        return f"{model.path.name} was not taught to label tissue (diffseglung finetune)"
    if method not in LEARNED:
        return None
    if method not in model.tissues:
        return f"{model.path.name} holds no {method} model"
    takes, gives = len(model.tissues[method].projection.mean), _columns(method, model)
    if gives is not None and takes != gives:
        return f"the {method} model of {model.path.name} was fitted on {takes} descriptors, and there are {gives}"
    return None


def _columns(method: str, model: Bundle) -> int | None:
    """Length of a row that the method's model is asked about; None where it follows from the network alone."""
    if method == "diffusion":
        return None
    own = len(SHAPED_NAMES)
    if "combined" not in method:
        return own
    return own + model.tissues["diffusion"].projection.axes.shape[1] if "diffusion" in model.tissues else None


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedModels:
    """model, base: bundles, None where no candidate needs one;  runtime: where they compute."""

    runtime: Runtime
    model: Bundle | None = None
    base: Bundle | None = None

    def predictions(
        self, ct: Volume, lungs: Volume, candidates: list[ComparedMethod]
    ) -> Iterator[tuple[ComparedMethod, Prediction]]:
        """The label map of each candidate for one case; shared parts are computed once."""
        rows: dict[tuple[bool, int], Rows] = {}
        for candidate in candidates:
            config = candidate.config
            if config is None:
                yield candidate, Prediction(BASELINES[candidate.key](ct, lungs), None)
                continue
            key = candidate.base, config.stride
            if key not in rows:
                prepared = next((r.prepared for r in rows.values()), None) or prepare(ct, lungs, config)
                bundle = self.base if candidate.base else self.model
                own = describe(prepared, bundle, self.runtime, config)
                rows[key] = own.sharing(rows.get((not candidate.base, config.stride), own))
            yield candidate, _prediction(ct, lungs, rows[key], config)


def labeller(candidate: ComparedMethod, model: Path | None, device: str) -> Callable[[Volume, Volume], Volume]:
    """A candidate as a function (ct, lungs) -> label map, computed alone."""
    if candidate.config is None:
        return BASELINES[candidate.key]
    segmenter = Segmenter.load(model, config=candidate.config, device=device)
    return lambda ct, lungs: segmenter(ct, lungs).label_map


def _prediction(ct: Volume, lungs: Volume, rows: Rows, config: SegmentConfig) -> Prediction:
    """As the pipeline, from the posterior to the scan's own grid."""
    fine = sharpen(label(rows, config), rows.where, rows.prepared, config)
    found = restore(ct, lungs, rows.prepared, fine, config, keep=True)
    return Prediction(found.label_map, found.posterior)
