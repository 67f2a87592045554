"""The physics rule in context: its posterior at a position, smoothed over the neighbourhood.

Vessels, airway walls and the rim of the lung have texture and partial volume, so at single positions the rule calls
them fibrosis or ground glass; but they are thin, and lesions are not. With p_j(c) the rule's posterior at lung position
j and G a Gaussian of `REACH_MM`, the posterior r of method `physics` and the target t of classifiers are

    q_i(c) = sum_j G(i - j) p_j(c) / sum_j G(i - j)                              the neighbourhood's posterior
    r_i(c) = (q_i(healthy) + q_i(emphysema)) p_i(c) / (p_i(healthy) + p_i(emphysema))  for these two, else q_i(c)
    t_i(c) = r_i(c)^S / sum_c r_i(c)^S                                           with S = `SHARPNESS`

Healthy versus emphysema is decided at each position: nothing thin resembles missing tissue, and centrilobular emphysema
is as small as the neighbourhood. Sharpening of soft targets follows Berthelot et al. 2019 (MixMatch, eq. 7).

Homogeneous haze (`tissue.rule`) is neither vessel nor airway wall, and may be as small as a lobule. With e_i its
probability by the rule, r_i(GGO) is at least TRUST e_i, as far as fibrosis and consolidation leave room; the other
classes shrink proportionally.

The trunks of vessels and bronchi at the hilum are not thin. But their structure is coarse, and the lung between them is
normally aerated: bright outliers leave the lower quartile low. Fibrosis and the lung within it are dense; where they
are not (honeycombing, thin lines), the strands are fine. So p_i(fibrosis) is moved to healthy lung to the extent that,
over `TRUNK_REACH_MM` around i, plates of the coarse scale are strong and the lower quartile is low.

There is no confidence threshold on targets: the rule never gives fibrosis more than its texture_trust, so a higher
threshold would remove fibrosis altogether.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from diffseglung.case.positions import Positions
from diffseglung.labels import CONSOLIDATION, EMPHYSEMA, FIBROSIS, GGO, HEALTHY, TISSUES
from diffseglung.tissue.local import NAMES
from diffseglung.tissue.rule import PhysicsRule, Rows, negated, opinion, step

REACH_MM = 5.0
"""Standard deviation of the neighbourhood: the radius of the local descriptors, about the size of small lesions."""
SHARPNESS = 3.0
TRUST = 0.9
"""Weight of homogeneous haze against its neighbourhood."""
TRUNK_REACH_MM = 8.0
"""Standard deviation of the neighbourhood of trunks: about the joint width of the vessels and bronchi of a hilum."""
TRUNK_PLATE, TRUNK_Q25 = (18.5, 1.5), (-710.0, 15.0)
"""Soft steps (threshold, width) in HU, chosen on training and development cases (docs/science.md)."""
AIRY = [TISSUES.index(HEALTHY), TISSUES.index(EMPHYSEMA)]


def neighbourhood_mean(values: Tensor, where: Positions, reach_cells: float) -> Tensor:
    """Gaussian-weighted mean (N, C) of values (N, C) over the lung positions around each.

    reach_cells: standard deviation in cells of the positions' grid.
    """
    if reach_cells <= 0:
        return values
    counted = np.hstack([values.numpy(), np.ones((len(values), 1))]).astype(np.float32)
    blurred = ndimage.gaussian_filter(where.scatter(counted), (0, reach_cells, reach_cells, reach_cells))
    rows = blurred[:, where.index[:, 0], where.index[:, 1], where.index[:, 2]].T
    return torch.from_numpy(np.ascontiguousarray(rows[:, :-1] / rows[:, -1:]))


def in_context(posterior: Tensor, where: Positions, spacing_mm: float, *, reach_mm: float = REACH_MM) -> Tensor:
    """r before homogeneous haze, for a posterior p (N, classes) at the positions of a grid of `spacing_mm`."""
    context = neighbourhood_mean(posterior, where, reach_mm / (where.stride * spacing_mm))
    share = posterior[:, AIRY] + 1e-3 * context[:, AIRY]
    share = share / share.sum(1, keepdim=True).clamp(min=1e-12)
    seen = context.clone()
    seen[:, AIRY] = context[:, AIRY].sum(1, keepdim=True) * share
    return seen / seen.sum(1, keepdim=True)


def trunks(local: Rows, where: Positions, spacing_mm: float) -> Tensor:
    """Probability (N,) that vessels and bronchi explain the texture around each position."""
    columns = [NAMES.index("plate_1"), NAMES.index("far_q25")]
    reach = TRUNK_REACH_MM / (where.stride * spacing_mm)
    plate, low = neighbourhood_mean(torch.from_numpy(local[:, columns]), where, reach).numpy().T
    return torch.from_numpy(step(plate, TRUNK_PLATE) * step(-low, negated(TRUNK_Q25)))


def without_trunks(posterior: Tensor, explained: Tensor) -> Tensor:
    """Posterior (N, 5) with the share `explained` (N,) of fibrosis moved to healthy lung."""
    healthy, scar = TISSUES.index(HEALTHY), TISSUES.index(FIBROSIS)
    freed = posterior.clone()
    freed[:, healthy] += explained * posterior[:, scar]
    freed[:, scar] *= 1 - explained
    return freed


def sharpened(posterior: Tensor, sharpness: float = SHARPNESS) -> Tensor:
    """Posterior (N, classes) raised to a power and renormalised; the most probable class stays the same.

    >>> sharpened(torch.tensor([[0.6, 0.4]]))
    tensor([[0.7714, 0.2286]])
    """
    decided = posterior**sharpness
    return decided / decided.sum(1, keepdim=True)


def with_homogeneous_ggo(seen: Tensor, homogeneous_ggo: Tensor) -> Tensor:
    """Posterior (N, 5) in which homogeneous haze, probability (N,), is ground glass whatever surrounds it."""
    haze = TISSUES.index(GGO)
    rivals = seen[:, [TISSUES.index(FIBROSIS), TISSUES.index(CONSOLIDATION)]].sum(1)
    share = torch.maximum(seen[:, haze], torch.minimum(TRUST * homogeneous_ggo, 1 - rivals))
    found = seen * ((1 - share) / (1 - seen[:, haze]).clamp(min=1e-9))[:, None]
    found[:, haze] = share
    return found


def physics_in_context(
    local: Rows, where: Positions, spacing_mm: float, rule: PhysicsRule | None = None, *, reach_mm: float = REACH_MM
) -> Tensor:
    """r, (N, 5), from the local descriptors (N, F) of a scan; reach 0: the rule alone."""
    found = opinion(local, rule)
    posterior = torch.from_numpy(found.posterior)
    if reach_mm <= 0:
        return posterior
    posterior = without_trunks(posterior, trunks(local, where, spacing_mm))
    seen = in_context(posterior, where, spacing_mm, reach_mm=reach_mm)
    return with_homogeneous_ggo(seen, torch.from_numpy(found.homogeneous_ggo))
