"""Fit the tissue mixture and classifier on an unlabelled cohort and store them with the model.

Cases are NPZ files (see `diffseglung convert`). The physics rule names what it is sure of; the classifier and the
seeded mixture learn how that looks. No label map is read. The result is a model file that `segment --model` takes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from diffseglung.cli import add_conduct


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--model, --cases, --output and the size of the fit."""
    parser.add_argument("-m", "--model", type=Path, required=True, help="checkpoint from train or distill")
    parser.add_argument("--cases", "--npz-dir", "--npz_dir", type=Path, required=True, help="folder of NPZ cases")
    parser.add_argument("-o", "--output", type=Path, required=True, help="model file to write (.safetensors or .pt)")
    parser.add_argument("--dataset", default=None, help="only cases whose name starts with this prefix")
    parser.add_argument("--rows-per-scan", "--rows_per_scan", type=int, default=20000, help="positions a scan gives")
    parser.add_argument("--hidden", type=int, default=32, help="width of the classifier; 0 makes it linear")
    parser.add_argument("--half", action="store_true", help="store network weights in float16: half the size")
    parser.add_argument("--local-only", "--local_only", action="store_true", help="leave diffusion features out")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws (default: 0)")
    add_conduct(parser)


def run(args: argparse.Namespace) -> int:
    """Gather rows from every case, fit, and write the model."""
    import dataclasses

    from diffseglung.cli.progress import bar
    from diffseglung.config import SegmentConfig
    from diffseglung.errors import InputError
    from diffseglung.io.cases import list_cases, read_case
    from diffseglung.labelling.bundle import load_bundle, tissue_tensors
    from diffseglung.labelling.cohort import Cohort
    from diffseglung.labelling.methods import Rows
    from diffseglung.labelling.tissue import TissueFitConfig
    from diffseglung.model import checkpoint
    from diffseglung.preprocess.scene import make_scene
    from diffseglung.runtime import Runtime, choose_device, choose_precision

    paths = list(list_cases(args.cases, args.dataset))
    if not paths:
        raise InputError(f"{args.cases} holds no NPZ cases", remedy="make them with diffseglung convert")
    device = choose_device(args.device)
    bundle = load_bundle(args.model, str(device))
    runtime = Runtime(device=device, precision=choose_precision("auto", device))
    cohort = Cohort(rows_per_scan=args.rows_per_scan, with_diffusion=not args.local_only, seed=args.seed)
    with bar("reading cases", quiet=args.quiet) as progress:
        for path in progress(paths, len(paths)):
            case = read_case(path)
            scene = make_scene(case.ct, case.lungs, SegmentConfig().spacing_mm)
            cohort.add(Rows(scene, bundle, runtime))
    tissues = cohort.fit(TissueFitConfig(hidden=args.hidden, seed=args.seed))
    weights, card = checkpoint.load(args.model)
    own = {name: value for name, value in weights.items() if not name.startswith("tissue.")}
    if args.half:
        own = {name: value.half() if value.is_floating_point() else value for name, value in own.items()}
    training = card.training | {
        "tissue_cases": [path.stem for path in paths],
        "tissue_rows_per_scan": args.rows_per_scan,
    }
    checkpoint.save(args.output, own | tissue_tensors(tissues), dataclasses.replace(card, training=training))
    if not args.quiet:
        print(f"fitted {', '.join(tissues)} on {len(paths)} cases -> {args.output}")
    return 0
