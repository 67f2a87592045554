"""Ablations on development cases: one row per variant, for docs/results.md.

    python -m scripts.ablations --cases DEV --fit CASES [CASES ...] -o OUT [--model NAME=FILE ...]
    python -m scripts.ablations --cases DEV --groups rule readings -o OUT

CASES train students without their truth: NPZ files (`diffseglung convert`) or case folders (`diffseglung phantom`).
DEV is a folder of case folders with truth. Each model's taps are computed once and stored under OUT; run it again to
continue. Taps, timesteps and mixtures are those of the first model named; names of undistilled models begin with
`base`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from diffseglung.platform.runtime import Runtime, choose_device, choose_precision
from diffseglung.tissue.bundle import load_bundle
from studies import ablations
from studies.ablations import Lessons, Variant
from studies.probes import Probe, Reading, gather

ROOT = Path(__file__).parents[1]
MODELS = [f"ours={ROOT / 'checkpoints/ddpm_distill.pt'}", f"base={ROOT / 'checkpoints/ddpm_base.pt'}"]


def cases_below(folders: list[Path]) -> list[Path]:
    """Case folders with truth, and NPZ cases that no case folder of the same name stands for."""
    folders_found = sorted({path.parent for folder in folders for path in folder.rglob("truth.nii.gz")})
    named = {path.name.replace("_", "") for path in folders_found}
    archives = sorted({path for folder in folders for path in folder.rglob("*.npz")})
    return [*folders_found, *(path for path in archives if path.stem.replace("_", "") not in named)]


GROUPS = ("rule", "readings", "students", "taps", "mixtures", "radiomics")


def variants(
    groups: list[str], models: list[str], lessons: Lessons, gathered: Callable[[Reading], list[Probe]]
) -> Iterator[Variant]:
    """Every row of the table, in order; `gathered` reads the scored cases otherwise."""
    if "rule" in groups:
        yield from ablations.rule_variants()
    if "readings" in groups:
        yield from ablations.reading_variants(gathered)
    if "students" in groups:
        yield from ablations.student_variants(models, lessons)
    if "taps" in groups:
        yield from ablations.tap_variants(models[0], lessons)
    if "mixtures" in groups:
        yield from ablations.mixture_variants(models[0], lessons)
    if "radiomics" in groups:
        yield from ablations.radiomic_variants(lessons)


def main() -> None:
    """Collect, train, score, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=Path, required=True, help="development cases with truth")
    parser.add_argument("--fit", type=Path, nargs="+", default=[], help="unlabelled cases for training students")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS), help="default: all")
    parser.add_argument("--model", action="append", metavar="NAME=FILE", help="default: the two of checkpoints/")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    if not args.fit and set(args.groups) - {"rule", "readings"}:
        parser.error("all groups but rule and readings need --fit CASES")
    device = choose_device("auto")
    runtime = Runtime(device=device, precision=choose_precision("auto", device))
    files = dict(m.split("=", 1) for m in args.model or MODELS)
    deep = {"students", "taps", "mixtures"} & set(args.groups)
    bundles = {name: load_bundle(Path(file)) for name, file in files.items()} if deep else {}
    probes = {}
    for kind, paths in (("fit", cases_below(args.fit)), ("dev", cases_below([args.cases]))):
        probes[kind] = []
        for path in paths:
            folder = args.output / "probes" / kind
            probes[kind].append(gather(path, folder, bundles, runtime, radiomics="radiomics" in args.groups))
            print(f"{kind}: {path.name}", flush=True)

    def gathered(reading: Reading) -> list[Probe]:
        folder = args.output / "probes" / f"dev {reading.spacing_mm:g} mm {reading.intensity}"
        return [gather(path, folder, {}, runtime, reading=reading) for path in cases_below([args.cases])]

    found = []
    rows = variants(args.groups, list(bundles), Lessons.of(probes["fit"]), gathered)
    for outcome in ablations.outcomes(rows, probes["dev"]):
        found.append(outcome)
        print(f"{outcome.group:10} {outcome.name:60} {100 * outcome.dice[-1].value:5.1f}", flush=True)
    (args.output / "ablations.md").write_text(ablations.markdown(found), encoding="utf-8")
    (args.output / "ablations.json").write_text(json.dumps([asdict(o) for o in found], indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
