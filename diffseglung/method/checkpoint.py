"""Weights files: tensors plus the card that gives them meaning, and never a pickle that runs.

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
    """Write to a neighbour and rename, so that an interrupted run never leaves half a file.

    dtype: stored precision of floating-point tensors, e.g. torch.float16; as they are when None.
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
    """Tensors and plain values by `torch.save`; the bytes depend on the content only.  Raises OSError."""
    with atomic_files.written(path) as part, part.open("wb") as file:  # to a path, torch would write its name into it
        try:
            torch.save(content, file)
        except RuntimeError as error:  # what torch's archive says after a write that the disk refused
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise


def load(path: Path) -> tuple[dict[str, Tensor], ModelCard]:
    """Weights (on the CPU, half precision widened to float32) and their card.

    Raises CheckpointError for a file that is missing, damaged, unsafe or not written by `save`.
    """
    _check_ending(path)
    if not path.is_file():
        raise CheckpointError(
            f"{path} does not exist", remedy="check the path, or leave it out to use the model that is shipped"
        )
    weights, text = (_read_pt if path.suffix == ".pt" else _read_safetensors)(path)
    try:
        card = ModelCard.from_json(text)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error.problem}", remedy=error.remedy) from error
    halves = (torch.float16, torch.bfloat16)
    return {name: value.float() if value.dtype in halves else value for name, value in weights.items()}, card


def build(weights: Mapping[str, Tensor], card: ModelCard) -> DiffusionModel:
    """The diffusion model of a checkpoint, in float32 on the CPU and in eval mode."""
    network = _outline(card)
    own = {name.removeprefix(NETWORK): value for name, value in weights.items() if name.startswith(NETWORK)}
    wanted = network.state_dict()
    misfits = sorted(own.keys() ^ wanted.keys())
    misfits += [name for name in own.keys() & wanted.keys() if own[name].shape != wanted[name].shape]
    if misfits:
        raise CheckpointError(
            f"{len(misfits)} weights of model {card.name!r} do not fit the network of its card, e.g. {misfits[0]}",
            remedy="use a file written by diffseglung train or distill, unchanged",
        )
    if not all(bool(torch.isfinite(value).all()) and not value.is_complex() for value in own.values()):
        raise CheckpointError(
            f"model {card.name!r} holds weights that are not finite",
            remedy="use an earlier checkpoint of the run, and train on with a smaller --lr",
        )
    network = UNet(card.unet)
    network.load_state_dict(own)
    return DiffusionModel.of(network.float().eval().requires_grad_(False), card.diffusion)


def _outline(card: ModelCard) -> UNet:
    """Its shapes alone: an absurd card takes no memory.  Raises CheckpointError where there is no such network."""
    try:
        with torch.device("meta"):
            return UNet(card.unet)
    except (ValueError, RuntimeError, TypeError, ZeroDivisionError, IndexError, OverflowError) as cause:
        reason = next(iter(str(cause).splitlines()), type(cause).__name__)[:120]
        raise CheckpointError(
            f"the card of model {card.name[:80]!r} describes no network ({reason})",
            remedy="use a file written by diffseglung train or distill, unchanged",
        ) from cause


def sha256(path: Path) -> str:
    """Fingerprint of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def default_path() -> Path:
    """The model shipped inside the package."""
    return Path(__file__).parents[1] / "weights" / "lung-small.safetensors"


def _check_ending(path: Path) -> None:
    if path.suffix not in ENDINGS:
        raise CheckpointError(
            f"{path} is not a weights file by its name", remedy=f"use a name that ends in {' or '.join(ENDINGS)}"
        )


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], str]:
    try:
        with path.open("rb") as opened, safe_open(_utf8(path, opened), framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}
            card = (file.metadata() or {}).get("card")
    except Exception as cause:  # a damaged or foreign file can fail anywhere in the reader
        raise _unreadable(path, cause) from cause
    if card is None:
        raise _foreign(path)
    return weights, card


def _utf8(path: Path, opened: IO[bytes]) -> str:
    """A path that safetensors takes: of a name that is not UTF-8 (on Linux alone), that of the opened file."""
    name = str(path)
    return name if serialization.readable(name) == name else f"/proc/self/fd/{opened.fileno()}"


def _read_pt(path: Path) -> tuple[dict[str, Tensor], str]:
    try:
        require_stored(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as cause:  # a damaged or foreign file can fail anywhere in the reader
        raise _unreadable(path, cause) from cause
    if not isinstance(content, dict):
        raise _foreign(path)
    weights, card = content.get("weights"), content.get("card")
    if not isinstance(card, str) or not isinstance(weights, dict):
        raise _foreign(path)
    if not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items()):
        raise _foreign(path)
    return weights, card


def _unreadable(path: Path, cause: Exception) -> CheckpointError:
    reason = next(iter(str(cause).splitlines()), type(cause).__name__)[:120]
    return CheckpointError(
        f"{path} cannot be read as tensors ({reason})",
        remedy="copy or download the file again; files with pickled code are never opened",
    )


def _foreign(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} holds no model card, so it was not written by diffseglung",
        remedy="use a checkpoint of diffseglung train or distill, or leave --model out for the shipped model",
    )
