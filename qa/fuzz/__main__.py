"""Read thousands of damaged and hostile files and report the outcomes: `python -m qa.fuzz`, run by `make fuzz`."""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
SHOWN_PER_KIND = 3


@dataclass
class Tally:
    """Outcomes of the inputs of a target."""

    outcomes: Counter[str] = field(default_factory=Counter)
    mib: float = 0.0
    seconds: float = 0.0
    finds: list[dict[str, Any]] = field(default_factory=list)


def main() -> int:
    """0 if nothing was found, else 1."""
    parser = argparse.ArgumentParser(prog="qa.fuzz", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/fuzz"), help="folder for counts and finds")
    parser.add_argument("-n", "--inputs", type=int, default=500, help="inputs for each reader (default: 500)")
    parser.add_argument("--start", type=int, default=0, help="number of the first input (default: 0)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the mutations (default: 0)")
    parser.add_argument("--targets", nargs="+", metavar="NAME", help="readers, by parts of their names (default: all)")
    parser.add_argument("--guided", type=float, default=0.0, metavar="S", help="seconds of guided fuzzing per format")
    args = parser.parse_args()

    from qa.fuzz import guided, mutations
    from qa.fuzz.targets import TARGETS

    mutations.zeros()  # cached once, before forking

    chosen = [t for t in TARGETS if not args.targets or any(word.lower() in t.name.lower() for word in args.targets)]
    args.output.mkdir(parents=True, exist_ok=True)
    tallies = {target.name: _mutations(target, args) for target in chosen}
    told: dict[str, Any] = {}
    if args.guided and guided.available():
        told = guided.run(args.guided, args.output)
    elif args.guided:
        print("no coverage-guided inputs: atheris is not installed (pip install atheris)", flush=True)
    text = table(tallies) + (guided.table(told) if told else "")
    plain = {name: {**vars(tally), "outcomes": dict(tally.outcomes)} for name, tally in tallies.items()}
    record = {"seed": args.seed, "start": args.start, "targets": plain, "guided": told}
    (args.output / "fuzz.json").write_text(json.dumps(record, indent=1) + "\n")
    (args.output / "fuzz.md").write_text(text)
    print(text)
    return 1 if any(tally.finds for tally in tallies.values()) or any(row["finds"] for row in told.values()) else 0


def _mutations(target: Any, args: argparse.Namespace) -> Tally:
    """Run inputs that are mutated from good files."""
    from qa.fuzz.judge import judged
    from qa.fuzz.mutations import Files, mutated
    from qa.fuzz.targets import seeds_of

    good, tally, begin = seeds_of(target), Tally(), time.monotonic()

    def made(number: int) -> Files:
        draw = random.Random(f"{args.seed} {target.name} {number}")
        files = mutated(draw.choice(good), good, draw)
        return mutated(files, good, draw) if draw.random() < 0.3 else files

    for number, seed in enumerate(good):  # they must be readable unchanged
        (verdict,) = judged(lambda _, seed=seed: seed, target.read, range(1))  # type: ignore[misc]
        if verdict.outcome != "well":
            tally.finds.append({"input": f"seed {number}", "outcome": verdict.outcome, "about": verdict.about})
    for verdict in judged(made, target.read, range(args.start, args.start + args.inputs)):
        tally.outcomes[verdict.outcome] += 1
        tally.mib, tally.seconds = max(tally.mib, verdict.mib), max(tally.seconds, verdict.seconds)
        if verdict.is_find:
            tally.finds.append({"input": verdict.number, "outcome": verdict.outcome, "about": verdict.about})
            if tally.outcomes[verdict.outcome] <= 20:
                _keep(
                    args.output / target.name.replace(" ", "-") / f"{args.seed}-{verdict.number}", made(verdict.number)
                )
    pace = args.inputs / (time.monotonic() - begin)
    print(f"{target.name}: {dict(tally.outcomes)}, {pace:.0f} a second", flush=True)
    for find in _sorted(tally.finds):
        print(f"  {find['outcome']} {find['input']}: {find['about']}", flush=True)
    return tally


def _sorted(finds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A few findings of each kind and place."""
    shown: Counter[str] = Counter()
    kept = []
    for find in finds:
        kind = f"{find['outcome']} {find['about'].rpartition(' at ')[2]}"
        shown[kind] += 1
        if shown[kind] <= SHOWN_PER_KIND:
            kept.append(find)
    return kept


def _keep(folder: Path, files: dict[str, bytes]) -> None:
    from qa.fuzz.targets import put

    put(files, folder)


def table(tallies: dict[str, Tally]) -> str:
    """Markdown for docs/reliability.md."""
    lines = ["| reader | inputs | read | refused with a message | findings | most memory, MiB | slowest, s |",
             "|---|---:|---:|---:|---:|---:|---:|"]  # fmt: skip
    whole, mib, seconds = Counter[str](), 0.0, 0.0
    for name, tally in tallies.items():
        lines.append(_row(name, tally.outcomes, tally.mib, tally.seconds))
        whole += tally.outcomes
        mib, seconds = max(mib, tally.mib), max(seconds, tally.seconds)
    return "\n".join([*lines, _row("**all**", whole, mib, seconds)]) + "\n"


def _row(name: str, outcomes: Counter[str], mib: float, seconds: float) -> str:
    count = outcomes.total()
    found = count - outcomes["well"] - outcomes["told"]
    return f"| {name} | {count} | {outcomes['well']} | {outcomes['told']} | {found} | {mib:.0f} | {seconds:.1f} |"


if __name__ == "__main__":
    sys.exit(main())
