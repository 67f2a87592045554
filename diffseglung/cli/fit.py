"""Fit the tissue classifiers on a cohort without annotations, and store them with the model.

Cases are NPZ files (see `diffseglung convert`). The physics rule labels every position, the labels of its neighbourhood
correct it, and a classifier learns the outcome from the features. --simulated adds cases made by `diffseglung phantom`:
their known lesions are used for training too. No human label is read. The result is a model file for `segment --model`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from diffseglung.cli.options import add_general_options, add_json, add_shared, read_config
from diffseglung.cli.precompute import say_assumed
from diffseglung.cli.terminal import answer, say
from diffseglung.platform.config import TissueFitConfig
from diffseglung.platform.serialization import readable

if TYPE_CHECKING:
    from torch import Tensor

    from diffseglung.platform.runtime import Runtime
    from diffseglung.tissue.bundle import Bundle
    from diffseglung.tissue.methods import Rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `fit`."""
    parser.add_argument("-m", "--model", type=Path, required=True, help="checkpoint from train or distill")
    parser.add_argument("--cases", "--npz-dir", type=Path, required=True, help="folder of NPZ cases")
    parser.add_argument("-o", "--output", type=Path, required=True, help="model file to write (.safetensors or .pt)")
    parser.add_argument("--simulated", type=Path, help="folder of cases made by diffseglung phantom")
    add_shared(parser, "dataset")
    rows = TissueFitConfig.rows_per_scan
    parser.add_argument("--rows-per-scan", type=int, default=rows, help=f"positions per scan (default: {rows})")
    parser.add_argument("--half", action="store_true", help="store network weights in float16: half the size")
    parser.add_argument("--local-only", action="store_true", help="leave diffusion features out")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws (default: 0)")
    add_json(parser)
    add_general_options(parser)


def run(args: argparse.Namespace) -> int:
    """Collect rows from every case, fit, and write the model."""
    import dataclasses

    from diffseglung.cli.progress import bar
    from diffseglung.io.npz import iter_cases
    from diffseglung.method import checkpoint
    from diffseglung.platform.runtime import Runtime, choose_device, choose_precision
    from diffseglung.tissue.bundle import load_bundle, tissue_tensors
    from diffseglung.tissue.fit import Cohort

    config, device = read_config(args, TissueFitConfig), choose_device(args.device)
    bundle = load_bundle(args.model, str(device))
    runtime = Runtime(device=device, precision=choose_precision("auto", device))
    cohort = Cohort(rows_per_scan=config.rows_per_scan, with_diffusion=not args.local_only, seed=config.seed)
    cases = iter_cases(args.cases, args.dataset)
    notes = say_assumed(args, cases)
    scans = [*cases, *simulated_cases(args.simulated)]
    with bar("reading cases", quiet=args.quiet) as progress:
        for path in progress(scans, len(scans)):
            cohort.add(*read_rows(path, bundle, runtime))
    with bar("fitting", quiet=args.quiet):
        tissues = cohort.fit(config)
    weights, card = checkpoint.load(args.model)
    own = {name: value for name, value in weights.items() if not name.startswith("tissue.")}
    if args.half:
        own = {name: value.half() if value.is_floating_point() else value for name, value in own.items()}
    fitted = {"tissue_cases": [readable(path.stem) for path in scans], "tissue_rows_per_scan": args.rows_per_scan}
    card = dataclasses.replace(card, training=card.training | fitted)
    checkpoint.save(args.output, own | tissue_tensors(tissues), card)
    say(args, f"fitted {', '.join(tissues)} on {len(scans)} cases -> {args.output}")
    made = {"model": args.output, "methods": list(tissues), "cases": [path.stem for path in scans], "notes": notes}
    answer(args, made)
    return 0


def simulated_cases(folder: Path | None) -> list[Path]:
    """Case folders below `folder`; none for None.  Raises InputError if there are none."""
    from diffseglung.io.tree import look_below
    from diffseglung.platform.errors import InputError

    if folder is None:
        return []
    found = sorted(path.parent for path in look_below(folder).called("truth.nii.gz"))
    if not found:
        raise InputError(f"{folder} holds no simulated cases", remedy="make them with diffseglung phantom -o DIR -n 8")
    return found


def read_rows(path: Path, bundle: Bundle, runtime: Runtime) -> tuple[Rows, Tensor | None]:
    """Rows of an NPZ case, or of a simulated case with the class index at each position (-1: none)."""
    import numpy as np
    import torch

    from diffseglung.pipeline import describe
    from diffseglung.platform.config import SegmentConfig
    from diffseglung.training.labelled_cases import read_prepared

    prepared, truth = read_prepared(path, SegmentConfig().spacing_mm)
    rows = describe(prepared, bundle, runtime, SegmentConfig())
    if truth is None:
        return rows, None
    at = np.minimum(rows.where.voxel, np.array(truth.shape) - 1)
    return rows, torch.from_numpy(truth[tuple(at.T)])
