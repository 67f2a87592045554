"""Verify an installation: five short tests of the real parts, on this machine (under a minute on a CPU).

Ends with `ALL 5 TESTS PASSED` and exit code 0; otherwise names what failed, with exit code 1.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffseglung.cli import add_general_options
from diffseglung.cli.json_output import add_json, answer, say
from diffseglung.cli.progress import bar
from diffseglung.platform.config import UNETS, DiffusionConfig, DistillConfig, IntensityConfig, PatchConfig, TrainConfig
from diffseglung.platform.errors import DiffSegLungError

if TYPE_CHECKING:
    from diffseglung.method.train.data import Patches
    from diffseglung.volume import Array

SHAPE = (16, 32, 32)


class CheckFailed(DiffSegLungError):
    """One of the five tests did not hold."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `check`."""
    add_json(parser, "what each test found")
    add_general_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the tests one after the other; a failed one does not keep the next from running."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, bar("checking", quiet=args.quiet) as track:
        for number, (title, test) in enumerate(track(TESTS.items(), len(TESTS)), 1):
            began = time.perf_counter()
            try:
                found = test(Path(folder), args.device)
            except Exception as error:  # whatever goes wrong here is the finding
                if args.debug:
                    raise
                passed, found = False, f"{type(error).__name__}: {error}"
                _verdict(args, f"TEST {number} FAILED: {title}: {found}")
            else:
                passed = True
                say(args, f"test {number} passed: {title}: {found} ({time.perf_counter() - began:.1f} s)")
            seconds = round(time.perf_counter() - began, 3)
            rows.append({"test": title, "passed": passed, "found": found, "seconds": seconds})
    failed = [row["test"] for row in rows if not row["passed"]]
    answer(args, {"passed": not failed, "tests": rows})
    if failed:
        _verdict(args, f"{len(failed)} OF {len(TESTS)} TESTS FAILED: {', '.join(failed)}")
        return 1
    _verdict(args, f"ALL {len(TESTS)} TESTS PASSED")
    return 0


def _verdict(args: argparse.Namespace, text: str) -> None:
    """A line that --quiet does not silence."""
    print(text, file=sys.stderr if args.json else sys.stdout, flush=True)


def require(holds: bool, problem: str) -> None:
    """Fail the present test unless `holds`."""
    if not holds:
        raise CheckFailed(problem, remedy="install the versions of constraints.txt, and run with --debug")


def toy_chest(shape: tuple[int, int, int] = (36, 48, 48), seed: int = 0) -> tuple[Array, Array]:
    """HU (Z, Y, X) and lung mask of an ellipsoid of noisy lung in water."""
    import numpy as np

    axes = [np.linspace(-1, 1, n) for n in shape]
    inside = sum(a**2 for a in np.meshgrid(*axes, indexing="ij")) < 0.8
    texture = np.random.default_rng(seed).normal(0, 60, shape)
    return np.where(inside, -840 + texture, 30.0).astype(np.float32), np.asarray(inside, np.uint8)


def toy_patches(folder: Path, *, teacher: bool = False) -> Patches:
    """Patches, cut from two toy cases in `folder`; with stored descriptors if `teacher`."""
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


def check_data(folder: Path, device: str) -> str:
    """A CT written as an NPZ case comes back as patches with the same HU."""
    import numpy as np

    from diffseglung.case.intensity import denormalise, normalise

    patches = toy_patches(folder)
    require(patches.ct.shape == (8, *SHAPE), f"8 patches of {SHAPE} were expected, found {patches.ct.shape}")
    require(sorted(set(patches.patient_ids)) == ["toy__0", "toy__1"], "the patient ids are not those of the cases")
    hu, inside = toy_chest(seed=0)
    known = np.sort(np.unique(denormalise(normalise(hu[inside > 0]))))
    found = denormalise(patches.ct[0].astype(np.float32))[patches.mask[0] > 0]
    place = np.clip(np.searchsorted(known, found), 1, len(known) - 1)
    gap = float(np.minimum(abs(found - known[place]), abs(found - known[place - 1])).max())
    require(gap < 0.5, f"HU in a patch differ by up to {gap:.2f} from the CT they were cut from")
    lung = float((patches.mask[:] > 0).mean())
    require(lung >= PatchConfig().min_lung_fraction, f"only {lung:.0%} of the patches is lung")
    return f"{len(patches)} patches, largest HU error {gap:.2f}, {lung:.0%} lung"


def check_network(folder: Path, device: str) -> str:
    """A tiny network learns one batch by heart."""
    import torch

    from diffseglung.method.train.data import Draws
    from diffseglung.method.train.objective import DiffusionObjective
    from diffseglung.method.unet import UNet
    from diffseglung.platform import runtime

    patches, diffusion = toy_patches(folder), DiffusionConfig()
    with runtime.start(device, "auto") as process, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        objective = DiffusionObjective(UNet(UNETS["tiny"]), diffusion).to(process.device)
        optimiser = torch.optim.Adam(objective.parameters(), lr=3e-3)
        batch = Draws(patches, TrainConfig(batch_size=4), diffusion.steps).batch(1).to(process.device)
        losses = []
        for iteration in range(1, 41):
            with process.autocast():
                loss = objective(batch, iteration).loss
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
    require(losses[-1] < 0.8 * losses[0], f"the loss went from {losses[0]:.3f} to {losses[-1]:.3f} in 40 updates")
    return f"loss {losses[0]:.3f} -> {losses[-1]:.3f} on {process.device} in {process.precision}"


def check_sampler(folder: Path, device: str) -> str:
    """Noise becomes Gaussian data as the closed form says, by DPM-Solver++ and by DDIM.

    For data N(mean, std^2) the best denoiser is linear, and the probability flow maps noise z to mean + std * z.
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
    """The weight warms up, and stage 2 moves the features towards the teacher."""
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
        optimiser = torch.optim.Adam(objective.parameters(), lr=3e-3)
        before, contrast = network.enter.weight.detach().clone(), []
        meeting = objective.contrasts([batch], 10, process)[0]
        for _ in range(20):
            with process.autocast():
                outcome = objective(batch, 10, meeting)
            optimiser.zero_grad()
            outcome.loss.backward()
            optimiser.step()
            contrast.append(float(outcome.terms["contrastive"]))
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
