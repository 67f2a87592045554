"""Label all available real scans with the defaults: one page to review outlines, labels and measurements.

    python scripts/real_scans.py DATA -o OUT [--before OTHER] [--references MASKS] [--only NAME ...]

OUT/index.html shows each scan with automatically found lungs; OUT/scans.json has the measurements, OUT/NAME/ the lungs
and the label map. `--before OTHER` shows the OUT of an earlier run for comparison. Scans already labelled by the same
code are skipped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import real_scans_page as page
from numpy.typing import NDArray
from scipy import ndimage

import diffseglung
from diffseglung import Segmentation, Segmenter, Volume
from diffseglung.io import read_mask, read_scan, scan_ending, scan_name
from diffseglung.io.nifti import read_nifti, write_nifti
from diffseglung.labels import CONSOLIDATION, TISSUES
from diffseglung.platform.errors import DiffSegLungError, InputError
from diffseglung.volume import Array, Reorientation

Mask = NDArray[np.bool_]

BODY_HU, BODY_GRID_MM, SHELL_MM, SLIT_MM = -300.0, 2.0, 2.25, 4.5
"""Tissue of the body. Shells thinner than twice SHELL_MM (clothing, couch) are not part of it; a thin chest wall is.
Room air reaches through gaps wider than twice SLIT_MM, and not through what is left open between ribs."""
ROOM_AIR_HU = 30.0
"""Air reads at most this much above the air around the patient."""
FAT_HU, FAT_SD_HU, BODY_FAT_SD_HU, FAT_MM = (-150.0, -50.0), 120.0, 64.0, 7.0
"""Mean and standard deviation over FAT_MM; body fat varies by 12 to 62 HU in LCTSC-102, noise and vessels included."""
FIXTURES = ("cip_ct64", "elastix_3DCT_lung", "totalsegmentator_thorax_crop")
NO_SCAN = ("_lung", "_mask", "lungs", "truth", "label_map", "lm-64", "wholeLung-64")
"""Suffixes of masks."""
FEWEST_SLICES = 10
EXPERT = "lctsc_"
"""Scans with an expert mask beside them."""
SPLITS = {
    "train": ("lctsc_Test-S1-", "lidc_0001", "lungdx_A0001", "LIDC-IDRI-0002", "NSCLC-R01-001", "TCGA-DE-A4MA",
              "4D-Lung-113", "CRLM-CT-1004"),
    "dev": ("lctsc_Test-S1-203",),
    "test": ("lidc_1011", "lungdx_A0002", "A0002_", "LIDC-IDRI-0003", "LIDC-IDRI-0314", "TCGA-34-2605", "CRLM-CT-1006"),
}  # fmt: skip
"""Name prefixes of the scans of each split; the last match counts."""
NOT_THE_LABELS = ("cli", "cohort", "output", "phantom", "training", "viewer")
"""Parts of the package that affect neither labels nor lungs."""


@dataclass(frozen=True)
class Case:
    """A scan: its name on the page, and its path."""

    name: str
    path: Path

    @property
    def split(self) -> str:
        """train, dev or test; empty where unknown."""
        fitting = [split for split, starts in SPLITS.items() if self.name.startswith(starts)]
        return fitting[-1] if fitting else ""

    @property
    def expert(self) -> Path | None:
        """The lung mask of an expert, if there is one."""
        path = self.path.with_name(self.path.name.replace(".nii.gz", "_lung.nii.gz"))
        return path if self.name.startswith(EXPERT) and path.is_file() else None


def find_cases(data: Path, *, fixtures: bool = False) -> list[Case]:
    """Scans below a folder: files, and folders of DICOM slices. `ct.nii.gz` takes the name of its folder."""
    if not data.is_dir():
        raise InputError(f"{data} is no folder", remedy="pass the folder that holds the scans")
    found: dict[str, Path] = {}
    for path in _scans(data):
        if not fixtures and any(part in FIXTURES for part in path.parts):
            continue
        name = scan_name(path).removesuffix(scan_ending(path)) if path.is_file() else path.name
        name = path.parent.name if name == "ct" else name
        if name in found:
            raise InputError(f"{path} and {found[name]} are both called {name}", remedy="rename one of them")
        found[name] = path
    return [Case(name, path) for name, path in sorted(found.items(), key=lambda item: str(item[1]))]


def _scans(data: Path) -> Iterator[Path]:
    for folder in sorted([data, *(path for path in data.rglob("*") if path.is_dir())]):
        if len(list(folder.glob("*.dcm"))) >= FEWEST_SLICES:
            yield folder
        for path in sorted(folder.iterdir()):
            ending = scan_ending(path)
            volume = path.is_file() and ending not in ("", ".dcm", ".zip", ".npz")
            if volume and not path.name.removesuffix(ending).endswith(NO_SCAN):
                yield path


def body_of(upright: Volume) -> Mask:
    """Where the patient is, holes filled, on the grid of a canonical scan; the rest is outside.

    Tissue without thin shells, its largest island on a grid of about 2 mm, filled in each axial slice.
    """
    factors = [max(1, round(BODY_GRID_MM / mm)) for mm in upright.spacing_mm]
    factors = [min(factor, size) for factor, size in zip(factors, upright.shape, strict=True)]
    hu = _block_means(upright.array, factors)
    mm = [factor * spacing for factor, spacing in zip(factors, upright.spacing_mm, strict=True)]
    tissue = hu > BODY_HU
    core = _largest(ndimage.binary_erosion(tissue, _ball(SHELL_MM, mm), border_value=1))
    body = ndimage.binary_dilation(core, _ball(SHELL_MM, mm)) & tissue
    outside = _outside(body, hu, mm)
    for axis, (factor, size) in enumerate(zip(factors, upright.shape, strict=True)):
        outside = outside.take(np.minimum(np.arange(size) // factor, outside.shape[axis] - 1), axis)
    return ~outside


def _block_means(array: Array, factors: list[int]) -> NDArray[np.float32]:
    """Means of whole blocks; what remains at the far faces is left out."""
    means = np.clip(array, -1024, 1000).astype(np.float32)
    for axis, factor in enumerate(factors):
        blocks = np.moveaxis(means, axis, 0)
        blocks = blocks[: len(blocks) // factor * factor]
        means = np.moveaxis(blocks.reshape(-1, factor, *blocks.shape[1:]).mean(1), 0, axis)
    return means


def _ball(radius_mm: float, spacing_mm: list[float]) -> Mask:
    """A structuring element; an axis of spacing infinity is left alone."""
    reach = [int(radius_mm / mm) for mm in spacing_mm]
    places = np.ogrid[tuple(slice(-n, n + 1) for n in reach)]
    square = sum((place * mm) ** 2 for place, mm in zip(places, np.nan_to_num(spacing_mm, posinf=0), strict=True))
    return np.asarray(square <= radius_mm**2)


def _largest(mask: Mask) -> Mask:
    labels, count = ndimage.label(mask)
    return labels == 1 + np.argmax(np.bincount(labels.ravel(), minlength=2)[1:]) if count else mask


def _outside(body: Mask, hu: NDArray[np.float32], mm: list[float]) -> Mask:
    """What is not body and not enclosed by it, slice by slice (Z, Y, X).

    That is what a corner of the slice opens to. An island that opens to no corner is lung, or a gap between breasts
    or arms: it is outside when most of it lies over the outside of a neighbouring slice, and it reads as room air.
    """
    disc = _ball(SLIT_MM, [np.inf, *mm[1:]])
    outside = ndimage.binary_erosion(~body, disc, border_value=1)
    for plane in outside:
        labels, _ = ndimage.label(plane)
        corners = labels[[0, 0, -1, -1], [0, -1, 0, -1]]
        plane[:] = np.isin(labels, corners[corners > 0])
    outside = ndimage.binary_dilation(outside, disc) & ~body
    if not outside.any():
        return outside
    air_hu = float(np.median(hu[outside])) + ROOM_AIR_HU
    order = [*range(len(body)), *range(len(body) - 1, -1, -1)]
    for z, last in zip(order[1:], order[:-1], strict=True):
        labels, count = ndimage.label(~body[z] & ~outside[z])
        if count:
            islands = np.arange(1, count + 1)
            over = ndimage.mean(outside[last], labels, islands) > 0.5
            reads = ndimage.median(hu[z], labels, islands) < air_hu
            outside[z] |= np.isin(labels, islands[over & reads])
    return outside


def fat_in(ct: Volume, consolidation: Mask) -> NDArray[np.uint8]:
    """Where consolidation has, over about 7 mm, the mean density of fat.

    page.BODY_FAT: as homogeneous as body fat; page.FAT: less homogeneous; page.BORDER: lung and denser tissue meet, and
    only their mean is that of fat.
    """
    sizes = [max(1, 2 * round((FAT_MM / mm - 1) / 2) + 1) for mm in ct.spacing_mm]
    hu = np.clip(ct.array, -1024, 1000).astype(np.float32)
    mean = ndimage.uniform_filter(hu, sizes)
    variance = ndimage.uniform_filter(hu**2, sizes) - mean**2
    fat = np.where(variance < FAT_SD_HU**2, page.FAT, page.BORDER)
    fat[variance < BODY_FAT_SD_HU**2] = page.BODY_FAT
    return np.where(consolidation & (mean > FAT_HU[0]) & (mean < FAT_HU[1]), fat, 0).astype(np.uint8)


def dice(found: Mask, reference: Mask) -> float:
    """Overlap of two masks."""
    return float(2 * (found & reference).sum() / max(found.sum() + reference.sum(), 1))


def against(lungs: Volume, reference: Path, prefix: str) -> dict[str, float | None]:
    """Dice with a reference (1 right, 2 left, 3 airways, or just 1) on one grid; of each side where it has both."""
    truth = read_mask(reference)
    if not truth.same_grid(lungs):
        raise InputError(f"{reference} has another grid than its scan", remedy="make it on the scan's own grid")
    real = np.where(truth.array == 3, 0, truth.array)
    figures: dict[str, float | None] = {f"{prefix}_dice": dice(lungs.array > 0, real > 0)}
    if (real == 2).any():
        for side, name in ((1, "right"), (2, "left")):
            figures[f"{prefix}_{name}_dice"] = dice(lungs.array == side, real == side)
            figures[f"{prefix}_{name}_ml"] = float((real == side).sum() * lungs.voxel_ml)
    return figures


def measure(result: Segmentation, faults: Array, seconds: float) -> dict[str, float | None]:
    """The figures of a scan. faults: as in `page.Views`."""
    statistics, ml = result.statistics, result.ct.voxel_ml
    lung = result.run.get("lung_quality") or {}
    shares = {label.name: statistics[label.name]["fraction_of_lung"] for label in TISSUES}
    shares["lesions"] = statistics["lesions"]["fraction_of_lung"]
    return {
        "right_ml": float((result.lungs.array == 1).sum() * ml),
        "left_ml": float((result.lungs.array == 2).sum() * ml),
        **{name: None if share is None else 100 * share for name, share in shares.items()},
        "consolidation_ml": statistics["consolidation"]["volume_ml"],
        "outside_ml": float((faults == page.OUTSIDE).sum() * ml),
        "fat_ml": float(np.isin(faults, (page.BODY_FAT, page.FAT, page.BORDER)).sum() * ml),
        "even_fat_ml": float(np.isin(faults, (page.BODY_FAT, page.FAT)).sum() * ml),
        "body_fat_ml": float((faults == page.BODY_FAT).sum() * ml),
        "lung_quality": lung.get("score"),
        "lung_seconds": result.run["seconds"]["lungs"],
        "seconds": seconds,
    }


def label(case: Case, out: Path, segmenter: Segmenter) -> dict[str, Any]:
    """Label a scan, keep its lungs, label map and pictures in `out`, and return its record."""
    record: dict[str, Any] = {"figures": {}, "warnings": [], "error": None, "grid": None}
    out.mkdir(parents=True, exist_ok=True)
    body = None
    try:
        scan = read_scan(case.path)
        turn = Reorientation.of(scan.volume)
        upright = turn.apply(scan.volume)
        shape, spacing = upright.shape, upright.spacing_mm
        record["grid"] = f"{' x '.join(map(str, shape[::-1]))}, {' x '.join(f'{mm:.3g}' for mm in spacing[::-1])} mm"
        body = body_of(upright)
        begin = time.perf_counter()
        result = segmenter(scan.volume, name=case.name, notes=scan.notes)
        seconds = time.perf_counter() - begin
    except Exception as error:  # an error in one scan is reported and does not stop the others
        sentence = error.problem if isinstance(error, DiffSegLungError) else f"{type(error).__name__}: {error}"
        for name in ("lungs.nii.gz", "label_map.nii.gz"):
            (out / name).unlink(missing_ok=True)
        if body is not None:
            none = np.zeros(upright.shape, np.uint8)
            page.draw(page.Views(upright, none, none, none, body), out)
        return record | {"error": sentence}
    lungs, labels = (turn.apply(volume).array for volume in (result.lungs, result.label_map))
    faults = np.where((lungs > 0) & ~body, page.OUTSIDE, fat_in(upright, labels == CONSOLIDATION.id))
    write_nifti(out / "lungs.nii.gz", result.lungs)
    write_nifti(out / "label_map.nii.gz", result.label_map)
    page.draw(page.Views(upright, lungs, labels, faults, body), out)
    return record | {"figures": measure(result, faults, seconds), "warnings": result.run["warnings"]}


def code_hash() -> str:
    """Hash of all code that labels, finds lungs or measures."""
    package = Path(diffseglung.__file__).parent
    files = [p for p in package.rglob("*") if p.suffix in (".py", ".safetensors")]
    files = [p for p in files if p.relative_to(package).parts[0] not in NOT_THE_LABELS]
    scripts = [Path(__file__), Path(page.__file__)]
    return hashlib.sha256(b"".join(p.read_bytes() for p in [*sorted(files), *scripts])).hexdigest()[:12]


def with_references(record: dict[str, Any], case: Case, out: Path, references: Path | None) -> dict[str, Any]:
    """The record with Dice against the masks of an expert or of `references`, if any."""
    figures = dict(record["figures"])
    drawn = {"expert": case.expert, "reference": references / f"{case.name}.nii.gz" if references else None}
    for prefix, path in drawn.items():
        if path is not None and path.is_file() and (out / "lungs.nii.gz").is_file():
            figures |= against(read_nifti(out / "lungs.nii.gz"), path, prefix)
    return record | {"figures": figures}


def run(cases: list[Case], out: Path, *, only: list[str] | None, references: Path | None) -> list[dict[str, Any]]:
    """The records of all cases, in order; those already labelled by the same code are not labelled again.

    only: names to label; others are shown from an earlier run, if they have one.
    """
    segmenter, code, records = Segmenter.load(device="cpu"), code_hash(), []
    for case in cases:
        folder = out / case.name
        kept = folder / "scan.json"
        record = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else None
        done = record is not None and record["code"] == code and record["error"] is None
        if not done and (only is None or case.name in only):
            print(f"{case.name} ...", flush=True)
            kept.unlink(missing_ok=True)
            record = {"name": case.name, "split": case.split, "code": code} | label(case, folder, segmenter)
            kept.write_text(json.dumps(record, indent=1), encoding="utf-8")
        if record is not None:
            record = with_references(record, case, folder, references)
            records.append(record | {"stale": record["code"] != code})
    return records


def main() -> int:
    """Label, measure, write the page, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with scans, searched to the bottom")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the page")
    parser.add_argument("--before", type=Path, metavar="OTHER", help="output folder of an earlier run, shown beside")
    parser.add_argument("--references", type=Path, metavar="MASKS", help="NAME.nii.gz: 1 right, 2 left, 3 airways")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="label these scans only")
    parser.add_argument("--fixtures", action="store_true", help="tiny and partial scans too")
    args = parser.parse_args()
    try:
        cases = find_cases(args.data, fixtures=args.fixtures)
        if unknown := sorted(set(args.only or ()) - {case.name for case in cases}):
            parser.error(f"no scan is called {', '.join(unknown)}; there are {', '.join(c.name for c in cases)}")
        if not cases:
            parser.error(f"no scan lies below {args.data}")
        before = page.earlier(args.before, args.output) if args.before else {}
        for case in cases:
            if case.name in before:
                before[case.name] = with_references(before[case.name], case, args.before / case.name, args.references)
        records = run(cases, args.output, only=args.only, references=args.references)
    except DiffSegLungError as error:
        print(f"error: {error.problem}\n  try: {error.remedy}")
        return 2
    (args.output / "scans.json").write_text(json.dumps(records, indent=1), encoding="utf-8")
    (args.output / "index.html").write_text(page.html_of(records, before), encoding="utf-8")
    print(page.text_table(records, before))
    print(args.output / "index.html")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
