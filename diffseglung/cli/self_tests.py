"""Five short tests of the parts that training uses, run on synthetic data on this machine."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffseglung.platform.config import UNETS, DiffusionConfig, DistillConfig, IntensityConfig, PatchConfig, TrainConfig
from diffseglung.platform.errors import DiffSegLungError

if TYPE_CHECKING:
    from diffseglung.method.train.data import Batch, Patches
    from diffseglung.method.train.objective import Objective
    from diffseglung.platform.runtime import Runtime
    from diffseglung.volume import Array

SHAPE = (16, 32, 32)


class CheckFailed(DiffSegLungError):
    """A self-test did not pass."""


def outcomes(device: str, *, debug: bool = False) -> Iterator[dict[str, Any]]:
    """Run the tests one by one; each gives {test, passed, found, seconds}, whether the others pass or not.

    debug: let errors propagate instead of reporting them as failed tests.
    """
    with tempfile.TemporaryDirectory() as folder:
        for title, test in TESTS.items():
            began = time.perf_counter()
            try:
                passed, found = True, test(Path(folder), device)
            except Exception as error:  # any error is a failed test
                if debug:
                    raise
                passed, found = False, f"{type(error).__name__}: {error}"
            seconds = round(time.perf_counter() - began, 3)
            yield {"test": title, "passed": passed, "found": found, "seconds": seconds}


def require(holds: bool, problem: str) -> None:
    """Raise CheckFailed unless `holds`."""
    if not holds:
        raise CheckFailed(problem, remedy="install the versions of constraints.txt, and run with --debug")


def toy_chest(shape: tuple[int, int, int] = (36, 48, 48), seed: int = 0) -> tuple[Array, Array]:
    """HU (Z, Y, X) and lung mask of a noisy ellipsoid of lung in water."""
    import numpy as np

    axes = [np.linspace(-1, 1, n) for n in shape]
    inside = sum(a**2 for a in np.meshgrid(*axes, indexing="ij")) < 0.8
    texture = np.random.default_rng(seed).normal(0, 60, shape)
    return np.where(inside, -840 + texture, 30.0).astype(np.float32), np.asarray(inside, np.uint8)


def toy_patches(folder: Path, *, teacher: bool = False) -> Patches:
    """Patches cut from two toy cases in `folder`; `teacher` also stores their radiomic descriptors."""
    import numpy as np

    from diffseglung.io.npz import Case, write_case
    from diffseglung.method.train.data import open_patches
    from diffseglung.training.precompute import PatchJob, precompute
    from diffseglung.volume import Volume

    paths = []
    for seed in range(2):
        hu, inside = toy_chest(seed=seed)
        volume = Volume(hu, np.diag([1.5, 1.5, 1.5, 1.0])[[2, 1, 0, 3]])
        paths.append(folder / f"toy__{seed}.npz")
        write_case(paths[-1], Case(paths[-1].stem, volume, volume.with_array(inside), {}))
    patch = PatchConfig(shape=SHAPE, patches_per_patient=4)
    job = PatchJob(patch=patch, distill=DistillConfig() if teacher else None)
    return open_patches(precompute(paths, folder / f"patches{int(teacher)}", job))


def updates(
    objective: Objective, batch: Batch, process: Runtime, count: int, contrast: Any = None
) -> Iterator[tuple[float, Any]]:
    """Train on one batch; yields the loss and the terms of each update."""
    import torch

    optimiser = torch.optim.Adam(objective.parameters(), lr=3e-3)
    for _ in range(count):
        with process.autocast():
            outcome = objective(batch, 10, contrast)
        optimiser.zero_grad()
        outcome.loss.backward()
        optimiser.step()
        yield float(outcome.loss.detach()), outcome.terms


def check_data(folder: Path, device: str) -> str:
    """Patches cut from an NPZ case hold the HU that were written."""
    import numpy as np

    from diffseglung.case.intensity import denormalise, normalise

    patches = toy_patches(folder)
    require(patches.ct.shape == (8, *SHAPE), f"expected 8 patches of {SHAPE}, found {patches.ct.shape}")
    require(sorted(set(patches.patient_ids)) == ["toy__0", "toy__1"], "the patient ids differ from the case names")
    hu, inside = toy_chest(seed=0)
    known = np.sort(np.unique(denormalise(normalise(hu[inside > 0]))))
    found = denormalise(patches.ct[0].astype(np.float32))[patches.mask[0] > 0]
    place = np.clip(np.searchsorted(known, found), 1, len(known) - 1)
    gap = float(np.minimum(abs(found - known[place]), abs(found - known[place - 1])).max())
    require(gap < 0.5, f"HU in a patch differ from the CT by up to {gap:.2f}")
    lung = float((patches.mask[:] > 0).mean())
    require(lung >= PatchConfig().min_lung_fraction, f"only {lung:.0%} of the patches is lung")
    return f"{len(patches)} patches, largest HU error {gap:.2f}, {lung:.0%} lung"


def check_network(folder: Path, device: str) -> str:
    """A tiny network overfits one batch."""
    import torch

    from diffseglung.method.train.data import Draws
    from diffseglung.method.train.objective import DiffusionObjective
    from diffseglung.method.unet import UNet
    from diffseglung.platform import runtime

    patches, diffusion = toy_patches(folder), DiffusionConfig()
    with runtime.start(device, "auto") as process, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        objective = DiffusionObjective(UNet(UNETS["tiny"]), diffusion).to(process.device)
        batch = Draws(patches, TrainConfig(batch_size=4), diffusion.steps).batch(1).to(process.device)
        losses = [loss for loss, _ in updates(objective, batch, process, 40)]
    require(losses[-1] < 0.8 * losses[0], f"the loss went from {losses[0]:.3f} to {losses[-1]:.3f} in 40 updates")
    return f"loss {losses[0]:.3f} -> {losses[-1]:.3f} on {process.device} in {process.precision}"


def check_sampler(folder: Path, device: str) -> str:
    """DPM-Solver++ and DDIM turn noise into Gaussian data as the closed form predicts.

    For data N(mean, std^2) the optimal denoiser is linear, and the probability flow maps noise z to mean + std * z.
    """
    import torch

    from diffseglung.method.diffusion import signal_of
    from diffseglung.method.samplers import ddim, dpm_solver, logsnr_steps

    mean, std = 0.3, 0.4
    signal = signal_of(DiffusionConfig())

    def denoise(noisy: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        abar = signal[step].to(noisy.dtype)[:, None]
        return mean + abar.sqrt() * std**2 / (abar * std**2 + 1 - abar) * (noisy - abar.sqrt() * mean)

    noise = torch.linspace(-2, 2, 41, dtype=torch.float64)[None]
    gaps = {}
    for name, sampler, count in (("DPM-Solver++", dpm_solver, 50), ("DDIM", ddim, 250)):
        drawn = sampler(denoise, noise, signal, logsnr_steps(signal, count))
        gaps[name] = float((drawn - (mean + std * noise)).abs().max())
        require(gaps[name] < 0.03, f"{name} is off the closed form by {gaps[name]:.4f}")
    return ", ".join(f"{name} off by {gap:.4f}" for name, gap in gaps.items())


def check_radiomics(folder: Path, device: str) -> str:
    """The fast descriptors equal the reference."""
    import numpy as np
    import torch

    from diffseglung.method.radiomics.descriptor import DESCRIPTOR_NAMES, describe_batch, describe_patch
    from diffseglung.platform import runtime

    hu, inside = toy_chest((20, 28, 28), seed=3)
    reference = describe_patch(hu, inside)
    where = runtime.choose_device(device)
    pair = (
        torch.from_numpy(np.stack([hu, hu[::-1].copy()])).to(where),
        torch.from_numpy(np.stack([inside] * 2)).to(where),
    )
    fast = describe_batch(*pair)[0].double().cpu().numpy()
    require(len(fast) == 34, f"there are {len(fast)} descriptors instead of 34")
    gap = np.abs(fast - reference) / np.maximum(np.abs(reference), 1e-6)
    worst = int(np.argmax(gap))
    require(
        bool(gap[worst] < 1e-2), f"{DESCRIPTOR_NAMES[worst]} is {fast[worst]:g}, the reference {reference[worst]:g}"
    )
    return f"34 descriptors, largest relative error {gap[worst]:.1e} ({DESCRIPTOR_NAMES[worst]})"


def check_distillation(folder: Path, device: str) -> str:
    """Lambda warms up, and stage 2 lowers the contrastive loss."""
    import torch

    from diffseglung.method.distillation import warmup
    from diffseglung.method.train.data import Draws
    from diffseglung.method.train.objective import DistillObjective, fit_standardiser
    from diffseglung.method.unet import UNet
    from diffseglung.platform import runtime

    distill = DistillConfig(warmup_start=0, warmup_end=10, lambda_max=0.5, positions=64)
    weights = [warmup(i, distill) for i in (0, 5, 10, 99)]
    require(weights == [0.0, 0.25, 0.5, 0.5], f"the warm-up of lambda gives {weights} at iterations 0, 5, 10, 99")
    patches, diffusion = toy_patches(folder, teacher=True), DiffusionConfig()
    with runtime.start(device, "auto") as process, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = UNet(UNETS["tiny"])
        objective = DistillObjective(network, diffusion, distill=distill, intensity=IntensityConfig(), seed=0)
        fit_standardiser(objective, patches)
        objective.to(process.device)
        draws = Draws(patches, TrainConfig(batch_size=4), diffusion.steps, patches.teacher(distill))
        batch = draws.batch(1).to(process.device)
        before = network.enter.weight.detach().clone()
        meeting = objective.contrasts([batch], 10, process)[0]
        contrast = [float(terms["contrastive"]) for _, terms in updates(objective, batch, process, 20, meeting)]
    moved = float((network.enter.weight.detach() - before).abs().max())
    require(moved > 0, "the network's first layer did not move")
    require(contrast[-1] < 0.8 * contrast[0], f"the contrastive loss went from {contrast[0]:.2f} to {contrast[-1]:.2f}")
    return f"contrastive loss {contrast[0]:.2f} -> {contrast[-1]:.2f} in 20 updates"


TESTS: dict[str, Callable[[Path, str], str]] = {
    "data round trip": check_data,
    "network and diffusion": check_network,
    "sampler": check_sampler,
    "radiomics": check_radiomics,
    "distillation": check_distillation,
}
