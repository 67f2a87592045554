"""Charts of the report as static SVG, which can be printed."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from diffseglung.labels import ALL, TISSUES, Label
from diffseglung.platform.out_of_core import slabs
from diffseglung.segmentation import Segmentation

LOW_HU, HIGH_HU, BIN_HU = -1050, 250, 10
WIDTH, HEIGHT, AXIS = 640, 190, 22


def histogram(segmentation: Segmentation) -> NDArray[np.int64]:
    """Voxels by class and density: (ids of `labels.ALL`, bins of BIN_HU); values outside count in the end bins."""
    bins = (HIGH_HU - LOW_HU) // BIN_HU
    counts = np.zeros(len(ALL) * bins, np.int64)
    for planes in slabs(segmentation.ct.array, segmentation.label_map.array):
        ids = segmentation.label_map.array[planes]
        inside = ids > 0
        at = np.clip((segmentation.ct.array[planes][inside] - LOW_HU) // BIN_HU, 0, bins - 1).astype(np.int64)
        counts += np.bincount(ids[inside].astype(np.int64) * bins + at, minlength=len(counts))
    return counts.reshape(len(ALL), bins)


def histogram_svg(counts: NDArray[np.int64]) -> Markup:
    """One curve per class, each scaled to its own peak; classes without voxels are omitted."""
    curves = [_curve(label, counts[label.id]) for label in TISSUES if counts[label.id].any()]
    ticks = [_tick(hu) for hu in range(-1000, HIGH_HU + 1, 200)]
    return Markup(  # noqa: S704  (numbers and names of labels only, no text from files)
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT + AXIS}" role="img" '
        f'aria-label="Histogram of density by class">{"".join(ticks)}{"".join(curves)}</svg>'
    )


def hex_colour(label: Label) -> str:
    """The colour of a label in HTML.

    >>> hex_colour(TISSUES[0])
    '#82bee6'
    """
    return "#{:02x}{:02x}{:02x}".format(*label.colour)


def _x(hu: float) -> float:
    return round((hu - LOW_HU) / (HIGH_HU - LOW_HU) * WIDTH, 1)


def _curve(label: Label, counts: NDArray[np.int64]) -> str:
    smooth = np.convolve(counts, [0.25, 0.5, 0.25], mode="same")
    heights = HEIGHT - 6 - (HEIGHT - 16) * smooth / smooth.max()
    centres = LOW_HU + BIN_HU * (np.arange(len(counts)) + 0.5)
    points = " ".join(f"{_x(hu)},{height:.1f}" for hu, height in zip(centres, heights, strict=True))
    return (
        f'<polyline class="curve" data-class="{label.id}" points="{points}" fill="none" stroke="{hex_colour(label)}" '
        f'stroke-width="2"><title>{label.title}</title></polyline>'
    )


def _tick(hu: int) -> str:
    return (
        f'<line class="grid" x1="{_x(hu)}" x2="{_x(hu)}" y1="4" y2="{HEIGHT - 4}"/>'
        f'<text class="tick" x="{_x(hu)}" y="{HEIGHT + 14}" text-anchor="middle">{hu}</text>'
    )
