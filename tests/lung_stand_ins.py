"""Packages with the interface of TotalSegmentator and of lungmask, which find lungs by a threshold.

`install` writes them into a folder that Python then looks into, here and in every process that is started. How they
behave is told by the variable STAND_IN, so that it holds in those processes too.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

VERSIONS = {"TotalSegmentator": "2.18.0", "lungmask": "0.2.22"}

FINDER = '''
import json, os, signal, sys, time

import numpy as np
from scipy import ndimage

HOW = os.environ.get("STAND_IN", "well")


def sides(hu, x_mm):
    """1 right, 2 left: air that reaches no side of the slices.  x_mm: of each voxel, patient left is positive."""
    print("chatter of the tool")
    os.write(1, b"chatter of a library below it\\n")
    parts, count = ndimage.label(hu < -500)
    outer = np.unique([*parts[:, 0].flat, *parts[:, -1].flat, *parts[:, :, 0].flat, *parts[:, :, -1].flat])
    sizes = np.bincount(parts.ravel())
    kept = [i for i in range(1, count + 1) if i not in outer and sizes[i] > 0.01 * parts.size]
    inside = np.isin(parts, kept)
    found = np.where(inside, np.where(x_mm < x_mm[inside].mean(), 1, 2), 0)
    return {
        "empty": found * 0,
        "mirrored": np.where(found, 3 - found, 0),
        "one lung": np.where(found == 1, 1, 0),
        "shape": found[:, :, :-2],
        "fractions": found + 0.2,
    }.get(HOW, found)


def begin(**call):
    if "STAND_IN_LOG" in os.environ:
        with open(os.environ["STAND_IN_LOG"], "a") as log:
            log.write(json.dumps({**call, "pid": os.getpid()}) + "\\n")
    if HOW == "offline":
        from urllib.error import URLError
        raise URLError("no network")
    if HOW == "old":
        raise TypeError("unexpected keyword")
    if HOW == "ends":
        sys.exit("ERROR: the weights are damaged")
    if HOW == "ends with 0":
        sys.exit(0)
    if HOW == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if HOW == "hangs":
        time.sleep(600)


def refuse_metal(hu):
    if hu.max() > 2900:
        raise RuntimeError("cannot work on metal")
'''

TOTALSEGMENTATOR = """
import re
import nibabel as nib
import numpy as np
from stand_in_finder import HOW, begin, refuse_metal, sides


def totalsegmentator(input, output=None, ml=False, nr_thr_resamp=1, nr_thr_saving=6, fast=False, nora_tag="None",
                     preview=False, task="total", roi_subset=None, statistics=False, radiomics=False, crop_path=None,
                     body_seg=False, force_split=False, output_type="nifti", quiet=False, verbose=False, test=0,
                     skip_saving=False, device="gpu", license_number=None):
    assert isinstance(input, nib.Nifti1Image) and output is None and task == "total" and type(roi_subset) is list
    if not re.fullmatch(r"cpu|mps|gpu(:\\d+)?", device):
        raise ValueError(f"Invalid device type: {device}")
    begin(device=device, fast=fast, roi_subset=roi_subset, quiet=quiet)
    hu = np.asarray(input.dataobj)
    refuse_metal(hu)
    affine, grid = input.affine, np.indices(hu.shape).reshape(3, -1)
    x_mm = -(affine[0, :3] @ grid + affine[0, 3]).reshape(hu.shape)
    found = sides(hu.transpose(2, 1, 0), x_mm.transpose(2, 1, 0)).transpose(2, 1, 0)
    z = np.arange(found.shape[2])
    lobes = np.where(found == 1, np.where(z < 10, 14, 12), np.where(found == 2, np.where(z < 10, 11, 10), 0))
    answer = nib.Nifti1Image(lobes.astype(np.uint8), affine)
    return nib.as_closest_canonical(answer) if HOW == "other axes" else answer
"""

LUNGMASK = """
import numpy as np
import SimpleITK as sitk
from stand_in_finder import begin, refuse_metal, sides


class LMInferer:
    def __init__(self, modelname="R231", modelpath=None, fillmodel=None, fillmodel_path=None, force_cpu=False,
                 batch_size=20, volume_postprocessing=True, tqdm_disable=False):
        assert modelname == "R231"
        begin(force_cpu=force_cpu, tqdm_disable=tqdm_disable)

    def apply(self, image):
        hu = sitk.GetArrayFromImage(image)
        refuse_metal(hu)
        matrix = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
        z, y, x = np.indices(hu.shape)
        x_mm = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] * z + image.GetOrigin()[0]
        found = sides(hu, x_mm)
        return found if found.dtype.kind == "f" else found.astype(np.uint8)
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, *, how: str = "well", known: bool = True) -> Path:
    """Both stand-ins for this test.  how: they behave.  known: their versions are.  What they are asked: the result."""
    files = {
        "stand_in_finder.py": FINDER,
        "totalsegmentator/__init__.py": "",
        "totalsegmentator/python_api.py": TOTALSEGMENTATOR,
        "lungmask/__init__.py": LUNGMASK,
    }
    for name, version in VERSIONS.items() if known else ():
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        files[f"{name.lower()}-{version}.dist-info/METADATA"] = metadata
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    monkeypatch.setenv("STAND_IN", how)
    monkeypatch.setenv("STAND_IN_LOG", str(folder / "asked.jsonl"))
    return folder / "asked.jsonl"


def asked(log: Path) -> list[dict[str, object]]:
    """What the stand-ins were asked, one call after the other."""
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
