"""The tissue model: a classifier of descriptors, trained without annotations.

There are two teachers. Physics: the rule's posterior on an unlabelled cohort, denoised by its neighbourhood, as soft
targets at every position (`smoothed_rule`). Simulation: lesions of known extent drawn into phantoms and real scans.
The classifier is stored as plain tensors with the weights.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from diffseglung.labels import TISSUES
from diffseglung.method.features import Projection
from diffseglung.platform.config import TissueFitConfig
from diffseglung.platform.errors import CheckpointError
from diffseglung.platform.runtime import generator

CLASSES = len(TISSUES)
REACH = 6.0
"""Standardised rows are clipped to +-REACH: an outlier of one scan must not decide."""
LEAST = 1e-4
"""Added to each class probability, which limits confidence."""


def layers(sizes: list[int]) -> nn.Sequential:
    """Linear layers with SiLU between them; their weights are named 0, 2, 4, ..."""
    parts: list[nn.Module] = []
    for enter, leave in itertools.pairwise(sizes):
        parts += [nn.Linear(enter, leave), nn.SiLU()]
    return nn.Sequential(*parts[:-1])


def class_weights(target: Tensor, mass: Tensor, healthy_weight: float) -> Tensor:
    """(classes,) weights that make each class's share of the loss the root of its share of the cohort.

    mass: (N,) the number of positions of the cohort that each row represents.
    """
    share = (target * mass[:, None]).sum(0)
    weight = (share.sum() / share.clamp(min=1.0)).sqrt().clamp(max=30.0)
    weight[0] = weight[0] * healthy_weight
    return weight / weight.mean()


def train_classifier(rows: Tensor, target: Tensor, mass: Tensor, config: TissueFitConfig) -> dict[str, Tensor]:
    """Weights of a softmax classifier fitted to soft targets (N, classes); rows are weighted by their mass (N,)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = layers([rows.shape[1], *config.hidden, CLASSES])
    optimiser = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.iterations)
    weight = (target @ class_weights(target, mass, config.healthy_weight)) * (mass / mass.mean()).sqrt()
    random = generator(config.seed, 99)
    for _ in range(config.iterations):
        pick = torch.randint(len(rows), (4096,), generator=random)
        noise = config.noise * torch.randn(4096, rows.shape[1], generator=random)
        likely = network(rows[pick] + noise).log_softmax(1)
        loss = -(weight[pick] * (target[pick] * (0.98 * likely) + 0.02 / CLASSES * likely).sum(1)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


@dataclass(frozen=True, eq=False)
class TissueModel:
    """Projection of raw rows, and classifier weights (`0.*` hidden, last layer to classes)."""

    projection: Projection
    classifier: dict[str, Tensor]

    @classmethod
    def fit(
        cls, rows: Tensor, target: Tensor, mass: Tensor, *, dimensions: int | None, config: TissueFitConfig
    ) -> Self:
        """From rows (N, F), their target posterior (N, classes) and the number of positions each represents (N,).

        target: the physics rule in context, or the truth of simulated lesions.
        """
        projection = Projection.fit(rows, dimensions, whiten=dimensions is not None)
        z = projection(rows).clamp(-REACH, REACH)
        return cls(projection, train_classifier(z, target, mass, config))

    def posterior(self, rows: Tensor) -> Tensor:
        """Class posterior (N, classes) of raw rows (N, F).  Raises CheckpointError for rows of another length."""
        fitted = len(self.projection.mean)
        if rows.shape[1] != fitted:
            raise CheckpointError(
                f"the tissue model was fitted on {fitted} descriptors, but there are {rows.shape[1]}",
                remedy="fit it again with this version: diffseglung fit",
            )
        z = self.projection(rows).clamp(-REACH, REACH)
        likely = predict(self.classifier, z) + LEAST
        return likely / likely.sum(1, keepdim=True)

    def to_tensors(self) -> dict[str, Tensor]:
        """Flat tensors for a weights file."""
        own = {f"projection.{name}": value.contiguous() for name, value in vars(self.projection).items()}
        return own | {f"classifier.{name}": value for name, value in self.classifier.items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Self:
        """Inverse of `to_tensors`; other tensors, written by earlier versions, are ignored."""
        names = ("mean", "scale", "axes")
        projection = Projection(*(tensors[f"projection.{name}"] for name in names))
        prefix = "classifier."
        classifier = {name.removeprefix(prefix): v for name, v in tensors.items() if name.startswith(prefix)}
        return cls(projection, classifier)


def predict(classifier: dict[str, Tensor], z: Tensor) -> Tensor:
    """Softmax output (N, classes) of classifier weights on projected rows."""
    last = max(int(name.split(".")[0]) for name in classifier)
    for layer in range(0, last + 1, 2):
        z = z @ classifier[f"{layer}.weight"].T + classifier[f"{layer}.bias"]
        if layer < last:
            z = nn.functional.silu(z)
    return z.softmax(1)
