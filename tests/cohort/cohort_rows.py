"""Rows of made-up cohorts, as the table has them."""

from __future__ import annotations

import random

from diffseglung.cohort.table import COLUMNS, Row
from diffseglung.labels import LESIONS

HOSTILE = (
    "<img src=x onerror=window.hacked=1>",
    "</script><script>window.hacked=1</script>",
    "\"'><svg onload=window.hacked=1>&amp;",
    "a\u2028b\u2029c\u202ed\u200fe",
    "${window.hacked=1} `x` \\u003c --> <!--",
    "javascript:window.hacked=1",
)
"""What a file may be called, and so what a reason or a warning may say."""
WARNINGS = (
    "noise is 61 HU (more than 40): LAA-950 counts noise as emphysema; mild emphysema cannot be told",
    "the lungs are cut off (lowest slice of the scan): volumes and percentages are of a part only",
)


def a_row(**known: object) -> Row:
    return dict.fromkeys(COLUMNS) | known  # type: ignore[return-value]


def a_cohort(count: int, *, seed: int = 0) -> list[Row]:
    """Scans of which each 10th failed, each 25th waits, each 5th was warned of, and each 20th has a lung too small."""
    draw, rows = random.Random(seed), []
    for i in range(count):
        row = a_row(scan=f"scan_{i:04d}", input=f"scans/scan_{i:04d}.nii.gz", status="done")
        if i % 10 == 3:
            rows.append(
                row | {"status": "failed", "error": f"scans/scan_{i:04d}.nii.gz cannot be read", "seconds": 0.5}
            )
            continue
        if i % 25 == 24:
            rows.append(row | {"status": "waiting"})
            continue
        shares = {label.name: round(draw.expovariate(0.3), 4) for label in LESIONS}
        shares["lesions"] = round(sum(shares.values()), 4)
        shares["healthy"] = round(100 - shares["lesions"], 4)
        lung = round(draw.gauss(5000, 600), 3) if i % 20 else 600.0 + i
        row |= {f"{name}_percent": share for name, share in shares.items()}
        row |= {f"{name}_ml": round(share * lung / 100, 3) for name, share in shares.items()}
        row |= {"lung_ml": lung, "mean_lung_density_hu": round(draw.gauss(-820, 30), 2), "seconds": 20.5}
        row |= {"noise_hu": draw.gauss(25, 5) if i % 7 else None, "slice_mm": 1.25, "method": "physics", "version": "1"}
        row["warnings"] = " | ".join(WARNINGS[: 1 + i % 2]) if i % 5 == 1 else None
        rows.append(row)
    return rows
