"""Train the diffusion model of lung patches (stage 1).

Writes into --results_dir: ddpm_base.pt (averaged weights with their card), last.pt (resume state), journal.jsonl,
curve.png, TensorBoard events and samples/. Run the same command again to continue; Ctrl-C stops cleanly. Several GPUs
or processes: torchrun --nproc_per_node=N train.py ...
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffseglung import __version__
from diffseglung.cli import progress
from diffseglung.cli.options import add_config, add_general_options, add_json, add_recipe, add_shared, read_config
from diffseglung.cli.precompute import say_assumed
from diffseglung.cli.progress import bar
from diffseglung.cli.terminal import answer, say
from diffseglung.platform.config import UNETS, DiffusionConfig, DistillConfig, PatchConfig, TrainConfig
from diffseglung.platform.errors import ConfigError

if TYPE_CHECKING:
    from diffseglung.method.card import ModelCard
    from diffseglung.method.train.data import Patches
    from diffseglung.method.train.loop import Ending, Run, Trainer
    from diffseglung.platform.runtime import Runtime


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `train`."""
    add_patch_options(parser, "train")
    parser.add_argument("--size", choices=UNETS, default="small", help="network size (default: small)")
    add_config(parser, DiffusionConfig, command="train")


def add_patch_options(parser: argparse.ArgumentParser, command: str) -> None:
    """Options of the two stages that train on patches."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--patches_dir", type=Path, help="folder written by precompute")
    add_run_options(parser, command, "./results" if command == "train" else f"./results_{command}", source)
    parser.add_argument("--start_step", type=int, metavar="N", help="number of the first iteration")
    add_recipe(parser)
    parser.add_argument("--epochs", dest="iterations", type=int, default=argparse.SUPPRESS, help="same as --iterations")
    add_config(parser, PatchConfig, command="precompute")


def add_run_options(parser: argparse.ArgumentParser, command: str, results: str, source: Any = None) -> None:
    """Options of all three stages.  source: a group of `parser` for --npz_dir."""
    (source or parser).add_argument("--npz_dir", type=Path, help="folder of NPZ cases")
    text = f"output folder (default: {results})"
    parser.add_argument("--results_dir", "-o", "--output", type=Path, default=Path(results), help=text)
    add_shared(parser, "dataset")
    parser.add_argument("--resume", type=Path, metavar="CHECKPOINT", help="weights to start from")
    parser.add_argument(
        "--name", default="", help="name on the model card (default: that of the weights, else lung-SIZE)"
    )
    add_config(parser, TrainConfig, command=command)
    add_json(parser, "how the run ended")
    add_general_options(parser)


def run(args: argparse.Namespace) -> int:
    """Train stage 1."""
    config = read_config(args, TrainConfig, command="train")
    patches = find_patches(args, teacher=None)
    from diffseglung.method import checkpoint
    from diffseglung.method.card import ModelCard
    from diffseglung.method.train.data import Draws
    from diffseglung.method.train.loop import Trainer
    from diffseglung.method.train.objective import DiffusionObjective
    from diffseglung.method.unet import UNet
    from diffseglung.platform import runtime
    from diffseglung.training.precompute import patch_settings

    diffusion = read_config(args, DiffusionConfig, command="train")
    unet, start = UNETS[args.size], args.start_step or 0
    network = seeded(lambda: UNet(unet), config.seed)
    if args.resume and not (args.results_dir / "last.pt").is_file():
        weights, old = checkpoint.load(args.resume)
        if old.unet != unet:
            raise ConfigError(f"{args.resume} is not of size {args.size}", remedy="pass the --size it was trained with")
        network.load_state_dict(checkpoint.build(weights, old).network.state_dict())
        start = old.iteration if args.start_step is None else args.start_step
    check_start(start, config)
    patch, intensity = patch_settings(patches)
    with runtime.start(args.device, config.precision) as process:
        card = ModelCard(
            unet=unet,
            diffusion=diffusion,
            patch=patch,
            intensity=intensity,
            stage=1,
            name=args.name or f"lung-{args.size}",
            training=provenance(patches, config, process.world_size),
        )
        settings = {
            "network": {"size": args.size, "resume": str(args.resume or "")},
            "diffusion": diffusion.to_dict(),
            "patches": {"digest": patches.digest},
        }
        plan = plan_run(args.results_dir, "ddpm_base.pt", card, settings, start=start, config=config, runtime=process)
        plan = dataclasses.replace(plan, sample=sampler(plan.folder, patches, config.seed))
        draws = Draws.of(patches, config, steps=diffusion.steps, runtime=process)
        return run_training(plan, lambda run: Trainer(DiffusionObjective(network, diffusion), draws, run), args)


def plan_run(
    folder: Path, name: str, card: ModelCard, settings: dict[str, Any], *,
    config: TrainConfig, runtime: Runtime, start: int = 0,
) -> Run:  # fmt: skip
    """A run whose weights are called `name`.  settings: what must be the same for the run to be resumed."""
    from diffseglung.method.train.loop import Run

    train = {"train": {**config.to_dict(), "processes": runtime.world_size, "start": start}}
    values = tuples_as_lists(train | settings)
    return Run(folder=folder, config=config, runtime=runtime, name=name, card=card, settings=values, start=start)


def find_patches(args: argparse.Namespace, *, teacher: DistillConfig | None) -> Patches:
    """Open --patches_dir, or cut the cases of --npz_dir into results_dir/patches (in the first process).

    teacher: settings of the descriptors to store with the patches.
    """
    from diffseglung.io.npz import iter_cases
    from diffseglung.method.train.data import open_patches
    from diffseglung.training.precompute import PatchJob, precompute

    if args.patches_dir:
        return open_patches(args.patches_dir)
    if not args.npz_dir:
        raise ConfigError("no training data", remedy="pass --patches_dir or --npz_dir")
    out = args.results_dir / "patches"
    if int(os.environ.get("RANK", 0)) == 0:
        args.results_dir.mkdir(parents=True, exist_ok=True)
        cases = iter_cases(args.npz_dir, args.dataset)
        say_assumed(args, cases)
        patch, seed = read_config(args, PatchConfig, command="precompute"), read_config(args, TrainConfig).seed
        job = PatchJob(patch=patch, distill=teacher, seed=seed)
        with bar("cutting patches", quiet=args.quiet) as track:
            precompute(cases, out, job, workers=os.cpu_count() or 1, progress=track)
    while not (out / "ct.npy").is_file():
        time.sleep(0.5)
    return open_patches(out)


def seeded(make: Any, seed: int) -> Any:
    """`make()` with PyTorch's global generator seeded; the generator is restored afterwards."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def checkpoint_to_begin_with(args: argparse.Namespace, need: str, example: str) -> Path:
    """The file of --resume, which later stages need.  Raises ConfigError if it is missing."""
    if args.resume and args.resume.exists():
        return Path(args.resume)
    found = f": {args.resume} does not exist" if args.resume else ""
    raise ConfigError(f"{need}{found}", remedy=f"pass --resume {example}")


def check_start(start: int, config: TrainConfig) -> None:
    """Raise ConfigError unless at least one iteration is left."""
    if start >= config.iterations:
        raise ConfigError(
            f"the run starts at iteration {start} and ends at {config.iterations}",
            remedy="give a larger --iterations (--epochs), or a smaller --start_step",
        )


def provenance(patches: Patches, config: TrainConfig, processes: int) -> dict[str, Any]:
    """The model card's record of a run on patches."""
    return {"cases": patches.info.get("cases", []), "patches": len(patches), **record(config, processes)}


def record(config: TrainConfig, processes: int) -> dict[str, Any]:
    """The model card's record of any run."""
    import torch

    return {
        "settings": tuples_as_lists(config.to_dict()),
        "processes": processes,
        "versions": {"diffseglung": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }


def tuples_as_lists(values: Any) -> Any:
    """Tuples as lists, so that settings survive JSON and compare equal afterwards."""
    if isinstance(values, dict):
        return {name: tuples_as_lists(value) for name, value in values.items()}
    return [tuples_as_lists(value) for value in values] if isinstance(values, list | tuple) else values


def sampler(folder: Path, patches: Patches, seed: int) -> Any:
    """A function that draws qualitative samples into `folder`/samples."""
    from diffseglung.training.samples import draw_samples

    def sample(objective: Any, iteration: int) -> None:
        draw_samples(objective.model, patches, folder / "samples", iteration=iteration, seed=seed)

    return sample


def run_training(plan: Run, make: Any, args: argparse.Namespace) -> int:
    """Run a trainer with a progress bar; returns the exit code, 130 if it was interrupted."""
    if not plan.runtime.is_first:
        args = argparse.Namespace(**{**vars(args), "quiet": True, "json": False})
    trainer: Trainer = make(plan)
    if trainer.iteration >= plan.config.iterations:
        say(args, f"{plan.folder} is already at iteration {trainer.iteration}; give a larger --iterations to continue")
        answer(args, _ended(plan, trainer.iteration, stopped=False))
        return 0
    quiet = args.quiet
    said = time.monotonic()
    with progress.counting("training", start=trainer.iteration, total=plan.config.iterations, quiet=quiet) as show:

        def watch(iteration: int, line: dict[str, float | int] | None) -> None:
            nonlocal said
            show(iteration, note(line) if line else "")
            if line and not quiet and not progress.wanted(quiet) and time.monotonic() - said > 60:
                said = time.monotonic()
                say(args, f"iteration {iteration}/{plan.config.iterations}  {note(line)}")

        trainer.run = dataclasses.replace(plan, watch=watch)
        ending: Ending = trainer.fit()
    say(args, f"{'stopped' if ending.stopped else 'done'} at iteration {ending.iteration}: {plan.folder / plan.name}")
    answer(args, _ended(plan, ending.iteration, stopped=ending.stopped))
    return 130 if ending.stopped else 0


def _ended(plan: Run, iteration: int, *, stopped: bool) -> dict[str, Any]:
    return {"weights": plan.folder / plan.name, "iteration": iteration, "stopped": stopped}


def note(line: dict[str, float | int]) -> str:
    """The values of a journal line that the progress bar shows."""
    text = f"loss {line.get('diffusion', line['loss']):.4f}"
    if "contrastive" in line:
        text += f"  contrastive {line['contrastive']:.3f}  lambda {line['lambda']:.2f}"
    if "dice" in line:
        text += f"  cross entropy {line['segmentation']:.3f}  Dice loss {line['dice']:.3f}"
    return f"{text}  {line['patches_per_second']:.1f} patches/s"
