"""The head that makes the U-Net a segmenter: class logits on the decoder's grid, kept beside the network's weights."""

from __future__ import annotations

import pytest
import torch

from diffseglung.labels import TISSUES
from diffseglung.method.unet import UNet
from diffseglung.platform.config import UNETS
from diffseglung.platform.errors import CheckpointError
from diffseglung.tissue.segmenter import PREFIX, SegmentationHead, load_segmentation_head


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
