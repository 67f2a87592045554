"""The network's rows: work is counted, peers do the same job."""

from __future__ import annotations

import pytest
import torch

from studies.speed.clock import Row
from studies.speed.machine import machine
from studies.speed.network import flops, rows


def test_work_is_that_of_the_products() -> None:
    a, b = torch.zeros(8, 16), torch.zeros(16, 4)
    assert flops(lambda: a @ b) == 2 * 8 * 16 * 4
    kernel, x = torch.zeros(5, 3, 3, 3, 3), torch.zeros(1, 3, 6, 6, 6)
    assert flops(lambda: torch.nn.functional.conv3d(x, kernel)) == 2 * 5 * 3 * 27 * 4**3


@pytest.fixture(scope="module")
def found() -> list[Row]:
    return rows(quick=True)


def above_their_floors(found: list[Row]) -> bool:
    return all(row.floor_s is None or row.floor_s < row.cost.seconds for row in found)


def measured_anew() -> list[Row]:
    machine.cache_clear()
    return rows(quick=True)


def test_every_row_is_timed_and_stays_above_its_floor(found: list[Row]) -> None:
    """Other work on the machine can slow the peak down, but not the row timed after it: then both are measured anew."""
    assert {row.part for row in found} == {"network", "sampling"}
    assert all(row.cost.seconds > 0 for row in found)
    assert above_their_floors(found) or any(above_their_floors(measured_anew()) for _ in range(3))


def test_the_solver_beside_diffusers_gives_the_same_patch(found: list[Row]) -> None:
    pytest.importorskip("diffusers")
    solver = next(row for row in found if row.peer and "diffusers" in row.peer)
    assert float(solver.note.split("by ")[1].split()[0]) < 1e-5
