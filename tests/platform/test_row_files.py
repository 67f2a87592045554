"""Rows of arrays on disk: what NumPy reads, room reserved beforehand, and faults told as errors, never by a signal."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffseglung.platform.errors import InputError
from diffseglung.platform.row_files import StoredRows


@pytest.fixture
def stored(tmp_path: Path) -> tuple[StoredRows, np.ndarray]:
    array = np.random.default_rng(0).normal(size=(7, 2, 3)).astype(np.float16)
    np.save(tmp_path / "a.npy", array)
    return StoredRows.open(tmp_path / "a.npy"), array


@pytest.mark.parametrize(
    "which",
    [0, 6, -1, np.int64(3), slice(None), slice(2, 5), slice(5, 2), slice(None, None, 3), [4, 0, 4], np.arange(2)],
)
def test_rows_are_those_of_numpy(stored: tuple[StoredRows, np.ndarray], which: object) -> None:
    rows, array = stored
    assert (rows.shape, rows.dtype, rows.ndim, len(rows)) == (array.shape, array.dtype, 3, 7)
    np.testing.assert_array_equal(rows[which], array[which])  # type: ignore[index]
    np.testing.assert_array_equal(np.asarray(rows, np.float64), array.astype(np.float64))


def test_what_was_written_is_read_by_numpy_and_the_rest_is_zero(tmp_path: Path) -> None:
    rows = StoredRows.create(tmp_path / "a.npy", (5, 3), np.float32)
    rows.write(2, np.ones((2, 3)))
    found = np.load(tmp_path / "a.npy", allow_pickle=False)
    np.testing.assert_array_equal(found, [[0] * 3, [0] * 3, [1] * 3, [1] * 3, [0] * 3])
    np.testing.assert_array_equal(StoredRows.open(tmp_path / "a.npy")[:], found)
    with pytest.raises(ValueError, match="does not fit"):
        rows.write(4, np.ones((2, 3)))


@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=4), kind=st.sampled_from(["u1", "f2", "<f4", ">i8"]))
def test_any_array_comes_back(tmp_path_factory: pytest.TempPathFactory, shape: list[int], kind: str) -> None:
    path = tmp_path_factory.mktemp("rows") / "a.npy"
    array = np.arange(np.prod(shape)).reshape(shape).astype(kind)
    StoredRows.create(path, tuple(shape), kind).write(0, array)
    np.testing.assert_array_equal(np.load(path, allow_pickle=False), array)
    np.testing.assert_array_equal(StoredRows.open(path), array)


@pytest.mark.parametrize("index", [7, -8])
def test_rows_that_are_not_there(stored: tuple[StoredRows, np.ndarray], index: int) -> None:
    with pytest.raises(IndexError):
        stored[0][index]


def test_a_file_that_shrinks_or_goes_while_it_is_used_is_an_error_and_no_signal(
    stored: tuple[StoredRows, np.ndarray],
) -> None:
    rows, _ = stored
    os.truncate(rows.path, rows.path.stat().st_size - 3)
    rows[5]
    with pytest.raises(InputError, match="shorter"):
        rows[6]
    with pytest.raises(InputError, match=r"a\.npy"):
        StoredRows.open(rows.path)
    rows.path.unlink()
    with pytest.raises(FileNotFoundError):
        rows[0]


@pytest.mark.parametrize(
    "array",
    [np.array([object()]), np.float64(3.0), np.asfortranarray(np.ones((2, 3)))],
    ids=["object", "0d", "fortran"],
)
def test_what_is_no_rows_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(InputError):
        StoredRows.open(tmp_path / "a.npy")


def test_room_is_reserved_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk the error comes when the file is made, not by a signal when it is filled."""

    def full(number: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, f"no room for {size} bytes after {offset}")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="no room for 800 bytes"):
        StoredRows.create(tmp_path / "a.npy", (100,), np.float64)
