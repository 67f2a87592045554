"""Inject faults into the commands and report losses: `python -m qa.torture`, run by `make torture`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")


def main() -> int:
    """0 if nothing was lost, else 1."""
    parser = argparse.ArgumentParser(prog="qa.torture", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/torture"), help="folder for the counts")
    parser.add_argument("--kills", type=int, default=40, help="SIGKILLs per command (default: 40)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (default: 0)")
    parser.add_argument("--parts", nargs="+", choices=("kills", "faults"), default=["kills", "faults"])
    parser.add_argument("--jobs", nargs="+", help="commands to kill (default: all)")
    args = parser.parse_args()

    from qa.torture import faults, kills, report
    from qa.torture.jobs import JOBS

    found: dict[str, dict[str, dict[str, object]]] = {}
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        if "kills" in args.parts:
            counts = {job.name: max(1, args.kills // 4) if job.real else args.kills for job in JOBS}
            wanted = args.jobs or list(counts)
            print("SIGKILL at random moments", flush=True)
            found["kills"] = kills.all_trials(Path(folder), {n: c for n, c in counts.items() if n in wanted}, args.seed)
        if "faults" in args.parts:
            print("faults of disk, memory, clock and files", flush=True)
            found["faults"] = faults.all_faults(Path(folder))
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "torture.json").write_text(json.dumps({"seed": args.seed, **found}, indent=1) + "\n")
    text, lost = report.table(found)
    (args.output / "torture.md").write_text(text)
    print(text)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
