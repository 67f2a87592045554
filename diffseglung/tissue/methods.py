"""The methods: a class posterior at the lung positions of a scan. The rest of the pipeline is the same for all.

physics    the physics rule on local descriptors, corrected by the neighbourhood; nothing is learned (the default)
rule       the physics rule alone, each position independently
seeded     classifier trained on the physics rule in context of an unlabelled cohort, on local descriptors
diffusion  the same on multi-timestep diffusion features
combined   the same on both
student    the rule in context combined with the network trained on synthetic lesions (stage 3)
attention  DAAM, adapted: attention of diffusion features to class tokens
published  diffusion features, a mixture per scan (K or BIC), names by fixed HU ranges
simulated  classifier trained on the truth of simulated lesions, on local descriptors: a reference, not label-free
simulated_combined  the same on local descriptors and diffusion features

All except rule, attention and published relabel small low-confidence components of a lesion as healthy lung.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffseglung.case.intensity import normalise
from diffseglung.case.positions import STRIDE, Positions, middle, positions
from diffseglung.case.prepared import PreparedScan
from diffseglung.labels import HEALTHY, TISSUES
from diffseglung.method.attention import attention_posterior
from diffseglung.method.features import FeatureSource, Progress, Projection, at_positions, diffusion_features
from diffseglung.method.mixture import fit, fit_by_bic
from diffseglung.method.naming import named_posterior
from diffseglung.platform.config import FeatureConfig, SegmentConfig
from diffseglung.platform.runtime import Runtime
from diffseglung.tissue.bundle import Bundle
from diffseglung.tissue.local import local_descriptors, shaped
from diffseglung.tissue.low_confidence import without_low_confidence_components
from diffseglung.tissue.rule import physics_posterior
from diffseglung.tissue.segmenter import student_posterior
from diffseglung.tissue.smoothed_rule import physics_in_context

PUBLISHED_DIMENSIONS = 16
LESION_LOG_ODDS = 0.5
"""Added to the log odds of lesions in `physics` and `student`: averaging over a neighbourhood weakens small ones."""
FITTED_ROWS = 60000


@dataclass(eq=False)
class Rows:
    """Descriptors at the lung positions of one scan, each computed on first use.

    bundle: the model, for methods that need one.
    """

    prepared: PreparedScan
    bundle: Bundle | None
    runtime: Runtime
    features: FeatureConfig = field(default_factory=FeatureConfig)
    progress: Progress | None = None
    stride: int = STRIDE

    @property
    def model(self) -> Bundle:
        """The bundle; ValueError where there is none."""
        if self.bundle is None:
            raise ValueError("this method needs a model")
        return self.bundle

    @cached_property
    def where(self) -> Positions:
        """Lung positions of the rows."""
        return positions(self.prepared.lungs, self.stride)

    @property
    def hu(self) -> NDArray[np.float32]:
        """HU (N,) of the voxel in the middle of each position."""
        at = self.where.voxel.clip(max=[n - 1 for n in self.prepared.hu.shape])
        values: NDArray[np.float32] = self.prepared.hu[tuple(at.T)]
        return values

    @cached_property
    def local(self) -> Tensor:
        """Local descriptors (N, F) in physical units."""
        prepared = self.prepared
        return torch.from_numpy(local_descriptors(prepared.aligned, prepared.lungs, prepared.spacing_mm, self.where))

    @property
    def shaped(self) -> Tensor:
        """Local descriptors (N, F) as input of the classifiers."""
        return torch.from_numpy(shaped(self.local.numpy()))

    @cached_property
    def diffusion(self) -> Tensor:
        """Multi-timestep diffusion features (N, levels x channels)."""
        source = self.model.source
        return at_positions(self._read(self.prepared.hu, source, self.features), source.stride, self.where)

    @property
    def joined(self) -> Tensor:
        """Local descriptors and the diffusion features projected as by method `diffusion`, (N, F + P)."""
        return torch.cat([self.shaped, self.model.tissue("diffusion").projection(self.diffusion)], dim=1)

    @cached_property
    def segmented(self) -> Tensor:
        """Class posterior (N, 5) of the network trained on synthetic lesions, whose input is aligned HU."""
        source, quiet = network_use("student", self.model, self.features)
        found = self._read(self.prepared.aligned, source, quiet)
        rows = at_positions(found, source.stride, self.where, described_at=middle(source.stride))
        return rows / rows.sum(1, keepdim=True)

    def _read(self, hu: NDArray[np.float32], source: FeatureSource, config: FeatureConfig) -> Tensor:
        grid = normalise(hu, self.model.card.intensity)
        return diffusion_features(grid, self.prepared.lungs, source, config, self.runtime, self.progress)

    def sharing(self, other: Rows) -> Rows:
        """These rows with positions and local descriptors of others of the same scan, which depend on no model."""
        self.where, self.local = other.where, other.local
        return self


def network_use(method: str, bundle: Bundle, features: FeatureConfig) -> tuple[FeatureSource, FeatureConfig]:
    """What a method of `WITH_NETWORK` reads from the network, and how.

    A segmentation network is called once per tile, without noise, on tiles of the size it was trained on.
    """
    if method == "student":
        return bundle.segmenter(), replace(features, steps=(0.0,), tile=bundle.card.patch.shape)
    return bundle.source, features


def rule(rows: Rows, config: SegmentConfig) -> Tensor:
    """The rule alone."""
    return torch.from_numpy(physics_posterior(rows.local.numpy()))


def physics(rows: Rows, config: SegmentConfig) -> Tensor:
    """The rule in context, with lesions made more likely."""
    posterior = physics_in_context(rows.local.numpy(), rows.where, rows.prepared.spacing_mm)
    return with_lesion_log_odds(posterior, LESION_LOG_ODDS)


def student(rows: Rows, config: SegmentConfig) -> Tensor:
    """The rule in context combined with the segmentation network, with lesions made more likely as in `physics`."""
    rule = physics_in_context(rows.local.numpy(), rows.where, rows.prepared.spacing_mm)
    return with_lesion_log_odds(student_posterior(rule, rows.segmented), LESION_LOG_ODDS)


def learned(rows: Rows, config: SegmentConfig) -> Tensor:
    """The fitted tissue model of the method, on its descriptors (`LEARNED`)."""
    tissue = rows.model.tissue(config.method)
    return tissue.posterior(getattr(rows, LEARNED[config.method]))


def published(rows: Rows, config: SegmentConfig) -> Tensor:
    """The published recipe: standardise, PCA, one mixture fitted to this scan, names by fixed HU ranges."""
    z = Projection.fit(rows.diffusion, PUBLISHED_DIMENSIONS)(rows.diffusion)
    pick = z[torch.linspace(0, len(z) - 1, min(len(z), FITTED_ROWS)).long()]
    k, seed = config.components, config.seed
    mixture = fit(pick, k, seed=seed) if k else fit_by_bic(pick, seed=seed)
    return torch.from_numpy(named_posterior(mixture.responsibilities(z).numpy(), rows.hu, rule="published"))


def attention(rows: Rows, config: SegmentConfig) -> Tensor:
    """Attention of diffusion features to class tokens, at each noise level."""
    return attention_posterior(rows.diffusion, rows.hu, len(rows.features.steps))


LEARNED = {
    "seeded": "shaped",
    "diffusion": "diffusion",
    "combined": "joined",
    "simulated": "shaped",
    "simulated_combined": "joined",
}
"""Methods with a fitted tissue model -> the descriptors in `Rows` it takes; other methods keep their probabilities."""
POSTERIORS: dict[str, Callable[[Rows, SegmentConfig], Tensor]] = {
    "physics": physics,
    "rule": rule,
    "student": student,
    "attention": attention,
    "published": published,
    **dict.fromkeys(LEARNED, learned),
}
"""Method name -> class posterior (N, 5) at `rows.where`, in the order of `labels.TISSUES`."""
WITHOUT_MODEL = {"physics", "rule"}
"""Methods that need no model file."""
WITH_NETWORK = {"student", "diffusion", "combined", "attention", "published", "simulated_combined"}
"""Methods that call the network."""


def class_posterior(rows: Rows, config: SegmentConfig) -> Tensor:
    """Posterior (N, 5) of the method in `config` at `rows.where`, without low-confidence components."""
    found = POSTERIORS[config.method](rows, config)
    if config.method in LEARNED:
        found = with_lesion_log_odds(found, -config.healthy_log_odds)
    if config.method in {*LEARNED, "physics", "student"}:
        found = without_low_confidence_components(found, rows.where, rows.prepared.spacing_mm)
    return found


def with_lesion_log_odds(posterior: Tensor, shift: float) -> Tensor:
    """Posterior (N, 5) with `shift` added to the log odds of every lesion against healthy lung.

    >>> with_lesion_log_odds(torch.tensor([[0.5, 0.5, 0.0, 0.0, 0.0]]), math.log(3))
    tensor([[0.2500, 0.7500, 0.0000, 0.0000, 0.0000]])
    """
    weights = torch.ones(posterior.shape[1])
    weights[TISSUES.index(HEALTHY)] = math.exp(-shift)
    weighed = posterior * weights
    return weighed / weighed.sum(1, keepdim=True)
