"""Measured peak performance of the machine: arithmetic and memory bandwidth, for lower bounds of times."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import torch

from diffseglung.platform.resources import cores
from diffseglung.platform.runtime import processor_name
from studies.speed.clock import clock

EDGES, COPY_MIB = (128, 256, 512, 1024, 2048), 512
ENOUGH_S = 0.1
"""Stop enlarging a product that takes this long: emulated bfloat16 is very slow."""


@dataclass(frozen=True)
class Machine:
    """processor, cores: this process may use them;  memory_gib: of the machine.

    gflops: fp32 arithmetic of a large matrix product, bf16 the same;  gb_per_s: read plus written by a large copy.
    """

    processor: str
    cores: int
    memory_gib: float
    gflops: float
    gflops_bf16: float
    gb_per_s: float
    torch: str
    numpy: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    def floor_s(self, flops: float = 0.0, bytes_moved: float = 0.0, *, bf16: bool = False) -> float:
        """Lower bound in seconds for this arithmetic and memory traffic (the slower of the two)."""
        peak = self.gflops_bf16 if bf16 else self.gflops
        return max(flops / (peak * 1e9), bytes_moved / (self.gb_per_s * 1e9))


@cache
def machine() -> Machine:
    """Measured once per process."""
    return Machine(
        processor=processor_name(),
        cores=cores(),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        gflops=_gflops(torch.float32),
        gflops_bf16=_gflops(torch.bfloat16),
        gb_per_s=_gb_per_s(),
        torch=torch.__version__,
        numpy=np.__version__,
    )


def _gflops(dtype: torch.dtype) -> float:
    for edge in EDGES:
        a = torch.randn(edge, edge).to(dtype)
        shortest = min(clock(partial(torch.matmul, a, a), 5).wall_s)
        if shortest > ENOUGH_S:
            break
    return round(2 * edge**3 / shortest / 1e9, 1)


def _gb_per_s() -> float:
    source = torch.zeros(COPY_MIB * 2**18)
    target = torch.ones_like(source)
    return round(2 * source.numel() * 4 / min(clock(lambda: target.copy_(source), 5).wall_s) / 1e9, 1)
