"""DAAM, adapted: attention maps of class tokens over diffusion features.

DAAM (Tang et al. 2023, arXiv 2210.04885) shows where a text-to-image model attends to a word: the cross-attention of
image positions to the word's token, summed over layers and timesteps. A lung model has no text, so the key of a class
is the mean feature of the positions whose HU lies in its published range; positions are queries:

    heat_c(i) = mean over levels l of softmax_c( f_l(i) . k_l,c / tau ),    k_l,c = mean of f_l over the range of c

with features and keys of unit length. It is a baseline: attention alone on the same features.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from diffseglung.labels import TISSUES
from diffseglung.method.naming import published_name

TEMPERATURE = 0.07
"""As in the published contrastive loss."""


def attention_posterior(features: Tensor, hu: NDArray[np.float32], levels: int) -> Tensor:
    """Class posterior (N, 5) in TISSUES order from features (N, levels x D) and the HU (N,) of the same positions.

    A class with no position in its range has no token and gets no attention.
    """
    named = torch.tensor([published_name(float(v), 0.0) - 1 for v in hu])
    heat = torch.zeros(len(features), len(TISSUES))
    for part in features.float().chunk(levels, dim=1):
        query = F.normalize(part, dim=1)
        scores = torch.full((len(query), len(TISSUES)), -torch.inf)
        for c in range(len(TISSUES)):
            if (named == c).any():
                key = F.normalize(query[named == c].mean(0), dim=0)
                scores[:, c] = query @ key / TEMPERATURE
        heat += scores.softmax(1) / levels
    return heat
