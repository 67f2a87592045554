import numpy as np
import torch

from diffseglung.tissue.hessian import structure, symmetric_eigenvalues


def test_eigenvalues_equal_lapack() -> None:
    random = np.random.default_rng(0)
    a = random.normal(size=(200, 3, 3))
    a = a + a.transpose(0, 2, 1)
    rows = np.stack([a[:, 0, 0], a[:, 1, 1], a[:, 2, 2], a[:, 0, 1], a[:, 0, 2], a[:, 1, 2]], 1)
    np.testing.assert_allclose(symmetric_eigenvalues(torch.from_numpy(rows)).numpy(), np.linalg.eigvalsh(a), atol=1e-8)


def shape_strengths(hu: np.ndarray) -> dict[str, float]:
    found = structure(hu.astype(np.float32), np.ones(hu.shape, bool), 1.5)
    return {name: float(values[12, 12, 12]) for name, values in found.items()}


def test_a_plate_a_tube_and_a_cyst_are_told_apart() -> None:
    z, y, x = np.mgrid[:25, :25, :25] - 12
    plate = shape_strengths(np.where(abs(z) <= 1, -400.0, -860.0))
    tube = shape_strengths(np.where(y**2 + x**2 <= 4, -400.0, -860.0))
    cyst = shape_strengths(np.where(z**2 + y**2 + x**2 <= 6, -980.0, -600.0))
    assert plate["plate"] > 5 * max(plate["tube"], plate["dark_blob"], 1e-3)
    assert tube["tube"] > 5 * max(tube["plate"], tube["dark_blob"], 1e-3)
    assert cyst["dark_blob"] > 5 * max(cyst["plate"], cyst["tube"], 1e-3)


def test_strengths_do_not_change_when_axes_are_permuted() -> None:
    hu = np.random.default_rng(1).normal(-800, 50, (16, 18, 20)).astype(np.float32)
    lungs = np.ones(hu.shape, bool)
    plain, turned = structure(hu, lungs, 1.5), structure(hu.transpose(2, 0, 1).copy(), lungs.transpose(2, 0, 1), 1.5)
    for name in plain:
        np.testing.assert_allclose(plain[name].transpose(2, 0, 1), turned[name], atol=1e-2)
