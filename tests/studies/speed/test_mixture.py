"""The mixture's rows: the peer does the same job."""

from __future__ import annotations

import numpy as np
import pytest

from studies.speed.clock import Row
from studies.speed.mixture import apart, crowd, fitted, fitted_by_peer, rows


@pytest.fixture(scope="module")
def found() -> list[Row]:
    return rows(quick=True)


def test_every_row_is_timed_beside_a_floor(found: list[Row]) -> None:
    assert {row.part for row in found} == {"mixture"}
    assert all(row.cost.seconds > 0 and row.floor_s and row.floor for row in found)
    assert sum(row.peer_cost is not None and row.peer_cost.seconds > 0 for row in found) == 2
    assert all(row.met is None for row in found)  # small sizes keep no promise


def test_the_peer_does_the_same_job() -> None:
    """Mean log-likelihood of a row to 1e-4, responsibilities to 1e-3, after the same iterations from the same start."""
    values, start = crowd(20_000)
    ours, theirs = fitted(values, start, 3), fitted_by_peer(values, start, 3)
    assert theirs.n_iter_ == 3
    assert apart(values, ours, theirs) < 1e-4
    assert ours.responsibilities(values).numpy() == pytest.approx(theirs.predict_proba(values.numpy()), abs=1e-3)
    assert (np.diff([fitted(values, start, n).log_likelihood(values) for n in (1, 2, 3)]) > 0).all()
