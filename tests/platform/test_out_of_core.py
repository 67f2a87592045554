"""Where an array lives changes neither its values nor what may be done with it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from diffseglung.io.nifti import read_nifti, write_nifti
from diffseglung.phantom.procedural import make_phantom
from diffseglung.pipeline import Segmenter
from diffseglung.platform import out_of_core
from diffseglung.platform.config import PhantomConfig
from diffseglung.volume import Volume

SHAPE = (40, 32, 32)


@pytest.fixture
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a few kilobytes were a whole scan of a thousand slices."""
    monkeypatch.setattr(out_of_core, "LARGE_MIB", 0.01)
    monkeypatch.setattr(out_of_core, "SLAB_MIB", 0.01)


def resident_mib() -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def test_a_large_array_is_a_file_without_a_name_and_a_small_one_is_not(
    everything_is_large: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    large, small = out_of_core.zeros(SHAPE, np.float32), out_of_core.zeros((2, 2, 2), np.float32)
    assert isinstance(large, np.memmap)
    assert not isinstance(small, np.memmap)
    assert not large.any()
    assert not list(tmp_path.iterdir())  # nothing to clean up, whatever happens


def test_values_survive_their_release_from_memory(everything_is_large: None) -> None:
    array = out_of_core.zeros(SHAPE, np.int16)
    expected = np.arange(array.size, dtype=np.int16).reshape(SHAPE)
    for planes in out_of_core.slabs(array):
        array[planes] = expected[planes]
    out_of_core.release(array[::-1].transpose(2, 1, 0))  # a view leads to the same file
    np.testing.assert_array_equal(array, expected)


def test_slabs_cover_everything_once_in_multiples_of_the_step(everything_is_large: None) -> None:
    array = np.zeros(SHAPE, np.float32)
    found = list(out_of_core.slabs(array, step=3))
    assert [i for planes in found for i in range(planes.start, planes.stop)] == list(range(len(array)))
    assert all((planes.stop - planes.start) % 3 == 0 for planes in found[:-1])
    assert len(found) > 5


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to see its own memory")
def test_memory_stays_while_a_large_array_is_filled_and_read() -> None:
    before = resident_mib()
    array = out_of_core.zeros((300, 512, 512), np.float32)  # 300 MiB
    most = before
    for planes in out_of_core.slabs(array):
        array[planes] = 1
        most = max(most, resident_mib())
    total = 0.0
    for planes in out_of_core.slabs(array):
        total += float(array[planes].sum())
        most = max(most, resident_mib())
    assert total == array.size
    assert most - before < 100


def test_a_full_disk_gives_an_ordinary_array(everything_is_large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    array = out_of_core.zeros(SHAPE, np.float32)
    assert not isinstance(array, np.memmap)
    assert array.shape == SHAPE


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.uint8])
def test_files_are_the_same_in_slabs(
    ending: str, dtype: type, tmp_path: Path, oblique_affine: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(0).integers(0, 200, SHAPE).astype(dtype)
    volume = Volume(values, oblique_affine)
    write_nifti(tmp_path / f"whole.{ending}", volume)
    monkeypatch.setattr(out_of_core, "LARGE_MIB", 0.01)
    monkeypatch.setattr(out_of_core, "SLAB_MIB", 0.01)
    write_nifti(tmp_path / f"parts.{ending}", volume)
    assert (tmp_path / f"whole.{ending}").read_bytes() == (tmp_path / f"parts.{ending}").read_bytes()
    read = read_nifti(tmp_path / f"whole.{ending}")
    assert read.array.dtype == dtype
    np.testing.assert_array_equal(read.array, values)


def test_a_scan_in_slabs_gets_the_same_labels_and_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter, scan = Segmenter.load(), make_phantom(PhantomConfig(seed=3, size="small")).ct
    whole = segmenter(scan, probabilities=True)
    monkeypatch.setattr(out_of_core, "LARGE_MIB", 0.01)
    monkeypatch.setattr(out_of_core, "SLAB_MIB", 0.05)
    parts = segmenter(scan, probabilities=True)
    np.testing.assert_array_equal(parts.lungs.array, whole.lungs.array)
    np.testing.assert_array_equal(parts.label_map.array, whole.label_map.array)
    assert parts.statistics == whole.statistics
    assert parts.run["quality"] == whole.run["quality"]
    assert parts.posterior is not None
    assert isinstance(parts.posterior, np.memmap)
    np.testing.assert_array_equal(parts.posterior, whole.posterior)
