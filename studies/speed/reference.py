"""A plain implementation of the published method for comparison: features of every voxel, PCA, a mixture on voxels.

The release has no network and no evaluation; this follows its description: the 39 M parameter U-Net on the scan's own
grid in patches of 32 x 96 x 96 that overlap by half, three noise levels, the bottleneck projected to 128 features and
interpolated to every voxel, the mean over overlapping patches and levels kept for every voxel of the lung's box, then
scikit-learn's PCA and GaussianMixture on the lung's voxels. A whole scan would take hours and more memory than most
machines have, so a part is timed and the total extrapolated from the
scan's actual number of patches and voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from diffseglung.method.unet import UNet
from diffseglung.platform.config import UNETS
from diffseglung.volume import Shape
from studies.speed.clock import Cost, clock

PATCH, FEATURES, LEVELS = (32, 96, 96), 128, (0.05, 0.15, 0.30)
DIMENSIONS, COMPONENTS, ITERATIONS, ROWS = 16, 5, 100, 100_000


@dataclass(frozen=True)
class Reference:
    """Seconds of a whole scan by the published method, extrapolated, and the memory of its arrays.

    patch_s: of one patch, three levels, with interpolation;  patches: number that contain lung.
    voxel_s: PCA and mixture of one voxel;  voxels: of the lungs;  box: voxels of the box around them.
    """

    patch_s: tuple[float, ...]
    patches: int
    voxel_s: tuple[float, ...]
    voxels: int
    box: int

    @property
    def cost(self) -> Cost:
        """Extrapolated cost of the whole scan."""
        pairs = zip(self.patch_s, self.voxel_s, strict=True)
        return Cost(tuple(p * self.patches + v * self.voxels for p, v in pairs), ())

    @property
    def peak_mib(self) -> float:
        """Features of the box in float32, and those of the lung's voxels as rows: both are alive at once."""
        return (self.box + self.voxels) * FEATURES * 4 / 2**20


def reference(lungs: np.ndarray, repeats: int = 3, *, size: str = "reference", rows: int = ROWS) -> Reference:
    """Time the published method on a scan with these lungs (Z, Y, X), its own grid; size, rows: smaller for tests."""
    where = np.argwhere(lungs)
    low, high = where.min(0), where.max(0) + 1
    box: Shape = tuple(int(n) for n in high - low)  # type: ignore[assignment]
    inside = lungs[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] > 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network, project = UNet(UNETS[size]).eval(), nn.Conv3d(UNet(UNETS[size]).widths[-1], FEATURES, 1)
        clean = torch.randn(1, 2, *PATCH)
        values = torch.randn(rows, FEATURES)
    total = torch.zeros(FEATURES, *PATCH)

    def one_patch() -> None:
        with torch.inference_mode():
            for level in LEVELS:
                _, taps = network.with_taps(clean, torch.full((1,), level))
                total.add_(F.interpolate(project(taps["bottleneck"]), PATCH, mode="trilinear")[0])

    def some_voxels() -> None:
        from sklearn.decomposition import PCA
        from sklearn.mixture import GaussianMixture

        z = PCA(DIMENSIONS, random_state=0).fit_transform(values.numpy())
        mixture = GaussianMixture(COMPONENTS, max_iter=ITERATIONS, tol=0.0, init_params="random", random_state=0)
        with np.errstate(all="ignore"):
            import warnings

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the number of iterations is fixed
                mixture.fit(z)
        mixture.predict_proba(z)

    voxels = int(inside.sum())
    return Reference(
        clock(one_patch, repeats).wall_s,
        _patches(inside),
        tuple(s / rows for s in clock(some_voxels, repeats, warm=False).wall_s),
        voxels,
        prod(box),
    )


def _patches(inside: np.ndarray) -> int:
    """Patches that overlap by half and contain lung."""
    starts = [range(0, max(1, n - size // 2), size // 2) for n, size in zip(inside.shape, PATCH, strict=True)]
    return sum(
        bool(inside[z : z + PATCH[0], y : y + PATCH[1], x : x + PATCH[2]].any())
        for z in starts[0]
        for y in starts[1]
        for x in starts[2]
    )
