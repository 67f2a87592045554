"""Names for the components of an unsupervised mixture, by the HU of the lung in them.

`published` uses the fixed ranges of the paper (healthy -600..-500 HU, emphysema below -750), which call normal lung
emphysema; -750..-600 HU, which the paper leaves unnamed, is healthy here. `physics` uses measured ranges of aerated
tissue. Mean HU does not separate fibrosis from GGO: `physics` calls a component of large spread fibrosis.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diffseglung.labels import CONSOLIDATION, EMPHYSEMA, FIBROSIS, GGO, HEALTHY, TISSUES

NDFloat = NDArray[np.float64]


def component_hu(responsibility: NDArray[np.float32], hu: NDArray[np.float32]) -> tuple[NDFloat, NDFloat]:
    """Mean and standard deviation of HU (N,) under each column of responsibilities (N, K)."""
    mass = np.maximum(responsibility.sum(0), 1e-9)
    mean = responsibility.T @ hu / mass
    variance = responsibility.T @ (hu**2) / mass - mean**2
    return mean.astype(np.float64), np.sqrt(np.maximum(variance, 0)).astype(np.float64)


def published_name(mean_hu: float, sd_hu: float) -> int:
    """Label id by the paper's fixed HU ranges; the spread is ignored.

    >>> [published_name(hu, 0.0) for hu in (-900.0, -600.0, -400.0, -200.0, 0.0)]
    [2, 1, 3, 4, 5]
    """
    if mean_hu < -750:
        return EMPHYSEMA.id
    if mean_hu < -500:
        return HEALTHY.id
    if mean_hu < -300:
        return GGO.id
    return FIBROSIS.id if mean_hu < -100 else CONSOLIDATION.id


def physics_name(mean_hu: float, sd_hu: float) -> int:
    """Label id by aligned HU: emphysema below -915, healthy below -765, consolidation above -300, else GGO or fibrosis.

    >>> physics_name(-860.0, 30.0), physics_name(-600.0, 200.0)
    (1, 4)
    """
    if mean_hu < -915:
        return EMPHYSEMA.id
    if mean_hu < -765:
        return HEALTHY.id
    if mean_hu > -300:
        return CONSOLIDATION.id
    return FIBROSIS.id if sd_hu > 150 else GGO.id


def named_posterior(
    responsibility: NDArray[np.float32], hu: NDArray[np.float32], *, rule: str = "published"
) -> NDArray[np.float32]:
    """Class posterior (N, 5) in TISSUES order: responsibilities (N, K) summed over components of the same name."""
    name = published_name if rule == "published" else physics_name
    mean, sd = component_hu(responsibility, hu)
    out = np.zeros((len(hu), len(TISSUES)), np.float32)
    for k, (m, s) in enumerate(zip(mean, sd, strict=True)):
        out[:, name(float(m), float(s)) - 1] += responsibility[:, k]
    return out
