"""Floors follow from what was measured."""

from __future__ import annotations

import pytest

from studies.speed.machine import Machine


def test_the_floor_is_the_slower_of_arithmetic_and_traffic() -> None:
    box = Machine("p", 2, 8.0, gflops=100.0, gflops_bf16=200.0, gb_per_s=10.0, torch="t", numpy="n")
    assert box.floor_s(flops=1e11) == pytest.approx(1.0)
    assert box.floor_s(flops=1e11, bf16=True) == pytest.approx(0.5)
    assert box.floor_s(flops=1e9, bytes_moved=2e10) == pytest.approx(2.0)
