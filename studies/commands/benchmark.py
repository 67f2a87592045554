"""Compare all methods and the baselines on cases with ground truth: tables, plots and a page of pictures.

  diffseglung benchmark -o bench --quick
  diffseglung benchmark -o bench --workers 2
  diffseglung benchmark -o bench --cases phantoms --methods physics hu_bands_median
  diffseglung benchmark -o bench --generation

The cases come from a fixed list, or from a folder of case folders (ct, lungs and truth; meta.json if there is one).
All methods get the same lungs. Run the same command again to resume; only what has changed is computed again.
--robustness then degrades scans of the same patient and writes the change of the results to robustness.md.
The output folder holds table.md, table.csv, benchmark.json, dice.png, reliability.png, agreement.png and index.html.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffseglung.cli.options import add_general_options, add_json
from diffseglung.cli.terminal import answer, say
from diffseglung.platform.config import CASE_LISTS, GenerationConfig
from diffseglung.platform.errors import CheckpointError, ConfigError, InputError

if TYPE_CHECKING:
    from studies.cases import CaseSpec
    from studies.runner import Job, Plan

EXHALED = 530
"""Seed of the chest of the development split that --robustness scans in expiration."""
ROOT = Path(__file__).parents[2]
DEMO = ROOT / "demo"
BASE_MODEL = ROOT / "checkpoints" / "ddpm_base.pt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `benchmark`."""
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for cases, results and tables")
    parser.add_argument("--list", choices=CASE_LISTS, help="cases of the catalogue (default: test)")
    parser.add_argument("--quick", action="store_true", help="the list quick, without surfaces, as a smoke test")
    parser.add_argument("--cases", type=Path, metavar="DIR", help="this folder of case folders instead of a list")
    parser.add_argument("--backgrounds", type=Path, metavar="DIR", help="folder of the real scans of a list")
    parser.add_argument("--phantoms-only", action="store_true", help="leave out cases with a real scan")
    parser.add_argument("--only", nargs="+", metavar="CASE", help="only these cases")
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="methods and baselines (default: all)")
    parser.add_argument("-m", "--model", type=Path, help="weights file (default: the installed one)")
    text = "weights before stage 2, for raw features (default: those of the clone)"
    parser.add_argument("--base-model", type=Path, metavar="FILE", help=text)
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="cases run in parallel (default: 1)")
    parser.add_argument("--no-surfaces", action="store_true", help="skip the surface distances (faster)")
    parser.add_argument(
        "--robustness", action="store_true",
        help="also vary noise, calibration, slices and breath, on the unmodified real scans of the list or on --cases",
    )  # fmt: skip
    parser.add_argument(
        "--generation", action="store_true",
        help="instead: measure patches sampled from the models (--model stage 2, --base-model stage 1)",
    )  # fmt: skip
    parser.add_argument(
        "--patches-dir", type=Path, metavar="DIR",
        help="with --generation: the training patches, made by diffseglung precompute",
    )  # fmt: skip
    count = GenerationConfig.n
    text = f"with --generation: patches per row (default: {count})"
    parser.add_argument("--patches", type=int, default=count, metavar="N", help=text)
    parser.add_argument("--keep", action="store_true", help="keep results of other versions of the code")
    add_json(parser, "the files and the counts")
    add_general_options(parser)


def run(args: argparse.Namespace) -> int:
    """Make the cases, run the methods, score, write."""
    if args.generation:
        return _generation(args)
    from studies import publish, runner

    jobs, plan, notes = _jobs(args), *_plan(args)
    from diffseglung.cli.progress import bar

    args.output.mkdir(parents=True, exist_ok=True)
    computed = 0
    with bar("cases", quiet=args.quiet) as track:
        for name, count in track(runner.run_all(jobs, plan, args.workers), len(jobs)):
            computed += count
            if args.verbose:
                print(f"{name}: {count} results", file=sys.stderr, flush=True)
    about: dict[str, Any] = {"list": str(args.cases) if args.cases else _list(args), "command": _words(args)}
    about |= {"notes": "; ".join(notes)} if notes else {}
    with bar("tables and pictures", quiet=args.quiet):
        files = list(publish.publish(args.output, jobs, plan, about))
    if args.robustness:
        files.append(_robustness(args, jobs, plan))
    kept = len(jobs) * len(plan.candidates) - computed
    say(args, "\n".join([*map(str, files), f"{computed} results computed, {kept} kept"]))
    answer(args, {"files": files, "computed": computed, "kept": kept})
    return 0


def _generation(args: argparse.Namespace) -> int:
    """Draw and measure, into `output`/generation; continues an interrupted run."""
    from dataclasses import replace

    from diffseglung.cli.progress import bar
    from studies import generation

    inputs = generation.Inputs.of_checkout(ROOT, args.patches_dir)
    named = {"stage 1": args.base_model, "stage 2": args.model}
    inputs = replace(inputs, models={**inputs.models, **{name: path for name, path in named.items() if path}})
    scans = [file for pair in inputs.held_out for file in pair]
    for path in [*inputs.models.values(), *scans, *([args.patches_dir] if args.patches_dir else [])]:
        if not path.exists():
            raise InputError(f"{path} does not exist", remedy="run it in a clone of the repository, or name the file")
    if not inputs.models:
        raise CheckpointError("there is no model to draw with", remedy="--model FILE, or --base-model FILE")
    config = GenerationConfig(n=args.patches, quick=args.quick)
    with bar("generation", quiet=args.quiet) as track:
        generation.run(args.output / "generation", inputs, config, device=args.device, track=track)
    say(args, str(args.output / "generation" / "generation.md"))
    answer(args, {"files": [args.output / "generation" / "generation.md"]})
    return 0


def _robustness(args: argparse.Namespace, jobs: list[Job], plan: Plan) -> Path:
    """Measure the named methods, or the default one; continues an interrupted run."""
    from diffseglung.cli.progress import bar
    from studies import robustness, runner
    from studies.cases import make_case
    from studies.compared_methods import labeller

    subjects = []
    for job in jobs:
        if job.spec is None or job.spec.kind == "real":
            if job.spec is not None:
                make_case(job.spec, job.folder, plan.backgrounds)
            ct, lungs, _ = runner.read_case(job.folder)
            subjects.append(robustness.Subject(job.name, ct, lungs))
    if args.cases is None:
        subjects.append(robustness.exhale_subject(EXHALED, size="small" if _list(args) == "quick" else "full"))
    who = plan.candidates if args.methods else plan.candidates[:1]
    ways = {e.key: labeller(e, plan.base_model if e.base else plan.model, plan.device) for e in who}
    with bar("robustness", quiet=args.quiet) as track:
        robustness.run(args.output, subjects, labellers=ways, track=track)
    return Path(args.output, "robustness.md")


def _list(args: argparse.Namespace) -> str:
    return args.list or ("quick" if args.quick else "test")


def _words(args: argparse.Namespace) -> str:
    """The command line that reproduces the run."""
    words = ["diffseglung", "benchmark"]
    for name in ("output", "list", "cases", "backgrounds", "model", "base_model", "only", "methods"):
        value = getattr(args, name)
        if value:
            words += ["--" + name.replace("_", "-"), *(map(str, value) if isinstance(value, list) else [str(value)])]
    flags = ("quick", "phantoms_only", "no_surfaces", "robustness", "keep")
    words += ["--" + name.replace("_", "-") for name in flags if getattr(args, name)]
    return shlex.join([*words, "--workers", str(args.workers), "--device", args.device])


def _jobs(args: argparse.Namespace) -> list[Job]:
    """Jobs, checked before any work."""
    from studies import runner
    from studies.cases import LISTS

    if args.workers < 1:
        raise ConfigError(f"the number of workers is {args.workers}", remedy="--workers 1 or more")
    if args.cases is not None:
        if args.list or args.backgrounds or args.phantoms_only:
            raise ConfigError("--cases excludes --list, --backgrounds and --phantoms-only", remedy="leave out either")
        jobs = runner.folder_jobs(args.cases, args.output)
    else:
        specs = LISTS[_list(args)]
        if args.phantoms_only:
            specs = tuple(spec for spec in specs if spec.background is None)
        jobs = runner.catalogue_jobs(specs, args.output)
    if args.only:
        unknown = [name for name in args.only if name not in {job.name for job in jobs}]
        if unknown:
            raise ConfigError(f"there is no case {unknown[0]!r}", remedy=f"one of {', '.join(j.name for j in jobs)}")
        jobs = [job for job in jobs if job.name in args.only]
    _check_backgrounds([job.spec for job in jobs if job.spec], _backgrounds(args))
    return jobs


def _backgrounds(args: argparse.Namespace) -> Path | None:
    """The given folder, or that of the clone."""
    if args.backgrounds is not None and not args.backgrounds.is_dir():
        raise InputError(f"{args.backgrounds} is not a folder", remedy="give the folder that holds the real scans")
    return args.backgrounds or (DEMO if DEMO.is_dir() else None)


def _check_backgrounds(specs: list[CaseSpec], folder: Path | None) -> None:
    """Raise InputError, before any work, if a real scan is missing."""
    from diffseglung.io.tree import look_below
    from studies.cases import BACKGROUNDS, SHIPPED

    for name in dict.fromkeys(spec.background for spec in specs if spec.background):
        entry = BACKGROUNDS[name]
        for file in (entry.ct, entry.lungs):
            if not (SHIPPED / file).is_file() and not (folder and look_below(folder).called(file)):
                raise InputError(
                    f"the background {file} was not found",
                    remedy=f"--backgrounds DIR ({entry.source}) or --phantoms-only",
                )


def _plan(args: argparse.Namespace) -> tuple[Plan, list[str]]:
    """The methods to run with their weights, and notes on those left out."""
    from diffseglung.method import checkpoint
    from diffseglung.platform.runtime import choose_device
    from diffseglung.tissue.bundle import load_bundle
    from studies import compared_methods, runner

    for path in (args.model, args.base_model):
        if path is not None and not path.is_file():
            raise CheckpointError(f"{path} does not exist", remedy="give a weights file")
    base = args.base_model or (BASE_MODEL if BASE_MODEL.is_file() else None)
    known = compared_methods.all_candidates(base=base is not None)
    needed = any(known[name].needs_model for name in args.methods or known if name in known)
    model = args.model or (checkpoint.default_path() if checkpoint.default_path().is_file() else None)
    bundle = load_bundle(model) if needed and model else None
    chosen, notes = compared_methods.choose(args.methods, bundle, load_bundle(base) if needed and base else None)
    plan = runner.Plan(
        candidates=tuple(chosen),
        model=model,
        base_model=base if any(e.base for e in chosen) else None,
        backgrounds=_backgrounds(args),
        surfaces=not (args.no_surfaces or args.quick),
        keep=args.keep,
        device=str(choose_device(args.device)),
    )
    return plan, notes
