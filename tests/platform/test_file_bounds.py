"""What a header states is held against the size of its file."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffseglung.platform.errors import InputError
from diffseglung.platform.file_bounds import MOST_PACKED, npy_header, require_holds


@given(size=st.integers(1, 2**22))
def test_no_deflated_file_is_refused_for_what_it_holds(size: int) -> None:
    """Zeros pack best: at most 1032 to 1."""
    require_holds(Path("a"), size, len(gzip.compress(bytes(size), 9)))


@pytest.mark.parametrize(("stated", "packed"), [(101, False), (100 * MOST_PACKED + 1, True)])
def test_more_than_a_file_can_hold_is_refused(stated: int, packed: bool) -> None:
    require_holds(Path("a"), stated - 1, 100, packed=packed)
    with pytest.raises(InputError, match="more than it can hold"):
        require_holds(Path("a"), stated, 100, packed=packed)


@pytest.mark.parametrize("array", [np.zeros((2, 3), np.float32), np.array("text"), np.array(b"bytes"), np.zeros(0)])
def test_headers_are_read_as_numpy_writes_them(array: np.ndarray) -> None:
    file = io.BytesIO()
    np.save(file, array)
    file.seek(0)
    assert npy_header(file) == (array.shape, False, array.dtype)
    assert len(file.read()) == array.nbytes


@pytest.mark.parametrize("array", [np.array([object()]), np.zeros(2, "V3"), np.zeros(2, "M8[s]"), np.zeros((1,) * 9)])
def test_what_is_no_plain_array_is_refused(array: np.ndarray) -> None:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    file.seek(0)
    with pytest.raises(ValueError, match=r"pickled|an array of"):
        npy_header(file)
