"""Draw CT patches from a trained model: lung masks to condition on, and the sampler of the settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffseglung.case.resample import resample
from diffseglung.method.diffusion import Denoiser, DiffusionModel
from diffseglung.method.patches import choose_corners, cut
from diffseglung.method.samplers import NoiseSource, ddim, ddpm, dpm_solver, logsnr_steps, patch_draws, spaced_steps
from diffseglung.platform.config import SampleConfig
from diffseglung.platform.errors import ConfigError
from diffseglung.platform.runtime import Runtime
from diffseglung.volume import Reorientation, Shape, Volume


def full_lungs(shape: Shape, count: int) -> NDArray[np.float32]:
    """Masks (N, Z, Y, X) of patches entirely inside the lung."""
    return np.ones((count, *shape), np.float32)


def round_lungs(shape: Shape, count: int, *, seed: int) -> NDArray[np.float32]:
    """Masks (N, Z, Y, X) of an upright ellipsoid off centre, about two thirds of the patch."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))  # (3, Z, Y, X)
    masks = []
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        centre = rng.uniform(-0.25, 0.25, 3)
        axes = np.array([3.0, 1.05, 0.85]) * rng.uniform(0.9, 1.1, 3)
        masks.append((((grid - centre[:, None, None, None]) / axes[:, None, None, None]) ** 2).sum(0) < 1)
    return np.stack(masks).astype(np.float32)


def cut_lungs(
    mask: Volume, shape: Shape, count: int, *, spacing_mm: float, min_lung_fraction: float, seed: int
) -> NDArray[np.float32]:
    """Masks (N, Z, Y, X) cut at random from a scan's lung mask, as in training; spacing 0 keeps its grid."""
    mask = Reorientation.of(mask).apply(mask.with_array((mask.array > 0).astype(np.uint8)))
    if spacing_mm > 0:
        mask = resample(mask, spacing_mm, order=0)
    masks = []
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        corners = choose_corners(mask.array, shape, count=1, min_lung_fraction=min_lung_fraction, rng=rng)
        masks.append(cut(mask.array, corners[0], shape))
    return np.stack(masks).astype(np.float32)


def step_list(model: DiffusionModel, config: SampleConfig) -> list[int]:
    """The steps selected by the settings."""
    count = min(config.steps, model.config.steps)
    return logsnr_steps(model.signal, count) if config.spacing == "logsnr" else spaced_steps(model.config.steps, count)


def draw_patches(
    model: DiffusionModel,
    lungs: NDArray[np.float32],
    config: SampleConfig,
    *,
    runtime: Runtime,
    tick: Callable[[], None] = lambda: None,
) -> NDArray[np.float32]:
    """Patches (N, Z, Y, X) in model units for lung masks of the same shape; the network is on the runtime's device.

    Patch i depends only on the seed, i and its mask, whatever the batch. tick: called after each network call.
    """
    shape = (1, *lungs.shape[1:])
    if any(side % model.network.multiple for side in shape[1:]):
        raise ConfigError(
            f"patches of {' x '.join(map(str, shape[1:]))} voxels do not fit the network",
            remedy=f"choose sides that are multiples of {model.network.multiple}",
        )
    steps, drawn = step_list(model, config), []
    for first in range(0, len(lungs), config.batch_size):
        lung = torch.from_numpy(lungs[first : first + config.batch_size])[:, None].to(runtime.device)
        denoise = _ticking(model.denoiser(lung), tick)
        draw = patch_draws(shape, config.seed, range(first, first + len(lung)))
        with torch.no_grad(), runtime.autocast():
            clean = _sample(denoise, draw, model.signal, steps, config, like=lung)
        drawn.append(clean.float().cpu().numpy()[:, 0])
    return np.concatenate(drawn)


def _ticking(denoise: Denoiser, tick: Callable[[], None]) -> Denoiser:
    def ticking(noisy: Tensor, step: Tensor) -> Tensor:
        clean = denoise(noisy, step)
        tick()
        return clean

    return ticking


def _sample(
    denoise: Denoiser, draw: NoiseSource, signal: Tensor, steps: Sequence[int], config: SampleConfig, *, like: Tensor
) -> Tensor:
    """Run the chosen sampler on the device of `like`, from the noise of step 0."""
    noise = draw(0).to(like)
    if config.sampler == "ddpm":
        return ddpm(denoise, noise, signal, steps, draw=draw)
    if config.sampler == "ddim":
        return ddim(denoise, noise, signal, steps, eta=config.eta, draw=draw)
    return dpm_solver(denoise, noise, signal, steps, order=config.order)
