"""JSON from anywhere: what it holds, or a ValueError."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffseglung.platform import serialization

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(value=VALUES)
def test_a_document_comes_back(value: object) -> None:
    assert serialization.parse(json.dumps(value)) == value


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a":' * 100_000, "nul", "9" * 5000])
def test_what_is_no_document_is_a_value_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"."):
        serialization.read(tmp_path / "a.json")


def test_other_alphabets_are_a_value_error_too(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'"\xff"')
    with pytest.raises(ValueError, match="utf-8"):
        serialization.read(tmp_path / "a.json")


@given(name=st.binary(min_size=1))
def test_any_name_of_a_file_is_readable_and_leads_back(name: bytes) -> None:
    text = serialization.readable(os.fsdecode(name))
    text.encode("utf-8")
    if b"\\udc" not in name:
        assert str(serialization.as_path(text)) == str(Path(os.fsdecode(name)))


def test_a_file_that_is_called_like_it_is_itself(tmp_path: Path) -> None:
    (tmp_path / "M\\udcfcller").touch()
    assert serialization.as_path(str(tmp_path / "M\\udcfcller")).exists()
