"""The stages in order, each callable separately, and `segment`, which runs all of them.

    prepared  = prepare(ct, lungs, config)                        the scan on the model grid, aligned
    rows      = describe(prepared, bundle, runtime, config)       lung positions and their descriptors
    posterior = label(rows, config)                               probability of each class at each position
    fine      = sharpen(posterior, rows.where, prepared, config)  on every voxel of the model grid, borders sharpened
    restored  = restore(ct, lungs, prepared, fine, config)        labels on the scan's own grid

No other module combines them.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from diffseglung.case.alignment import HealthyLevel
from diffseglung.case.positions import Positions
from diffseglung.case.prepared import PreparedScan, onto_window, prepare_scan
from diffseglung.case.repeats import Repeats, own_voxels
from diffseglung.io import Scan, read_mask, read_scan
from diffseglung.labels import TISSUES, UNASSIGNED
from diffseglung.lungs.anatomy import WEIGHTS, Anatomy, weights_hash
from diffseglung.lungs.external_tools import Source, lungs_of
from diffseglung.lungs.finder import anatomy_of
from diffseglung.lungs.quality import LungQuality, lung_quality, lung_sentences
from diffseglung.lungs.torso import Torso
from diffseglung.method.features import Progress
from diffseglung.method.fusion import fuse, most_probable, to_voxels
from diffseglung.output.record import Origin, fingerprint, source_record, told_name
from diffseglung.output.statistics import measure
from diffseglung.platform.config import FeatureConfig, LungMaskConfig, SegmentConfig, default_method
from diffseglung.platform.extras import require_lung_tool
from diffseglung.platform.out_of_core import release, slabs, zeros
from diffseglung.platform.runtime import Runtime, choose_device, choose_precision, spread, started
from diffseglung.platform.serialization import readable
from diffseglung.quality.scan import Quality, merged, quality
from diffseglung.segmentation import Segmentation
from diffseglung.tissue.bundle import Bundle, load_bundle
from diffseglung.tissue.methods import WITHOUT_MODEL, Rows, class_posterior
from diffseglung.volume import Volume


class Stopwatch:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block under `name`."""
        begin = time.perf_counter()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - begin, 3)


@dataclass(frozen=True, eq=False)
class Segmenter:
    """Segments many scans with one model: `Segmenter.load(...)`, then call it with a `Volume`."""

    bundle: Bundle | None
    config: SegmentConfig
    runtime: Runtime
    lung_config: LungMaskConfig = field(default_factory=LungMaskConfig)
    notes: tuple[str, ...] = ()

    @classmethod
    def load(
        cls,
        model: Path | str | None = None,
        *,
        config: SegmentConfig | None = None,
        device: str = "auto",
        named: bool | None = None,
    ) -> Segmenter:
        """model: a weights file, or None for the installed one if the method needs one.

        config: None uses `default_method`.  named: whether its method was chosen explicitly (default: if config is
        given); if not, it is replaced by the one that the model was made for, or by `physics`, with a note.
        Raises CheckpointError or ConfigError.
        """
        named = config is not None if named is None else named
        config = config or SegmentConfig(method=default_method(model is not None))
        require_lung_tool(config.lungs)
        place = choose_device(device)
        runtime = Runtime(device=place, precision=choose_precision(config.precision, place))
        bundle = None if config.method in WITHOUT_MODEL else load_bundle(Path(model) if model else None, str(place))
        if bundle is not None:
            bundle.card.check_use(config.spacing_mm)
        if bundle is not None and config.method == "student":
            bundle.segmenter()  # raises before any scan is worked on
        if named or bundle is None or config.method in bundle.tissues:
            return cls(bundle, config, runtime)
        if bundle.classes is not None:
            return cls(bundle, dataclasses.replace(config, method="student"), runtime)
        config = dataclasses.replace(config, method=default_method(False))
        note = f"{bundle.path.name} has no tissue model (diffseglung fit makes one): labelled by {config.method}"
        return cls(bundle, config, runtime, notes=(note + ", which uses no model",))

    def __call__(
        self,
        ct: Volume,
        lung_mask: Volume | None = None,
        *,
        name: str | None = None,
        notes: list[str] | None = None,
        probabilities: bool = False,
        progress: Progress | None = None,
    ) -> Segmentation:
        """Segment one CT.

        lung_mask: a binary mask, or a label map of lungmask or TotalSegmentator, on the CT's grid; found if None.
        name: of the scan in the record and the picture.  notes: warnings of its reader.
        probabilities: keep the posterior on the CT's grid.
        """
        watch, ct_hash = Stopwatch(), started(lambda: fingerprint(ct))
        with watch.stage("lungs"):
            repeats, own, own_mask = own_voxels(ct, lung_mask)
            anatomy = anatomy_of(own)
            own_lungs = self.lungs(own, own_mask, anatomy)
        with watch.stage("scene"):
            prepared = prepare(own, own_lungs, self.config)
        guard = started(lambda: _judged(own, own_lungs, prepared.level, anatomy))
        with watch.stage("tissue"):
            rows = describe(prepared, self.bundle, self.runtime, self.config, progress)
            posterior, where = label(rows, self.config), rows.where
            del rows
        with watch.stage("fusion"):
            fine = sharpen(posterior, where, prepared, self.config)
        with watch.stage("back"):
            back = restore(own, own_lungs, prepared, fine, self.config, keep=probabilities).again(ct, repeats)
            lungs = ct.with_array(repeats.again(own_lungs.array))
        with watch.stage("statistics"):
            statistics = measure(ct, lungs, back.label_map, back.expected_voxels)
        with watch.stage("quality"):  # the part not finished yet
            found, found_lungs = guard()
        run = {
            "input": name,
            **self._means(lung_mask is not None),
            "device": str(self.runtime.device),
            "precision": self.runtime.precision,
            "seconds": watch.seconds,
            "warnings": [*self.notes, *_told(notes or [], found, found_lungs), *repeats.notes()],
            "quality": dataclasses.asdict(found),
            "lung_quality": dataclasses.asdict(found_lungs),
            "scan": self._details(prepared, lung_mask is not None) | {"voxels_stored_times": list(repeats.times)},
            "fingerprints": {
                "ct": ct_hash(),
                "lung_mask": None if lung_mask is None else fingerprint(lung_mask),
                "label_map": fingerprint(back.label_map),
            },
        }
        return Segmentation(ct, lungs, back.label_map, statistics, back.posterior, run, back.certainty)

    def of_file(
        self, scan: Scan, origin: Origin, lung_mask: Volume | None = None, *, probabilities: bool = False,
        progress: Progress | None = None,
    ) -> Segmentation:  # fmt: skip
        """Segment a scan read from files; its record then includes their paths."""
        result = self(scan.volume, lung_mask, notes=scan.notes, probabilities=probabilities, progress=progress)
        result.run["input"] = told_name(scan, origin, result.run["fingerprints"]["ct"])
        result.run["source"] = source_record(scan, origin)
        return result

    def lungs(self, ct: Volume, lung_mask: Volume | None = None, anatomy: Anatomy | None = None) -> Volume:
        """The lungs of a CT (0 outside, 1 right, 2 left): from a mask, found, or by the chosen tool."""
        return lungs_of(ct, lung_mask, self.lung_source, self.lung_config, anatomy)

    @property
    def lung_source(self) -> Source:
        """Source of lungs if no mask is given."""
        return Source(self.config.lungs, str(self.runtime.device), self.config.fast)

    def _means(self, mask_given: bool) -> dict[str, Any]:
        """Settings and weights, for the record."""
        model, network = None, None
        if self.bundle is not None:
            card = self.bundle.card
            model = {"name": card.name, "stage": card.stage, "iteration": card.iteration}
            model |= {"file": str(self.bundle.path.absolute()), "sha256": self.bundle.sha256}
        if self.lung_config.learned and not mask_given and self.config.lungs == "auto":
            network = {"name": WEIGHTS.stem, "sha256": weights_hash()}
        settings, lungs = self.config.to_dict(), self.lung_config.to_dict()
        tool = self.lung_source.record()
        return {"settings": settings, "lungs": lungs, "model": model, "lung_network": network, "lung_tool": tool}

    def _details(self, prepared: PreparedScan, mask_given: bool) -> dict[str, Any]:
        own = prepared.lung_levels
        return {
            "healthy_level_hu": round(prepared.level.level_hu, 1),
            "lung_levels_hu": None if own is None else [round(lung.level_hu, 1) for lung in own],
            "air_hu": round(prepared.level.air_hu, 1),
            "gravity_slope_hu_per_mm": round(prepared.level.slope, 3),
            "model_grid": {"shape": list(prepared.grid.shape), "spacing_mm": list(prepared.grid.spacing_mm)},
            "lung_mask": "given" if mask_given else "found",
        }


def _judged(ct: Volume, lungs: Volume, level: HealthyLevel, anatomy: Anatomy) -> tuple[Quality, LungQuality]:
    """Quality of the scan and of its lungs."""
    torso = Torso.of(ct)
    return quality(ct, lungs, level, torso), lung_quality(ct, lungs, anatomy, torso)


def _told(notes: list[str], found: Quality, lungs: LungQuality) -> list[str]:
    """Warnings of the scan's reader, then of the lungs and the scan, each subject once."""
    return merged([*map(readable, notes), *lung_sentences(lungs)], found)


def prepare(ct: Volume, lungs: Volume, config: SegmentConfig) -> PreparedScan:
    """A scan and its lungs (non-zero inside) on the model grid.  Raises InputError if there is too little lung."""
    return prepare_scan(ct, lungs, config.spacing_mm)


def network_settings(config: SegmentConfig) -> FeatureConfig:
    """Feature settings of the network."""
    found = FeatureConfig(seed=config.seed)
    return dataclasses.replace(found, overlap=0.0) if config.fast else found


def describe(
    prepared: PreparedScan,
    bundle: Bundle | None,
    runtime: Runtime,
    config: SegmentConfig,
    progress: Progress | None = None,
) -> Rows:
    """Lung positions of a scan; their descriptors are computed on first use."""
    return Rows(prepared, bundle, runtime, network_settings(config), progress, config.stride)


def label(rows: Rows, config: SegmentConfig) -> Tensor:
    """Posterior (N, 5) at the positions by the method of `config`."""
    return class_posterior(rows, config)


def sharpen(posterior: Tensor, where: Positions, prepared: PreparedScan, config: SegmentConfig) -> NDArray[np.float32]:
    """The posterior on every voxel of the model grid (5, z, y, x), with Sobel-Diffusion Fusion if configured."""
    coarse = where.scatter(posterior.numpy().astype(np.float32))
    if config.sharpens:
        return fuse(coarse, where.stride, prepared.aligned, prepared.lungs, spacing_mm=prepared.spacing_mm).numpy()
    return to_voxels(coarse, where.stride, prepared.grid.shape).numpy()


@dataclass(frozen=True, eq=False)
class OnScan:
    """Results on the CT's own grid.  posterior (Z, Y, X, 5), certainty (Z, Y, X): as in `Segmentation`.

    expected_voxels: the posterior summed over the lungs (5,).
    """

    label_map: Volume
    posterior: NDArray[np.float16] | None
    expected_voxels: NDArray[np.float64]
    certainty: NDArray[np.uint8]

    def again(self, ct: Volume, repeats: Repeats) -> OnScan:
        """The same on the grid of `ct`, which stores each voxel several times."""
        posterior = None if self.posterior is None else repeats.again(self.posterior)
        labels, certainty = repeats.again(self.label_map.array), repeats.again(self.certainty)
        return OnScan(ct.with_array(labels), posterior, self.expected_voxels * repeats.copies, certainty)


def restore(
    ct: Volume,
    lungs: Volume,
    prepared: PreparedScan,
    posterior: NDArray[np.float32],
    config: SegmentConfig,
    *,
    keep: bool = False,
) -> OnScan:
    """Labels on the CT's own grid from a posterior (5, z, y, x) on the model grid; keep: the posterior as well.

    A lung voxel takes the most probable class, or `UNASSIGNED` where its probability is below `config.abstain`.
    """
    label_map, certainty = zeros(ct.shape, np.uint8), zeros(ct.shape, np.uint8)
    posterior_map = zeros((*ct.shape, len(TISSUES)), np.float16) if keep else None
    mask, labels, sure = (prepared.reorientation.view(array) for array in (lungs.array, label_map, certainty))
    kept = None if posterior_map is None else prepared.reorientation.view(posterior_map)
    box = tuple(slice(a, a + n) for a, n in zip(prepared.low, prepared.window.shape, strict=True))
    seen = [array[box] for array in (mask, labels, sure, *(() if kept is None else (kept,)))]

    def fill(planes: slice) -> NDArray[np.float64]:
        """Write a few slices; returns the sum of their posterior over the lungs."""
        here = (slice(box[0].start + planes.start, box[0].start + planes.stop), *box[1:])
        values = onto_window(prepared, posterior, planes)
        values /= np.maximum(values.sum(0, keepdims=True), 1e-6)
        best = most_probable(values) + np.uint8(1)
        highest = values.max(0)
        if config.abstain > 0:
            best[highest < config.abstain] = UNASSIGNED.id
        inside = mask[here] > 0
        labels[here] = np.where(inside, best, 0)
        sure[here] = np.where(inside, np.rint(highest * 255), 0)
        if kept is not None:
            kept[here] = (np.moveaxis(values, 0, -1) * inside[..., None]).astype(np.float16)
        for array in seen:
            release(array)
        return np.asarray(values[:, inside].sum(1, dtype=np.float64))

    expected = sum(spread(fill, slabs(*seen, copies=4 * len(TISSUES))), np.zeros(len(TISSUES)))
    return OnScan(ct.with_array(label_map), posterior_map, expected, certainty)


def segment(
    scan: Path | str | Volume, lung_mask: Path | str | Volume | None = None, *, model: Path | str | None = None,
    config: SegmentConfig | None = None, device: str = "auto",
) -> Segmentation:  # fmt: skip
    """Segment one scan, a path or a Volume; for many scans make a `Segmenter` once."""
    segmenter = Segmenter.load(model, config=config, device=device)
    mask = lung_mask if lung_mask is None or isinstance(lung_mask, Volume) else read_mask(Path(lung_mask))
    if isinstance(scan, Volume):
        return segmenter(scan, mask)
    origin = Origin(Path(scan), None if lung_mask is None or isinstance(lung_mask, Volume) else Path(lung_mask))
    return segmenter.of_file(read_scan(origin.path), origin, mask)
