"""The diffusion U-Net as a segmenter: a convolution on its decoder tap gives class logits at every position.

Fine-tuning a denoiser end to end for dense labels follows Baranchuk et al. 2022 (label-efficient segmentation with
diffusion models) in using its inner activations, and SynthSeg in what teaches it: drawn scenes with exact truth.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from diffseglung.labels import TISSUES
from diffseglung.model.convolution import Conv3d
from diffseglung.model.unet import UNet


class SegmentationNetwork(nn.Module):
    """Input (B, 2, Z, Y, X): CT in model units and lung mask.  Output (B, 5, Z/s, Y/s, X/s), s the decoder's stride."""

    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network
        self.stride = network.tap_strides["decoder"]
        self.classify = Conv3d(network.tap_channels["decoder"], len(TISSUES), 3, padding=1)
        nn.init.normal_(self.classify.weight, std=0.01)
        nn.init.zeros_(self.classify.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, fraction: Tensor) -> Tensor:
        """Logits in the order of `labels.TISSUES`; fraction (B,): noise level of x, step / T."""
        hidden = self.network.with_taps(x, fraction)[1]["decoder"]
        logits: Tensor = self.classify(F.silu(self.network.norm(hidden)))
        return logits
