"""The resources of a segmentation, estimated in advance: tiles, network calls, memory, disk and seconds.

Tiles and calls are exact. Memory and seconds are computed from the sizes of the model grid, the scan and one network
call, with measured constants (docs/reliability.md); seconds are scaled by the time that finding the lungs just took.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from diffseglung.case.positions import positions
from diffseglung.case.prepared import PreparedScan
from diffseglung.case.repeats import own_voxels
from diffseglung.method.features import at_once, tile_features, tiles
from diffseglung.method.unet import call_bytes
from diffseglung.pipeline import Segmenter, network_settings, prepare
from diffseglung.platform import out_of_core
from diffseglung.platform.resources import memory_bytes
from diffseglung.platform.runtime import spread
from diffseglung.tissue.methods import WITH_NETWORK, network_use
from diffseglung.volume import Shape, Volume

LIBRARIES_BYTES = 300 * 2**20
"""Memory of interpreter and libraries."""
GRID_BYTES, SCAN_BYTES, ROW_COPIES = 280.0, 1.0, 2.0
"""Memory per voxel of the model grid and of the scan (most of it is in mapped files); copies of network features."""
LUNGS_S, SCENE_S = (0.3, 0.035), (0.3, 0.017)
TISSUE_S, FUSION_S, FILES_S = (0.3, 0.9), (0.0, 0.38), (0.8, 0.035)
"""Seconds of a stage on two cores: fixed, and per million voxels of the scan (lungs, scene, files) or of the model grid
(tissue, fusion)."""
TEMPORARY_BYTES = 7
"""Bytes per voxel of a scan in mapped files: 4 for HU, 1 each for lungs, labels and certainty."""


@dataclass(frozen=True)
class Forecast:
    """shape_zyx: of the scan.  model_grid_zyx: of the working grid.  positions: number of positions to describe.

    tiles, calls: of the network, 0 without one.  memory_bytes: of the whole process, estimated.  free_bytes: available.
    temporary_bytes: of files in the folder TMPDIR.  seconds: from start to end, estimated.
    """

    shape_zyx: Shape
    model_grid_zyx: Shape
    positions: int
    tiles: int
    calls: int
    memory_bytes: int
    free_bytes: int | None
    temporary_bytes: int
    seconds: float

    def lines(self) -> list[str]:
        """The forecast as text."""
        free = "" if self.free_bytes is None else f"; {_gib(self.free_bytes)} available"
        network = f"{self.tiles} tiles, {self.calls} network calls" if self.calls else "no network calls"
        return [
            f"scan: {_size(self.shape_zyx)} voxels; model grid: {_size(self.model_grid_zyx)}",
            f"work: {self.positions} positions to describe, {network}",
            f"memory: about {_gib(self.memory_bytes)}{free}",
            f"temporary files: {_gib(self.temporary_bytes)}",
            f"time: about {self.seconds:.0f} s",
        ]


def foretell(segmenter: Segmenter, ct: Volume, lung_mask: Volume | None = None, *, before_s: float = 0.0) -> Forecast:
    """Estimate the resources for segmenting this scan.  before_s: seconds that starting and reading took.

    It finds the lungs and prepares the scan, and takes the time and memory of that.  Raises InputError.
    """
    begin = time.perf_counter()
    _, own, own_mask = own_voxels(ct, lung_mask)
    lungs = segmenter.lungs(own, own_mask)
    by_tool = 0.0 if segmenter.config.lungs == "auto" else time.perf_counter() - begin
    prepared = prepare(own, lungs, segmenter.config)
    took = time.perf_counter() - begin - by_tool
    scan, grid = ct.array.size / 1e6, prepared.hu.size / 1e6
    usual = _stage(SCENE_S, scan) + (0.0 if by_tool or lung_mask is not None else _stage(LUNGS_S, scan))
    count = len(positions(prepared.lungs, segmenter.config.stride).voxel)
    network = _network(segmenter, prepared)
    finer = {2: 1.0, 3: 0.6}[segmenter.config.stride] * _stage(TISSUE_S, grid)
    rest = finer + _stage(FILES_S, scan) + (_stage(FUSION_S, grid) if segmenter.config.sharpens else 0.0)
    memory = LIBRARIES_BYTES + GRID_BYTES * prepared.hu.size + SCAN_BYTES * ct.array.size + network.bytes_at_once
    memory += ROW_COPIES * 4 * network.features * count
    return Forecast(
        shape_zyx=ct.shape,
        model_grid_zyx=prepared.grid.shape,
        positions=count,
        tiles=network.tiles,
        calls=network.calls,
        memory_bytes=int(memory),
        free_bytes=memory_bytes(),
        temporary_bytes=TEMPORARY_BYTES * ct.array.size if out_of_core.is_large(4 * ct.array.size) else 0,
        seconds=round(before_s + by_tool + took + rest * took / usual + network.seconds, 1),
    )


@dataclass(frozen=True)
class _Network:
    """The network's share, from timing a few tiles.  features: values per position."""

    tiles: int = 0
    calls: int = 0
    bytes_at_once: int = 0
    features: int = 0
    seconds: float = 0.0


def _network(segmenter: Segmenter, prepared: PreparedScan) -> _Network:
    if segmenter.config.method not in WITH_NETWORK or segmenter.bundle is None:
        return _Network()
    source, config = network_use(segmenter.config.method, segmenter.bundle, network_settings(segmenter.config))
    runtime = segmenter.runtime
    tile, corners = tiles(prepared.lungs, source, config)
    size = config.batch_size if runtime.device.type != "cpu" else 1
    beside = min(at_once(source.model, tile, runtime), torch.get_num_threads(), len(corners))

    def work(batch: list[Shape]) -> list[Tensor]:
        return list(tile_features(prepared.aligned, prepared.lungs, batch, tile, source, config, runtime))

    for _ in range(2):  # the first time warms up
        begin = time.perf_counter()
        list(spread(work, [corners[:size]] * beside, most=beside))
    return _Network(
        tiles=len(corners),
        calls=len(corners) * len(config.steps),
        bytes_at_once=beside * size * call_bytes(source.model.network.config, tile),
        features=source.channels * len(config.steps),
        seconds=(time.perf_counter() - begin) * len(corners) / (beside * size),
    )


def _stage(constants: tuple[float, float], millions: float) -> float:
    return constants[0] + constants[1] * millions


def _gib(number: float) -> str:
    return f"{number / 2**30:.1f} GiB"


def _size(shape: Shape) -> str:
    return " x ".join(map(str, shape))
