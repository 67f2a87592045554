"""Data stay data inside a page, and a script is named by its content."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from diffseglung.output.selfcontained import embedded, source_of


@pytest.mark.parametrize("text", ["</script><script>", "<!--", "a & b", "\u2028 \u202e", '"', "\udcff"])
def test_data_come_back_and_hold_nothing_that_html_reads(text: str) -> None:
    page = embedded({"name": text, "unknown": None})
    assert json.loads(page) == {"name": text, "unknown": None}
    assert page.isascii()
    assert not set(page) & set("<>&")


def test_what_is_not_a_number_is_no_json() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        embedded([float("nan")])


def test_a_source_is_the_hash_of_its_text() -> None:
    known = base64.b64encode(hashlib.sha256(b"alert(1)").digest()).decode()
    assert source_of("alert(1)") == f"'sha256-{known}'"
