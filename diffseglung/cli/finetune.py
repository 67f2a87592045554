"""Teach a distilled model to label tissue, on synthetic lesions (stage 3).

Random lesions of every class are put into the scans of --npz_dir and into synthetic chests, seen by random scanners;
no annotation is read. Writes into --results_dir what `train` writes, the weights as ddpm_segment.pt, which
`segment --model` takes; backgrounds/ keeps the prepared scans, 20 to 70 MB each. Scans should be near normal; what the
physics rule takes for disease is left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from diffseglung.cli import add_config, add_general_options, read_config, spellings
from diffseglung.cli.json_output import add_json
from diffseglung.cli.precompute import say_assumed
from diffseglung.cli.progress import bar
from diffseglung.cli.train import check_start, checkpoint_to_begin_with, record, run_training, seeded, tuples_as_lists
from diffseglung.platform.config import FinetuneConfig, TrainConfig
from diffseglung.platform.errors import ConfigError

if TYPE_CHECKING:
    from diffseglung.phantom.backgrounds import Background

FIRST_CHEST = 40000
"""Seed of the first synthetic chest: no case list and no default of `phantom` draws it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `finetune`."""
    cases = "folder of .npz cases to put lesions into (none: synthetic chests alone)"
    parser.add_argument(*spellings("npz_dir"), type=Path, help=cases)
    parser.add_argument(
        *spellings("results_dir"), "-o", "--output", type=Path, default=Path("./results_segment"),
        help="default: ./results_segment",
    )  # fmt: skip
    parser.add_argument("--dataset", default="", help="only cases whose file name begins with this")
    parser.add_argument(
        "--resume", type=Path, metavar="CHECKPOINT", help="weights to begin with: of distill, train or finetune"
    )
    parser.add_argument("--name", default="", help="name on the model card (default: that of the weights)")
    parser.set_defaults(recipe="default")
    add_config(parser, TrainConfig, command="finetune")
    add_config(parser, FinetuneConfig, command="finetune")
    add_json(parser, "how the run ended")
    add_general_options(parser)


def run(args: argparse.Namespace) -> int:
    """Train stage 3."""
    config = read_config(args, TrainConfig, command="finetune")
    finetune = read_config(args, FinetuneConfig, command="finetune")
    resume = checkpoint_to_begin_with(args, "stage 3 needs a trained model", "ddpm_distill.pt")
    if not args.npz_dir and not finetune.chests:
        raise ConfigError("there is nothing to put lesions into", remedy="pass --npz_dir, or --chests of 1 or more")
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
            "train": {**config.to_dict(), "processes": process.world_size, "start": 0},
            "network": {"resume": digest},
            "finetune": finetune.to_dict(),
            "backgrounds": {name: background.digest for name, background in backgrounds.items()},
        }
        plan = Run(
            folder=args.results_dir,
            config=config,
            runtime=process,
            name="ddpm_segment.pt",
            card=dataclasses.replace(card, patch=patch),
            settings=tuples_as_lists(settings),
        )
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
    """Backgrounds by name, kept in results_dir; the first process makes what is missing or older than its case."""
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
