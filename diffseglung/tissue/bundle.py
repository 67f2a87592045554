"""A model file as used by the pipeline: diffusion network, its head, and the tissue models fitted with them.

Tissue tensors are in the same file as `tissue.<method>.<name>`, written by `diffseglung fit`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from diffseglung.labels import TISSUES
from diffseglung.method import checkpoint
from diffseglung.method.card import ModelCard
from diffseglung.method.distillation import load_student
from diffseglung.method.features import FeatureSource
from diffseglung.platform.errors import CheckpointError
from diffseglung.tissue.classifier import TissueModel
from diffseglung.tissue.segmenter import load_segmentation_head

PREFIX = "tissue."


@dataclass(frozen=True, eq=False)
class Bundle:
    """source: of diffusion features;  tissues: fitted tissue model of each method;  path, sha256: of the file.

    classes: source of class posteriors, if the network was trained to give them (stage 3).
    """

    source: FeatureSource
    tissues: dict[str, TissueModel]
    card: ModelCard
    path: Path
    sha256: str
    classes: FeatureSource | None = None

    def segmenter(self) -> FeatureSource:
        """Source of class posteriors of a network trained on synthetic lesions.  Raises CheckpointError."""
        if self.classes is None:
            raise CheckpointError(
                f"{self.path.name} was not trained to label tissue, as required by the method student",
                remedy=f"diffseglung finetune --resume {self.path.name} trains it, or choose --method physics",
            )
        return self.classes

    def tissue(self, method: str) -> TissueModel:
        """The tissue model of a method.  Raises CheckpointError."""
        if method not in self.tissues:
            raise CheckpointError(
                f"{self.path.name} has no tissue model for the method {method}",
                remedy=f"fit one: diffseglung fit --model {self.path.name} --cases DIR, or choose --method physics",
            )
        return self.tissues[method]


def load_bundle(path: Path | None, device: str = "cpu") -> Bundle:
    """Read a model file; None is the one installed with the package.  Raises CheckpointError.

    A file without tissue models takes those on local descriptors (methods `seeded` and `simulated`) from the installed
    one, because they do not depend on the network.
    """
    path = path or checkpoint.default_path()
    weights, card = checkpoint.load(path)
    model = checkpoint.build(weights, card)
    model.network.to(device)
    if card.stage == 2:
        source = FeatureSource.student(model, load_student(weights, card).to(device))
    else:
        source = FeatureSource.raw(model)
    classes = None
    if card.stage == 3:
        head = load_segmentation_head(weights, model.network).to(device)
        classes = FeatureSource(model, lambda taps: head(taps).float().softmax(1), len(TISSUES), head.stride)
    tissues = tissue_models(weights)
    if "simulated" not in tissues and path != checkpoint.default_path() and checkpoint.default_path().exists():
        shipped = tissue_models(checkpoint.load(checkpoint.default_path())[0])
        tissues |= {name: value for name, value in shipped.items() if name in ("seeded", "simulated")}
    return Bundle(source, tissues, card, path, checkpoint.sha256(path), classes)


def tissue_models(weights: Mapping[str, Tensor]) -> dict[str, TissueModel]:
    """The tissue models in the tensors of a file.  Raises CheckpointError."""
    methods: dict[str, dict[str, Tensor]] = {}
    for name, value in weights.items():
        if name.startswith(PREFIX):
            method, _, rest = name.removeprefix(PREFIX).partition(".")
            methods.setdefault(method, {})[rest] = value
    found = {}
    for method, tensors in methods.items():
        try:
            found[method] = TissueModel.from_tensors(tensors)
            found[method].posterior(tensors["projection.mean"].new_zeros(1, len(tensors["projection.mean"])))
        except (KeyError, ValueError, RuntimeError, TypeError, IndexError, OverflowError) as cause:
            raise CheckpointError(
                f"the tissue model of method {method[:40]!r} is incomplete or inconsistent "
                f"({checkpoint.first_line(cause)})",
                remedy="fit it again: diffseglung fit",
            ) from cause
    return found


def tissue_tensors(tissues: Mapping[str, TissueModel]) -> dict[str, Tensor]:
    """Inverse of `tissue_models`."""
    return {
        f"{PREFIX}{m}.{name}": value for m, tissue in tissues.items() for name, value in tissue.to_tensors().items()
    }
