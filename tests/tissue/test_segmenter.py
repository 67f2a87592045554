"""The head that makes the U-Net a segmenter: class logits on the decoder's grid, kept beside the network's weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffseglung.labels import CONSOLIDATION, HEALTHY, TISSUES
from diffseglung.method.unet import UNet
from diffseglung.platform.config import UNETS
from diffseglung.platform.errors import CheckpointError
from diffseglung.tissue.segmenter import (
    OPACITY,
    PREFIX,
    SegmentationHead,
    geometric_mean,
    load_segmentation_head,
    student_posterior,
)


@pytest.fixture
def network() -> UNet:
    torch.manual_seed(0)
    return UNet(UNETS["tiny"])


def test_one_logit_a_class_at_every_position_of_the_decoder(network: UNet) -> None:
    head = SegmentationHead(network)
    _, taps = network.with_taps(torch.zeros(2, 2, 16, 16, 8), torch.zeros(2))
    assert head.stride == 2
    assert head(taps).shape == (2, len(TISSUES), 8, 8, 4)


def test_a_head_comes_back_from_its_tensors_and_one_that_does_not_fit_is_told(network: UNet) -> None:
    head = SegmentationHead(network)
    tensors = {PREFIX + name: value for name, value in head.state_dict().items()}
    again = load_segmentation_head(tensors, network)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in head.state_dict().items())
    assert not any(value.requires_grad for value in again.parameters())
    for damaged in ({}, {**tensors, f"{PREFIX}classify.bias": torch.zeros(4)}):
        with pytest.raises(CheckpointError, match="segmentation head"):
            load_segmentation_head(damaged, network)


def posteriors(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    one, two = (torch.randn(20, 5, generator=torch.Generator().manual_seed(seed + k)) for k in (0, 10**6))
    return (3 * one).softmax(1), (3 * two).softmax(1)


@given(st.integers(0, 10**5))
def test_it_is_a_posterior_that_neither_alone_decides(seed: int) -> None:
    rule, network = posteriors(seed)
    found = student_posterior(rule, network)
    assert torch.allclose(found.sum(1), torch.ones(20), atol=1e-5)
    assert torch.allclose(geometric_mean(rule, network), geometric_mean(network, rule))
    assert torch.allclose(geometric_mean(rule, rule), rule, atol=1e-3)


@given(st.integers(0, 10**5))
def test_opacity_is_as_much_as_both_say_and_shared_as_the_rule_says(seed: int) -> None:
    rule, network = posteriors(seed)
    both, found = geometric_mean(rule, network), student_posterior(rule, network)
    assert torch.allclose(found[:, OPACITY].sum(1), both[:, OPACITY].sum(1), atol=1e-5)
    rest = [k for k in range(len(TISSUES)) if k not in OPACITY]
    assert torch.allclose(found[:, rest], both[:, rest])
    shares = [p[:, OPACITY[0]] / p[:, OPACITY].sum(1) for p in (found, rule)]
    assert torch.allclose(*shares, atol=1e-4)


def test_what_one_calls_impossible_the_other_may_still_find() -> None:
    healthy, dense = TISSUES.index(HEALTHY), TISSUES.index(CONSOLIDATION)
    rule, network = torch.zeros(1, 5), torch.zeros(1, 5)
    rule[0, healthy], network[0, dense] = 0.6, 1.0
    rule[0, OPACITY[0]] = 0.4
    assert student_posterior(rule, network)[0, dense] > 0.1
