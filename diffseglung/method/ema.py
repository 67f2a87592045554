"""Exponential moving average of weights: used for sampling and segmentation, and shipped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Ema:
    """Average of every tensor of a module's state: average <- d average + (1 - d) current.

    d = min(decay, (1 + n) / (10 + n)) after n updates, so that the random start is forgotten early: the warm-up of
    TensorFlow's ExponentialMovingAverage, as in the code of Song et al. 2021 (arXiv 2011.13456, score_sde_pytorch,
    models/ema.py). Ho et al. 2020 keep d constant.

    >>> layer = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.constant_(layer.weight, 1.0)
    >>> ema = Ema(layer, decay=0.999)
    >>> _ = nn.init.constant_(layer.weight, 2.0)
    >>> ema.update(layer)
    >>> ema.weights["weight"]  # d = 0.1 at the first update
    tensor([[1.9000]])
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.weights = {name: value.detach().clone() for name, value in module.state_dict().items()}

    def next_decay(self) -> float:
        """d of the coming update."""
        return min(self.decay, (1 + self.updates) / (10 + self.updates))

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Add the module's current weights; call once after each optimiser step."""
        share = 1 - self.next_decay()
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value, share)
            else:
                self.weights[name].copy_(value)
        self.updates += 1

    def copy_to(self, module: nn.Module) -> None:
        """Overwrite the module's weights with the average."""
        module.load_state_dict(self.weights)

    @contextmanager
    def applied_to(self, module: nn.Module) -> Iterator[None]:
        """Within the block the module uses the average; afterwards its own weights are restored."""
        own = {name: value.detach().clone() for name, value in module.state_dict().items()}
        self.copy_to(module)
        try:
            yield
        finally:
            module.load_state_dict(own)

    def state(self) -> dict[str, Any]:
        """Tensors and plain numbers for `torch.save` and a weights-only load."""
        return {"decay": self.decay, "updates": self.updates, "weights": dict(self.weights)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state`; the tensors keep their device and dtype."""
        saved: Mapping[str, Tensor] = state["weights"]
        if saved.keys() != self.weights.keys():
            raise KeyError("the saved average belongs to another module")
        for name, value in self.weights.items():
            value.copy_(saved[name])
        self.decay, self.updates = float(state["decay"]), int(state["updates"])
