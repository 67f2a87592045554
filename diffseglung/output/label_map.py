"""label_map.nii.gz and probabilities.nii.gz, on exactly the input's grid, and label tables for two viewers.

label_map.ctbl is a colour table for 3D Slicer: lines of `number name red green blue alpha`, no blanks in names.
label_map.label.txt is a label description for ITK-SNAP: `IDX R G B A VIS MSH "LABEL"`, A from 0 to 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from diffseglung.io.nifti import write_nifti
from diffseglung.labels import ALL, BACKGROUND
from diffseglung.platform.out_of_core import slabs, zeros
from diffseglung.segmentation import Segmentation

nib: Any = nibabel  # typed in part only

SLICER, SNAP = "label_map.ctbl", "label_map.label.txt"
_SNAP_HEAD = """\
################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
# Fields:
#    IDX:   Zero-based index
#    -R-:   Red color component (0..255)
#    -G-:   Green color component (0..255)
#    -B-:   Blue color component (0..255)
#    -A-:   Label transparency (0.00 .. 1.00)
#    VIS:   Label visibility (0 or 1)
#    MSH:   Label mesh visibility (0 or 1)
#  LABEL:   Label description
################################################
"""


def write_label_map(segmentation: Segmentation, path: Path) -> None:
    """uint8 ids of `diffseglung.labels`, with their names in the header extension."""
    label_map = segmentation.label_map
    names = {label.id: label.name for label in ALL}
    write_nifti(path, label_map.with_array(np.asarray(label_map.array, np.uint8)), names=names)


def write_probabilities(posterior: NDArray[np.float16], path: Path, *, label_map_path: Path) -> None:
    """The posterior (Z, Y, X, 5) on the label map's grid: a class of `labels.TISSUES` for each volume of the 4th axis.

    Stored as uint8 with a header slope of 1/255, which readers apply: steps of 0.004, a fifth of float32's file size.
    """
    reference = nib.load(label_map_path)  # only io.nifti converts orientations: copy its header
    levels = zeros(posterior.shape, np.uint8)
    for planes in slabs(posterior, levels):
        levels[planes] = np.rint(np.clip(posterior[planes].astype(np.float32), 0, 1) * 255)
    header = reference.header.copy()
    header.extensions.clear()
    header.set_data_dtype(np.uint8)
    image = nib.Nifti1Image(levels.transpose(2, 1, 0, 3), reference.affine, header)
    image.header.set_slope_inter(1 / 255, 0)
    nib.save(image, path)


def slicer_table() -> str:
    """Every label of `diffseglung.labels`, the background transparent.

    >>> print(slicer_table().splitlines()[3])
    2 Emphysema 0 90 181 255
    """
    rows = ["# Color table file of DiffSegLung: number name red green blue alpha"]
    for label in ALL:
        alpha = 0 if label is BACKGROUND else 255
        rows.append(f"{label.id} {label.title.replace(' ', '_')} {' '.join(map(str, label.colour))} {alpha}")
    return "\n".join(rows) + "\n"


def snap_table() -> str:
    """The same for ITK-SNAP, whose label 0 is `Clear Label`."""
    rows = []
    for label in ALL:
        red, green, blue = label.colour
        visible, name = (0, "Clear Label") if label is BACKGROUND else (1, label.title)
        rows.append(f'{label.id:5d} {red:5d} {green:4d} {blue:4d}  {visible:7d}  {visible}  {visible}    "{name}"')
    return _SNAP_HEAD + "\n".join(rows) + "\n"
