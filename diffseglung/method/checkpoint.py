"""Weights files: tensors with a model card; pickled code is never run.

`.safetensors` carries the card as JSON in its metadata; `.pt` is `torch.save` of
{"format", "card": JSON text, "weights": {name: tensor}} and is read with `weights_only=True`.
Names: `network.<key of the U-Net>`, and in stage 2 also `head.<key of the student head>`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from diffseglung.method.card import ModelCard
from diffseglung.method.diffusion import DiffusionModel
from diffseglung.method.unet import UNet
from diffseglung.platform import atomic_files, serialization
from diffseglung.platform.errors import CheckpointError
from diffseglung.platform.file_bounds import require_stored

FORMAT = 1
"""Of the `.pt` container; the card has a format of its own."""
NETWORK = "network."
ENDINGS = (".safetensors", ".pt")


def save(path: Path, weights: Mapping[str, Tensor], card: ModelCard, *, dtype: torch.dtype | None = None) -> None:
    """Write weights and card atomically: an interrupted run never leaves half a file.

    dtype: stored precision of floating-point tensors, e.g. torch.float16; unchanged if None.
    """
    _check_ending(path)
    tensors = {}
    for name, value in weights.items():
        value = value.detach().cpu()
        tensors[name] = (value.to(dtype) if dtype and value.is_floating_point() else value).contiguous()
    if path.suffix == ".pt":
        save_pt(path, {"format": FORMAT, "card": card.to_json(), "weights": tensors})
    else:
        atomic_files.write_bytes(path, serialise(tensors, metadata={"card": card.to_json()}))


def save_pt(path: Path, content: dict[str, Any]) -> None:
    """Tensors and plain values by `torch.save`; the bytes depend only on the content.  Raises OSError."""
    with atomic_files.written(path) as part, part.open("wb") as file:  # given a path, torch stores its name in the file
        try:
            torch.save(content, file)
        except RuntimeError as error:  # raised by torch after a failed write
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise


def load(path: Path) -> tuple[dict[str, Tensor], ModelCard]:
    """Weights (on the CPU, half precision widened to float32) and their card.

    Raises CheckpointError for a file that is missing, damaged, unsafe or not written by `save`.
    """
    _check_ending(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist", remedy="check the path, or omit it to use the shipped model")
    try:
        weights, text = (_read_pt if path.suffix == ".pt" else _read_safetensors)(path)
    except Exception as cause:  # a damaged or foreign file can fail anywhere in the reader
        raise CheckpointError(
            f"{path} cannot be read as tensors ({first_line(cause)})",
            remedy="copy or download the file again; files with pickled code are never opened",
        ) from cause
    named = isinstance(weights, dict) and all(isinstance(n, str) and isinstance(v, Tensor) for n, v in weights.items())
    if not named or not isinstance(text, str):
        raise CheckpointError(
            f"{path} has no model card, so it was not written by diffseglung",
            remedy="use a checkpoint of diffseglung train or distill, or omit --model to use the shipped model",
        )
    try:
        card = ModelCard.from_json(text)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error.problem}", remedy=error.remedy) from error
    halves = (torch.float16, torch.bfloat16)
    return {name: value.float() if value.dtype in halves else value for name, value in weights.items()}, card


def build(weights: Mapping[str, Tensor], card: ModelCard) -> DiffusionModel:
    """The diffusion model of a checkpoint, in float32 on the CPU and in eval mode.  Raises CheckpointError."""
    try:
        with torch.device("meta"):  # shapes alone: an absurd card takes no memory
            network = UNet(card.unet)
    except (ValueError, RuntimeError, TypeError, ZeroDivisionError, IndexError, OverflowError) as cause:
        raise CheckpointError(
            f"the card of model {card.name[:80]!r} describes no valid network ({first_line(cause)})",
            remedy="use a file written by diffseglung train or distill, unchanged",
        ) from cause
    own = {name.removeprefix(NETWORK): value for name, value in weights.items() if name.startswith(NETWORK)}
    wanted = network.state_dict()
    misfits = sorted(own.keys() ^ wanted.keys())
    misfits += [name for name in own.keys() & wanted.keys() if own[name].shape != wanted[name].shape]
    if misfits:
        raise CheckpointError(
            f"{len(misfits)} weights of model {card.name!r} do not fit the network on its card, e.g. {misfits[0]}",
            remedy="use a file written by diffseglung train or distill, unchanged",
        )
    if not all(bool(torch.isfinite(value).all()) and not value.is_complex() for value in own.values()):
        raise CheckpointError(
            f"model {card.name!r} has weights that are not finite",
            remedy="use an earlier checkpoint of the run, and continue training with a smaller --lr",
        )
    network.load_state_dict({name: value.float() for name, value in own.items()}, assign=True)
    return DiffusionModel.of(network.eval().requires_grad_(False), card.diffusion)


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def default_path() -> Path:
    """The model shipped inside the package."""
    return Path(__file__).parents[1] / "weights" / "lung-small.safetensors"


def _check_ending(path: Path) -> None:
    if path.suffix not in ENDINGS:
        raise CheckpointError(
            f"{path} does not have the name of a weights file", remedy=f"use a name ending in {' or '.join(ENDINGS)}"
        )


def _read_safetensors(path: Path) -> tuple[Any, Any]:
    """Weights and card text, unchecked."""
    with path.open("rb") as opened, safe_open(_utf8(path, opened), framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, (file.metadata() or {}).get("card")


def _utf8(path: Path, opened: IO[bytes]) -> str:
    """A path that safetensors accepts: where the name is not UTF-8 (Linux only), that of the open file."""
    name = str(path)
    return name if serialization.readable(name) == name else f"/proc/self/fd/{opened.fileno()}"


def _read_pt(path: Path) -> tuple[Any, Any]:
    """Weights and card text, unchecked."""
    require_stored(path)
    content = torch.load(path, map_location="cpu", weights_only=True)
    return (content.get("weights"), content.get("card")) if isinstance(content, dict) else (None, None)


def first_line(cause: Exception) -> str:
    """What a library's error says, in one line of at most 120 characters."""
    return next(iter(str(cause).splitlines()), type(cause).__name__)[:120]
