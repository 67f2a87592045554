from __future__ import annotations

from typing import Any

import torch

from diffseglung.config import LungMaskConfig, PhantomConfig
from diffseglung.labels import CONSOLIDATION
from diffseglung.phantom.procedural import make_phantom
from diffseglung.preprocess.envelope import EnvelopeNet, lung_envelope, windows
from diffseglung.preprocess.lungs import find_lungs


def test_windows_are_clipped_to_plus_minus_one() -> None:
    hu = torch.tensor([-3000.0, -1000.0, -400.0, 0.0, 200.0, 3000.0]).reshape(1, 1, 6)
    lung, soft = windows(hu)
    torch.testing.assert_close(lung.flatten(), torch.tensor([-1.0, -1.0, 0.0, 2 / 3, 1.0, 1.0]))
    torch.testing.assert_close(soft.flatten(), torch.tensor([-1.0, -1.0, -1.0, 0.0, 1.0, 1.0]))


def test_the_network_answers_on_the_grid_that_it_is_asked_on() -> None:
    torch.manual_seed(0)
    network = EnvelopeNet(channels=(8, 8, 12))
    x = torch.randn(1, 2, 8, 16, 24)
    with torch.no_grad():
        assert network(x).shape == (1, 1, 8, 16, 24)


def test_any_grid_and_spacing_is_answered_in_place(chest: Any) -> None:
    for part in (chest.ct, chest.ct.crop((11, 3, 5), (64, 72, 98))):
        expected = lung_envelope(part)
        assert expected.shape == part.shape
        assert expected.min() >= 0
        assert expected.max() <= 1


def test_air_of_the_lungs_is_expected_and_the_room_is_not(chest: Any) -> None:
    expected = lung_envelope(chest.ct)
    assert expected[chest.lungs > 0].mean() > 0.85
    assert expected[:, :5].mean() < 0.05


def test_a_consolidated_lobe_against_heart_and_diaphragm_is_still_lung() -> None:
    case = make_phantom(PhantomConfig(seed=7, split="test", models=("consolidation_lobar",)))
    solid = case.truth.array == CONSOLIDATION.id
    lost = find_lungs(case.ct, LungMaskConfig(envelope=False)).array > 0
    kept = find_lungs(case.ct).array > 0
    assert lost[solid].mean() < 0.2
    assert kept[solid].mean() > 0.85
    assert (kept & (case.lungs.array == 0)).sum() < 0.02 * kept.sum()


def test_a_healthy_chest_gains_next_to_nothing(chest: Any) -> None:
    plain = find_lungs(chest.ct, LungMaskConfig(envelope=False)).array > 0
    whole = find_lungs(chest.ct).array > 0
    assert (whole & ~plain).sum() < 0.01 * plain.sum()
