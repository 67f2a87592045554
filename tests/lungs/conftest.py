"""A synthetic chest whose lungs, airways and disease are known voxel by voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from diffseglung.volume import Volume

AFFINE = np.array([[0, 0, 2.5, -125.0], [0, 2.5, 0, -95.0], [4.0, 0, 0, -150.0], [0, 0, 0, 1.0]])
SHAPE = (75, 76, 100)


@dataclass(frozen=True, eq=False)
class Chest:
    """ct: HU; lungs: 0, 1 right, 2 left; the others are masks on the same grid."""

    ct: Volume
    lungs: np.ndarray
    trachea: np.ndarray
    dome: np.ndarray
    heart: np.ndarray
    disease: np.ndarray


def ellipsoid(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
    """Patient (x, y, z) mm, LPS."""
    z, y, x = np.indices(SHAPE)
    points = (AFFINE[0, 2] * x + AFFINE[0, 3], AFFINE[1, 1] * y + AFFINE[1, 3], AFFINE[2, 0] * z + AFFINE[2, 3])
    return sum(((p - c) / r) ** 2 for p, c, r in zip(points, centre, radii, strict=True)) < 1


def make_chest(*, disease: bool = False) -> Chest:
    z, y, x = np.indices(SHAPE)
    across, along = AFFINE[0, 2] * x + AFFINE[0, 3], AFFINE[1, 1] * y + AFFINE[1, 3]
    height = AFFINE[2, 0] * z + AFFINE[2, 3]
    body = (across / 118) ** 2 + (along / 85) ** 2 < 1
    heart = ellipsoid((18, -15, -35), (48, 42, 50))
    dome = ellipsoid((-50, 0, -130), (55, 55, 75)) | (height < -125)
    stomach = ellipsoid((55, -20, -140), (22, 18, 12))
    right, left = ellipsoid((-52, 5, -20), (46, 62, 130)), ellipsoid((52, 5, -20), (46, 62, 130))
    inside = ~heart & ~dome & (height > -125)
    lungs = np.where(right & inside, 1, np.where(left & inside, 2, 0)).astype(np.uint8)
    trachea = (np.hypot(across, along - 5) < 9) & (height > 20)
    for sign in (-1, 1):
        run = (20 - height) / 25
        trachea |= (np.hypot(across - sign * 22 * run, along - 5) < 7) & (run > 0) & (run < 1)
    lungs[trachea] = 0
    sick = ellipsoid((-98, 10, 10), (18, 25, 22)) | ellipsoid((70, 62, -30), (25, 22, 25))
    sick &= lungs > 0
    rng = np.random.default_rng(0)
    hu = np.where(body, 40.0, -1000.0)
    hu[lungs > 0] = -850
    hu[trachea] = -1000
    hu[stomach & body] = -1000
    table = (along > 92) & (np.abs(across) < 100)
    hu[table & ~body] = -200
    if disease:
        hu[sick] = 30
    hu += rng.normal(0, 20, SHAPE)
    return Chest(Volume(hu.astype(np.float32), AFFINE), lungs, trachea, dome, heart, sick)


@pytest.fixture(scope="session")
def chest() -> Chest:
    return make_chest()


@pytest.fixture(scope="session")
def sick_chest() -> Chest:
    return make_chest(disease=True)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))
