"""Cut training patches from NPZ cases into arrays on disk.

Writes ct.npy (float16, model units), mask.npy (uint8), patient_ids.npy and patches.json into --out_dir; with --teacher
also teacher.npy and teacher_patch.npy, which make stage 2 several times faster. The patches depend only on the
settings and the case, not on the number of workers. Run the same command again to continue after an interruption.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from diffseglung.cli.options import add_config, add_general_options, add_json, add_recipe, add_shared, read_config
from diffseglung.cli.progress import bar
from diffseglung.cli.terminal import answer, say
from diffseglung.platform.config import DistillConfig, IntensityConfig, PatchConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `precompute`."""
    parser.add_argument("--npz_dir", "-i", "--input", type=Path, required=True, help="folder of NPZ cases")
    parser.add_argument("--out_dir", "-o", "--output", type=Path, required=True, help="output folder")
    add_shared(parser, "dataset")
    parser.add_argument("--num_workers", type=int, default=os.cpu_count() or 1, help="processes (at most one per core)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the patch positions (default: 0)")
    text = "also store the radiomic descriptors that stage 2 learns from"
    parser.add_argument("--teacher", action="store_true", help=text)
    names = {"grid_stride": "stride of the stored descriptors", "window": "their window, both in voxels"}
    for name, text in names.items():
        default = getattr(DistillConfig(), name)
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text} (default: {default})")
    add_recipe(parser)
    add_config(parser, PatchConfig, command="precompute")
    add_config(parser, IntensityConfig)
    add_json(parser)
    add_general_options(parser, device=False)


def run(args: argparse.Namespace) -> None:
    """Precompute, and report what was written."""
    from diffseglung.io.npz import iter_cases
    from diffseglung.method.train.data import open_patches
    from diffseglung.training.precompute import PatchJob, precompute

    distill = DistillConfig(grid_stride=args.grid_stride, window=args.window) if args.teacher else None
    job = PatchJob(
        patch=read_config(args, PatchConfig, command="precompute"),
        intensity=read_config(args, IntensityConfig),
        distill=distill,
        seed=args.seed,
    )
    workers = bounded_workers(args.num_workers, quiet=args.quiet)
    cases = iter_cases(args.npz_dir, args.dataset)
    notes = say_assumed(args, cases)
    with bar("cutting patches", quiet=args.quiet) as track:
        precompute(cases, args.out_dir, job, workers=workers, progress=track)
    patches = open_patches(args.out_dir)
    say(args, f"{len(patches)} patches of {patches.shape} voxels from {len(cases)} cases in {args.out_dir}")
    shape = [int(n) for n in patches.shape]
    made = {"output": args.out_dir, "patches": len(patches), "shape_zyx": shape, "cases": len(cases), "notes": notes}
    answer(args, made)


def say_assumed(args: argparse.Namespace, cases: Sequence[Path]) -> list[str]:
    """Print, and return, what had to be assumed about training cases."""
    from diffseglung.io.npz import without_spacing

    bare = [path.stem for path in without_spacing(cases)]
    if not bare:
        return []
    more = f" and {len(bare) - 5} more" if len(bare) > 5 else ""
    note = f"{len(bare)} of {len(cases)} cases give no voxel spacing, assumed 1 mm: {', '.join(bare[:5])}{more}"
    say(args, f"note: {note}")
    return [note]


def bounded_workers(wish: int, *, quiet: bool) -> int:
    """At most one process per core; prints a note if that is fewer than asked for."""
    cores = os.cpu_count() or 1
    if wish > cores and not quiet:
        print(f"note: using {cores} workers instead of {wish}, one per core", file=sys.stderr)
    return max(1, min(wish, cores))
