"""Lung masks of `find_lungs` against reference masks: Dice, seconds and the volumes of both lungs, case by case.

python scripts/lung_mask_accuracy.py DATA      every X.nii.gz below DATA that has X_lung.nii.gz beside it
python scripts/lung_mask_accuracy.py CASES     folders of `diffseglung phantom`: share of each consolidation in it,
                                               without and with the lung network
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from diffseglung.io.nifti import read_nifti
from diffseglung.labels import CONSOLIDATION
from diffseglung.lungs.finder import find_lungs
from diffseglung.platform.config import LungMaskConfig
from diffseglung.platform.errors import DiffSegLungError
from diffseglung.volume import Array


def dice(found: Array, reference: Array) -> float:
    """Overlap of two boolean masks."""
    return float(2 * (found & reference).sum() / (found.sum() + reference.sum()))


def score(scan: Path, reference: Path) -> float:
    """One line of the table; returns the Dice."""
    ct, truth = read_nifti(scan), read_nifti(reference).array > 0
    begin, busy = time.perf_counter(), time.process_time()
    lungs = find_lungs(ct).array
    seconds, cpu = time.perf_counter() - begin, time.process_time() - busy
    right, left = ((lungs == side).sum() * ct.voxel_ml / 1000 for side in (1, 2))
    overlap, name = dice(lungs > 0, truth), scan.name.removesuffix(".nii.gz")
    print(f"{name:24} {overlap:7.4f} {seconds:9.1f} {cpu:7.1f} {right:9.2f} {left:8.2f}", flush=True)
    return overlap


def recall(folder: Path) -> tuple[float, float] | None:
    """One line of the table of simulated cases: share of consolidation in the mask, without and with the network."""
    truth = read_nifti(folder / "truth.nii.gz")
    solid = truth.array == CONSOLIDATION.id
    if not solid.any():
        return None
    ct = read_nifti(folder / "ct.nii.gz")
    without = float((find_lungs(ct, LungMaskConfig(learned=False)).array[solid] > 0).mean())
    kept = float((find_lungs(ct).array[solid] > 0).mean())
    print(f"{folder.name:40} {solid.sum() * ct.voxel_ml:6.0f} {without:8.2f} {kept:6.2f}", flush=True)
    return without, kept


def score_simulated(folders: list[Path]) -> int:
    """The table of simulated cases."""
    print(f"{'case':40} {'mL':>6} {'without':>8} {'with':>6}")
    shares = np.array([found for folder in folders if (found := recall(folder))])
    if not len(shares):
        print("error: no case has a consolidation")
        return 2
    without, kept = np.median(shares, axis=0)
    print(f"median {without:.2f} without, {kept:.2f} with, {len(shares)} cases")
    return 0


def main() -> int:
    """Score all pairs below the folder and print the median."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with scans and masks, or with simulated cases")
    folder = parser.parse_args().data
    if simulated := sorted(path.parent for path in folder.rglob("truth.nii.gz")):
        return score_simulated(simulated)
    pairs = [
        (path, twin)
        for path in sorted(folder.rglob("*.nii.gz"))
        if (twin := path.with_name(path.name.replace(".nii.gz", "_lung.nii.gz"))).is_file()
    ]
    if not pairs:
        print(f"error: no X.nii.gz with X_lung.nii.gz below {folder}")
        return 2
    print(f"{'case':24} {'Dice':>7} {'seconds':>9} {'CPU s':>7} {'right l':>9} {'left l':>8}")
    try:
        scores = [score(scan, reference) for scan, reference in pairs]
    except DiffSegLungError as error:
        print(f"error: {error.problem}\n  try: {error.remedy}")
        return 1
    print(f"median Dice {np.median(scores):.4f}, lowest {min(scores):.4f}, {len(scores)} cases")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
