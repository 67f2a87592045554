"""How far results move if the scan changes but the patient does not: kernel, noise, slices, calibration, breath.

The entry point is `run(output, subjects, methods=...)`, which `diffseglung benchmark --robustness` calls; it writes
robustness.json, .csv and .md, and resumes an interrupted run. `compare` is the measure: both maps on the grid and
inside the lungs of the unchanged scan, so that it measures the labelling and not the lung mask.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseglung.labels import LESIONS, TISSUES
from diffseglung.phantom.scanner import Scanner
from diffseglung.platform import atomic_files, serialization
from diffseglung.platform.config import PhantomConfig, SegmentConfig, default_method
from diffseglung.platform.errors import GeometryError
from diffseglung.volume import Reorientation, Volume
from studies.report import rounded
from studies.scores import dice

VERSION = 2
"""Incremented when a perturbation or a measurement changes; older rows are then measured again."""
NOISE_HU = (20.0, 40.0)
"""Standard deviation of the added noise, with the spectrum of a medium kernel."""
SHIFT_HU = (-15.0, 15.0)
"""The largest error of air at which a scan still counts as calibrated."""
THICK_MM = 5.0
NAMES = tuple(label.name for label in TISSUES)

Label = Callable[[Volume, Volume], Volume]
"""CT (HU) and lungs (1 right, 2 left) -> label map on the CT's grid."""
Track = Callable[[Iterable[Any], int], Iterable[Any]]
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Subject:
    """A scan and the scans it is compared with.

    ct: HU.  lungs: 0 outside, 1 right, 2 left.
    twins: other scans of the same patient, on the same grid and with the same lungs: "kernel", "exhale".
    simulated: whether noise, shift and thick slices are simulated as well.
    """

    name: str
    ct: Volume
    lungs: Volume
    twins: dict[str, Volume] = field(default_factory=dict)
    simulated: bool = True

    def __post_init__(self) -> None:
        for other in (self.lungs, *self.twins.values()):
            if not self.ct.same_grid(other):
                raise GeometryError(
                    f"the lungs or a twin of {self.name} lie on another grid than its scan",
                    remedy="resample them onto the grid of the scan first",
                )

    @property
    def sha256(self) -> str:
        """Hash of all voxels of the scan, the lungs and the twins."""
        digest = hashlib.sha256()
        for volume in (self.ct, self.lungs, *(self.twins[key] for key in sorted(self.twins))):
            digest.update(np.ascontiguousarray(volume.array).tobytes())
        return digest.hexdigest()[:16]

    def changes(self) -> list[str]:
        """Names of the changes that `changed` can make."""
        names = sorted(self.twins)
        if self.simulated:
            names += [f"noise +{sd:.0f} HU" for sd in NOISE_HU] + [f"shift {hu:+.0f} HU" for hu in SHIFT_HU]
            names += [f"slices {THICK_MM:g} mm"] if self._upright().spacing_mm[0] < THICK_MM else []
        return names

    def changed(self, change: str) -> tuple[Volume, Volume]:
        """CT and lungs after a change; thick slices are on canonical axes."""
        if change in self.twins:
            return self.twins[change], self.lungs
        kind, amount = change.split()[:2]
        if kind == "slices":
            return thickened(self._upright(), float(amount)), thickened_mask(self._upright(self.lungs), float(amount))
        if kind == "shift":
            return self.ct.with_array(clipped(self.ct.array + float(amount))), self.lungs
        return self.ct.with_array(noisier(self.ct, float(amount))), self.lungs

    def _upright(self, volume: Volume | None = None) -> Volume:
        return Reorientation.of(self.ct).apply(volume or self.ct)


def exhale_subject(seed: int, *, size: str = "full", split: str = "dev") -> Subject:
    """A phantom in inspiration with a twin in expiration: same chest, same lesions, same grid."""
    from diffseglung.phantom.procedural import make_phantom

    one, other = (
        make_phantom(PhantomConfig(seed=seed, size=size, split=split, condition=condition, severity="moderate"))
        for condition in ("standard", "exhale")
    )
    return Subject(f"phantom {split} {seed}", one.ct, one.lungs, {"exhale": other.ct}, simulated=False)


def clipped(hu: NDArray[Any]) -> NDArray[np.float32]:
    """Whole HU from -1024 to 3071, as a scanner stores them."""
    return np.asarray(np.clip(np.rint(hu), -1024, 3071), np.float32)


def noisier(ct: Volume, sd_hu: float, *, seed: int = 0) -> NDArray[np.float32]:
    """HU with added noise of a medium kernel, on the axes of the scan."""
    turn = Reorientation.of(ct)
    upright = turn.apply(ct)
    z_mm, y_mm, x_mm = upright.spacing_mm
    scanner = Scanner(in_plane_mm=(y_mm + x_mm) / 2, slice_mm=z_mm, thickness_mm=z_mm, sharpness=0.3, noise_hu=sd_hu)
    noise = scanner.noise(np.random.default_rng(seed), upright.shape)
    return clipped(turn.undo(upright.array + noise))


def _profiles(upright: Volume, slice_mm: float) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """(slices, planes) weights of thick slices, and the affine of their grid."""
    plane_mm, planes = upright.spacing_mm[0], upright.shape[0]
    scanner = Scanner(slice_mm=slice_mm, thickness_mm=slice_mm)
    affine = upright.affine.copy()
    affine[:3, 3] += affine[:3, 0] * scanner.slice_centres(planes, plane_mm)[0]
    affine[:3, 0] *= slice_mm / plane_mm
    return scanner.profiles(planes, plane_mm), affine


def thickened(upright: Volume, slice_mm: float) -> Volume:
    """Slices of a canonical scan averaged to a thickness."""
    weights, affine = _profiles(upright, slice_mm)
    return Volume(clipped(np.tensordot(weights, np.asarray(upright.array, np.float32), 1)), affine)


def thickened_mask(upright: Volume, slice_mm: float) -> Volume:
    """Lungs (0, 1, 2) on the grid of `thickened`: the value that fills most of each voxel."""
    weights, affine = _profiles(upright, slice_mm)
    shares = np.stack([np.tensordot(weights, (upright.array == k).astype(np.float32), 1) for k in (0, 1, 2)])
    return Volume(shares.argmax(0).astype(np.uint8), affine)


def onto(label_map: Volume, grid: Volume) -> Volume:
    """A label map on another grid: the value at the nearest voxel, 0 where that lies outside."""
    way = np.linalg.solve(label_map.affine, grid.affine)  # grid index -> label map index
    axes = [np.arange(n, dtype=np.float64) for n in grid.shape]
    index, inside = [], np.ones(grid.shape, bool)
    for row, n in zip(way[:3], label_map.shape, strict=True):
        place = row[0] * axes[0][:, None, None] + row[1] * axes[1][:, None] + row[2] * axes[2] + row[3]
        nearest = np.rint(place).astype(np.int64)
        inside &= (nearest >= 0) & (nearest < n)
        index.append(np.clip(nearest, 0, n - 1))
    return grid.with_array(np.where(inside, label_map.array[tuple(index)], 0).astype(label_map.array.dtype))


def compare(before: Volume, after: Volume, lungs: Volume) -> Row:
    """Two label maps inside the lungs (non-zero) of the first, on its grid, where both maps have lung.

    A mask on thick slices lacks a rim that one on thin slices has; that is not a change of tissue.

    shares: class -> percent of the lungs before, after, and the change in points; dice: class -> agreement of the two
    maps, NaN where both lack the class; same: share of lung voxels with one label in both, percent.
    """
    if not before.same_grid(after):
        after = onto(after, before)
    inside = (lungs.array > 0) & (before.array > 0) & (after.array > 0)
    one, other = before.array[inside], after.array[inside]
    voxels = max(len(one), 1)
    shares, agreement = {}, {}
    for label in TISSUES:
        a, b = one == label.id, other == label.id
        first, second = 100 * float(a.sum()) / voxels, 100 * float(b.sum()) / voxels
        shares[label.name] = {"before": first, "after": second, "points": second - first}
        agreement[label.name] = dice(a, b)
    return {"shares": shares, "dice": agreement, "same": 100 * float((one == other).sum()) / voxels}


def measure(subject: Subject, label: Label, changes: Iterable[str]) -> Iterator[tuple[str, Row]]:
    """Yield (change, `compare`) for one labelling function; the unchanged scan is labelled once."""
    before: Volume | None = None
    for change in changes:
        before = before or label(subject.ct, subject.lungs)
        yield change, compare(before, label(*subject.changed(change)), subject.lungs)


def run(
    output: Path,
    subjects: list[Subject],
    *,
    methods: tuple[str, ...] = (),
    labellers: dict[str, Label] | None = None,
    track: Track | None = None,
) -> list[Row]:
    """Measure every method on every subject and change; write robustness.{json,csv,md} into `output` after each row.

    methods: of `diffseglung segment`, () for the default one.  labellers: further labelling functions, by name.
    track: wraps the jobs, as a progress bar does.  Rows already in the folder are not measured again.
    """
    ways = dict(labellers or {})
    names = methods or (() if ways else (default_method(False),))
    ways |= {name: _method(name) for name in names}
    rows = _known(output)
    jobs = [(way, subject) for subject in subjects for way in ways]
    for way, subject in track(jobs, len(jobs)) if track else jobs:
        keys = {change: (way, subject.name, subject.sha256, change) for change in subject.changes()}
        missing = [change for change, key in keys.items() if key not in rows]
        for change, found in measure(subject, ways[way], missing):
            row = dict(zip(("method", "scan", "sha256", "change"), keys[change], strict=True)) | found
            rows[keys[change]] = rounded(row)
            _write(output, list(rows.values()))
    _write(output, list(rows.values()))
    return list(rows.values())


def _method(name: str) -> Label:
    """A method of `diffseglung segment` with its default settings; its model is loaded at first use."""
    from diffseglung.pipeline import Segmenter

    loaded: list[Segmenter] = []

    def label(ct: Volume, lungs: Volume) -> Volume:
        if not loaded:
            loaded.append(Segmenter.load(config=SegmentConfig(method=name)))
        return loaded[0](ct, lungs).label_map

    return label


def _known(output: Path) -> dict[tuple[str, ...], Row]:
    """Rows of an earlier run of the same version; none where the file is missing or broken."""
    try:
        found = serialization.read(output / "robustness.json")
        if found["version"] != VERSION:
            return {}
        return {(r["method"], r["scan"], r["sha256"], r["change"]): r for r in found["rows"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _write(output: Path, rows: list[Row]) -> None:
    """Write the three files, each atomically."""
    output.mkdir(parents=True, exist_ok=True)
    texts = {
        "robustness.json": json.dumps(rounded({"version": VERSION, "rows": rows}), indent=1) + "\n",
        "robustness.csv": csv_text(rows),
        "robustness.md": markdown(rows),
    }
    for name, text in texts.items():
        atomic_files.write_text(output / name, text)


def csv_text(rows: list[Row]) -> str:
    """One line for each row and class."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["method", "scan", "change", "class", "before_percent", "after_percent", "points", "dice"])
    for row in rows:
        for name in NAMES:
            share = row["shares"][name]
            values = [rounded(v) for v in (share["before"], share["after"], share["points"], row["dice"][name])]
            lead = [row["method"], row["scan"], row["change"], name]
            writer.writerow([*lead, *("" if v is None else v for v in values)])
    return buffer.getvalue()


def markdown(rows: list[Row]) -> str:
    """A table: change of each class's share in percentage points, with the Dice of both maps in brackets."""
    head = ["change", "scan", "method", *(label.title for label in TISSUES), "lesion shares moved", "same label, %"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in sorted(rows, key=lambda r: (r["change"], r["scan"], r["method"])):
        cells = [f"{row['shares'][n]['points']:+.1f} ({_hundredth(rounded(row['dice'][n]))})" for n in NAMES]
        moved = sum(abs(row["shares"][label.name]["points"]) for label in LESIONS)
        cells += [f"{moved:.1f}", f"{row['same']:.1f}"]
        lines.append("| " + " | ".join([row["change"], row["scan"], row["method"], *cells]) + " |")
    return "\n".join(lines) + "\n"


def _hundredth(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
