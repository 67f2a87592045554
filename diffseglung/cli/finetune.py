"""Train a distilled model to label tissue, on synthetic lesions (stage 3).

Draws random lesions of every class into the scans of --npz_dir (if given) and into synthetic chests, imaged by random
scanners; no annotation is read. Starts from weights of `distill`, `train` or `finetune` (--resume). Writes the same
files as `train` into --results_dir, with the weights in ddpm_segment.pt for `segment --model`; backgrounds/ keeps the
prepared scans, 20 to 70 MB each. Scans should be near normal; tissue that the physics rule calls diseased is left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from diffseglung.cli.options import add_config, read_config
from diffseglung.cli.precompute import say_assumed
from diffseglung.cli.progress import bar
from diffseglung.cli.train import (
    add_run_options,
    check_start,
    checkpoint_to_begin_with,
    plan_run,
    record,
    run_training,
    seeded,
    tuples_as_lists,
)
from diffseglung.platform.config import FinetuneConfig, TrainConfig
from diffseglung.platform.errors import ConfigError

if TYPE_CHECKING:
    from diffseglung.phantom.backgrounds import Background

FIRST_CHEST = 40000
"""Seed of the first synthetic chest; not used by any case list or default of `phantom`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `finetune`."""
    add_run_options(parser, "finetune", "./results_segment")
    parser.set_defaults(recipe="default")
    add_config(parser, FinetuneConfig, command="finetune")


def run(args: argparse.Namespace) -> int:
    """Train stage 3."""
    config = read_config(args, TrainConfig, command="finetune")
    finetune = read_config(args, FinetuneConfig, command="finetune")
    resume = checkpoint_to_begin_with(args, "stage 3 needs a trained model", "ddpm_distill.pt")
    if not args.npz_dir and not finetune.chests:
        raise ConfigError("there are no backgrounds for the lesions", remedy="pass --npz_dir, or --chests of 1 or more")
    from diffseglung.method import checkpoint
    from diffseglung.method.train.loop import Run, Trainer
    from diffseglung.phantom.backgrounds import SPACING_MM
    from diffseglung.platform import runtime
    from diffseglung.tissue.segmenter import load_segmentation_head
    from diffseglung.training.scene_batches import SceneDraws
    from diffseglung.training.segmentation_objective import SegmentationObjective

    weights, base = checkpoint.load(resume)
    model = checkpoint.build(weights, base)
    check_start(0, config)
    backgrounds = find_backgrounds(args, finetune)
    with runtime.start(args.device, config.precision) as process:
        digest = checkpoint.sha256(resume)
        before = {"sha256": digest, "stage": base.stage, "iteration": base.iteration, **base.training}
        kept = record(config, process.world_size) | {
            "backgrounds": list(backgrounds),
            "finetune": tuples_as_lists(finetune.to_dict()),
        }
        patch = dataclasses.replace(base.patch, shape=finetune.shape, spacing_mm=SPACING_MM)
        card = dataclasses.replace(base, stage=3, name=args.name or base.name, training=kept | {"before": before})
        settings = {
            "network": {"resume": digest},
            "finetune": finetune.to_dict(),
            "backgrounds": {name: background.digest for name, background in backgrounds.items()},
        }
        card = dataclasses.replace(card, patch=patch)
        plan = plan_run(args.results_dir, "ddpm_segment.pt", card, settings, config=config, runtime=process)
        network = model.network.requires_grad_(True)

        def make(run: Run) -> Trainer:
            objective: SegmentationObjective = seeded(
                lambda: SegmentationObjective(network, base.diffusion, finetune=finetune), config.seed
            )
            if base.stage == 3:
                head = load_segmentation_head(weights, network).state_dict()
                objective.segmenter.load_state_dict(head)
            draws = SceneDraws.of(
                list(backgrounds.values()), config, finetune, intensity=base.intensity, steps=base.diffusion.steps,
                stride=objective.segmenter.stride, runtime=process,
            )  # fmt: skip
            return Trainer(objective, draws, run)

        return run_training(plan, make, args)


def find_backgrounds(args: argparse.Namespace, finetune: FinetuneConfig) -> dict[str, Background]:
    """Backgrounds by name, kept in results_dir; the first process makes those that are missing or outdated."""
    from diffseglung.io.npz import iter_cases, read_case
    from diffseglung.phantom.backgrounds import Background, synthetic_background
    from diffseglung.training.backgrounds import background_of

    folder = args.results_dir / "backgrounds"
    cases = iter_cases(args.npz_dir, args.dataset) if args.npz_dir else []
    sources: dict[str, Path | int] = {path.stem: path for path in cases}
    sources |= {f"chest_{seed}": seed for seed in range(FIRST_CHEST, FIRST_CHEST + finetune.chests)}

    def is_made(name: str) -> bool:
        made, source = folder / name, sources[name]
        return made.is_dir() and (isinstance(source, int) or made.stat().st_mtime_ns >= source.stat().st_mtime_ns)

    if int(os.environ.get("RANK", 0)) == 0:
        say_assumed(args, cases)
        folder.mkdir(parents=True, exist_ok=True)
        missing = [name for name in sources if not is_made(name)]
        with bar("preparing backgrounds", quiet=args.quiet) as track:
            for name in track(missing, len(missing)):
                source = sources[name]
                if isinstance(source, int):
                    made = synthetic_background(source)
                else:
                    case = read_case(source)
                    made = background_of(case.ct, case.lungs)
                made.save(folder / name)
    while not all(map(is_made, sources)):
        time.sleep(0.5)
    return {name: Background.load(folder / name) for name in sources}
