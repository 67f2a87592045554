"""The diffusion network on one tile, the sampler around it, and the calls that a scan or a sample costs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from diffseglung.method.diffusion import DiffusionModel, linear_signal
from diffseglung.method.samplers import ddpm, dpm_solver, patch_draws, spaced_steps
from diffseglung.method.unet import UNet
from diffseglung.platform.config import UNETS, DiffusionConfig, FeatureConfig
from diffseglung.platform.runtime import choose_device, finished
from studies.speed.clock import Row, clock, race
from studies.speed.machine import machine

TILE, PATCH = FeatureConfig().tile, (32, 64, 64)
SAMPLER_CALLS, CHAIN = 10, 1000
"""Calls of the short sampler (docs/generation.md) and of the full ancestral chain."""


def rows(quick: bool = False) -> list[Row]:
    """A row for each size of network and precision, MONAI compared with the shipped one, and the samplers."""
    repeats, tile = (1, (16, 16, 16)) if quick else (5, TILE)
    sizes = ("tiny",) if quick else ("tiny", "small", "medium", "reference")
    found = [_forward(size, tile, precision, repeats) for size in sizes for precision in ("fp32", "bf16")]
    if find_spec("monai") and find_spec("einops"):
        found.append(_beside_monai("tiny" if quick else "small", tile, repeats))
    found.append(_sampling(4 if quick else SAMPLER_CALLS, 8 if quick else CHAIN, tile if quick else PATCH))
    if find_spec("diffusers"):
        found.append(_solver(repeats))
    return found


def _network(size: str) -> UNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet(UNETS[size]).eval().to(choose_device("auto"))


def _input(tile: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    noise = torch.randn(1, 2, *tile, generator=torch.Generator().manual_seed(0))
    return noise.to(choose_device("auto")), torch.full((1,), 0.15, device=choose_device("auto"))


def flops(call: Callable[[], object]) -> float:
    """Floating-point operations of a call's convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


def _call(network: nn.Module, precision: str, *inputs: Tensor) -> Callable[[], object]:
    def call() -> object:
        device = inputs[0].device
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            found = network(*inputs)
        finished(device)
        return found

    return call


def _forward(size: str, tile: tuple[int, ...], precision: str, repeats: int) -> Row:
    network = _network(size)
    call = _call(network, precision, *_input(tile))
    work, parameters = flops(call), sum(p.numel() for p in network.parameters())
    on_processor = next(network.parameters()).device.type == "cpu"
    return Row(
        part="network",
        what=f"{size}, one tile of {' x '.join(map(str, tile))}, {precision}",
        cost=clock(call, 1 if size == "reference" else repeats),
        amount=1.0,
        unit="tiles",
        floor_s=machine().floor_s(work, bf16=precision == "bf16") if on_processor else None,
        floor=f"{work / 1e9:.0f} GFLOP over the peak of a matrix product",
        note=f"{parameters / 1e6:.1f} M parameters",
    )


def _beside_monai(size: str, tile: tuple[int, ...], repeats: int) -> Row:
    """MONAI's diffusion U-Net: same channels, levels and attention, on the grid after our first convolution."""
    from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet

    config, network = UNETS[size], _network(size)
    stride, widths = config.stem_stride, tuple(network.widths)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        peer = DiffusionModelUNet(
            spatial_dims=3, in_channels=2 * stride**3, out_channels=stride**3, channels=widths,
            attention_levels=(False,) * (len(widths) - 1) + (True,), num_res_blocks=config.blocks,
            num_head_channels=widths[-1] // config.heads, norm_num_groups=8,
        ).eval()  # fmt: skip
    x, level = _input(tile)
    folded = torch.randn(1, 2 * stride**3, *(n // stride for n in tile)).to(x.device)
    ours = _call(network, "bf16", x, level)
    theirs = _call(peer.to(x.device), "bf16", folded, torch.full((1,), 150, device=x.device))
    cost, peer_cost = race(ours, theirs, repeats)
    return Row(
        part="network",
        what=f"{size}, one tile of {' x '.join(map(str, tile))}, bf16, beside MONAI",
        cost=cost,
        amount=1.0,
        unit="tiles",
        peer="MONAI DiffusionModelUNet, same channels, levels and grid",
        peer_cost=peer_cost,
        floor_s=machine().floor_s(flops(ours), bf16=True),
        note=f"{flops(ours) / 1e9:.0f} GFLOP, MONAI's {flops(theirs) / 1e9:.0f}",
    )


def _sampling(calls: int, chain: int, patch: tuple[int, ...]) -> Row:
    """One patch by a few calls of the solver, compared with the full ancestral chain."""
    model = DiffusionModel.of(_network("tiny").cpu(), DiffusionConfig(steps=chain))
    noise, lung = torch.randn(1, 1, *patch), torch.ones(1, 1, *patch)
    denoise, draw = model.denoiser(lung), patch_draws((1, *patch), 0, [0])
    cost, peer_cost = race(
        lambda: dpm_solver(denoise, noise, model.signal, spaced_steps(chain, calls)),
        lambda: ddpm(denoise, noise, model.signal, spaced_steps(chain, chain), draw=draw),
        1,
        warm=False,
    )
    return Row(
        part="sampling",
        what=f"one patch of {' x '.join(map(str, patch))}, {calls} calls (tiny)",
        cost=cost,
        amount=float(calls),
        unit="calls",
        peer=f"ancestral chain of {chain} calls",
        peer_cost=peer_cost,
        target="40 x fewer seconds",
        met=peer_cost.seconds >= 40 * cost.seconds if chain == CHAIN else None,
        note="evidence that these calls suffice, by Frechet distances: generation.md",
    )


def _solver(repeats: int) -> Row:
    """The solver alone, with a denoiser of negligible cost."""
    import diffusers

    signal, noise = linear_signal(CHAIN), torch.randn(1, 1, *PATCH, generator=torch.Generator().manual_seed(0))
    betas = (1 - signal[1:] / signal[:-1]).numpy()
    make: Any = diffusers.DPMSolverMultistepScheduler
    scheduler = make(
        num_train_timesteps=CHAIN, trained_betas=betas, prediction_type="sample", timestep_spacing="trailing"
    )

    def theirs() -> Tensor:
        scheduler.set_timesteps(SAMPLER_CALLS)
        x = noise
        for step in scheduler.timesteps:
            x = scheduler.step(0.1 * x, step, x).prev_sample
        return x

    def ours() -> Tensor:
        return dpm_solver(lambda x, _: 0.1 * x, noise, signal, spaced_steps(CHAIN, SAMPLER_CALLS))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # diffusers' own, on new NumPy
        cost, peer_cost = race(ours, theirs, repeats)
        apart = float((ours() - theirs()).abs().max())
    return Row(
        part="sampling",
        what=f"DPM-Solver++ 2M without its network, {SAMPLER_CALLS} steps of {' x '.join(map(str, PATCH))}",
        cost=cost,
        peer="diffusers DPMSolverMultistepScheduler",
        peer_cost=peer_cost,
        floor_s=machine().floor_s(bytes_moved=SAMPLER_CALLS * 6 * 4.0 * noise.numel()),
        floor="six passes over the patch a step, over the bandwidth",
        note=f"results differ by {apart:.0e} at most",
    )
