"""Teach a distilled model to label tissue, on drawn scenes (stage 3).

Lesions of every class are drawn at random into the scans of --npz_dir and into drawn chests, seen by random scanners;
no annotation is read. Writes into --results_dir what `train` writes, the weights as ddpm_segment.pt, which
`segment --method student --model` takes; backgrounds/ keeps the scans taken apart, 60 MB each. Scans should be near
normal; what the physics rule takes for disease is left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from diffseglung.cli import add_conduct, add_config, read_config, spellings
from diffseglung.cli.answers import add_json
from diffseglung.cli.bars import bar
from diffseglung.cli.precompute import say_assumed
from diffseglung.cli.train import check_start, conduct, plain, record, seeded
from diffseglung.config import FinetuneConfig, TrainConfig
from diffseglung.errors import ConfigError

if TYPE_CHECKING:
    from diffseglung.phantom.backgrounds import Background

FIRST_CHEST = 40000
"""Seed of the first drawn chest: no case list and no default of `phantom` draws it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `finetune`."""
    cases = "folder of .npz cases to draw into (none: drawn chests alone)"
    parser.add_argument(*spellings("npz_dir"), type=Path, help=cases)
    parser.add_argument(
        *spellings("results_dir"), "-o", "--output", type=Path, default=Path("./results_segment"),
        help="default: ./results_segment",
    )  # fmt: skip
    parser.add_argument("--dataset", default="", help="only cases whose file name begins with this")
    parser.add_argument("--resume", type=Path, metavar="CHECKPOINT", help="weights to begin with: of distill or train")
    parser.add_argument("--name", default="", help="name on the model card (default: that of the weights)")
    parser.set_defaults(recipe="default")
    add_config(parser, TrainConfig, command="finetune")
    add_config(parser, FinetuneConfig, command="finetune")
    add_json(parser, "how the run ended")
    add_conduct(parser)


def run(args: argparse.Namespace) -> int:
    """Train stage 3."""
    config = read_config(args, TrainConfig, command="finetune")
    finetune = read_config(args, FinetuneConfig, command="finetune")
    if not (args.resume and args.resume.exists()):
        found = f": {args.resume} does not exist" if args.resume else ""
        raise ConfigError(f"stage 3 begins with a trained model{found}", remedy="pass --resume ddpm_distill.pt")
    if not args.npz_dir and not finetune.drawn:
        raise ConfigError("there is nothing to draw into", remedy="pass --npz_dir, or --drawn of 1 or more")
    from diffseglung import runtime
    from diffseglung.model import checkpoint
    from diffseglung.training.loop import Run, Trainer
    from diffseglung.training.objective import SegmentationObjective
    from diffseglung.training.scenes import SceneDraws

    weights, base = checkpoint.load(args.resume)
    model = checkpoint.build(weights, base)
    check_start(0, config)
    backgrounds, names = find_backgrounds(args, finetune)
    with runtime.start(args.device, config.precision) as process:
        digest = checkpoint.sha256(args.resume)
        before = {"sha256": digest, "stage": base.stage, "iteration": base.iteration, **base.training}
        kept = record(config, process.world_size) | {"backgrounds": names, "finetune": plain(finetune.to_dict())}
        patch = dataclasses.replace(base.patch, shape=finetune.shape)
        card = dataclasses.replace(base, stage=3, name=args.name or base.name, training=kept | {"before": before})
        settings = {
            "train": {**config.to_dict(), "processes": process.world_size, "start": 0},
            "network": {"resume": digest},
            "finetune": finetune.to_dict(),
            "backgrounds": {"names": names},
        }
        plan = Run(
            folder=args.results_dir,
            config=config,
            runtime=process,
            name="ddpm_segment.pt",
            card=dataclasses.replace(card, patch=patch),
            settings=plain(settings),
        )
        network = model.network.requires_grad_(True)

        def make(run: Run) -> Trainer:
            objective: SegmentationObjective = seeded(
                lambda: SegmentationObjective(network, base.diffusion, finetune=finetune), config.seed
            )
            draws = SceneDraws.of(
                backgrounds, config, finetune, intensity=base.intensity, steps=base.diffusion.steps,
                stride=objective.segmenter.stride, runtime=process,
            )  # fmt: skip
            return Trainer(objective, draws, run)

        return conduct(plan, make, args)


def find_backgrounds(args: argparse.Namespace, finetune: FinetuneConfig) -> tuple[list[Background], list[str]]:
    """Backgrounds in results_dir/backgrounds and their names; the first process makes those that are missing."""
    from diffseglung.io.cases import iter_cases, read_case
    from diffseglung.labelling.backgrounds import background_of
    from diffseglung.phantom.backgrounds import Background, drawn_background

    folder = args.results_dir / "backgrounds"
    cases = iter_cases(args.npz_dir, args.dataset) if args.npz_dir else []
    seeds = range(FIRST_CHEST, FIRST_CHEST + finetune.drawn)
    names = [path.stem for path in cases] + [f"drawn_{seed}" for seed in seeds]
    if int(os.environ.get("RANK", 0)) == 0:
        folder.mkdir(parents=True, exist_ok=True)
        say_assumed(args, cases)
        with bar("backgrounds", quiet=args.quiet) as track:
            for name, source in track(list(zip(names, [*cases, *seeds], strict=True)), len(names)):
                if (folder / name).is_dir():
                    continue
                if isinstance(source, int):
                    made = drawn_background(source)
                else:
                    case = read_case(source)
                    made = background_of(case.ct, case.lungs)
                made.save(folder / name)
    while not all((folder / name).is_dir() for name in names):
        time.sleep(0.5)
    return [Background.load(folder / name) for name in names], names
