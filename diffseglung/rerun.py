"""A result made again from its run.json: what the record holds, whether the inputs are the same, and the outcome."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffseglung.io import read_mask
from diffseglung.method import checkpoint
from diffseglung.output import Products, dicom
from diffseglung.output.provenance import fingerprint
from diffseglung.output.record import FORMAT, RECORD, versions
from diffseglung.platform import serialization
from diffseglung.platform.config import LungMaskConfig, SegmentConfig
from diffseglung.platform.errors import ConfigError, InputError
from diffseglung.segmentation import Segmentation
from diffseglung.volume import Volume

WHOLE = "use a run.json that diffseglung segment wrote, unchanged"


@dataclass(frozen=True, eq=False)
class Recorded:
    """What a run.json tells.  folder: where it lies, with the files of its result.  values: all of it."""

    folder: Path
    values: dict[str, Any]

    @property
    def config(self) -> SegmentConfig:
        """The settings, with the precision that was used in place of `auto`."""
        return SegmentConfig.from_dict({**self.values["settings"], "precision": self.values["precision"]})

    @property
    def device(self) -> str:
        """The kind of device."""
        return str(self.values["device"]).split(":")[0]

    @property
    def series(self) -> str | None:
        """Which series of a DICOM folder, as a hash of its UID."""
        return (self.values.get("source") or {}).get("series")

    @property
    def keeps_identifiers(self) -> bool:
        """Whether identifying attributes were asked for."""
        return "identifiers" in (self.values.get("source") or {})

    @property
    def products(self) -> Products:
        """The files that were asked for."""
        files = {*self.values["files"], *self.values.get("failed", [])}
        return Products(
            statistics="statistics.json" in files,
            preview="preview.png" in files,
            report="report.html" in files,
            probabilities="probabilities.nii.gz" in files,
            dicom=tuple(kind for kind, name in dicom.NAMES.items() if name in files),
        )

    def scan(self, given: Path | None) -> Path:
        """Where the scan lies: as given, else as recorded."""
        found = self._path("path", given)
        if found is None:
            raise ConfigError("run.json does not say where the scan lies", remedy="name the scan with -i")
        return found

    def lung_mask(self, given: Path | None) -> Path | None:
        """Where the lung mask lies, of a result that was made with one; the mask of an NPZ case comes with it."""
        found = self._path("lung_mask", given)
        inside = str((self.values.get("source") or {}).get("path") or "").lower().endswith(".npz")
        if found is None and self.values["fingerprints"]["lung_mask"] is not None and not inside:
            raise ConfigError(
                "run.json does not say where the lung mask lies", remedy="name it with --lung-mask; it was given then"
            )
        return found

    def _path(self, key: str, given: Path | None) -> Path | None:
        told = (self.values.get("source") or {}).get(key)
        return given or (serialization.as_path(told) if told else None)

    def model(self, given: Path | None) -> Path | None:
        """The weights file with the recorded hash: as given, at the recorded place, or the installed one."""
        wanted = self.values["model"]
        if wanted is None:
            return None
        places = [given] if given else [serialization.as_path(wanted["file"]), checkpoint.default_path()]
        for place in places:
            if _is_file(place) and checkpoint.sha256(place) == wanted["sha256"]:
                return place
        raise ConfigError(
            f"no weights file with SHA-256 {wanted['sha256'][:12]} (model {wanted['name']}) is at {places[0]}",
            remedy="name the file that made the result with --model",
        )

    def check_inputs(self, ct: Volume, lung_mask: Volume | None) -> None:
        """InputError where the scan or its lung mask is not that of the record."""
        wanted = self.values["fingerprints"]
        if fingerprint(ct) != wanted["ct"]:
            raise InputError("this is not the scan of run.json: its voxels differ", remedy="name the scan with -i")
        if (None if lung_mask is None else fingerprint(lung_mask)) != wanted["lung_mask"]:
            raise InputError("this is not the lung mask of run.json", remedy="name the mask with --lung-mask")


def read(path: Path) -> Recorded:
    """run.json, or that of a folder.  ConfigError for a file that is none, or of another format."""
    path = path / RECORD if path.is_dir() else path
    try:
        values = serialization.read(path)
    except (OSError, ValueError) as cause:
        raise ConfigError(f"{path} cannot be read as run.json ({_first(cause)})", remedy=WHOLE) from cause
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        found = values.get("format") if isinstance(values, dict) else None
        raise ConfigError(
            f"{path} is no run.json of format {FORMAT}" + (f" but of format {found}" if found else ""),
            remedy=f"{WHOLE}; results of before have no fingerprints",
        )
    recorded = Recorded(path.absolute().parent, values)
    try:
        _ = recorded.config, recorded.device, recorded.products, recorded.series, recorded.keeps_identifiers
        _ = values["fingerprints"]["ct"], values["fingerprints"]["lung_mask"], values["fingerprints"]["label_map"]
        _ = values["model"] is None or (values["model"]["sha256"][:1], values["model"]["name"], values["model"]["file"])
        _ = values["lungs"]
        if found := _of_another_kind(values):
            raise TypeError(f"{found} is no text")
    except (KeyError, TypeError, AttributeError) as cause:
        raise ConfigError(f"{path} is incomplete ({cause!r})", remedy=WHOLE) from cause
    if values["fingerprints"]["lung_mask"] is None and not values.get("lung_tool"):
        _check_lung_settings(path, values.get("lungs"))
    return recorded


def _check_lung_settings(path: Path, told: Any) -> None:
    """ConfigError where the lungs were found with other settings than the command line's, or in another way."""
    now = json.loads(json.dumps(LungMaskConfig().to_dict()))
    if told == now:
        return
    if not isinstance(told, dict) or told.keys() != now.keys():
        raise ConfigError(
            f"{path} tells of lungs that another version found, in another way",
            remedy="segment the scan anew, or install the version that run.json names",
        )
    raise ConfigError(
        f"{path} tells of lungs that were found with settings of the Python interface",
        remedy="repeat it there: Segmenter(..., lung_config=LungMaskConfig(**record['lungs']))",
    )


def _is_file(place: Path) -> bool:
    try:
        return place.is_file()
    except OSError:  # a name that no system allows
        return False


def _of_another_kind(values: dict[str, Any]) -> str | None:
    """The first place where a path, a name or a hash is no text, or is missing."""
    source, model = values.get("source") or {}, values["model"]
    told = {f"source.{key}": source.get(key) for key in ("path", "lung_mask", "series")}
    told |= {f"fingerprints.{key}": value for key, value in values["fingerprints"].items()}
    wrong = [key for key, value in told.items() if not (value is None or isinstance(value, str))]
    if model is not None:
        wrong += [f"model.{key}" for key in ("sha256", "name", "file") if not isinstance(model.get(key), str)]
    return next(iter(wrong), None)


def check_output(recorded: Recorded, output: Path) -> None:
    """ConfigError where the result would be written over the one that it is compared with."""
    if output.resolve() == recorded.folder.resolve():
        raise ConfigError(f"{output} holds the result to compare with", remedy="choose another output folder")


def compare(recorded: Recorded, result: Segmentation) -> dict[str, Any]:
    """What became of it, in plain values; None where the older files are gone."""
    now = versions() | _tool(result.run)
    older = recorded.values.get("versions", {}) | _tool(recorded.values)
    return {
        "same_labels": result.run["fingerprints"]["label_map"] == recorded.values["fingerprints"]["label_map"],
        "same_statistics": _same_statistics(recorded.folder / "statistics.json", result),
        "voxels_that_differ": _differing(recorded.folder / "label_map.nii.gz", result),
        "versions_that_differ": {
            name: [older.get(name), now.get(name)] for name in sorted(now) if older.get(name) != now.get(name)
        },
        "same_lung_network": _network_hash(result.run) == _network_hash(recorded.values),
    }


def lines(found: dict[str, Any]) -> list[str]:
    """The same for a person."""
    if found["same_labels"]:
        told = ["the same label map, voxel by voxel"]
    else:
        count = found["voxels_that_differ"]
        told = ["another label map" + (f": {count} voxels differ" if count is not None else "")]
    if found["same_statistics"] is not None:
        told.append("the same statistics" if found["same_statistics"] else "other statistics")
    changed = [f"{name} {old} then, {new} now" for name, (old, new) in found["versions_that_differ"].items()]
    if not found["same_lung_network"]:
        changed.append("the network that helps to find the lungs has other weights now, or was not recorded then")
    return [*told, *(f"  note: {text}" for text in changed)]


def _tool(run: dict[str, Any]) -> dict[str, Any]:
    """Name and version of the tool that found the lungs; empty without one."""
    tool = run.get("lung_tool")
    return {str(tool.get("name")): tool.get("version")} if isinstance(tool, dict) else {}


def _network_hash(run: dict[str, Any]) -> Any:
    network = run.get("lung_network")
    return network.get("sha256") if isinstance(network, dict) else None


def _same_statistics(path: Path, result: Segmentation) -> bool | None:
    try:
        older = serialization.read(path)
    except (OSError, ValueError):
        return None
    return bool(older == json.loads(json.dumps(serialization.plain(result.statistics))))


def _differing(path: Path, result: Segmentation) -> int | None:
    try:
        older = read_mask(path)
    except InputError:
        return None
    return int(np.count_nonzero(older.array != result.label_map.array)) if older.same_grid(result.label_map) else None


def _first(cause: Exception) -> str:
    return next(iter(str(cause).splitlines()), type(cause).__name__)[:120]
