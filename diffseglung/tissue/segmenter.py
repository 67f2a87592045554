"""What makes the diffusion U-Net a segmenter: a head on its decoder tap that gives class logits at every position.

The inner activations of a denoiser serve dense labelling (Baranchuk et al. 2022, Label-efficient semantic segmentation
with diffusion models); here the network is trained on with the head, on synthetic lesions.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from diffseglung.labels import FIBROSIS, GGO, TISSUES
from diffseglung.method.unet import Conv3d, UNet, groups_of
from diffseglung.platform.errors import CheckpointError

PREFIX = "segmenter."


class SegmentationHead(nn.Module):
    """Decoder tap (B, C, z, y, x) -> logits (B, 5, z, y, x) in the order of `labels.TISSUES`.

    It begins with the normalisation of the denoiser's own last layer.
    """

    def __init__(self, network: UNet) -> None:
        super().__init__()
        channels = network.tap_channels["decoder"]
        self.stride = network.tap_strides["decoder"]
        self.norm = nn.GroupNorm(groups_of(channels), channels)
        self.norm.load_state_dict(network.norm.state_dict())
        self.classify = Conv3d(channels, len(TISSUES), 3, padding=1)
        nn.init.normal_(self.classify.weight, std=0.01)
        nn.init.zeros_(self.classify.bias)  # type: ignore[arg-type]

    def forward(self, taps: Mapping[str, Tensor]) -> Tensor:
        """Taps of `UNet.with_taps` -> logits at the decoder's positions."""
        logits: Tensor = self.classify(F.silu(self.norm(taps["decoder"])))
        return logits


def load_segmentation_head(weights: Mapping[str, Tensor], network: UNet) -> SegmentationHead:
    """The head among a file's tensors.  Raises CheckpointError."""
    head = SegmentationHead(network)
    own = {name.removeprefix(PREFIX): value for name, value in weights.items() if name.startswith(PREFIX)}
    try:
        head.load_state_dict(own)
    except RuntimeError as cause:
        raise CheckpointError(
            "the segmentation head is missing or does not fit the network",
            remedy="use a file written by diffseglung finetune, unchanged",
        ) from cause
    return head.float().eval().requires_grad_(False)


LEAST = 1e-4
"""Neither is ever surer than that, so that one alone cannot rule a class out."""
OPACITY = [TISSUES.index(GGO), TISSUES.index(FIBROSIS)]


def geometric_mean(rule: Tensor, network: Tensor) -> Tensor:
    """b of the module's text, (N, 5), of two posteriors (N, 5)."""
    mean = (rule.clamp(min=LEAST) * network.clamp(min=LEAST)).sqrt()
    return mean / mean.sum(1, keepdim=True)


def with_split_of(both: Tensor, rule: Tensor) -> Tensor:
    """s of the module's text, (N, 5)."""
    share = rule[:, OPACITY].clamp(min=1e-9)
    found = both.clone()
    found[:, OPACITY] = both[:, OPACITY].sum(1, keepdim=True) * share / share.sum(1, keepdim=True)
    return found


def student_posterior(rule: Tensor, network: Tensor) -> Tensor:
    """Both together, (N, 5)."""
    return with_split_of(geometric_mean(rule, network), rule)
