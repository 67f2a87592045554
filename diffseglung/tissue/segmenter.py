"""Stage 3: a segmentation head on the diffusion U-Net, and its combination with the physics rule.

The inner activations of a denoiser are useful for dense labelling (Baranchuk et al. 2022, Label-efficient semantic
segmentation with diffusion models); here the network and a head on its decoder tap are trained on synthetic lesions.

The rule uses densities and textures chosen by hand; the network knows vessels, hila and consolidation better, but names
what it finds after the lesions it was trained on. Both have equal weight, as a product of experts (Hinton 2002, Neural
Comput 14:1771): with r_i the rule's posterior in context and n_i the network's at position i,

    b_i(c) = sqrt(r_i(c) n_i(c)) / sum_c sqrt(r_i(c) n_i(c))

and the split of opacity between ground glass and fibrosis is the rule's:

    s_i(c) = (b_i(GGO) + b_i(fibrosis)) r_i(c) / (r_i(GGO) + r_i(fibrosis))    for these two, else b_i(c)
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

    Its normalisation is initialised from the denoiser's last layer.
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
    """The segmentation head in the tensors of a file.  Raises CheckpointError."""
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
"""Smallest probability of a class, so that neither alone can exclude one."""
OPACITY = [TISSUES.index(GGO), TISSUES.index(FIBROSIS)]


def geometric_mean(rule: Tensor, network: Tensor) -> Tensor:
    """b of two posteriors (N, 5)."""
    mean = (rule.clamp(min=LEAST) * network.clamp(min=LEAST)).sqrt()
    return mean / mean.sum(1, keepdim=True)


def with_split_of(both: Tensor, rule: Tensor) -> Tensor:
    """s, (N, 5): b with the rule's split of opacity."""
    share = rule[:, OPACITY].clamp(min=1e-9)
    found = both.clone()
    found[:, OPACITY] = both[:, OPACITY].sum(1, keepdim=True) * share / share.sum(1, keepdim=True)
    return found


def student_posterior(rule: Tensor, network: Tensor) -> Tensor:
    """The combined posterior s, (N, 5).

    >>> import torch
    >>> rule, network = torch.tensor([[0.8, 0, 0, 0.2, 0]]), torch.tensor([[0.2, 0, 0.8, 0, 0]])
    >>> student_posterior(rule, network).argmax(1)
    tensor([0])
    """
    return with_split_of(geometric_mean(rule, network), rule)
