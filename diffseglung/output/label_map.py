"""label_map.nii.gz and probabilities.nii.gz, on exactly the input's grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from diffseglung.io.nifti import write_nifti
from diffseglung.labels import ALL
from diffseglung.platform.out_of_core import slabs, zeros
from diffseglung.segmentation import Segmentation

nib: Any = nibabel  # typed in part only

NAMES = {label.id: label.name for label in ALL}
"""id -> name, as written into the file's header."""


def write_label_map(segmentation: Segmentation, path: Path) -> None:
    """uint8 ids of `diffseglung.labels`, their names in the header extension."""
    label_map = segmentation.label_map
    write_nifti(path, label_map.with_array(np.asarray(label_map.array, np.uint8)), names=NAMES)


def write_probabilities(segmentation: Segmentation, path: Path, *, label_map_path: Path) -> None:
    """The posterior, one class of `labels.TISSUES` per volume of the 4th axis, on the label map's grid.

    Stored as uint8 with the header's slope 1/255, which readers apply: steps of 0.004, a fifth of float32's size.
    """
    if segmentation.posterior is None:
        raise ValueError("this segmentation was made without its posterior: segment with probabilities=True")
    reference = nib.load(label_map_path)  # the one place that knows orientation is io.nifti: take its header
    levels = zeros(segmentation.posterior.shape, np.uint8)  # (Z, Y, X, 5)
    for planes in slabs(segmentation.posterior, levels):
        levels[planes] = np.rint(np.clip(segmentation.posterior[planes].astype(np.float32), 0, 1) * 255)
    header = reference.header.copy()
    header.extensions.clear()
    header.set_data_dtype(np.uint8)
    image = nib.Nifti1Image(levels.transpose(2, 1, 0, 3), reference.affine, header)
    image.header.set_slope_inter(1 / 255, 0)
    nib.save(image, path)
