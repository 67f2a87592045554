"""Fluid in the pleural space, which a finder of lungs that have filled up takes for such a lung."""

from __future__ import annotations

from diffseglung.preprocess.coarse import Coarse, Mask, components, mean_and_spread, shrink, within

FLUID_HU, SPREAD_HU = (-10.0, 25.0), 5.0
"""Pleural fluid reads within the first (medians of exudates 12.5, of transudates 5, all from 2 to 33 HU: Cullu et al.,
Diagn Interv Radiol 2014;20:116) and is even: its means over EVEN_MM vary by less than the second over AROUND_MM.
Airless lung reads more, and holds bronchi and vessels."""
EVEN_MM, AROUND_MM = 9.0, 15.0
LEAST_ML, RIM_MM = 20.0, 15.0
"""Of even fluid; and the reach of its rim, where the means are mixed."""


def pleural_fluid(coarse: Coarse, tissue: Mask) -> Mask:
    """What of `tissue`, airless and beside the lungs, is fluid."""
    mm = coarse.spacing_mm
    mean, _ = mean_and_spread(coarse.hu, EVEN_MM, mm)
    around, spread = mean_and_spread(mean, AROUND_MM, mm)
    labels, sizes = components(tissue & (around > FLUID_HU[0]) & (around < FLUID_HU[1]) & (spread < SPREAD_HU))
    near = within((sizes * coarse.voxel_ml >= LEAST_ML)[labels], RIM_MM, mm) & tissue
    fluid = near & (mean < FLUID_HU[1])
    other = shrink(tissue & ~fluid, EVEN_MM / 2, mm)
    return fluid | (near & ~within(other, EVEN_MM / 2 + max(mm), mm))
