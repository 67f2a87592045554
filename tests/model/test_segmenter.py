"""The U-Net as a segmenter: class logits on the decoder's grid, from the weights of a denoiser."""

from __future__ import annotations

import torch

from diffseglung.config import UNETS
from diffseglung.labels import TISSUES
from diffseglung.model.segmenter import SegmentationNetwork
from diffseglung.model.unet import UNet


def test_one_logit_a_class_at_every_position_of_the_decoder() -> None:
    network = SegmentationNetwork(UNet(UNETS["tiny"]))
    logits = network(torch.zeros(2, 2, 16, 16, 8), torch.zeros(2))
    assert network.stride == 2
    assert logits.shape == (2, len(TISSUES), 8, 8, 4)


def test_every_weight_but_the_denoisers_own_output_learns() -> None:
    torch.manual_seed(0)
    network = SegmentationNetwork(UNet(UNETS["tiny"]))
    network(torch.randn(1, 2, 16, 16, 16), torch.rand(1)).square().mean().backward()
    unused = {name for name, value in network.named_parameters() if value.grad is None}
    assert unused == {"network.leave.weight", "network.leave.bias"}
