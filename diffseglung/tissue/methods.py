"""Every way to a class posterior at the lung positions of a scene; the rest of the pipeline is the same for all.

physics    the physics rule on local descriptors, corrected by the neighbourhood; nothing is learned (the default)
rule       the physics rule alone, each position by itself
seeded     classifier taught by the physics rule in context on an unlabelled cohort, on local descriptors
diffusion  the same on multi-timestep diffusion features
combined   the same on both together
student    the rule in context and the network taught on synthetic lesions (stage 3) together
attention  DAAM, adapted: attention of diffusion features to class tokens
published  diffusion features, a free mixture per scan (K or BIC), names by fixed HU ranges
simulated  classifier taught by the truth of simulated lesions, on local descriptors: a reference, not label-free
simulated_combined  the same on local descriptors and diffusion features together

All but rule, attention and published give small low-confidence components of a lesion back to healthy lung.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

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
from diffseglung.method.mixture import Mixture, fit, fit_by_bic
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
"""Added to the log odds of lesions in `physics` and `student`: the mean over a neighbourhood thins out small ones."""
FITTED_ROWS = 60000


@dataclass(eq=False)
class Rows:
    """Descriptors of one prepared, each computed when first asked for."""

    prepared: PreparedScan
    bundle: Bundle | None
    runtime: Runtime
    features: FeatureConfig = field(default_factory=FeatureConfig)
    progress: Progress | None = None
    stride: int = STRIDE
    _local: Tensor | None = None
    _diffusion: Tensor | None = None
    _where: Positions | None = None
    _segmented: Tensor | None = None

    @property
    def where(self) -> Positions:
        """Lung positions that the rows belong to."""
        if self._where is None:
            self._where = positions(self.prepared.lungs, self.stride)
        return self._where

    @property
    def hu(self) -> NDArray[np.float32]:
        """HU (N,) of the voxel in the middle of each position."""
        at = self.where.voxel.clip(max=[n - 1 for n in self.prepared.hu.shape])
        values: NDArray[np.float32] = self.prepared.hu[tuple(at.T)]
        return values

    @property
    def local(self) -> Tensor:
        """Local descriptors (N, F) in physical units."""
        if self._local is None:
            rows = local_descriptors(self.prepared.aligned, self.prepared.lungs, self.prepared.spacing_mm, self.where)
            self._local = torch.from_numpy(rows)
        return self._local

    @property
    def shaped(self) -> Tensor:
        """Local descriptors (N, F) as the classifiers take them."""
        return torch.from_numpy(shaped(self.local.numpy()))

    @property
    def diffusion(self) -> Tensor:
        """Multi-timestep diffusion features (N, levels x channels)."""
        if self._diffusion is None:
            bundle = needed(self.bundle)
            grid = normalise(self.prepared.hu, bundle.card.intensity)
            found = diffusion_features(
                grid, self.prepared.lungs, bundle.source, self.features, self.runtime, self.progress
            )
            self._diffusion = at_positions(found, bundle.source.stride, self.where)
        return self._diffusion

    @property
    def segmented(self) -> Tensor:
        """Class posterior (N, 5) of the network taught on synthetic lesions, which reads aligned HU."""
        if self._segmented is None:
            bundle = needed(self.bundle)
            source, quiet = network_use("student", bundle, self.features)
            grid = normalise(self.prepared.aligned, bundle.card.intensity)
            found = diffusion_features(grid, self.prepared.lungs, source, quiet, self.runtime, self.progress)
            rows = at_positions(found, source.stride, self.where, described_at=middle(source.stride))
            self._segmented = rows / rows.sum(1, keepdim=True)
        return self._segmented

    def sharing(self, other: Rows) -> Rows:
        """These rows with the positions and local descriptors of others of the same scan, which no model changes."""
        self._where, self._local = other.where, other.local
        return self

    def joined(self, projection: Projection) -> Tensor:
        """Local descriptors and projected diffusion features side by side, (N, F + P)."""
        return torch.cat([self.shaped, projection(self.diffusion)], dim=1)


def needed(bundle: Bundle | None) -> Bundle:
    """The bundle; methods without a model never ask."""
    if bundle is None:
        raise ValueError("this method needs a model")
    return bundle


def network_use(method: str, bundle: Bundle, features: FeatureConfig) -> tuple[FeatureSource, FeatureConfig]:
    """What a method of `WITH_NETWORK` reads of the network, and how.

    A segmenter is called once a tile, without noise, on tiles of the size that it was trained on.
    """
    if method == "student":
        return bundle.segmenter(), replace(features, steps=(0.0,), tile=bundle.card.patch.shape)
    return bundle.source, features


def rule(rows: Rows, config: SegmentConfig) -> Tensor:
    """The rule alone."""
    return torch.from_numpy(physics_posterior(rows.local.numpy()))


def physics(rows: Rows, config: SegmentConfig) -> Tensor:
    """The rule smoothed over the neighbourhood, with lesions made more likely."""
    posterior = physics_in_context(rows.local.numpy(), rows.where, rows.prepared.spacing_mm)
    return with_lesion_log_odds(posterior, LESION_LOG_ODDS)


def seeded(rows: Rows, config: SegmentConfig) -> Tensor:
    """Tissue model on local descriptors."""
    return needed(rows.bundle).tissue("seeded").posterior(rows.shaped)


def diffusion(rows: Rows, config: SegmentConfig) -> Tensor:
    """Tissue model on diffusion features."""
    return needed(rows.bundle).tissue("diffusion").posterior(rows.diffusion)


def combined(rows: Rows, config: SegmentConfig) -> Tensor:
    """Tissue model on both."""
    bundle = needed(rows.bundle)
    return bundle.tissue("combined").posterior(rows.joined(bundle.tissue("diffusion").projection))


def student(rows: Rows, config: SegmentConfig) -> Tensor:
    """The rule in context and the network taught on synthetic lesions, with lesions more likely as in `physics`."""
    rule = physics_in_context(rows.local.numpy(), rows.where, rows.prepared.spacing_mm)
    return with_lesion_log_odds(student_posterior(rule, rows.segmented), LESION_LOG_ODDS)


def simulated(rows: Rows, config: SegmentConfig) -> Tensor:
    """Tissue model on local descriptors, taught on simulated lesions."""
    return needed(rows.bundle).tissue("simulated").posterior(rows.shaped)


def simulated_combined(rows: Rows, config: SegmentConfig) -> Tensor:
    """Tissue model on both, taught on simulated lesions."""
    bundle = needed(rows.bundle)
    return bundle.tissue("simulated_combined").posterior(rows.joined(bundle.tissue("diffusion").projection))


def published(rows: Rows, config: SegmentConfig) -> Tensor:
    """The published recipe: standardise, PCA, one free mixture on this scan, HU-guided names by fixed ranges."""
    z = Projection.fit(rows.diffusion, PUBLISHED_DIMENSIONS)(rows.diffusion)
    pick = z[torch.linspace(0, len(z) - 1, min(len(z), FITTED_ROWS)).long()]
    mixture: Mixture = (
        fit(pick, config.components, seed=config.seed) if config.components else fit_by_bic(pick, seed=config.seed)
    )
    return torch.from_numpy(named_posterior(mixture.responsibilities(z).numpy(), rows.hu, rule="published"))


def attention(rows: Rows, config: SegmentConfig) -> Tensor:
    """Attention of diffusion features to class tokens, at each noise level."""
    return attention_posterior(rows.diffusion, rows.hu, len(rows.features.steps))


Method = Callable[[Rows, SegmentConfig], Tensor]
POSTERIORS: dict[str, Method] = {
    "physics": physics,
    "rule": rule,
    "seeded": seeded,
    "diffusion": diffusion,
    "combined": combined,
    "student": student,
    "attention": attention,
    "published": published,
    "simulated": simulated,
    "simulated_combined": simulated_combined,
}
"""Method name -> class posterior (N, 5) at `rows.where`, in the order of `labels.TISSUES`."""
WITHOUT_MODEL = {"physics", "rule"}
"""Methods that need no model file."""
WITH_NETWORK = {"student", "diffusion", "combined", "attention", "published", "simulated_combined"}
"""Methods that call the network."""
LEARNED = {"seeded", "diffusion", "combined", "simulated", "simulated_combined"}
"""Methods with a fitted tissue model; the rule and the published recipe keep their own probabilities."""


def class_posterior(rows: Rows, config: SegmentConfig) -> Tensor:
    """(N, 5) posterior of the method in `config` at `rows.where`, without low-confidence components."""
    found = POSTERIORS[config.method](rows, config)
    if config.method in LEARNED:
        found = with_lesion_log_odds(found, -config.healthy_log_odds)
    if config.method in LEARNED | {"physics", "student"}:
        found = without_low_confidence_components(found, rows.where, rows.prepared.spacing_mm)
    return found


def with_lesion_log_odds(posterior: Tensor, shift: float) -> Tensor:
    """Posterior (N, 5) after adding `shift` to the log odds of every lesion against healthy lung."""
    weights = torch.ones(posterior.shape[1])
    weights[TISSUES.index(HEALTHY)] = math.exp(-shift)
    weighed = posterior * weights
    return weighed / weighed.sum(1, keepdim=True)
