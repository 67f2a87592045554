"""Chest CTs with synthetic lesions and exact ground truth, independent of the code of `diffseglung.phantom`.

  python scripts/independent_phantom.py -o CASES --seeds 1 2 3
  python scripts/independent_phantom.py -o CASES --seeds 1 --background ct.nii.gz lungs.nii.gz
  diffseglung benchmark -o OUT --cases CASES

For development only: methods are chosen on these cases, so never train on them. The chest is analytic
(`independent_chest.py`) or a given near-normal scan; lesions follow the Fleischner Society's glossary
(`independent_lesions.py`). A scanner with slices of 0.7 to 5 mm is then simulated. Each case is a folder with
ct.nii.gz, lungs.nii.gz, truth.nii.gz (0 outside, 1 healthy, 2 emphysema, 3 GGO, 4 fibrosis, 5 consolidation) and
meta.json. The same seed always gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from independent_chest import Scene, drawn_chest, real_chest
from independent_lesions import FAMILIES, Family
from independent_regions import Lobules, find_lobules, grow_region
from independent_shapes import Array, Patch, separable
from numpy.typing import NDArray
from scipy import fft, ndimage, sparse

from diffseglung import io
from diffseglung.io.nifti import write_nifti
from diffseglung.platform import atomic_files
from diffseglung.platform.errors import InputError
from diffseglung.volume import Reorientation, Volume

Labels = NDArray[np.uint8]
SEVERITIES = {"subtle": (0.010, 0.022), "moderate": (0.03, 0.055), "extensive": (0.06, 0.10)}
"""Approximate fraction of the lung per class."""
MARGIN_MM = 9.0


@dataclass(frozen=True)
class Case:
    """CT in HU, lung mask, ground truth, and the record of how they were made."""

    ct: Volume
    lungs: Volume
    truth: Volume
    meta: dict[str, Any]


@dataclass(frozen=True)
class Scanner:
    """Slice thickness, slice spacing and pixel in mm; sigma and edge of the kernel; noise in HU; calibration error."""

    thickness: float
    pitch: float
    pixel: float
    sigma: float
    edge: float
    noise: float
    offset: float
    gain: float

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Scanner:
        """Random parameters; sharp kernels are noisier, thick slices less noisy."""
        thickness = float(rng.choice([0.7, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 5.0]))
        sharp = rng.random()
        noise = np.clip(rng.uniform(10, 24) * (1 + 1.3 * sharp) / (1 + 0.15 * (thickness - 1)), 10, 50)
        return cls(
            thickness=thickness,
            pitch=thickness if thickness < 2 or rng.random() < 0.6 else 0.7 * thickness,
            pixel=float(rng.uniform(0.6, 0.9)),
            sigma=float(0.85 - 0.35 * sharp),
            edge=float(max(sharp - 0.35, 0) * 1.1),
            noise=float(noise),
            offset=float(rng.normal(0, 4)),
            gain=float(1 + rng.normal(0, 0.005)),
        )

    def across(self, n: int, at: NDArray[np.float64], step: float) -> sparse.csr_matrix:
        """Weights of fine voxels in pixels centred `at` (fine indices): a Gaussian minus a wider one."""

        def kernel(d: NDArray[np.float64]) -> NDArray[np.float64]:
            wide = np.exp(-0.5 * (d / 1.4) ** 2) / 1.4
            return (1 + self.edge) * np.exp(-0.5 * (d / self.sigma) ** 2) / self.sigma - self.edge * wide

        return _weights(n, at, step, kernel, 4.5)

    def through(self, n: int, at: NDArray[np.float64], step: float) -> sparse.csr_matrix:
        """Weights of fine slices in slices centred `at`: a box with smooth ends."""
        half = self.thickness / 2
        return _weights(n, at, step, lambda d: np.clip((half + step / 2 - np.abs(d)) / step, 0, 1), half + 2 * step)


def _weights(n: int, at: NDArray[np.float64], step: float, kernel: Any, reach: float) -> sparse.csr_matrix:
    """Rows of a kernel of the distance in mm, each normalised to sum 1; a row out of range is zero."""
    width = int(np.ceil(reach / step))
    columns = np.round(at).astype(int)[:, None] + np.arange(-width, width + 1)
    values = kernel((columns - at[:, None]) * step)
    values = values / np.maximum(values.sum(1, keepdims=True), 1e-6)
    rows = np.repeat(np.arange(len(at)), columns.shape[1])
    fit = ((columns >= 0) & (columns < n)).ravel()
    cells = (rows[fit], columns.ravel()[fit])
    return sparse.csr_matrix((values.ravel()[fit].astype(np.float32), cells), (len(at), n))


# --- drawing --------------------------------------------------------------------------------------------------------


def patch_of(scene: Scene, found: Lobules, region: list[int]) -> tuple[Patch, tuple[slice, ...], NDArray[np.bool_]]:
    """Voxels in and around a region, their box on the fine grid, and their mask in it."""
    mark = np.zeros(len(found.centres) + 1, bool)
    mark[region] = True
    ill = mark[found.cell]
    pad = int(np.ceil((MARGIN_MM + 3) / scene.coarse))
    parts = ndimage.find_objects(ill.astype(np.uint8))[0]
    rough = tuple(slice(max(s.start - pad, 0), min(s.stop + pad, n)) for s, n in zip(parts, ill.shape, strict=True))
    small = ill[rough]
    other = (found.cell[rough] >= 0) & ~small  # the pleura is not a border of a lesion
    out = ndimage.distance_transform_edt(~small, scene.coarse)
    inner = ndimage.distance_transform_edt(~other, scene.coarse) if other.any() else np.full(small.shape, 50.0)
    inside = np.full(ill.shape, -50, np.float32)
    inside[rough] = np.clip(np.where(small, inner - 0.5 * scene.coarse, 0.5 * scene.coarse - out), -50, 50)
    ratio = scene.coarse / scene.step
    box = tuple(
        slice(int(s.start * ratio), min(int(s.stop * ratio), n)) for s, n in zip(rough, scene.hu.shape, strict=True)
    )
    field = scene.up(inside, box)
    chosen = scene.lungs[box] & (field > -MARGIN_MM)
    first = np.array([s.start for s in box])
    xyz = ((np.argwhere(chosen) + first) * scene.step).astype(np.float32)
    side = int(np.bincount(found.side[region]).argmax())
    reach = np.linalg.norm(found.centres - np.clip(found.centres, xyz.min(0), xyz.max(0)), axis=1)
    patch = Patch(
        xyz=xyz,
        hu=scene.hu[box][chosen],
        level=scene.up(scene.level, box)[chosen],
        inside=field[chosen],
        depth=np.maximum(scene.up(scene.depth, box)[chosen], 0),
        lobules=found.centres[reach < 20],
        hilum=scene.hila[side],
        bronchi=scene.bronchi,
        step=scene.step,
    )
    return patch, box, chosen


def draw_lesion(
    scene: Scene, found: Lobules, family: Family, region: list[int], truth: tuple[Labels, Array],
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """Draw one lesion into the scene, and label voxels with a large enough local lesion fraction before blurring."""
    patch, box, chosen = patch_of(scene, found, region)
    hu, shares = family.draw(patch, rng)
    scene.hu[box][chosen] = hu
    lung = scene.lungs[box].astype(np.float32)
    for label, share in shares.items():
        whole = np.zeros(lung.shape, np.float32)
        whole[chosen] = share
        sigma = family.blur / scene.step
        local = ndimage.gaussian_filter(whole, sigma, truncate=2.5)
        local /= np.maximum(ndimage.gaussian_filter(lung, sigma, truncate=2.5), 0.05)
        score = np.minimum(local / family.least, 2) * (lung > 0)
        labels, best = truth[0][box], truth[1][box]
        best *= 1 - np.clip(local, 0, 1)  # the fraction lost by earlier lesions
        wins = (score >= 1) & (score >= best)
        labels[wins], best[wins] = label, score[wins]


def draw_lesions(
    scene: Scene, seed: int, severity: str, rng: np.random.Generator
) -> tuple[Labels, list[dict[str, Any]]]:
    """All lesions of a case: every class, one or two families of each; returns the fine truth and a record."""
    found = find_lobules(scene, rng)
    taken = np.zeros(len(found.centres), np.int8)
    truth = (scene.lungs.astype(np.uint8), np.zeros(scene.hu.shape, np.float32))
    record, plan = [], []
    for label in (2, 3, 4, 5):
        kinds = [f for f in FAMILIES if f.label == label]
        start = seed + label * (seed // len(kinds))
        number = 1 if severity == "subtle" or len(found.centres) < 300 else 2
        plan += [(kinds[(start + 2 * k) % len(kinds)], number) for k in range(number)]
    regions: list[tuple[Family, list[int]]] = []
    for k in rng.permutation(len(plan)):
        family, number = plan[k]
        share = rng.uniform(*SEVERITIES[severity]) / number * family.extent
        total = max(round(share * len(found.centres)), 3)
        foci = int(rng.integers(1, 4)) if total > 12 else 1
        for _ in range(foci):
            region = grow_region(found, family, taken, max(total // foci, 3), rng)
            if region:
                taken[region] = family.label
                regions.append((family, region))
    for family, region in sorted(regions, key=lambda r: r[0].label):
        draw_lesion(scene, found, family, region, truth, rng)
        record.append({"family": family.name, "class": family.label, "lobules": len(region)})
    return truth[0], record


# --- scanning -------------------------------------------------------------------------------------------------------


def noise(shape: tuple[int, int, int], scanner: Scanner, rng: np.random.Generator) -> Array:
    """Noise of standard deviation 1 with a power spectrum that follows the kernel (ramp times response); stronger in
    the middle of the body and, in streaks from side to side, at the shoulders."""
    z, y, x = shape
    fy, fx = np.abs(fft.fftfreq(y, scanner.pixel))[:, None], fft.rfftfreq(x, scanner.pixel)[None]
    f = np.hypot(fy, fx)
    cut = 0.55 / scanner.sigma * (0.32 + 0.25 * min(scanner.edge, 1))
    power = (np.sqrt(f + 0.01) * np.exp(-((f / cut) ** 2))).astype(np.float32)
    streak = power * np.exp(-((fx / 0.05) ** 2)).astype(np.float32)
    out = np.empty(shape, np.float32)
    r2 = (np.linspace(-1, 1, y)[:, None] ** 2 + np.linspace(-1, 1, x)[None] ** 2).astype(np.float32)
    for k in range(z):
        white = fft.rfft2(rng.standard_normal((y, x), np.float32))
        plane = fft.irfft2(white * power, (y, x))
        part = fft.irfft2(white * streak, (y, x))
        high = np.clip((k / z - 0.68) / 0.3, 0, 1)
        out[k] = (plane / plane.std() + 0.7 * high * part / part.std()) * (1.15 - 0.3 * r2)
    if scanner.thickness < 1.5:
        out = ndimage.gaussian_filter1d(out, 0.5, 0, truncate=2)
    return out / out.std()


def slabs(labels: Labels, at: list[NDArray[np.float64]], half: float) -> Labels:
    """Label of every voxel: nearest in the plane, majority of the fine labels through the slice (fine indices)."""
    rows, columns = (np.clip(np.round(a).astype(int), 0, n - 1) for a, n in zip(at[1:], labels.shape[1:], strict=True))
    out = np.zeros(tuple(len(a) for a in at), np.uint8)
    for k, middle in enumerate(at[0]):
        low = int(np.clip(np.ceil(middle - half), 0, len(labels) - 1))
        high = int(np.clip(np.floor(middle + half), low, len(labels) - 1))
        part = labels[low : high + 1][:, rows][:, :, columns]
        votes = np.stack([(part == label).sum(0, dtype=np.uint8) for label in range(6)])
        votes[0] = np.where(2 * votes[0] >= len(part), 255, 0)  # lung or outside is decided first
        out[k] = votes.argmax(0)
    return out


def _spec(seed: int, severity: str, condition: str, record: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    models = list(dict.fromkeys(str(r["family"]) for r in record))
    return {
        "kind": kind, "seed": seed, "severity": severity, "condition": condition, "novelty": "unseen", "models": models,
    }  # fmt: skip


def draw_case(seed: int, *, small: bool = False) -> Case:
    """An analytic chest with lesions, as scanned.  small: a child-sized chest on a coarse grid, for tests."""
    rng = np.random.default_rng([seed, 19])
    severity = ("moderate", "extensive", "subtle")[seed % 3]
    scene, build = drawn_chest(rng, *((1.3, 0.45) if small else (0.8, 1.0)))
    labels, record = draw_lesions(scene, seed, severity if not small else "extensive", rng)
    scanner = Scanner.drawn(rng)
    if small:
        scanner = replace(scanner, thickness=2.0, pitch=2.0, pixel=1.3)
    at = [
        np.arange(p / 2, n * scene.step - p / 2, p) / scene.step
        for n, p in zip(labels.shape, (scanner.pitch, scanner.pixel, scanner.pixel), strict=True)
    ]
    n, step = labels.shape, scene.step
    weights = (scanner.through(n[0], at[0], step), scanner.across(n[1], at[1], step), scanner.across(n[2], at[2], step))
    hu = separable(scene.hu, *weights)
    hu += scanner.noise * noise(hu.shape, scanner, rng)
    hu = np.clip((hu + 1000) * scanner.gain - 1000 + scanner.offset, -1024, 3071)
    truth = slabs(labels, at, max(scanner.thickness / step / 2, 0.5))
    affine = np.zeros((4, 4))
    affine[[2, 1, 0], [0, 1, 2]] = scanner.pitch, scanner.pixel, scanner.pixel
    affine[:, 3] = -n[2] * step / 2, -n[1] * step / 2, 0, 1
    condition = "standard"
    for name, so in {
        "exhale": build.breath > -790,
        "sharp": scanner.edge > 0.4,
        "low_dose": scanner.noise > 30,
        "thick": scanner.thickness >= 3,
    }.items():
        condition = name if so else condition
    ct = Volume(np.round(hu).astype(np.int16), affine)
    meta = {
        "spec": _spec(seed, severity, condition, record, "phantom"),
        "use": "development only: nothing may be trained on this case",
        "scanner": asdict(scanner),
        "chest": {k: float(v) for k, v in asdict(build).items()},
        "lesions": record,
    }
    return Case(ct, ct.with_array((truth > 0).astype(np.uint8)), ct.with_array(truth), meta)


def draw_into(ct: Volume, lungs: Volume, seed: int, *, step: float = 0.8) -> Case:
    """The same lesions in a given scan: their change, seen by a scanner like the scan's own, is added.

    Raises InputError if the mask is empty or on another grid.
    """
    if not lungs.same_grid(ct, tolerance_mm=0.05) or not lungs.array.any():
        raise InputError("the lungs are empty, or not on the grid of the CT", remedy="give the mask of this scan")
    way = Reorientation.of(ct)
    seen, mask = way.apply(ct), way.apply(lungs)
    rng = np.random.default_rng([seed, 91])
    severity = ("moderate", "extensive", "subtle")[seed % 3]
    scene, (first, ratio) = real_chest(seen, mask, step)
    before = scene.hu.copy()
    labels, record = draw_lesions(scene, seed, severity, rng)
    spacing = seen.spacing_mm
    scanner = Scanner(spacing[0], spacing[0], spacing[1], 0.6, 0.1, 0, 0, 1)
    at = [(np.arange(n) - f) / r for n, f, r in zip(seen.shape, first, ratio, strict=True)]
    n = labels.shape
    weights = (scanner.through(n[0], at[0], step), scanner.across(n[1], at[1], step), scanner.across(n[2], at[2], step))
    hu = seen.array + separable(scene.hu - before, *weights)
    truth = slabs(labels, at, max(spacing[0] / step / 2, 0.5))
    truth = np.where(mask.array > 0, np.maximum(truth, 1), 0).astype(np.uint8)
    drawn = ct.with_array(way.undo(np.clip(np.round(hu), -1024, 3071).astype(np.int16)))
    condition = "thick" if spacing[0] >= 3 else "standard"
    meta = {
        "spec": _spec(seed, severity, condition, record, "drawn"),
        "use": "development only: nothing may be trained on this case",
        "lesions": record,
    }
    return Case(drawn, lungs, lungs.with_array(way.undo(truth)), meta)


def write_case(folder: Path, case: Case) -> None:
    """A case folder that `diffseglung benchmark --cases` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    write_nifti(folder / "ct.nii.gz", case.ct)
    write_nifti(folder / "lungs.nii.gz", case.lungs)
    atomic_files.write_text(folder / "meta.json", json.dumps(case.meta, indent=1) + "\n")
    write_nifti(folder / "truth.nii.gz", case.truth)


def main(words: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the case folders")
    parser.add_argument("--seeds", type=int, nargs="+", required=True, help="one case each")
    parser.add_argument("--background", type=Path, nargs=2, metavar=("CT", "LUNGS"), help="draw into this scan instead")
    parser.add_argument("--small", action="store_true", help="small chests on a coarse grid, as a smoke test")
    args = parser.parse_args(words)
    try:
        scan = (io.read_volume(args.background[0]), io.read_mask(args.background[1])) if args.background else None
        for seed in args.seeds:
            case = draw_into(*scan, seed) if scan else draw_case(seed, small=args.small)
            name = f"{'drawn' if scan else 'phantom'}_{seed:04d}"
            write_case(args.output / name, case)
            print(args.output / name, flush=True)
    except InputError as error:
        parser.exit(2, f"{error}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
