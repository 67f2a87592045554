"""A case as a folder: ct.nii.gz, lungs.nii.gz, truth.nii.gz and meta.json."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from diffseglung import labels
from diffseglung.io.nifti import write_nifti
from diffseglung.phantom.record import Phantom
from diffseglung.platform import atomic_files


def write_case_folder(phantom: Phantom, folder: Path) -> None:
    """Write the case, atomically; an existing folder is replaced.

    ct: int16 HU. lungs: 1 right, 2 left. truth: label ids. The same case gives the same bytes.
    """
    with atomic_files.workshop(folder) as part:
        write_nifti(part / "ct.nii.gz", phantom.ct.with_array(phantom.ct.array.astype(np.int16)))
        write_nifti(part / "lungs.nii.gz", phantom.lungs, names={1: "right lung", 2: "left lung"})
        write_nifti(part / "truth.nii.gz", phantom.truth, names={x.id: x.name for x in labels.ALL[:-1]})
        (part / "meta.json").write_text(json.dumps(phantom.meta, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        atomic_files.settle(part)
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
