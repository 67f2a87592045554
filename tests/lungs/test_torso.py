"""Block means, body and airways lie on canonical axes, and labels are read in the middle of each block."""

from __future__ import annotations

import numpy as np

from diffseglung.lungs.torso import Torso
from diffseglung.volume import Volume
from tests.lungs.conftest import Chest


def test_body_and_airways_are_those_of_the_patient(chest: Chest) -> None:
    torso = Torso.of(chest.ct)
    assert torso.body[chest.heart].mean() > 0.98
    assert not torso.body[:, 0].any()
    assert torso.airways[chest.trachea].mean() > 0.9
    assert torso.grid.same_grid(chest.ct)


def test_labels_are_sampled_at_the_blocks(chest: Chest) -> None:
    fine = [np.repeat(np.repeat(a, 3, 1), 3, 2) for a in (chest.ct.array, chest.lungs)]
    affine = chest.ct.affine @ np.diag([1, 1 / 3, 1 / 3, 1])
    affine[:3, 3] -= chest.ct.affine[:3, 1:3].sum(1) / 3
    torso = Torso.of(Volume(fine[0], affine))
    assert torso.coarse.factors == (1, 2, 2)
    sampled = torso.sampled(Volume(fine[1], affine))
    assert sampled.shape == torso.coarse.hu.shape
    ml = np.bincount(sampled.ravel()) * torso.coarse.voxel_ml
    np.testing.assert_allclose(ml[1:], np.bincount(chest.lungs.ravel())[1:] * chest.ct.voxel_ml, rtol=0.02)
