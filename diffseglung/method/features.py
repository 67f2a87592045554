"""Multi-timestep diffusion features: noise a tile to a few levels, one network call each, read the projected taps.

No sampling chain runs at inference: a scan costs (tiles with lung) x (noise levels) network calls. The noise of a tile
depends only on the seed, its corner and the level, so features do not depend on batch size or tile order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from diffseglung.case.positions import Positions
from diffseglung.method.diffusion import DiffusionModel, noised, per_patch
from diffseglung.method.distillation import StudentHead, bring
from diffseglung.method.patches import blend, cut, lung_corners, tile_corners
from diffseglung.method.unet import call_bytes
from diffseglung.platform.config import FeatureConfig
from diffseglung.platform.resources import is_out_of_memory, memory_bytes
from diffseglung.platform.runtime import Runtime, patch_noise, spread
from diffseglung.volume import Shape

Rows = NDArray[np.float32]
Reader = Callable[[dict[str, Tensor]], Tensor]
"""Network taps -> features (B, D, z, y, x) on a grid of `stride` voxels."""
RAW_STRIDE = 4
_ALONE = threading.Lock()
"""Held by the one thread that retries after running out of memory."""
Progress = Callable[[Iterable[list[Shape]], int], Iterable[list[Shape]]]


@dataclass(frozen=True, eq=False)
class FeatureSource:
    """A diffusion model and what is read from it: `read` returns `channels` features every `stride` voxels."""

    model: DiffusionModel
    read: Reader
    channels: int
    stride: int

    @classmethod
    def student(cls, model: DiffusionModel, head: StudentHead) -> FeatureSource:
        """Projected features of a distilled model."""
        return cls(model, head, head.leave.out_channels, head.stride)

    @classmethod
    def raw(cls, model: DiffusionModel, stride: int = RAW_STRIDE) -> FeatureSource:
        """Bottleneck, decoder levels and decoder output concatenated: the input of a student head, without the head."""
        network = model.network
        names = ["bottleneck", *(n for n in network.tap_channels if n.startswith("level") and n != "level0"), "decoder"]

        def read(taps: dict[str, Tensor]) -> Tensor:
            return torch.cat([bring(taps[n], network.tap_strides[n], stride) for n in names], dim=1)

        return cls(model, read, sum(network.tap_channels[n] for n in names), stride)


def tile_size(wanted: Shape, shape: Shape, multiple: int) -> Shape:
    """The wanted tile, no larger than the grid needs, its sides multiples of `multiple`.

    >>> tile_size((64, 64, 64), (40, 200, 200), 16)
    (48, 64, 64)
    """
    z, y, x = (-(-min(w, n) // multiple) * multiple for w, n in zip(wanted, shape, strict=True))
    return z, y, x


def tiles(lungs: NDArray[np.bool_], source: FeatureSource, config: FeatureConfig) -> tuple[Shape, list[Shape]]:
    """Tile size and the corners of the tiles that contain lung, at multiples of the source's stride."""
    tile = tile_size(config.tile, lungs.shape, source.model.network.multiple)
    corners = lung_corners(tile_corners(lungs.shape, tile, config.overlap), tile, lungs)
    stride = source.stride
    return tile, sorted({tuple(c // stride * stride for c in corner) for corner in corners})  # type: ignore[misc]


def diffusion_features(
    grid: Rows, lungs: NDArray[np.bool_], source: FeatureSource, config: FeatureConfig, runtime: Runtime,
    progress: Progress | None = None,
) -> Tensor:  # fmt: skip
    """Feature vectors (levels x channels, z, y, x) every `source.stride` voxels; NaN where there is no tile.

    grid: (Z, Y, X) HU in model units;  lungs: (Z, Y, X).  float16, so that a full CT at stride 4 stays near 200 MB.
    """
    stride, (tile, corners) = source.stride, tiles(lungs, source, config)
    z, y, x = (-(-n // stride) for n in grid.shape)
    size = config.batch_size if runtime.device.type != "cpu" else 1
    batches = [corners[i : i + size] for i in range(0, len(corners), size)]

    def work(batch: list[Shape]) -> tuple[list[Shape], list[Tensor]]:
        return batch, within_memory(
            lambda part: list(tile_features(grid, lungs, part, tile, source, config, runtime)), batch
        )

    shown = progress(batches, len(batches)) if progress else batches
    read = spread(work, shown, most=at_once(source.model, tile, runtime))
    parts = (pair for batch, found in read for pair in zip(batch, found, strict=True))
    placed = (((c[0] // stride, c[1] // stride, c[2] // stride), values.numpy()) for c, values in parts)
    return torch.from_numpy(blend(placed, (z, y, x))).half()


def within_memory(call: Callable[[list[Shape]], list[Tensor]], batch: list[Shape]) -> list[Tensor]:
    """`call(batch)`; where memory runs out, in halves, down to single tiles one after the other."""
    try:
        return call(batch)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    if len(batch) > 1:
        middle = len(batch) // 2
        return [*within_memory(call, batch[:middle]), *within_memory(call, batch[middle:])]
    with _ALONE:
        return call(batch)


def at_once(model: DiffusionModel, tile: Shape, runtime: Runtime) -> int:
    """Network calls that may run in parallel: one on an accelerator, else as many as fit in memory, at least one.

    On a CPU each tile is a separate call on one core, so that no sum depends on batch size or thread count.
    """
    if runtime.device.type != "cpu":
        return 1
    free = memory_bytes()
    return 2 if free is None else max(1, free // 2 // call_bytes(model.network.config, tile))


def tile_features(
    grid: Rows, lungs: NDArray[np.bool_], batch: list[Shape], tile: Shape, source: FeatureSource,
    config: FeatureConfig, runtime: Runtime,
) -> Iterator[Tensor]:  # fmt: skip
    """Features (levels x channels, z, y, x) of each tile of a batch."""
    clean = torch.stack([torch.from_numpy(cut(grid, corner, tile, -1.0)) for corner in batch])[:, None]
    mask = torch.stack([torch.from_numpy(cut(lungs.astype(np.float32), corner, tile)) for corner in batch])[:, None]
    clean, mask = clean.to(runtime.device), mask.to(runtime.device)
    last, parts = source.model.config.steps, []
    for level, fraction in enumerate(config.steps):
        step = torch.full((len(batch),), max(1, round(fraction * last)), device=runtime.device)
        noise = torch.stack(list(spread(partial(_noise, tile, config.seed, level), batch)))
        noisy = noised(clean, noise.to(runtime.device), per_patch(source.model.signal, step, clean))
        with torch.inference_mode(), runtime.autocast():
            _, taps = source.model.network.with_taps(torch.cat([noisy, mask], dim=1), step / last)
            parts.append(source.read(taps).float())
    yield from torch.cat(parts, dim=1).cpu()


def _noise(tile: Shape, seed: int, level: int, corner: Shape) -> Tensor:
    return patch_noise((1, *tile), seed, level, *corner)


def at_positions(features: Tensor, stride: int, where: Positions, *, described_at: float | None = None) -> Tensor:
    """Features (F, z, y, x) on a grid of `stride` voxels, interpolated linearly at positions: rows (N, F) without NaN.

    described_at: the voxel of a cell that its feature describes; the centre, (stride - 1) / 2, if None.
    Cells without a tile take the value of the nearest cell with one.
    """
    values = features.numpy()
    missing = np.isnan(values[0])
    if missing.any():
        index = ndimage.distance_transform_edt(missing, return_distances=False, return_indices=True)
        values = values[(slice(None), *index)]
    centre = (where.voxel - ((stride - 1) / 2 if described_at is None else described_at)) / stride
    if np.allclose(centre, np.rint(centre)):
        z, y, x = np.minimum(np.rint(centre).astype(np.int64), np.array(values.shape[1:]) - 1).T
        return torch.from_numpy(values[:, z, y, x].T.astype(np.float32))
    grid = [np.clip(c, 0, n - 1) for c, n in zip(centre.T, values.shape[1:], strict=True)]
    low = [np.floor(c).astype(np.int64) for c in grid]
    rows = np.zeros((len(centre), len(values)), np.float32)
    for corner in np.ndindex(2, 2, 2):
        weight, index = np.ones(len(centre), np.float32), []
        for axis, up in enumerate(corner):
            part = (grid[axis] - low[axis]).astype(np.float32)
            weight *= part if up else 1 - part
            index.append(np.minimum(low[axis] + up, values.shape[axis + 1] - 1))
        rows += weight[:, None] * values[:, index[0], index[1], index[2]].T
    return torch.from_numpy(rows)


@dataclass(frozen=True, eq=False)
class Projection:
    """Standardise rows and keep their leading principal components: z = ((row - mean) / scale) @ axes.

    mean, scale: (F,);  axes: (F, P), the leading eigenvectors of the correlation matrix, divided by the root of their
    eigenvalues if whitened.
    """

    mean: Tensor
    scale: Tensor
    axes: Tensor

    @classmethod
    def fit(cls, rows: Tensor, dimensions: int | None = None, *, whiten: bool = False) -> Self:
        """From rows (N, F); with `dimensions` None all columns are kept, unrotated.

        >>> rows = torch.tensor([[0.0, 10.0], [2.0, 30.0]])
        >>> Projection.fit(rows)(rows)
        tensor([[-0.7071, -0.7071],
                [ 0.7071,  0.7071]])
        """
        mean, scale = rows.mean(0), rows.std(0).clamp(min=1e-6)
        if dimensions is None or dimensions >= rows.shape[1]:
            return cls(mean, scale, torch.eye(rows.shape[1], dtype=rows.dtype))
        z = (rows - mean) / scale
        values, vectors = torch.linalg.eigh((z.T.double() @ z.double()) / len(z))
        axes = vectors.flip(1)[:, :dimensions]
        # The entry of largest magnitude is positive, so that signs do not depend on LAPACK.
        axes = axes * torch.where(axes.abs().amax(0) == axes.amax(0), 1.0, -1.0)
        if whiten:
            axes = axes / values.flip(0)[:dimensions].clamp(min=1e-9).sqrt()
        return cls(mean, scale, axes.to(rows.dtype))

    def __call__(self, rows: Tensor) -> Tensor:
        """(N, F) -> (N, P)."""
        return ((rows - self.mean) / self.scale) @ self.axes
