"""The physics rule and the network taught on synthetic lesions, together.

The rule knows densities and textures that were thought of; the network knows vessels, hila and consolidation better,
but names what it finds by the lesions it was taught on. So both have the same say, as a product of experts (Hinton
2002, Neural Comput 14:1771): with r_i the rule's posterior in context and n_i the network's at position i,

    b_i(c) = sqrt(r_i(c) n_i(c)) / sum_c sqrt(r_i(c) n_i(c))

and how opacity is shared between ground glass and fibrosis stays as the rule has it:

    s_i(c) = (b_i(GGO) + b_i(fibrosis)) r_i(c) / (r_i(GGO) + r_i(fibrosis))    for these two, else b_i(c)
"""

from __future__ import annotations

from torch import Tensor

from diffseglung.labels import FIBROSIS, GGO, TISSUES

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
