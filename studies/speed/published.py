"""The whole job compared with the published method, on the same scan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from diffseglung.io import read_volume
from diffseglung.lungs.finder import find_lungs
from studies.speed import child
from studies.speed.clock import Row
from studies.speed.reference import reference
from studies.speed.scans import scan_file
from studies.speed.whole import Job, measure

FASTER, LEANER = 50.0, 10.0


def rows(folder: Path, repeats: int = 3, *, size: str = "standard", network: str = "reference") -> list[Row]:
    """One row: seconds and memory of both. The lungs are those that our own run finds."""
    scan = scan_file(folder, size)
    ours = measure(scan, Job(size).options, repeats)
    peer = reference(
        find_lungs(read_volume(scan)).array, repeats, size=network, rows=2000 if size == "small" else 100_000
    )
    own = ours.peak_mib - child.libraries_mib()
    row = Row(
        part="published",
        what="default, the standard scan" if size == "standard" else f"default, {size}",
        cost=ours.cost,
        peak_mib=round(own, 1),
        peer="published method (a part timed, the total extrapolated)",
        peer_cost=peer.cost,
        target=f"{FASTER:g} x faster, {LEANER:g} x leaner",
        note=f"{peer.cost.seconds / 3600:.1f} h: {peer.patches} patches of 3 calls, {peer.voxels / 1e6:.1f} million "
        f"voxels in the mixture; arrays of {peer.peak_mib / 1024:.1f} GiB, {peer.peak_mib / own:.0f} x ours",
    )
    return [replace(row, met=(row.ratio or 0) >= FASTER and peer.peak_mib >= LEANER * own)]
