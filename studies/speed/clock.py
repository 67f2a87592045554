"""Timing: repeated calls, alternating with a competitor, and one row of a table per timed job."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

Call = Callable[[], object]


@dataclass(frozen=True)
class Cost:
    """Seconds of each repeat: wall time, and processor time of this process (all threads)."""

    wall_s: tuple[float, ...]
    cpu_s: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """Median wall time."""
        return statistics.median(self.wall_s)

    @property
    def spread(self) -> tuple[float, float]:
        """Shortest and longest wall time."""
        return min(self.wall_s), max(self.wall_s)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    part, what:  the stage, and the job with its size.   cost: ours.
    amount, unit: how many of what one call handles, for a rate (`amount / seconds` unit/s).
    peer, peer_cost: another library doing the same job, timed alternately with ours.
    floor_s, floor: lower bound in seconds on this machine, and its derivation.
    peak_mib:    memory above what the interpreter and libraries hold, where it was measured.
    target, met: the documented target, and whether this run met it; None without a target.
    note:        remarks: agreement with the peer, device, settings.
    """

    part: str
    what: str
    cost: Cost
    amount: float | None = None
    unit: str = ""
    peer: str | None = None
    peer_cost: Cost | None = None
    floor_s: float | None = None
    floor: str = ""
    peak_mib: float | None = None
    target: str | None = None
    met: bool | None = None
    note: str = ""

    @property
    def rate(self) -> float | None:
        """Units per second."""
        return None if self.amount is None else self.amount / self.cost.seconds

    @property
    def ratio(self) -> float | None:
        """How many times faster than the peer: median over the pairs of repeats."""
        if self.peer_cost is None:
            return None
        pairs = zip(self.peer_cost.wall_s, self.cost.wall_s, strict=True)
        return statistics.median(theirs / ours for theirs, ours in pairs)

    def to_dict(self) -> dict[str, Any]:
        """Plain values with rate and ratio, ready for JSON."""
        return asdict(self) | {"rate": self.rate, "ratio": self.ratio}


def once(call: Call) -> tuple[float, float]:
    """Wall and processor seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def clock(call: Call, repeats: int = 5, *, warm: bool = True) -> Cost:
    """Cost of a call; `warm`: an untimed one first."""
    if warm:
        call()
    times = [once(call) for _ in range(repeats)]
    return Cost(tuple(t[0] for t in times), tuple(t[1] for t in times))


def race(ours: Call, peer: Call, repeats: int = 5, *, warm: bool = True) -> tuple[Cost, Cost]:
    """Costs of two calls timed alternately, so that both see the same state of the machine."""
    if warm:
        ours()
        peer()
    times = [(once(ours), once(peer)) for _ in range(repeats)]
    costs = [Cost(tuple(t[who][0] for t in times), tuple(t[who][1] for t in times)) for who in (0, 1)]
    return costs[0], costs[1]
