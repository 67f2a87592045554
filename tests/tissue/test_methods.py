from __future__ import annotations

import pytest
import torch

from diffseglung.labels import HEALTHY, TISSUES
from diffseglung.platform.config import METHODS, SegmentConfig
from diffseglung.tissue.methods import LEARNED, POSTERIORS, with_lesion_log_odds

POSTERIOR = torch.softmax(torch.randn(200, len(TISSUES), generator=torch.Generator().manual_seed(0)) * 2, 1)


def test_every_method_of_the_settings_has_a_posterior() -> None:
    assert set(METHODS) == set(POSTERIORS)
    assert set(METHODS) > set(LEARNED)


def test_no_caution_changes_nothing() -> None:
    torch.testing.assert_close(with_lesion_log_odds(POSTERIOR, 0.0), POSTERIOR)


@pytest.mark.parametrize("healthy_log_odds", [SegmentConfig().healthy_log_odds, 1.0])
def test_caution_lowers_the_log_odds_of_lesions_and_nothing_between_lesions(healthy_log_odds: float) -> None:
    healthy = TISSUES.index(HEALTHY)
    before, after = POSTERIOR.log(), with_lesion_log_odds(POSTERIOR, -healthy_log_odds).log()
    torch.testing.assert_close(after.exp().sum(1), torch.ones(len(POSTERIOR)))
    for lesion in set(range(len(TISSUES))) - {healthy}:
        drop = (before[:, lesion] - before[:, healthy]) - (after[:, lesion] - after[:, healthy])
        torch.testing.assert_close(drop, torch.full_like(drop, healthy_log_odds))
