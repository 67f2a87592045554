"""Distil radiomics into the features of a trained diffusion model (stage 2).

Starts from a stage 1 checkpoint (--resume); loss = diffusion + lambda * contrastive. Writes the same files as `train`
into --results_dir, with the weights in ddpm_distill.pt: the network and its student head, without the teacher. Patches
precomputed with --teacher make it several times faster.
"""

from __future__ import annotations

import argparse
import dataclasses

from diffseglung.cli.options import add_config, read_config
from diffseglung.cli.terminal import say
from diffseglung.cli.train import (
    add_patch_options,
    check_start,
    checkpoint_to_begin_with,
    find_patches,
    plan_run,
    provenance,
    run_training,
    sampler,
    seeded,
)
from diffseglung.platform.config import DistillConfig, TrainConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `distill`."""
    add_patch_options(parser, "distill")
    add_config(parser, DistillConfig, command="distill")


def run(args: argparse.Namespace) -> int:
    """Train stage 2."""
    config = read_config(args, TrainConfig, command="distill")
    distill = read_config(args, DistillConfig, command="distill")
    resume = checkpoint_to_begin_with(args, "stage 2 needs a stage 1 checkpoint", "results/ddpm_base.pt")
    from diffseglung.method import checkpoint
    from diffseglung.method.distillation import warmup
    from diffseglung.method.train.data import Draws
    from diffseglung.method.train.loop import Run, Trainer
    from diffseglung.method.train.objective import DistillObjective, fit_standardiser
    from diffseglung.platform import runtime
    from diffseglung.training.precompute import patch_settings

    weights, base = checkpoint.load(resume)
    model = checkpoint.build(weights, base)
    start = distill.warmup_start if args.start_step is None else args.start_step
    check_start(start, config)
    patches = find_patches(args, teacher=distill)
    patch, intensity = patch_settings(patches)
    with runtime.start(args.device, config.precision) as process:
        if config.iterations < distill.warmup_end and process.is_first:
            weight = warmup(config.iterations, distill)
            say(args, f"note: the run ends during the warm-up, at lambda {weight:.2f} of {distill.lambda_max:g}")
        digest = checkpoint.sha256(resume)
        before = {"sha256": digest, "iteration": base.iteration, **base.training}
        training = {**provenance(patches, config, process.world_size), "stage1": before}
        card = dataclasses.replace(base, distill=distill, stage=2, name=args.name or base.name, training=training)
        settings = {
            "network": {"resume": digest},
            "distill": distill.to_dict(),
            "patches": {"digest": patches.digest},
        }
        card = dataclasses.replace(card, patch=patch, intensity=intensity)
        plan = plan_run(
            args.results_dir, "ddpm_distill.pt", card, settings, start=start, config=config, runtime=process
        )
        plan = dataclasses.replace(plan, sample=sampler(plan.folder, patches, config.seed))
        draws = Draws.of(patches, config, steps=base.diffusion.steps, runtime=process, teacher=patches.teacher(distill))
        network = model.network.requires_grad_(True)

        def make(run: Run) -> Trainer:
            objective: DistillObjective = seeded(
                lambda: DistillObjective(
                    network, base.diffusion, distill=distill, intensity=intensity, seed=config.seed
                ),
                config.seed,
            )
            if not (run.folder / "last.pt").is_file():
                fit_standardiser(objective, patches)
            return Trainer(objective, draws, run)

        return run_training(plan, make, args)
