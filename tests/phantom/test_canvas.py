"""What lesions are made of: cells, sheets, tubes and spheres of stated sizes, in millimetres."""

from __future__ import annotations

import numpy as np
import pytest

from diffseglung.phantom.canvas import Canvas

LUNG_HU = -860.0


def even_lung(seed: int) -> Canvas:
    """Even healthy lung below a flat pleura."""
    full = (40, 48, 48)
    depth = np.broadcast_to((np.arange(48, dtype=np.float32) * 1.5)[None, :, None], full).copy()
    lung = depth > 0
    return Canvas(
        parenchyma=np.full(full, LUNG_HU, np.float32), vessels=np.zeros(full, np.float32),
        lumen=np.zeros(full, np.float32), lungs=lung.astype(np.uint8), depth=depth,
        truth=lung.astype(np.uint8), spacing_mm=(1.5,) * 3, rng=np.random.default_rng(seed),
    )  # fmt: skip


def test_cells_have_their_size() -> None:
    """No point is farther from a wall than a cell reaches, and cells twice as large have walls twice as far away."""
    middle = {}
    for size_mm in (6.0, 12.0):
        walls = [even_lung(seed).cells(size_mm)[1] for seed in range(6)]
        assert min(wall.min() for wall in walls) >= 0
        assert max(wall.max() for wall in walls) < size_mm
        middle[size_mm] = np.median(walls)
    assert middle[12.0] / middle[6.0] == pytest.approx(2, rel=0.15)


def test_sheets_cover_what_their_thickness_says_even_below_a_voxel() -> None:
    thin = np.mean([even_lung(seed).ridges(10.0, 0.5).mean() for seed in range(8)])
    thick = np.mean([even_lung(seed).ridges(10.0, 1.5).mean() for seed in range(8)])
    assert thick / thin == pytest.approx(3, rel=0.15)


def test_spheres_are_where_they_are_asked_for_and_nothing_where_nowhere_is() -> None:
    drawn = even_lung(0)
    where = np.zeros(drawn.shape, bool)
    where[20, 24, 24] = True
    share, signed = drawn.spheres(where, 1, (6.0, 6.0))
    volume_mm3 = float(share.sum()) * drawn.voxel**3
    assert volume_mm3 == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.1)
    assert signed[20, 24, 24] > 4
    none, far = drawn.spheres(np.zeros(drawn.shape, bool), 3, (2.0, 3.0))
    assert not none.any()
    assert far.max() < -100
