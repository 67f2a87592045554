from __future__ import annotations

import numpy as np
import torch

from diffseglung.method.attention import attention_posterior

HU = np.repeat(np.array([-900, -550, -400, -200, 0], np.float32), 40)
CLASS = np.repeat([1, 0, 2, 3, 4], 40)
"""The published ranges call -900 emphysema and -550 healthy."""


def separable(levels: int) -> torch.Tensor:
    axes = torch.nn.functional.one_hot(torch.from_numpy(CLASS), 8).float()
    noise = 0.05 * torch.randn(len(HU), 8 * levels, generator=torch.Generator().manual_seed(0))
    return axes.repeat(1, levels) + noise


def test_positions_that_look_like_a_token_get_its_class() -> None:
    posterior = attention_posterior(separable(3), HU, 3)
    torch.testing.assert_close(posterior.sum(1), torch.ones(len(HU)))
    assert (posterior.argmax(1).numpy() == CLASS).all()


def test_length_of_a_feature_does_not_matter() -> None:
    features = separable(2)
    torch.testing.assert_close(attention_posterior(7 * features, HU, 2), attention_posterior(features, HU, 2))


def test_a_class_without_positions_gets_no_attention() -> None:
    present = HU < -300
    posterior = attention_posterior(separable(1)[present], HU[present], 1)
    assert (posterior[:, 3:] == 0).all()
    assert torch.isfinite(posterior).all()
