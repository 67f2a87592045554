"""Whatever happens to the bytes of a file, it is read or refused by name; nothing else is ever raised."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from diffseglung.io import read_mask, read_volume
from diffseglung.io.nifti import write_nifti
from diffseglung.io.npz import Case, write_case
from diffseglung.platform.errors import InputError
from diffseglung.volume import Volume
from tests.io.dicom.test_headers import enhanced

FORMATS = ("a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.npz", "a.zip", "series", "enhanced.dcm")


def _write(folder: Path, volume: Volume, write_series: Any) -> None:
    short = volume.with_array(volume.array.astype(np.int16))
    for name in FORMATS[:2]:
        write_nifti(folder / name, short)
    for name in FORMATS[2:4]:
        sitk.WriteImage(sitk.GetImageFromArray(short.array), str(folder / name))
    write_case(folder / "a.npz", Case("a", volume, volume.with_array((volume.array < -700).astype(np.uint8))))
    write_series(folder / "series", volume)
    enhanced(folder / "enhanced.dcm")
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in (folder / "series").iterdir():
            archive.write(path, path.name)


def _corrupt(path: Path, rng: np.random.Generator) -> None:
    content = np.frombuffer(path.read_bytes(), np.uint8).copy()
    reach = min(len(content), int(rng.choice([60, 400, 1500, len(content)])))
    where = rng.integers(0, reach, int(rng.choice([1, 4, 20])))
    content[where] = rng.integers(0, 256, len(where))
    end = int(rng.integers(1, len(content))) if rng.random() < 0.15 else len(content)
    path.write_bytes(content[:end].tobytes())


@pytest.mark.parametrize("name", FORMATS)
def test_corrupted_bytes_are_read_or_refused(tmp_path: Path, upright: Volume, write_series: Any, name: str) -> None:
    rng = np.random.default_rng(sum(map(ord, name)))
    good = tmp_path / "good"
    good.mkdir()
    _write(good, upright, write_series)
    errors = []
    for trial in range(25):
        target = tmp_path / str(trial) / name
        target.parent.mkdir()
        if name == "series":
            shutil.copytree(good / name, target)
            _corrupt(sorted(target.iterdir())[trial % 12], rng)
        else:
            shutil.copy(good / name, target)
            _corrupt(target, rng)
        for read in (read_volume, read_mask):
            try:
                read(target)
            except InputError as error:
                errors.append(error)
    assert errors
    assert all("\n" not in str(error) and error.remedy for error in errors)
