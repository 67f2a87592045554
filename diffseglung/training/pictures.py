"""Pictures of drawn patches: a contact sheet in the lung window."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL_HU, WIDTH_HU = -600.0, 1500.0
"""The lung window: grey at the level, black and white half a width away."""
GAP = 6


def contact_sheet(patches: NDArray[Any], *, columns: int | None = None, scale: int = 2) -> bytes:
    """PNG of HU patches (N, Z, Y, X) on canonical axes: the middle axial, coronal and sagittal slice of each.

    columns: patches per row (None: a sheet of about 3:2).  scale: screen pixels a voxel.
    """
    from matplotlib.image import imsave  # heavy import, needed here only

    tiles = [_tile(np.asarray(patch, np.float32), scale) for patch in patches]
    height, width = tiles[0].shape
    if columns is None:
        columns = round((1.5 * len(tiles) * (height + GAP) / (width + GAP)) ** 0.5)
    columns = min(max(columns, 1), len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = np.zeros((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP), np.float32)
    for i, tile in enumerate(tiles):
        top, left = GAP + i // columns * (height + GAP), GAP + i % columns * (width + GAP)
        sheet[top : top + height, left : left + width] = tile
    file = io.BytesIO()
    imsave(file, sheet, cmap="gray", vmin=0, vmax=1, format="png", metadata={"Software": "diffseglung"})
    return file.getvalue()


def _tile(patch: NDArray[np.float32], scale: int) -> NDArray[np.float32]:
    """One patch: axial (front up), coronal and sagittal (head up) below each other, grey levels in [0, 1]."""
    z, y, x = (n // 2 for n in patch.shape)
    views = [patch[z], patch[::-1, y], patch[::-1, :, x]]
    width = max(view.shape[1] for view in views)
    rows = []
    for view in views:
        grey = np.clip((view - LEVEL_HU) / WIDTH_HU + 0.5, 0, 1)
        rows += [np.pad(grey, ((0, 0), (0, width - grey.shape[1]))), np.zeros((1, width), np.float32)]
    return np.kron(np.concatenate(rows[:-1]), np.ones((scale, scale), np.float32))
