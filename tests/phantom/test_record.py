"""Laws of the random parameters."""

from __future__ import annotations

import pytest

from diffseglung.phantom.record import SPLITS, Draw
from diffseglung.platform.errors import ConfigError


def test_splits_never_share_a_parameter_value() -> None:
    """Sorted values of all splits fall into bins that belong to one split each."""
    bins: dict[int, set[str]] = {}
    for split in SPLITS:
        draw = Draw(0, split)
        for _ in range(400):
            bins.setdefault(int(draw.uniform("x", 0, 10)), set()).add(split)
    assert all(len(owners) == 1 for owners in bins.values())
    assert len(bins) == 10


def test_every_split_reaches_over_most_of_a_range() -> None:
    for split in SPLITS:
        values = [Draw(seed, split).uniform("radius_mm", 0, 1) for seed in range(100)]
        assert max(values) - min(values) > 0.3


def test_streams_of_splits_and_seeds_differ() -> None:
    words = {(s, k): Draw(k, s).rng.integers(2**62) for s in SPLITS for k in range(3)}
    assert len(set(words.values())) == len(words)


def test_a_record_holds_what_was_drawn() -> None:
    draw = Draw(1)
    value = draw.uniform("a", 2, 3)
    inner: dict[str, object] = {}
    draw.inside(inner).count("b", 5, 5)
    assert draw.record == {"a": round(value, 5)}
    assert inner == {"b": 5}


def test_a_stream_aside_leaves_the_main_one_as_it_is() -> None:
    plain, other = Draw(3, "dev"), Draw(3, "dev")
    aside = other.aside(20)
    aside.uniform("b", 0, 1)
    assert "b" in other.record
    assert plain.uniform("a", 0, 1) == other.uniform("a", 0, 1)
    assert Draw(3, "dev").aside(20).uniform("b", 0, 1) == Draw(3, "dev").aside(20).uniform("b", 0, 1)


@pytest.mark.parametrize(("seed", "split"), [(0, "validation"), (-1, "train")])
def test_a_wrong_split_or_seed_is_refused(seed: int, split: str) -> None:
    with pytest.raises(ConfigError):
        Draw(seed, split)
