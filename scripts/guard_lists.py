"""Do the quality checks separate degraded scans from good ones? Writes the warnings of every scan of both lists.

    python -m scripts.guard_lists DATA -o OUT

DATA holds LCTSC-203 (lctsc_Test-S1-203.nii.gz); the other real scans come with the repository. OUT/guard.md has the two
tables, OUT/scans the scans; existing ones are not made again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from diffseglung.case.prepared import prepare_scan
from diffseglung.io import read_scan
from diffseglung.io.nifti import read_nifti, write_nifti
from diffseglung.lungs.finder import find_lungs
from diffseglung.phantom.procedural import make_phantom
from diffseglung.phantom.scanner import Scanner
from diffseglung.platform.config import PhantomConfig
from diffseglung.platform.errors import DiffSegLungError
from diffseglung.quality.scan import merged, quality
from diffseglung.volume import Reorientation, Volume
from studies.cases import BACKGROUNDS, SHIPPED

SPACING_MM = 1.5
GOOD_PHANTOMS = (9201, 9202, 9203, 9207, 9208, 9210, 9211)
"""Of the test split; 9102 of the dev split besides."""


@dataclass(frozen=True)
class Item:
    """One scan of a list: its name and how it is made."""

    name: str
    make: Callable[[], Volume]


def phantom(seed: int, condition: str = "standard", split: str = "test") -> Volume:
    """A drawn chest with moderate disease."""
    return make_phantom(PhantomConfig(seed=seed, split=split, condition=condition, severity="moderate")).ct


def altered(ct: Volume, change: Callable[[np.ndarray], np.ndarray]) -> Volume:
    """A scan with other HU."""
    return ct.with_array(np.rint(change(np.asarray(ct.array, np.float32))).astype(np.int16))


def upright(ct: Volume) -> Volume:
    """Canonical axes (feet to head, front to back, right to left)."""
    return Reorientation.of(ct).apply(ct)


def noisy(ct: Volume, sd_hu: float) -> Volume:
    """Noise of a medium kernel added."""
    z_mm, y_mm, _ = ct.spacing_mm
    scanner = Scanner(in_plane_mm=y_mm, slice_mm=z_mm, thickness_mm=z_mm, sharpness=0.5, noise_hu=sd_hu)
    noise = scanner.noise(np.random.default_rng(0), (ct.shape[0], ct.shape[1], ct.shape[2]))
    return altered(ct, lambda hu: hu + noise)


def averaged(ct: Volume, slice_mm: float) -> Volume:
    """Slices averaged to `slice_mm`."""
    ct = upright(ct)
    count = max(round(slice_mm / ct.spacing_mm[0]), 2)
    kept = ct.array[: len(ct.array) // count * count].astype(np.float32)
    affine = ct.affine.copy()
    affine[:3, 3] += affine[:3, 0] * (count - 1) / 2
    affine[:3, 0] *= count
    return Volume(np.rint(kept.reshape(-1, count, *kept.shape[1:]).mean(1)).astype(np.int16), affine)


def upper(ct: Volume) -> Volume:
    """The upper half of the scan alone."""
    ct = upright(ct)
    half = ct.shape[0] // 2
    return ct.crop((half, 0, 0), ct.shape)


def smoothed(ct: Volume, sd_mm: float) -> Volume:
    """Gaussian blur."""
    return altered(ct, lambda hu: ndimage.gaussian_filter(hu, [sd_mm / s for s in ct.spacing_mm]))


def contrasted(ct: Volume, added_hu: float) -> Volume:
    """Soft tissue between the lungs brighter."""
    lungs = find_lungs(ct).array > 0
    low, high = (f(np.flatnonzero(lungs.any((1, 2)))) for f in (np.min, np.max))
    y, x = (np.flatnonzero(lungs.any(axes)) for axes in ((0, 2), (0, 1)))
    chest = np.zeros(lungs.shape, bool)
    chest[low:high, y.min() : y.max(), x.min() : x.max()] = True
    return altered(ct, lambda hu: np.where(chest & ~lungs & (hu > -50) & (hu < 150), hu + added_hu, hu))


def every_second(ct: Volume) -> Volume:
    """Every second slice lost, the spacing of the header kept."""
    ct = upright(ct)
    return Volume(np.ascontiguousarray(ct.array[::2]), ct.affine)


def half_empty(ct: Volume) -> Volume:
    """The upper half of the scan filled with air."""
    ct = upright(ct)
    hu = np.array(ct.array)
    hu[hu.shape[0] // 2 :] = hu.min()
    return ct.with_array(hu)


def lists(data: Path) -> dict[str, list[Item]]:
    """Good and degraded scans."""

    def real(name: str) -> Volume:
        file = BACKGROUNDS[name].ct
        found = [SHIPPED / file, *sorted(data.rglob(file))]
        path = next((p for p in found if p.is_file()), None)
        if path is None:
            raise SystemExit(f"error: {file} is neither in {SHIPPED} nor below {data}")
        return read_nifti(path)

    lidc, lctsc = (lambda: real("lidc_1011")), (lambda: real("lctsc_203"))
    good = [
        Item("LIDC-1011", lidc),
        Item("LCTSC-203", lctsc),
        Item("phantom dev 9102", lambda: phantom(9102, split="dev")),
    ]
    good += [Item(f"phantom {seed}", lambda seed=seed: phantom(seed)) for seed in GOOD_PHANTOMS]  # type: ignore[misc]
    degraded = [
        Item("LIDC-1011, noise of 60 HU added", lambda: noisy(lidc(), 60)),
        Item("LIDC-1011, slices averaged to 5 mm", lambda: averaged(lidc(), 5)),
        Item("LIDC-1011, 1024 added", lambda: altered(lidc(), lambda hu: hu + 1024)),
        Item("LCTSC-203, slices averaged to 9 mm", lambda: averaged(lctsc(), 9)),
        Item("LCTSC-203, +25 HU", lambda: altered(lctsc(), lambda hu: hu + 25)),
        Item("LCTSC-203, -25 HU", lambda: altered(lctsc(), lambda hu: hu - 25)),
        Item("LCTSC-203, upper half only", lambda: upper(lctsc())),
        Item("LCTSC-203, smoothed (Gaussian, 2 mm)", lambda: smoothed(lctsc(), 2)),
        Item("A0002, sharp reconstruction", lambda: real("lungdx_A0002_s3")),
        Item("phantom 9204, sharp kernel", lambda: phantom(9204, "sharp")),
        Item("phantom 9209, sharp kernel", lambda: phantom(9209, "sharp")),
        Item("phantom 9205, low dose", lambda: phantom(9205, "low_dose")),
        Item("phantom 9206, exhale", lambda: phantom(9206, "exhale")),
        Item("phantom 9202, +110 HU between the lungs", lambda: contrasted(phantom(9202), 110)),
        Item("phantom 9203, every second slice lost", lambda: every_second(phantom(9203))),
        Item("phantom 9207, upper half empty", lambda: half_empty(phantom(9207))),
    ]
    return {"good": good, "degraded": degraded}


def told(item: Item, folder: Path) -> list[str]:
    """The warnings of a scan, or the error of its reader; [] if there are none."""
    path = folder / f"{item.name.replace(' ', '_').replace(',', '')}.nii.gz"
    if not path.is_file():
        write_nifti(path, item.make())
    try:
        scan = read_scan(path)
        lungs = find_lungs(scan.volume)
        return merged(scan.notes, quality(scan.volume, lungs, prepare_scan(scan.volume, lungs, SPACING_MM).level))
    except DiffSegLungError as error:
        return [f"refused: {error}"]


def rows(items: list[Item], folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Each scan with what was told of it."""
    for item in items:
        sentences = told(item, folder)
        print(f"{item.name}: {'; '.join(sentences) or '-'}", flush=True)
        yield item.name, sentences


def main() -> None:
    """Make, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with the real scans that the repository does not hold")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    folder = args.output / "scans"
    folder.mkdir(parents=True, exist_ok=True)
    text = []
    for kind, items in lists(args.data).items():
        found = list(rows(items, folder))
        text += [f"{kind}: told {sum(bool(s) for _, s in found)} of {len(found)}", "", "| scan | told |", "|---|---|"]
        text += [f"| {name} | {'<br>'.join(sentences)} |" for name, sentences in found] + [""]
    (args.output / "guard.md").write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
