"""A folder of lung masks, one file per lobe or lung, as TotalSegmentator writes them: read as one label map.

TotalSegmentator 2 writes `lung_upper_lobe_left.nii.gz` and so on for the CT task `total` (labels 10..14 of its label
map), and `lung_left.nii.gz`, `lung_right.nii.gz` for `total_mr`. Other structures in the folder are ignored.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diffseglung.platform.errors import GeometryError, InputError
from diffseglung.platform.out_of_core import slabs, zeros
from diffseglung.volume import Volume

LOBES = {
    "lung_upper_lobe_left": 10,
    "lung_lower_lobe_left": 11,
    "lung_upper_lobe_right": 12,
    "lung_middle_lobe_right": 13,
    "lung_lower_lobe_right": 14,
}
SIDES = {"lung_right": 1, "lung_left": 2}
ENDINGS = (".nii.gz", ".nii")


def is_mask_folder(path: Path) -> bool:
    """Whether a folder holds at least one mask of a lobe or a lung."""
    return any(_file(path, name) for name in (*LOBES, *SIDES))


def read_mask_folder(folder: Path) -> Volume:
    """One uint8 label map: 10..14 for lobes, else 1 for the right and 2 for the left lung.

    Raises InputError if a mask is missing or not binary, GeometryError if grids differ.
    """
    labels = LOBES if any(_file(folder, name) for name in LOBES) else SIDES
    missing = [name for name in labels if _file(folder, name) is None]
    if missing:
        raise InputError(
            f"{folder} has no {', '.join(name + ENDINGS[0] for name in missing)} beside its other lung masks",
            remedy=f"segment again with --roi_subset {' '.join(labels)}",
        )
    files = {path: label for name, label in labels.items() if (path := _file(folder, name))}
    first = _read(next(iter(files)))
    whole = first.with_array(zeros(first.shape, np.uint8))
    for path, label in files.items():
        mask = _read(path)
        if not mask.same_grid(whole):
            raise GeometryError(
                f"{path} lies on another grid than the masks beside it", remedy="use masks of one run only"
            )
        for planes in slabs(whole.array, mask.array):
            whole.array[planes][mask.array[planes] == 1] = label
    return whole


def _file(folder: Path, name: str) -> Path | None:
    return next((folder / (name + end) for end in ENDINGS if (folder / (name + end)).is_file()), None)


def _read(path: Path) -> Volume:
    """A binary mask; it may be empty, as after a lobectomy."""
    from diffseglung.io import nifti

    volume = nifti.read(path).volume
    for planes in slabs(volume.array):
        part = volume.array[planes]
        if not bool(((part == 0) | (part == 1)).all()):
            raise InputError(
                f"{path} is not a mask of 0 and 1", remedy="pass TotalSegmentator's folder of masks unchanged"
            )
    return volume
