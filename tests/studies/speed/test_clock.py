"""A clock measures what it is told to, rivals in turn."""

from __future__ import annotations

import time

import pytest

from studies.speed.clock import Cost, Row, clock, race


def test_a_clock_calls_as_often_as_it_says_and_counts_every_second() -> None:
    calls = []
    cost = clock(lambda: (calls.append(1), time.sleep(0.02)), 3)
    assert len(calls) == 4  # one of them untimed
    assert len(cost.wall_s) == len(cost.cpu_s) == 3
    assert min(cost.wall_s) >= 0.02
    assert cost.spread[0] <= cost.seconds <= cost.spread[1]


def test_rivals_take_turns() -> None:
    order: list[str] = []
    race(lambda: order.append("ours"), lambda: order.append("peer"), 3, warm=False)
    assert order == ["ours", "peer"] * 3


def test_ratio_and_rate_are_those_of_the_pairs() -> None:
    row = Row(
        part="p", what="w", cost=Cost((1.0, 2.0, 4.0), (1.0, 2.0, 4.0)), amount=10.0, unit="rows",
        peer="peer", peer_cost=Cost((3.0, 4.0, 40.0), (3.0, 4.0, 40.0)),
    )  # fmt: skip
    assert row.ratio == pytest.approx(3.0)
    assert row.rate == pytest.approx(5.0)
    assert Row(part="p", what="w", cost=Cost((1.0,), (1.0,))).ratio is None
    assert row.to_dict()["ratio"] == row.ratio
