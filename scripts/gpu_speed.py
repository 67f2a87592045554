"""Measure the factors of network speed on a GPU, in about three minutes, and write them as JSON.

python scripts/gpu_speed.py -o gpu_speed.json [--device cuda] [--size small] [--seconds 2]

Tiles per second by batch, memory layout and precision; patches per second of training; features of a whole scan, and
the share of the network; the attention kernel in use; the slowest operations of a call.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from diffseglung.method.diffusion import DiffusionModel
from diffseglung.method.features import FeatureSource, diffusion_features, tiles
from diffseglung.method.unet import UNet
from diffseglung.platform.config import UNETS, DiffusionConfig, FeatureConfig
from diffseglung.platform.resources import is_out_of_memory
from diffseglung.platform.runtime import Runtime, accelerators, choose_device, choose_precision, finished

LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last_3d}
BATCHES, TRAINING_BATCHES = (1, 2, 4, 8, 16), (4, 16)
PATCH, SCAN = (32, 96, 96), (200, 230, 230)
"""Voxels of a training patch, and of a scan of 512 x 512 x 300 on the model grid."""


def per_second(call: Callable[[], object], amount: int, device: torch.device, seconds: float) -> float | None:
    """`amount` of a call per second; None if out of memory."""
    try:
        for _ in range(2):
            call()
        finished(device)
        begin, count = time.perf_counter(), 0
        while not count or time.perf_counter() - begin < seconds:
            call()
            finished(device)
            count += 1
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None
    return round(amount * count / (time.perf_counter() - begin), 3)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def inference(network: UNet, device: torch.device, tile: tuple[int, ...], seconds: float) -> list[dict[str, Any]]:
    """Tiles per second."""
    found = []
    for layout, precision, batch in itertools.product(LAYOUTS, ("fp32", "bf16"), BATCHES):
        network.to(memory_format=LAYOUTS[layout])  # type: ignore[call-overload]
        x, level = torch.randn(batch, 2, *tile, device=device), torch.full((batch,), 0.15, device=device)

        def call(x: Tensor = x, level: Tensor = level, precision: str = precision) -> None:
            with torch.inference_mode(), autocast(device, precision):
                network(x, level)

        speed = per_second(call, batch, device, seconds)
        found.append({"layout": layout, "precision": precision, "batch": batch, "tiles_per_second": speed})
    return found


def training(network: UNet, device: torch.device, patch: tuple[int, ...], seconds: float) -> list[dict[str, Any]]:
    """Patches per second, forward, backward and update."""
    found = []
    adam = torch.optim.Adam(network.parameters(), 1e-6, fused=device.type in ("cpu", "cuda"))
    for layout, precision, batch in itertools.product(LAYOUTS, ("fp32", "bf16"), TRAINING_BATCHES):
        network.to(memory_format=LAYOUTS[layout])  # type: ignore[call-overload]
        x, level = torch.randn(batch, 2, *patch, device=device), torch.full((batch,), 0.15, device=device)

        def call(x: Tensor = x, level: Tensor = level, precision: str = precision) -> None:
            with autocast(device, precision):
                loss = network(x, level).float().square().mean()
            loss.backward()
            adam.step()
            adam.zero_grad()

        speed = per_second(call, batch, device, seconds)
        adam.state.clear()  # of the other layout
        found.append({"layout": layout, "precision": precision, "batch": batch, "patches_per_second": speed})
    return found


def whole_scan(network: UNet, device: torch.device, shape: tuple[int, ...]) -> dict[str, Any]:
    """Seconds for the features of a scan, by tiles per call."""
    model = DiffusionModel.of(network, DiffusionConfig())
    source = FeatureSource.raw(model)
    grid, lungs = np.full(shape, -0.5, np.float32), np.zeros(shape, bool)
    lungs[tuple(slice(n // 8, -(n // 8)) for n in shape)] = True
    runtime = Runtime(device=device, precision=choose_precision("auto", device))
    seconds = {}
    for batch in (2, 8, 16):
        config = FeatureConfig(batch_size=batch)
        begin = time.perf_counter()
        diffusion_features(grid, lungs, source, config, runtime)
        finished(device)
        seconds[batch] = round(time.perf_counter() - begin, 3)
    count = len(tiles(lungs, source, FeatureConfig())[1])
    return {"tiles": count, "calls_per_tile": len(FeatureConfig().steps), "seconds_by_batch": seconds}


def attention_kernels(device: torch.device) -> list[str]:
    """Kernels that take the network's attention as it is laid out."""
    qkv = torch.randn(2, 3, 4, 32, 144, device=device, dtype=torch.bfloat16)
    q, k, v = qkv.transpose(-1, -2).contiguous().unbind(1)
    found = []
    for kernel in (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION):
        try:
            with sdpa_kernel(kernel), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # why a kernel does not take them
                scaled_dot_product_attention(q, k, v)
        except RuntimeError:
            continue
        found.append(kernel.name)
    return found


def operations(network: UNet, device: torch.device, tile: tuple[int, ...]) -> list[dict[str, Any]]:
    """The ten slowest operations of one call, in ms."""
    x, level = torch.randn(2, 2, *tile, device=device), torch.full((2,), 0.15, device=device)
    with torch.profiler.profile() as profiler, torch.inference_mode(), autocast(device, "bf16"):
        network(x, level)
        finished(device)
    key = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    events = sorted(profiler.key_averages(), key=lambda event: getattr(event, key), reverse=True)
    return [{"operation": event.key, "ms": round(getattr(event, key) / 1000, 3)} for event in events[:10]]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--size", default="small", choices=UNETS)
    parser.add_argument("--seconds", type=float, default=2.0, help="duration of each measurement")
    parser.add_argument("--tile", type=int, nargs=3, default=FeatureConfig().tile, help="voxels of a tile")
    args = parser.parse_args(words)
    device, tile = choose_device(args.device), tuple(args.tile)
    network = UNet(UNETS[args.size]).to(device)
    patch, scan = (PATCH, SCAN) if device.type != "cpu" else (tile, tuple(2 * n for n in tile))
    record: dict[str, Any] = {"device": accelerators() or str(device), "torch": torch.__version__, "size": args.size}
    parts: dict[str, Callable[[], Any]] = {
        "attention": lambda: attention_kernels(device),
        "inference": lambda: inference(network.eval(), device, tile, args.seconds),
        "operations": lambda: operations(network, device, tile),
        "whole_scan": lambda: whole_scan(network, device, scan),
        "training": lambda: training(network.train(), device, patch, args.seconds),
    }
    for name, measure in parts.items():
        record[name] = measure()
        print(name, json.dumps(record[name], indent=1), flush=True)
        args.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
