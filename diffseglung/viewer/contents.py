"""The content of the page: volumes on one grid, and facts about them as plain values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt

from diffseglung.io import read_mask, read_scan, scan_name
from diffseglung.labels import ALL, BACKGROUND, LESIONS, TISSUES, UNASSIGNED, Label
from diffseglung.platform import serialization
from diffseglung.platform.errors import GeometryError, InputError
from diffseglung.platform.out_of_core import slabs, zeros
from diffseglung.volume import Volume

LABEL_MAP = "label_map.nii.gz"
COARSE_MM = 2.0
"""Target voxel size of the 3D view, which shows where disease is, not its texture."""
PARTS = ("both", "right", "left")
AMOUNTS = ("volume_ml", "fraction_of_lung", "mean_hu")
DENSITY = ("mean_lung_density_hu", "LAA-950", "HAA")


@dataclass(frozen=True, eq=False)
class Contents:
    """The content of a page.

    facts:     JSON types only; unknown is None.
    ct:        int16 HU; None if only a label map was given.
    label_map: uint8 ids of `diffseglung.labels`; None for a scan without a result.
    coarse:    the subsampled label map, for the 3D view.
    """

    facts: dict[str, Any]
    ct: Volume | None = None
    label_map: Volume | None = None
    coarse: Volume | None = None


def gather(path: Path, ct_path: Path | None = None, *, series_uid: str | None = None) -> Contents:
    """The content for a result folder, with its CT if given; or for a scan of any format alone.

    Raises InputError for a file that cannot be read, GeometryError if the CT is not on the label map's grid.
    """
    if (path / LABEL_MAP).is_file():
        return _of_result(path, ct_path, series_uid)
    if ct_path is not None:
        raise InputError(f"{path} holds no {LABEL_MAP}", remedy="pass the output folder of `diffseglung segment`")
    if (path / "cohort.csv").is_file():
        raise InputError(f"{path} holds the results of a cohort", remedy="pass the folder of one of its scans")
    scan = read_scan(path, series_uid=series_uid)
    ct = whole_hu(scan.volume)
    facts = {**_grid(ct), "title": scan_name(path), "warnings": scan.notes, "classes": [], "lung": None}
    return Contents({**facts, "has_ct": True, "has_labels": False, "start": _middle(ct)}, ct)


def _of_result(folder: Path, ct_path: Path | None, series_uid: str | None) -> Contents:
    label_map = read_mask(folder / LABEL_MAP)
    places = find_places(label_map, folder / LABEL_MAP)
    statistics, run = _read_json(folder / "statistics.json"), _read_json(folder / "run.json")
    ct, notes = None, []
    if ct_path is not None:
        scan = read_scan(ct_path, series_uid=series_uid)
        if not label_map.same_grid(scan.volume):
            raise GeometryError(
                f"{ct_path} has {_described(scan.volume)}, but the label map in {folder} has {_described(label_map)}",
                remedy="pass the CT of this result",
            )
        ct, notes = whole_hu(scan.volume), scan.notes
    warnings = run.get("warnings")
    found = [place for label in LESIONS if (place := places.get(label.id))]
    facts = {
        **_grid(label_map),
        "title": str(run.get("input") or folder.resolve().name),
        "method": _text(run.get("settings"), "method"),
        "created": _text(run, "created"),
        "warnings": list(map(str, warnings)) if isinstance(warnings, list) and warnings else notes,
        "classes": [_class(label, statistics, places.get(label.id)) for label in _shown(statistics, places)],
        "lung": {part: _numbers(_part(statistics, "lung", part), (*AMOUNTS, *DENSITY)) for part in PARTS},
        "has_ct": ct is not None,
        "has_labels": True,
        "start": found[0] if found else places.get(TISSUES[0].id, _middle(label_map)),
    }
    return Contents(facts, ct, label_map, thinned(label_map))


def whole_hu(volume: Volume) -> Volume:
    """HU rounded to int16, as scanners store them: half the size of float32."""
    values = zeros(volume.shape, np.int16)
    limits = np.iinfo(np.int16)
    for planes in slabs(volume.array, values):
        values[planes] = np.clip(np.rint(volume.array[planes]), limits.min, limits.max)
    return volume.with_array(values)


def thinned(volume: Volume) -> Volume:
    """Every n-th voxel along each axis, about COARSE_MM apart, at the same place in the patient.

    >>> thinned(Volume(np.zeros((10, 10, 10)), np.diag([2.0, 1.0, 0.5, 1.0]))).shape
    (10, 5, 3)
    """
    steps = [max(1, int(COARSE_MM / mm + 0.5)) for mm in volume.spacing_mm]
    array = np.ascontiguousarray(volume.array[tuple(slice(None, None, step) for step in steps)])
    return Volume(array, volume.affine @ np.diag([*steps, 1]).astype(np.float64))


def find_places(label_map: Volume, path: Path) -> dict[int, list[int]]:
    """Label id -> a voxel (z, y, x) to show first: in the plane with most of the class, farthest from its border.

    Absent classes are omitted. Raises InputError if the file has an id of no class.
    """
    known = len(ALL)
    counts = np.zeros((label_map.shape[0], known), np.int64)  # voxels by plane and id
    for planes in slabs(label_map.array):
        part = np.asarray(label_map.array[planes])
        if int(part.max()) >= known:
            raise InputError(
                f"{path} holds the id {int(part.max())}, which no class has", remedy="pass a result of DiffSegLung"
            )
        for offset, plane in enumerate(part):
            counts[planes.start + offset] = np.bincount(plane.ravel(), minlength=known)
    places = {}
    for label in (*TISSUES, UNASSIGNED):
        if counts[:, label.id].any():
            z = int(counts[:, label.id].argmax())
            inside = np.pad(np.asarray(label_map.array[z]) == label.id, 1)
            depth = distance_transform_edt(inside, sampling=label_map.spacing_mm[1:])[1:-1, 1:-1]
            places[label.id] = [z, *map(int, np.unravel_index(depth.argmax(), depth.shape))]
    return places


def _shown(statistics: dict[str, Any], places: dict[int, list[int]]) -> list[Label]:
    rare = UNASSIGNED.id in places or UNASSIGNED.name in statistics
    return [label for label in ALL if label is not BACKGROUND and (label is not UNASSIGNED or rare)]


def _class(label: Label, statistics: dict[str, Any], place: list[int] | None) -> dict[str, Any]:
    amounts = {part: _numbers(_part(statistics, label.name, part), AMOUNTS) for part in PARTS}
    return {"id": label.id, "title": label.title, "colour": list(label.colour), "place": place, **amounts}


def _part(statistics: dict[str, Any], name: str, part: str) -> Any:
    entry = statistics.get(name)
    return entry if part == "both" else entry.get(part) if isinstance(entry, dict) else None


def _numbers(entry: Any, names: tuple[str, ...]) -> dict[str, float | None]:
    """The numbers of a record with these names; None if absent or not a number."""
    values = {name: entry.get(name) if isinstance(entry, dict) else None for name in names}
    return {name: value if _is_number(value) else None for name, value in values.items()}


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer beyond the range of float
        return False


def _text(record: Any, name: str) -> str | None:
    value = record.get(name) if isinstance(record, dict) else None
    return value if isinstance(value, str) else None


def _grid(volume: Volume) -> dict[str, Any]:
    return {"shape_zyx": list(volume.shape), "affine_lps": volume.affine.tolist()}


def _middle(volume: Volume) -> list[int]:
    return [n // 2 for n in volume.shape]


def _described(volume: Volume) -> str:
    voxels, spacing = " x ".join(map(str, volume.shape)), " x ".join(f"{mm:.4g}" for mm in volume.spacing_mm)
    corner = ", ".join(f"{mm:.1f}" for mm in volume.affine[:3, 3])
    return f"{voxels} voxels (z, y, x) of {spacing} mm from ({corner})"


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object beside the label map; empty if there is no such file."""
    if not path.is_file():
        return {}
    try:
        record = serialization.read(path)
    except ValueError as cause:
        raise InputError(f"{path} is not a JSON file", remedy="segment the scan again") from cause
    if not isinstance(record, dict):
        raise InputError(f"{path} holds no JSON object", remedy="segment the scan again")
    return record
