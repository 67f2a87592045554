"""Run a third-party tool on one scan: `python -m diffseglung.lungs.tool_process NAME FOLDER DEVICE FAST`.

FOLDER contains ct.npy, HU in float32 (Z, Y, X) with canonical orthogonal axes, and affine.npy, LPS as in `Volume`;
labels.npy and labels_affine.npy are added. The calls follow the README files at
https://github.com/wasserth/TotalSegmentator and https://github.com/JoHof/lungmask.
"""

from __future__ import annotations

import os
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseglung.io.mask_folder import LOBES
from diffseglung.io.nifti import lps_affine, ras_affine
from diffseglung.volume import Volume

Found = tuple[NDArray[Any], NDArray[np.float64]]
"""Labels (Z, Y, X) and their LPS affine."""


def totalsegmentator(ct: Volume, device: str, fast: bool) -> Found:
    """Lobes 10 to 14 of the task `total`, version 2.1 or newer."""
    import nibabel

    nib: Any = nibabel  # typed in part only
    call: Any = import_module("totalsegmentator.python_api").totalsegmentator
    image = nib.Nifti1Image(ct.array.T, ras_affine(ct.affine))
    answer = call(image, None, task="total", roi_subset=list(LOBES), fast=fast, quiet=True, device=device)
    return np.asarray(answer.dataobj).T, lps_affine(np.asarray(answer.affine, np.float64))


def lungmask(ct: Volume, device: str, fast: bool) -> Found:
    """1 right and 2 left lung, by model R231."""
    import SimpleITK

    sitk: Any = SimpleITK  # it carries no types
    image = sitk.GetImageFromArray(ct.array)
    spacing = ct.spacing_mm[::-1]
    image.SetSpacing(spacing)
    image.SetOrigin(ct.affine[:3, 3].tolist())
    image.SetDirection((ct.affine[:3, 2::-1] / spacing).ravel().tolist())
    if ":" in device:  # lungmask uses the current GPU
        from diffseglung.platform.runtime import make_current

        make_current(device)
    infer = import_module("lungmask").LMInferer(modelname="R231", force_cpu=device == "cpu", tqdm_disable=True)
    return np.asarray(infer.apply(image)), ct.affine


CALLS = {"totalsegmentator": totalsegmentator, "lungmask": lungmask}


def end_with_parent() -> None:
    """End this process when its parent is gone: its standard input, on which nothing is sent, is then closed."""

    def watch() -> None:
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(words: list[str]) -> None:
    """Run the tool; an error is the last line of output."""
    end_with_parent()
    name, place, device, fast = words
    folder = Path(place)
    ct = Volume(np.load(folder / "ct.npy", allow_pickle=False), np.load(folder / "affine.npy", allow_pickle=False))
    labels, affine = CALLS[name](ct, device, fast == "1")
    labels = labels if labels.dtype.kind in "bui" else np.rint(labels)
    np.save(folder / "labels_affine.npy", affine)
    np.save(folder / "labels.npy", np.ascontiguousarray(labels, np.int16))


if __name__ == "__main__":
    main(sys.argv[1:])
