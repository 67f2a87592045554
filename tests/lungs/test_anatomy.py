from __future__ import annotations

from typing import Any

import numpy as np
import torch

from diffseglung.lungs.anatomy import AIRWAY, BODY, LEFT, RIGHT, ROOM, Anatomy, AnatomyNet, windows
from diffseglung.lungs.coarse import Coarse


def test_windows_are_clipped_to_plus_minus_one() -> None:
    hu = torch.tensor([-3000.0, -1000.0, -400.0, 0.0, 200.0, 450.0, 3000.0]).reshape(1, 1, 7)
    lung, soft, bone = windows(hu)
    torch.testing.assert_close(lung.flatten(), torch.tensor([-1.0, -1.0, 0.0, 2 / 3, 1.0, 1.0, 1.0]))
    torch.testing.assert_close(soft.flatten(), torch.tensor([-1.0, -1.0, -1.0, 0.0, 1.0, 1.0, 1.0]))
    torch.testing.assert_close(bone.flatten(), torch.tensor([-1.0, -1.0, -1.0, -1.0, -5 / 7, 0.0, 1.0]))


def test_the_network_answers_on_the_grid_that_it_is_asked_on() -> None:
    torch.manual_seed(0)
    network = AnatomyNet(channels=(8, 8, 16, 16))
    with torch.no_grad():
        assert network(torch.randn(1, 3, 16, 32, 48)).shape == (1, 5, 16, 32, 48)


def test_classes_are_probabilities_on_any_grid(chest: Any) -> None:
    for part in (chest.ct, chest.ct.crop((11, 3, 5), (64, 72, 98))):
        anatomy = Anatomy.of(part)
        np.testing.assert_allclose(anatomy.classes.sum(0), 1, atol=1e-4)
        moved = anatomy.onto(part)
        assert moved.shape == (5, *part.shape)
        assert moved.min() >= 0
        assert moved.max() <= 1 + 1e-5


def test_each_lung_the_room_and_the_body_are_told_apart(chest: Any) -> None:
    classes = Anatomy.of(chest.ct).onto(chest.ct)
    assert classes[RIGHT][chest.lungs == 1].mean() > 0.85
    assert classes[LEFT][chest.lungs == 2].mean() > 0.85
    assert classes[ROOM][:, :5].mean() > 0.95
    assert classes[BODY][chest.heart & (chest.lungs == 0)].mean() > 0.8
    assert classes[AIRWAY].sum() < 0.05 * classes[[RIGHT, LEFT]].sum()


def test_a_mirrored_chest_has_mirrored_classes(chest: Any) -> None:
    coarse = Coarse.of(chest.ct, 6.0).over(chest.ct)
    straight = Anatomy.of(coarse).onto(coarse)
    mirrored = Anatomy.of(coarse.with_array(coarse.array[:, :, ::-1].copy())).onto(coarse)[..., ::-1]
    assert np.abs(straight[RIGHT] - mirrored[LEFT]).mean() < 0.02
    assert np.abs(straight[ROOM] - mirrored[ROOM]).mean() < 0.02
