"""Second-order structure: bright plates (septa, fissures), bright tubes (vessels) and dark blobs (cysts).

Eigenvalues l1 <= l2 <= l3 of the Gaussian Hessian in HU (scale-normalised by sigma^2), as in Sato et al. 1998 (tubes)
and Descoteaux et al. 2006 (plates): a bright plate has one strongly negative eigenvalue, a bright tube two, a bright
blob three; a dark blob has three positive ones.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

MEASURES = ("plate", "tube", "dark_blob")


def symmetric_eigenvalues(a: torch.Tensor) -> torch.Tensor:
    """Ascending eigenvalues (N, 3) of symmetric matrices given as (N, 6): zz, yy, xx, zy, zx, yx.

    Closed form of Smith 1961 (trigonometric solution of the characteristic cubic).

    >>> symmetric_eigenvalues(torch.tensor([[3.0, 1.0, 2.0, 0.0, 0.0, 0.0]]))
    tensor([[1., 2., 3.]])
    """
    zz, yy, xx, zy, zx, yx = a.unbind(1)
    mean = (zz + yy + xx) / 3
    dz, dy, dx = zz - mean, yy - mean, xx - mean
    p = ((dz * dz + dy * dy + dx * dx + 2 * (zy * zy + zx * zx + yx * yx)) / 6).sqrt().clamp(min=1e-12)
    det = dz * (dy * dx - yx * yx) - zy * (zy * dx - yx * zx) + zx * (zy * yx - dy * zx)
    angle = (det / (2 * p**3)).clamp(-1, 1).acos() / 3
    high = mean + 2 * p * angle.cos()
    low = mean + 2 * p * (angle + 2 * torch.pi / 3).cos()
    return torch.stack([low, 3 * mean - high - low, high], dim=1)


def structure(hu: NDArray[np.float32], lungs: NDArray[np.bool_], sigma_voxels: float) -> dict[str, NDArray[np.float32]]:
    """Plate, tube and dark-blob strength in HU, each (Z, Y, X), zero outside the lungs.

    hu: (Z, Y, X) isotropic, with voxels outside the lungs replaced so that the border is no edge.
    """
    smooth = ndimage.gaussian_filter(hu, sigma_voxels)
    first = [np.gradient(smooth, axis=axis) for axis in range(3)]
    pairs = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
    where = np.nonzero(lungs)
    rows = np.stack([np.gradient(first[i], axis=j)[where] for i, j in pairs], axis=1) * sigma_voxels**2
    l1, l2, l3 = symmetric_eigenvalues(torch.from_numpy(rows)).unbind(1)
    measures = {
        "plate": (-l1 - torch.maximum(l2.abs(), l3.abs())).clamp(min=0),
        "tube": (-l2 - l3.abs()).clamp(min=0),
        "dark_blob": l1.clamp(min=0),
    }
    out = {}
    for name, values in measures.items():
        volume = np.zeros(hu.shape, np.float32)
        volume[where] = values.numpy()
        out[name] = volume
    return out
