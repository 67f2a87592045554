"""A case folder is whole or absent."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from diffseglung import io
from diffseglung.phantom.folder import write_case_folder
from diffseglung.phantom.record import Phantom


def test_what_is_written_is_read_back(tmp_path: Path, small: Phantom) -> None:
    write_case_folder(small, tmp_path / "case")
    for name, volume in (("ct", small.ct), ("lungs", small.lungs), ("truth", small.truth)):
        back = io.read_volume(tmp_path / "case" / "ct.nii.gz") if name == "ct" else None
        back = back or io.read_mask(tmp_path / "case" / f"{name}.nii.gz")
        assert back.same_grid(volume)
        np.testing.assert_array_equal(back.array, volume.array)
    assert json.loads((tmp_path / "case" / "meta.json").read_text(encoding="utf-8")) == json.loads(
        json.dumps(small.meta)
    )


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, small: Phantom) -> None:
    write_case_folder(small, tmp_path / "case")
    before = {p.name: p.read_bytes() for p in (tmp_path / "case").iterdir()}
    with pytest.raises(TypeError):
        write_case_folder(dataclasses.replace(small, meta={"not": object()}), tmp_path / "case")
    assert {p.name: p.read_bytes() for p in (tmp_path / "case").iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["case"]
