"""The network's rows: work is counted, peers do the same job."""

from __future__ import annotations

import pytest
import torch

from diffseglung.benchmarks.clock import Row
from diffseglung.benchmarks.network import flops, rows


def test_work_is_that_of_the_products() -> None:
    a, b = torch.zeros(8, 16), torch.zeros(16, 4)
    assert flops(lambda: a @ b) == 2 * 8 * 16 * 4
    kernel, x = torch.zeros(5, 3, 3, 3, 3), torch.zeros(1, 3, 6, 6, 6)
    assert flops(lambda: torch.nn.functional.conv3d(x, kernel)) == 2 * 5 * 3 * 27 * 4**3


@pytest.fixture(scope="module")
def found() -> list[Row]:
    return rows(quick=True)


def test_every_row_is_timed_and_stays_above_its_floor(found: list[Row]) -> None:
    assert {row.part for row in found} == {"network", "sampling"}
    assert all(row.cost.seconds > 0 for row in found)
    assert all(row.floor_s is None or row.floor_s < row.cost.seconds for row in found)


def test_the_solver_beside_diffusers_gives_the_same_patch(found: list[Row]) -> None:
    pytest.importorskip("diffusers")
    solver = next(row for row in found if row.peer and "diffusers" in row.peer)
    assert float(solver.note.split("by ")[1].split()[0]) < 1e-5
