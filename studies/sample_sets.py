"""Sets of patches for the generation table: held-out real ones, and samples of a model in the same lungs.

Every patch is kept in a file of its own as soon as its batch is drawn, named after everything it depends on: weights,
sampler, seed, place, lungs, precision. An interrupted run continues, and a larger n draws only the additional ones.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffseglung.case.intensity import normalise
from diffseglung.case.resample import resample
from diffseglung.io import read_mask, read_volume
from diffseglung.method.diffusion import DiffusionModel, noised
from diffseglung.method.patches import choose_corners, cut
from diffseglung.method.samplers import ddim, ddpm, dpm_solver, logsnr_steps, patch_draws, spaced_steps
from diffseglung.platform import atomic_files
from diffseglung.platform.config import GenerationConfig, IntensityConfig, PatchConfig
from diffseglung.platform.errors import GeometryError, InputError
from diffseglung.platform.runtime import Runtime, patch_noise
from diffseglung.volume import Reorientation

Patches = NDArray[np.float32]
VERSION = 1
"""Incremented when stored samples are no longer reproduced."""
REPAIR = 1_000_003
"""Seed word that separates the noise of `repaired` from that of the samples."""


@dataclass(frozen=True)
class Sampler:
    """A sampler. kind: ddpm, ddim or dpm.  calls: of the network, 0 for the full chain."""

    title: str
    kind: str
    calls: int
    spacing: str = "uniform"

    def steps(self, signal: Tensor) -> list[int]:
        """The steps it takes, for a chain of any length."""
        total = len(signal) - 1
        count = min(self.calls or total, total)
        return logsnr_steps(signal, count) if self.spacing == "logsnr" else spaced_steps(total, count)


SAMPLERS = (
    Sampler("DPM-Solver++ 10", "dpm", 10),
    Sampler("DPM-Solver++ 10, log-SNR", "dpm", 10, "logsnr"),
    Sampler("DPM-Solver++ 20", "dpm", 20),
    Sampler("DPM-Solver++ 20, log-SNR", "dpm", 20, "logsnr"),
    Sampler("DPM-Solver++ 50", "dpm", 50),
    Sampler("DDIM 50", "ddim", 50),
    Sampler("DPM-Solver++ 250", "dpm", 250),
    Sampler("ancestral, full chain", "ddpm", 0),
)
QUICK = (SAMPLERS[0], Sampler("ancestral 10", "ddpm", 10))


@dataclass(frozen=True, eq=False)
class RealPatches:
    """Real patches on the model's grid: ct (n, Z, Y, X) in model units, lungs (n, Z, Y, X) 0 or 1, scan names (n,)."""

    ct: Patches
    lungs: Patches
    scans: tuple[str, ...]


def cut_scans(
    scans: Sequence[tuple[Path, Path]], count: int, patch: PatchConfig, intensity: IntensityConfig, *, seed: int
) -> RealPatches:
    """`count` patches of pairs of files (CT, lungs), cut as in training, from the scans in turn.

    Patch i depends only on the seed, i and its scan. Positions are random: patches of one scan may overlap.
    """
    if not scans:
        raise InputError("there is no held-out scan", remedy="name at least one pair of CT and lung mask")
    grids = [_on_grid(ct, lungs, patch, intensity) for ct, lungs in scans]
    values, inside, names = [], [], []
    for i in range(count):
        ct, lungs = grids[i % len(grids)]
        rng = np.random.default_rng([seed, i])
        (corner,) = choose_corners(
            lungs, patch.shape, count=1, min_lung_fraction=patch.min_lung_fraction, rng=rng
        )  # fmt: skip
        values.append(cut(ct, corner, patch.shape, fill=-1))
        inside.append(cut(lungs, corner, patch.shape))
        names.append(scans[i % len(grids)][0].name.partition(".")[0])
    return RealPatches(np.stack(values), np.stack(inside), tuple(names))


def _on_grid(ct: Path, lungs: Path, patch: PatchConfig, intensity: IntensityConfig) -> tuple[Patches, Patches]:
    """CT in model units and lungs (0, 1) on canonical axes at the model's spacing, as in `precompute`."""
    hu, mask = read_volume(ct), read_mask(lungs)
    if not hu.same_grid(mask):
        raise GeometryError(f"{lungs} is not on the grid of {ct}", remedy="give the lung mask of this scan")
    turn = Reorientation.of(hu)
    hu, mask = turn.apply(hu), turn.apply(mask.with_array((mask.array > 0).astype(np.uint8)))
    if patch.spacing_mm > 0:
        hu, mask = resample(hu, patch.spacing_mm), resample(mask, patch.spacing_mm, order=0)
    return normalise(np.nan_to_num(hu.array, nan=-1000.0), intensity), mask.array.astype(np.float32)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Samples (n, Z, Y, X) in model units, network calls for each, and seconds for each.

    seconds: processor time if the network runs on the CPU (so that other processes do not count), else wall time.
    """

    ct: Patches
    calls: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Studio:
    """A model, and the folder of its samples."""

    model: DiffusionModel
    runtime: Runtime
    store: Path

    @cached_property
    def weights(self) -> str:
        """Hash of the network and its diffusion process; other parts of a weights file do not affect samples."""
        digest = hashlib.sha256(repr(self.model.config).encode())
        for name, value in sorted(self.model.network.state_dict().items()):
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def draw(self, lungs: Patches, sampler: Sampler, config: GenerationConfig) -> Drawn:
        """A sample in each lung mask (n, Z, Y, X); sample i depends on seed, i and its mask, not on the batch."""
        steps = sampler.steps(self.model.signal)
        files = [self.store / f"{self._key(sampler, steps, config.seed, i, lungs[i])}.npz" for i in range(len(lungs))]
        missing = [i for i, file in enumerate(files) if not file.is_file()]
        for batch in _batches(missing, config.batch_size):
            start = self._clock()
            clean = self._sample(torch.from_numpy(lungs[batch])[:, None], sampler, steps, config.seed, batch)
            spent = (self._clock() - start) / len(batch)
            for i, values in zip(batch, clean, strict=True):
                _save(files[i], values, spent)
        kept = [_load(file) for file in files]
        return Drawn(np.stack([ct for ct, _ in kept]), len(steps), float(np.mean([s for _, s in kept])))

    def repaired(
        self, clean: Patches, lungs: Patches, level: float, calls: int, *, batch_size: int, seed: int
    ) -> tuple[Patches, Patches]:
        """Patches noised to `level`, a fraction of T (Ho et al. 2020, eq. 4), and denoised in `calls` of DPM-Solver++.

        Returns the noised patches, rescaled by 1 / sqrt(abar) and clipped, and the result.
        """
        top = max(round(level * self.model.config.steps), 1)
        steps = spaced_steps(top, min(calls, top))
        noisy, done = [], []
        for batch in _batches(list(range(len(clean))), batch_size):
            x0, lung = (torch.from_numpy(a[batch])[:, None].to(self.runtime.device) for a in (clean, lungs))
            noise = torch.stack([patch_noise(tuple(x0.shape[1:]), seed, i, REPAIR) for i in batch]).to(x0)
            abar = self.model.signal[top].to(x0)
            x = noised(x0, noise, abar)
            with torch.no_grad(), self.runtime.autocast():
                out = dpm_solver(self.model.denoiser(lung), x, self.model.signal, steps)
            noisy.append((x / abar.sqrt()).clamp(-1, 1)[:, 0].cpu().numpy())
            done.append(out.float()[:, 0].cpu().numpy())
        return np.concatenate(noisy), np.concatenate(done)

    def _sample(self, lung: Tensor, sampler: Sampler, steps: list[int], seed: int, indices: list[int]) -> Patches:
        lung = lung.to(self.runtime.device)
        draw = patch_draws(tuple(lung.shape[1:]), seed, indices)
        denoise, noise, signal = self.model.denoiser(lung), draw(0).to(lung), self.model.signal
        with torch.no_grad(), self.runtime.autocast():
            if sampler.kind == "ddpm":
                clean = ddpm(denoise, noise, signal, steps, draw=draw)
            else:
                solve: Callable[..., Tensor] = ddim if sampler.kind == "ddim" else dpm_solver
                clean = solve(denoise, noise, signal, steps)
        values: Patches = clean.float().cpu().numpy()[:, 0]
        return values

    def _key(self, sampler: Sampler, steps: list[int], seed: int, index: int, lung: Patches) -> str:
        words = [VERSION, self.weights, sampler.kind, steps, seed, index, self.runtime.precision, lung.shape]
        digest = hashlib.sha256(repr(words).encode())
        digest.update(np.packbits(lung > 0).tobytes())
        return digest.hexdigest()[:24]

    def _clock(self) -> float:
        return time.process_time() if self.runtime.device.type == "cpu" else time.perf_counter()


def _batches(items: list[int], size: int) -> Iterator[list[int]]:
    return (items[first : first + size] for first in range(0, len(items), size))


def _save(path: Path, values: Patches, seconds: float) -> None:
    with atomic_files.written(path) as part, part.open("wb") as file:
        np.savez(file, ct=values.astype(np.float16), seconds=np.float64(seconds))


def _load(path: Path) -> tuple[Patches, float]:
    try:
        with np.load(path, allow_pickle=False) as kept:
            return kept["ct"].astype(np.float32), float(kept["seconds"])
    except (OSError, ValueError, KeyError) as cause:
        raise InputError(f"the kept sample {path} cannot be read", remedy="remove the file and run again") from cause
