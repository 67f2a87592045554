"""SIGKILL at random moments: no incomplete files, the next run completes, and its result is the normal one."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path

from qa.torture import process
from qa.torture.jobs import JOBS, Job, damage, digest


def trials(job: Job, folder: Path, count: int, seed: int) -> dict[str, object]:
    """Kill a job `count` times, each at a uniformly random moment of its usual duration; returns the counts.

    If the job ended before the moment, it is tried again (at most twice `count` tries in all), with the usual duration
    reduced accordingly.
    """
    source, log = folder / "in", folder / "log"
    job.prepare(source)
    words = job.words.replace("{input}", str(source))
    reference = folder / "reference"
    ended = process.run(words.replace("{output}", str(reference)), log, real=job.real)
    if ended.code:
        raise RuntimeError(f"{job.name} fails without a kill: {ended.text}")
    expected, usual = digest(reference), ended.seconds
    draw, seen, losses = random.Random(f"{seed} {job.name}"), Counter[str](), []
    while seen["killed"] < count and seen["trials"] < 2 * count:
        output = folder / f"trial{seen['trials']}"
        here = words.replace("{output}", str(output))
        moment = draw.uniform(0.0, usual)
        killed = process.wait(process.start(here, log, real=job.real), log, kill_at=moment)
        seen["trials"] += 1
        usual = usual if killed.code == -9 else min(usual, killed.seconds)
        seen["killed"] += killed.code == -9
        seen["killed while something was half-written"] += killed.code == -9 and halves(output)
        problems = damage(output) if output.exists() else []
        again = process.run(here, log, real=job.real)
        if again.code:
            problems.append(f"the next start ends with {again.code}: {again.text.strip()[-300:]}")
        elif digest(output) != expected:
            found = digest(output)
            names = sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
            problems.append(f"another result: {', '.join(names)}")
        elif halves(output):
            problems.append("leftovers of the killed run stay")
        if problems:
            losses.append({"moment_s": round(moment, 3), "problems": problems})
        shutil.rmtree(output, ignore_errors=True)
    return {**seen, "usual_s": round(usual, 2), "losses": losses}


def halves(output: Path) -> bool:
    """Whether temporary files are left."""
    places = [output, *([output.parent] if output.parent.exists() else [])]
    return any(True for place in places if place.exists() for _ in place.rglob(".*.part.*")) or any(
        output.rglob("*.part") if output.exists() else ()
    )


def all_trials(folder: Path, counts: dict[str, int], seed: int) -> dict[str, dict[str, object]]:
    """`trials` of every job that `counts` names."""
    found = {}
    for job in JOBS:
        if counts.get(job.name):
            found[job.name] = trials(job, folder / job.name, counts[job.name], seed)
            print(f"  {job.name}: {found[job.name]}", flush=True)
    return found
