"""The physics rule: tissue from local statistics in aligned HU, without learning.

Each tissue is a product of soft steps on interpretable quantities: aeration between the vessels (the lower quartile),
density of the bulk (the median), amount and shape of structure. Reticulation and honeycombing are nets: they enclose
small dark cells, which vessels do not, however crowded. Ground glass is haze by its median, or *homogeneous* haze:
where most voxels are a mixture of gas and tissue, there is neither aerated lung with vessels (gas or tissue) nor
airless tissue, however faint or small the haze is. At the lung surface and next to a moving diaphragm, partial volume
has the same effect, so homogeneous haze is no evidence there.
Fat is not consolidation: it is even and measures -123 to -89 HU (reference interval of abdominal fat, PubMed 37296765),
fluid and cells 0 to 60 HU. Fat inside a lung mask is not disease and counts as healthy.
The thresholds started from published HU (docs/science.md); their values were chosen on phantoms and drawn lesions of
the train and development splits, like settings (docs/results.md). Nothing is fitted to a case.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffseglung.tissue.local import DARKEST_BLOB_HU, SHAPED_NAMES, shaped

Rows = NDArray[np.float32]
COLUMN = {name: i for i, name in enumerate(SHAPED_NAMES)}


@dataclass(frozen=True)
class PhysicsRule:
    """Soft steps as (threshold, width).

    sparse_*: loss of tissue, lower quartile in HU relative to the scan's healthy lung, near and far;
    haze_*: gas partly replaced, median and lower quartile in aligned HU (healthy -860); dense: airless, median;
    fat_*: lower and upper quartile between which dense tissue is fat, in aligned HU;
    homogeneous_*: haze by the share of voxels from -720 to -300 HU, with a lower quartile in aligned HU and a depth in
    mm;
    net_*: reticulation and honeycombing: dark cells between strands (log HU), plates and spread (log(1 + HU)), skewness
    (vessels are bright outliers, nets are not), density of the surroundings in units of the scan's healthy spread.
    texture_trust: largest probability of fibrosis from texture, because vessels and airway walls have texture too.
    """

    sparse_near: tuple[float, float] = (-28.0, 6.0)
    sparse_far: tuple[float, float] = (-38.0, 5.0)
    haze_q50: tuple[float, float] = (-665.0, 95.0)
    haze_q25: tuple[float, float] = (-700.0, 30.0)
    homogeneous_share: tuple[float, float] = (0.75, 0.05)
    homogeneous_q25: tuple[float, float] = (-760.0, 20.0)
    homogeneous_depth_mm: tuple[float, float] = (6.0, 0.7)
    dense_q50: tuple[float, float] = (-200.0, 50.0)
    fat_q25: tuple[float, float] = (-140.0, 8.0)
    fat_q75: tuple[float, float] = (-60.0, 8.0)
    net_cells: tuple[float, float] = (-1.4, 0.06)
    net_plate: tuple[float, float] = (1.1, 0.37)
    net_sd: tuple[float, float] = (3.9, 0.23)
    net_skew: tuple[float, float] = (2.1, 0.55)
    net_surroundings: tuple[float, float] = (2.65, 0.3)
    texture_trust: float = 0.66


def step(values: Rows, threshold: tuple[float, float]) -> Rows:
    """Logistic step from 0 to 1 at `threshold[0]` with width `threshold[1]`.

    >>> step(np.array([-250.0, -200.0, -150.0], np.float32), (-200.0, 50.0)).round(2)
    array([0.27, 0.5 , 0.73], dtype=float32)
    """
    steps: Rows = 1 / (1 + np.exp(-np.clip((values - threshold[0]) / threshold[1], -30, 30)))
    return steps.astype(np.float32)


def net(column: Callable[[str], Rows], rule: PhysicsRule) -> Rows:
    """Degree, 0 to 1, to which a neighbourhood is a net of strands around dark cells, (N,)."""
    cells = np.log(np.maximum(np.expm1(column("far_dark_blob")), DARKEST_BLOB_HU))
    found = step(cells, rule.net_cells)
    found *= step(column("far_plate"), rule.net_plate) * step(column("near_sd"), rule.net_sd)
    found *= step(column("far_q50_relative"), rule.net_surroundings)
    return found * (1 - step(column("near_skew"), rule.net_skew))


def negated(threshold: tuple[float, float]) -> tuple[float, float]:
    """The threshold for negated values: the step is 1 below the original threshold."""
    return -threshold[0], threshold[1]


def homogeneous(column: Callable[[str], Rows], rule: PhysicsRule) -> Rows:
    """Degree, 0 to 1, to which a neighbourhood below the lung surface is homogeneous haze, (N,)."""
    share = step(column("near_haze"), rule.homogeneous_share) * step(column("near_q25"), rule.homogeneous_q25)
    return share * step(column("border_mm"), rule.homogeneous_depth_mm)


def fat(column: Callable[[str], Rows], rule: PhysicsRule) -> Rows:
    """Degree, 0 to 1, to which a neighbourhood is fat, (N,)."""
    return step(column("near_q25"), rule.fat_q25) * (1 - step(column("near_q75"), rule.fat_q75))


@dataclass(frozen=True, eq=False)
class Opinion:
    """The rule's result at each position of a scan.

    posterior: (N, 5) in the order of `labels.TISSUES`.
    homogeneous_ggo: (N,) probability of ground glass from homogeneous haze alone.
    """

    posterior: Rows
    homogeneous_ggo: Rows


def opinion(local: Rows, rule: PhysicsRule | None = None) -> Opinion:
    """The rule applied to all local descriptors (N, len(NAMES)) of a whole scan."""
    rule = rule or PhysicsRule()
    rows = shaped(local)

    def column(name: str) -> Rows:
        values: Rows = rows[:, COLUMN[name]]
        return values

    q25, q50 = column("near_q25"), column("near_q50")
    dense = step(q50, rule.dense_q50)
    sparse = step(-column("near_q25_own"), negated(rule.sparse_near))
    sparse *= step(-column("far_q25_own"), negated(rule.sparse_far))
    strands = net(column, rule)
    scar = rule.texture_trust * strands
    homogeneous_glass = homogeneous(column, rule) * (1 - strands)
    haze = 1 - (1 - step(q50, rule.haze_q50) * step(q25, rule.haze_q25)) * (1 - homogeneous_glass)
    rest, adipose = 1 - dense, fat(column, rule)
    weights = np.stack(
        [
            rest * (1 - sparse) * (1 - haze) * (1 - scar) + dense * adipose,
            rest * sparse * (1 - haze) * (1 - scar),
            rest * haze * (1 - scar),
            rest * scar,
            dense * (1 - adipose),
        ],
        axis=1,
    )
    posterior: Rows = weights / np.maximum(weights.sum(1, keepdims=True), 1e-9)
    return Opinion(posterior.astype(np.float32), homogeneous_glass * rest * (1 - scar))


def physics_posterior(local: Rows, rule: PhysicsRule | None = None) -> Rows:
    """Class posterior (N, 5) of `opinion`.

    >>> from diffseglung.labels import TISSUES
    >>> from diffseglung.tissue.local import NAMES
    >>> rows = np.zeros((240, len(NAMES)), np.float32)
    >>> density = [i for i, name in enumerate(NAMES) if "_q" in name]
    >>> rows[:, density] = -860  # healthy lung, and 10 rows each of lower and higher density
    >>> for first, hu in ((200, -945), (210, -560), (220, -30)):
    ...     rows[first : first + 10, density] = hu
    >>> [TISSUES[k].name for k in physics_posterior(rows)[[0, 200, 210, 220]].argmax(1)]
    ['healthy', 'emphysema', 'ggo', 'consolidation']
    """
    return opinion(local, rule).posterior
