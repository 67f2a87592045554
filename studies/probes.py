"""Features of cases at their lung positions, stored on disk, to compare many classifiers on the same positions.

Local descriptors are kept at every position (context needs them all); network activations and dense radiomics, which
are large, at a random sample. Files are NPZ archives of plain arrays, named after the case and their content.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffseglung.case.intensity import normalise
from diffseglung.case.positions import Positions
from diffseglung.case.prepared import PreparedScan
from diffseglung.method.distillation import bring
from diffseglung.method.features import FeatureSource, at_positions, diffusion_features
from diffseglung.method.radiomics.dense import describe_dense
from diffseglung.pipeline import describe
from diffseglung.platform import atomic_files
from diffseglung.platform.config import FeatureConfig, SegmentConfig
from diffseglung.platform.runtime import Runtime, generator
from diffseglung.tissue.bundle import Bundle
from diffseglung.tissue.local import shaped
from diffseglung.training.labelled_cases import read_prepared


@dataclass(frozen=True)
class Reading:
    """How a scan is read before its local descriptors are computed.

    spacing_mm: of the grid.
    intensity: "aligned" by air and the scan's own healthy lung; "plain", HU as they are; or as a pipeline without
        HU: "range", lung from its 0.5 to its 99.5 % quantile onto RANGE_HU; "z-score", lung onto MOMENTS_HU.
    """

    spacing_mm: float = 1.5
    intensity: str = "aligned"


RANGE_HU = (-930.0, -25.0)
MOMENTS_HU = (-754.0, 171.0)
"""Quantiles, and mean and standard deviation, of aligned HU in the lungs of the nine unlabelled real training scans."""
KEPT = 15000
"""Number of positions per case at which activations are kept."""
TAP_STRIDE = 4


@dataclass(frozen=True, eq=False)
class Probe:
    """One case.

    local: (N, F) local descriptors of all positions;  hu: (N,);  truth: (N,) class index, -1 where unknown.
    kept: (n,) positions of `columns`;  columns: name -> (n, D) float16, for activations and radiomics.
    """

    name: str
    where: Positions
    spacing_mm: float
    local: NDArray[np.float32]
    hu: NDArray[np.float32]
    truth: NDArray[np.int64]
    kept: NDArray[np.int64]
    columns: dict[str, NDArray[np.float16]] = field(default_factory=dict)

    def rows(self, *names: str) -> Tensor:
        """The named columns of the kept positions side by side, (n, D); `local` means the shaped descriptors."""
        parts = [shaped(self.local)[self.kept] if n == "local" else self.columns[n].astype(np.float32) for n in names]
        return torch.from_numpy(np.hstack(parts))

    @property
    def kept_truth(self) -> NDArray[np.int64]:
        """Truth of the kept positions."""
        return self.truth[self.kept]


def gather(
    path: Path, folder: Path, bundles: Mapping[str, Bundle], runtime: Runtime, *, radiomics: bool = False,
    reading: Reading = Reading(),
) -> Probe:  # fmt: skip
    """The probe of a case (NPZ, or a folder with truth), read from `folder` if stored before.

    bundles: networks whose taps are computed; columns `<bundle>/<level>/<tap>` (and `/projected` of a distilled one).
    radiomics: also the 34 dense descriptors, columns `radiomics`.
    reading: of the scan; a folder holds the probes of one reading.
    """
    prepared, truth = None, None
    base = folder / f"{path.stem}.npz"
    if not base.exists():
        prepared, truth = read_prepared(path, reading.spacing_mm)
        prepared = replace(prepared, aligned=intensities(prepared, reading.intensity))
        _keep(base, _local_part(prepared, truth))
    local = _load(base)
    columns: dict[str, NDArray[np.float16]] = {}
    where = Positions(local["index"].astype(np.int64), tuple(int(n) for n in local["shape"]), int(local["stride"]))  # type: ignore[arg-type]
    wanted = [*bundles, *(["radiomics"] if radiomics else [])]
    for name in wanted:
        file = folder / f"{path.stem}.{name}.npz"
        if not file.exists():
            if prepared is None:
                prepared, truth = read_prepared(path, reading.spacing_mm)
            some = Positions(where.index[local["kept"]], where.shape, where.stride)
            _keep(
                file,
                _radiomics(prepared, some) if name == "radiomics" else _taps(prepared, some, bundles[name], runtime),
            )
        columns |= {(name if name == "radiomics" else f"{name}/{key}"): value for key, value in _load(file).items()}
    known = local["truth"].astype(np.int64)
    return Probe(path.stem, where, reading.spacing_mm, local["local"], local["hu"], known, local["kept"], columns)


def intensities(prepared: PreparedScan, kind: str) -> NDArray[np.float32]:
    """Intensities (Z, Y, X) for the local descriptors of a prepared scan, according to `Reading.intensity`."""
    if kind == "aligned":
        return prepared.aligned
    if kind == "plain":
        return prepared.hu
    lung = prepared.hu[prepared.lungs]
    if kind == "range":
        low, high = np.quantile(lung, (0.005, 0.995))
        scaled = RANGE_HU[0] + (prepared.hu - low) * ((RANGE_HU[1] - RANGE_HU[0]) / max(high - low, 1.0))
    else:
        scaled = MOMENTS_HU[0] + (prepared.hu - lung.mean()) * (MOMENTS_HU[1] / max(lung.std(), 1.0))
    return np.asarray(scaled, np.float32)


def _local_part(prepared: PreparedScan, truth: NDArray[np.int64] | None) -> dict[str, NDArray[Any]]:
    rows = describe(prepared, None, Runtime(device=torch.device("cpu")), SegmentConfig())
    where = rows.where
    at = np.minimum(where.voxel, np.array(prepared.grid.shape) - 1)
    label = np.full(len(at), -1) if truth is None else truth[tuple(at.T)]
    pick = torch.randperm(len(at), generator=generator(0, 5))[:KEPT].sort().values.numpy()
    return {
        "local": rows.local.numpy(), "hu": rows.hu, "truth": label.astype(np.int8), "kept": pick,
        "index": where.index.astype(np.int16), "shape": np.array(where.shape), "stride": np.array(where.stride),
    }  # fmt: skip


def _taps(prepared: PreparedScan, where: Positions, bundle: Bundle, runtime: Runtime) -> dict[str, NDArray[np.float16]]:
    """Every tap of the network at every noise level, `<level>/<tap>` -> (n, channels)."""
    network, config = bundle.source.model.network, FeatureConfig()
    widths = dict(network.tap_channels)
    if bundle.card.stage == 2:
        widths = {"projected": bundle.source.channels} | widths

    def read(taps: dict[str, Tensor]) -> Tensor:
        parts = [
            bring(bundle.source.read(taps), bundle.source.stride, TAP_STRIDE)
            if name == "projected"
            else bring(taps[name], network.tap_strides[name], TAP_STRIDE)
            for name in widths
        ]
        return torch.cat([part.float() for part in parts], dim=1)

    source = FeatureSource(bundle.source.model, read, sum(widths.values()), TAP_STRIDE)
    grid = normalise(prepared.hu, bundle.card.intensity)
    found = at_positions(diffusion_features(grid, prepared.lungs, source, config, runtime), TAP_STRIDE, where).half()
    out, first = {}, 0
    for level in range(len(config.steps)):
        for name, width in widths.items():
            out[f"{level}/{name}"] = found[:, first : first + width].numpy()
            first += width
    return out


def _radiomics(prepared: PreparedScan, where: Positions) -> dict[str, NDArray[np.float16]]:
    """The 34 descriptors at each position; NaN (too little lung) becomes the mean of the column."""
    found = describe_dense(
        torch.from_numpy(prepared.hu)[None], torch.from_numpy(prepared.lungs)[None], stride=TAP_STRIDE
    )[0]
    values = found.numpy()
    mean = np.nanmean(values.reshape(len(values), -1), axis=1)
    filled = np.where(np.isnan(values), mean[:, None, None, None], values)
    rows = at_positions(torch.from_numpy(filled), TAP_STRIDE, where).numpy()
    return {"all": np.clip(rows, -6e4, 6e4).astype(np.float16)}


def _keep(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an archive atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_files.written(path) as part:
        np.savez(part, **{key.replace("/", "|"): value for key, value in arrays.items()})  # type: ignore[arg-type]


def _load(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as file:
        return {key.replace("|", "/"): file[key] for key in file.files}
