"""The tissue model: a classifier and a seeded mixture, self-trained on physics labels of an unlabelled cohort.

No label enters: the physics rule names the positions it is sure of, a small classifier and a mixture learn how those
look in the full descriptor space, and both are shipped as plain tensors with the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from diffseglung.labels import TISSUES
from diffseglung.mixture.gaussian import Mixture
from diffseglung.mixture.projection import Projection
from diffseglung.mixture.seeded import SeededMixture
from diffseglung.runtime import generator

CLASSES = len(TISSUES)


@dataclass(frozen=True)
class TissueFitConfig:
    """How the tissue model is fitted.

    confident: physics posterior above which a position teaches; components: Gaussians a class; hidden: classifier
    width, 0 for a linear one; mixture_share: weight of the mixture in the log posterior.
    """

    confident: float = 0.85
    components: int = 3
    hidden: int = 32
    iterations: int = 600
    per_class: int = 60000
    mixture_share: float = 0.5
    seed: int = 0


def balanced(label: Tensor, sure: Tensor, per_class: int, seed: int) -> Tensor:
    """Indices of at most `per_class` sure rows of each class, drawn with the seed."""
    picks = []
    for c in range(CLASSES):
        mine = torch.nonzero(sure & (label == c))[:, 0]
        picks.append(mine[torch.randperm(len(mine), generator=generator(seed, c))[:per_class]])
    return torch.cat(picks)


def train_classifier(rows: Tensor, target: Tensor, config: TissueFitConfig) -> dict[str, Tensor]:
    """Weights of a softmax classifier (one hidden layer or linear) fitted to soft targets (N, classes)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        hidden = config.hidden or rows.shape[1]
        first = nn.Linear(rows.shape[1], hidden)
        last = nn.Linear(hidden, CLASSES)
    layers = [first, nn.SiLU(), last] if config.hidden else [last]
    network = nn.Sequential(*layers)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.iterations)
    share = target.sum(0)
    weight = (target @ (share.sum() / share.clamp(min=1.0))).clamp(max=50.0)
    random = generator(config.seed, 99)
    for _ in range(config.iterations):
        pick = torch.randint(len(rows), (4096,), generator=random)
        noise = 0.05 * torch.randn(4096, rows.shape[1], generator=random)
        logits = network(rows[pick] + noise)
        loss = -(weight[pick] * (target[pick] * logits.log_softmax(1)).sum(1)).mean() / weight.mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


@dataclass(frozen=True, eq=False)
class TissueModel:
    """projection of raw rows, classifier weights (`0.*` hidden, last layer to classes), and the seeded mixture."""

    projection: Projection
    classifier: dict[str, Tensor]
    mixture: SeededMixture
    mixture_share: float

    @classmethod
    def fit(cls, rows: Tensor, seeds: Tensor, *, dimensions: int | None, config: TissueFitConfig) -> Self:
        """From rows (N, F) and the physics posterior (N, classes) of the same positions."""
        projection = Projection.fit(rows, dimensions, whiten=dimensions is not None)
        z = projection(rows).clamp(-8, 8)
        top, label = seeds.max(1)
        pick = balanced(label, top >= config.confident, config.per_class, config.seed)
        classifier = train_classifier(z[pick], seeds[pick], config)
        agreed = torch.where(predict(classifier, z[pick]).argmax(1) == label[pick], label[pick], -1)
        mixture = SeededMixture.fit(z[pick], agreed, CLASSES, components=config.components, seed=config.seed)
        return cls(projection, classifier, mixture, config.mixture_share)

    def posterior(self, rows: Tensor) -> Tensor:
        """Class posterior (N, classes) of raw rows (N, F)."""
        z = self.projection(rows).clamp(-8, 8)
        share = self.mixture_share
        blend = (1 - share) * (predict(self.classifier, z) + 1e-4).log()
        if share > 0:
            blend = blend + share * (self.mixture.posterior(z) + 1e-3).log()
        return blend.softmax(1)

    def to_tensors(self) -> dict[str, Tensor]:
        """Flat tensors for a weights file."""
        own = {
            "projection.mean": self.projection.mean,
            "projection.scale": self.projection.scale,
            "projection.axes": self.projection.axes.contiguous(),
            "mixture.weights": self.mixture.mixture.weights,
            "mixture.means": self.mixture.mixture.means,
            "mixture.covariances": self.mixture.mixture.covariances,
            "mixture.owner": self.mixture.owner,
            "mixture_share": torch.tensor(self.mixture_share),
        }
        return own | {f"classifier.{name}": value for name, value in self.classifier.items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Self:
        """Inverse of `to_tensors`."""
        names = ("mean", "scale", "axes")
        projection = Projection(*(tensors[f"projection.{name}"] for name in names))
        parts = ("weights", "means", "covariances")
        mixture = Mixture(*(tensors[f"mixture.{name}"] for name in parts))
        prefix = "classifier."
        classifier = {name.removeprefix(prefix): v for name, v in tensors.items() if name.startswith(prefix)}
        seeded = SeededMixture(mixture, tensors["mixture.owner"], CLASSES)
        return cls(projection, classifier, seeded, float(tensors["mixture_share"]))


def predict(classifier: dict[str, Tensor], z: Tensor) -> Tensor:
    """Softmax output (N, classes) of classifier weights on projected rows."""
    if "2.weight" in classifier:
        z = nn.functional.silu(z @ classifier["0.weight"].T + classifier["0.bias"])
        return (z @ classifier["2.weight"].T + classifier["2.bias"]).softmax(1)
    return (z @ classifier["0.weight"].T + classifier["0.bias"]).softmax(1)
