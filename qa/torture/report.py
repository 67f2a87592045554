"""The counts as a table."""

from __future__ import annotations

from typing import Any


def table(found: dict[str, dict[str, dict[str, Any]]]) -> tuple[str, int]:
    """Markdown for docs/reliability.md, and the number of trials with a loss."""
    lines, lost = [], 0
    if kills := found.get("kills"):
        lines += ["| command | SIGKILLs | hit | half-written then | lost |", "|---|---:|---:|---:|---:|"]
        total = [0, 0, 0, 0]
        for name, row in kills.items():
            halves = int(row.get("killed while something was half-written", 0))
            values = [int(row["trials"]), int(row.get("killed", 0)), halves, len(row["losses"])]
            total = [a + b for a, b in zip(total, values, strict=True)]
            lines.append(f"| {name} | {' | '.join(map(str, values))} |")
        lines += [f"| **all** | {' | '.join(map(str, total))} |", ""]
        lost += total[3]
    if faults := found.get("faults"):
        lines += ["| fault | tried | succeeded | error message | lost |", "|---|---:|---:|---:|---:|"]
        for name, row in faults.items():
            lines.append(f"| {name} | {row['tried']} | {row['well']} | {row['told']} | {len(row['losses'])} |")
            lost += len(row["losses"])
    return "\n".join(lines) + "\n", lost
