"""Laws of vessel trees."""

from __future__ import annotations

import numpy as np
import pytest

from diffseglung.phantom.trees import beside, draw_tubes, grow, scatter


def test_a_tree_reaches_every_target_and_obeys_murray() -> None:
    targets = np.random.default_rng(0).uniform(0, 50, (200, 3))
    tree = grow(np.random.default_rng(1), np.zeros(3), targets, tip_mm=0.4)
    tips = tree.end[tree.ends == 1]
    assert {tuple(t) for t in tips} == {tuple(t) for t in targets}
    np.testing.assert_allclose(tree.radius**3, 0.4**3 * tree.ends)


def test_every_branch_starts_where_another_ends() -> None:
    tree = grow(np.random.default_rng(1), np.zeros(3), np.random.default_rng(0).uniform(0, 50, (50, 3)), tip_mm=0.4)
    ends = {tuple(p) for p in tree.end} | {(0.0, 0.0, 0.0)}
    assert all(tuple(p) in ends for p in tree.start)


@pytest.mark.parametrize("radius", [0.3, 0.6, 2.0])
def test_tubes_keep_their_volume_whatever_their_radius(radius: float) -> None:
    share = np.zeros((30, 30, 40), np.float32)
    draw_tubes(
        share, np.array([[15.0, 14.3, 8.0]]), np.array([[15.0, 14.3, 28.0]]), np.array([radius]), (1.0, 1.0, 1.0)
    )
    caps = 4 / 3 * np.pi * radius**3 if radius > 0.75 else 0
    assert share.sum() == pytest.approx(np.pi * radius**2 * 20 + caps, rel=0.06)


def test_bronchi_run_beside_their_arteries() -> None:
    tree = grow(np.random.default_rng(1), np.zeros(3), np.random.default_rng(0).uniform(0, 60, (300, 3)), tip_mm=0.4)
    bronchi = beside(tree, np.random.default_rng(2), least_ends=8, ratio=0.6)
    parents = tree.start[tree.ends >= 8]
    gap = np.linalg.norm(bronchi.start - parents, axis=1)
    assert (gap >= bronchi.radius + tree.radius[tree.ends >= 8]).all()
    assert (gap < 12).all()


def test_scattered_points_lie_in_the_mask() -> None:
    mask = np.zeros((10, 10, 10), bool)
    mask[3:5, 6:8, 2] = True
    points = scatter(np.random.default_rng(0), mask, (2.0, 1.0, 0.5), 50)
    index = np.rint(points / np.array([2.0, 1.0, 0.5])).astype(int)
    assert mask[tuple(index.T)].all()
