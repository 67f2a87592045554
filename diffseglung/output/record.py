"""run.json: how a result was made. Written, read, and compared with a new run of the same scan here and nowhere else.

The record is complete enough to repeat a run: settings, model hash, versions, and fingerprints of scan and labels.
"""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from diffseglung import __version__
from diffseglung.io import Scan, read_mask, scan_name
from diffseglung.io.identity import names_patient
from diffseglung.io.scan import reason
from diffseglung.method import checkpoint
from diffseglung.output.dicom import NAMES
from diffseglung.output.products import Products
from diffseglung.platform import serialization
from diffseglung.platform.config import LungMaskConfig, SegmentConfig
from diffseglung.platform.errors import ConfigError, InputError
from diffseglung.platform.out_of_core import slabs
from diffseglung.segmentation import Segmentation
from diffseglung.volume import Volume

RECORD = "run.json"
FORMAT = 1
"""Format version of run.json; records older than the count have none."""
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "SimpleITK", "nibabel", "pydicom")
_WHOLE = "use a run.json that diffseglung segment wrote, unchanged"


def fingerprint(volume: Volume) -> str:
    """SHA-256 of a volume's dtype, shape, affine and voxels: equal for equal scans, whatever the file format.

    >>> zeros = Volume(np.zeros((2, 3, 4), np.int16), np.eye(4))
    >>> fingerprint(zeros)[:12], fingerprint(zeros) == fingerprint(zeros.with_array(zeros.array + 1))
    ('213582c40384', False)
    """
    digest = hashlib.sha256(f"{volume.array.dtype.str} {volume.shape}".encode())
    digest.update(np.ascontiguousarray(volume.affine, "<f8").tobytes())
    for planes in slabs(volume.array):
        digest.update(np.ascontiguousarray(volume.array[planes]).data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Origin:
    """The files of a scan.

    mask: the lung mask, if one was given.  name: what to call the scan (default: the name of its file).
    keep: whether to write identifying attributes and paths.
    """

    path: Path
    mask: Path | None = None
    name: str | None = None
    keep: bool = False


def source_record(scan: Scan, origin: Origin) -> dict[str, Any]:
    """The entry on the input files in run.json.

    Unless `origin.keep`, paths that name the patient of a DICOM scan are null and the patient's identity is left out.
    """

    def shown(path: Path | None) -> str | None:
        whole = "" if path is None else str(path.absolute())
        hidden = not origin.keep and names_patient(whole, scan.identity)
        return None if path is None or hidden else serialization.readable(whole)

    record = {"path": shown(origin.path), "lung_mask": shown(origin.mask), "series": scan.source.get("series_hash")}
    return record | ({"identifiers": dict(scan.identity)} if origin.keep else {})


def told_name(scan: Scan, origin: Origin, volume_hash: str) -> str:
    """The name of a scan in records and pictures; `scan-<fingerprint>` if its own name identifies the patient."""
    name = origin.name or scan_name(origin.path)
    return name if origin.keep or not names_patient(name, scan.identity) else f"scan-{volume_hash[:8]}"


def versions() -> dict[str, str | None]:
    """Versions of this package, Python and the numerical libraries; None for what is not installed."""
    found: dict[str, str | None] = {"diffseglung": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def describe(segmentation: Segmentation, files: list[str]) -> dict[str, Any]:
    """The content of run.json: the pipeline's own record, versions, the grid, and the files beside it."""
    ct = segmentation.ct
    record: dict[str, Any] = {
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "platform": platform.platform(),
        "grid": {"shape_zyx": list(ct.shape), "spacing_mm_zyx": list(ct.spacing_mm), "affine_lps": ct.affine.tolist()},
        "warnings": [],
        **segmentation.run,
        "files": sorted(files),
        "notice": "Research use only. Not a medical device.",
    }
    record["versions"] = {**versions(), **record.get("versions", {})}
    return record


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON; NaN and infinities become null, NumPy numbers plain ones.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "found.json"
    ...     write_json(path, {"mean_hu": np.float32("nan"), "voxels": np.int64(3)})
    ...     print(path.read_text())
    {
      "mean_hu": null,
      "voxels": 3
    }
    <BLANKLINE>
    """
    text = json.dumps(serialization.plain(value), indent=2, allow_nan=False) + "\n"
    path.write_text(text, encoding="utf-8")


def load(folder: Path) -> dict[str, Any] | None:
    """run.json of a result folder as it is; None if there is no readable one."""
    try:
        values = serialization.read(folder / RECORD)
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


@dataclass(frozen=True, eq=False)
class Recorded:
    """A complete run.json.  folder: where it lies, with the files of its result.  values: its content."""

    folder: Path
    values: dict[str, Any]

    @property
    def _source(self) -> dict[str, Any]:
        return self.values.get("source") or {}

    @property
    def config(self) -> SegmentConfig:
        """The settings, with the precision that was used in place of `auto`."""
        return SegmentConfig.from_dict({**self.values["settings"], "precision": self.values["precision"]})

    @property
    def device(self) -> str:
        """The kind of device, without its number."""
        return str(self.values["device"]).split(":")[0]

    @property
    def series(self) -> str | None:
        """The series of a DICOM folder, as a hash of its UID."""
        return self._source.get("series")

    @property
    def keeps_identifiers(self) -> bool:
        """Whether identifying attributes were written."""
        return "identifiers" in self._source

    @property
    def products(self) -> Products:
        """The files that were requested."""
        files = {*self.values["files"], *self.values.get("failed", [])}
        return Products(
            statistics="statistics.json" in files,
            preview="preview.png" in files,
            report="report.html" in files,
            probabilities="probabilities.nii.gz" in files,
            dicom=tuple(kind for kind, name in NAMES.items() if name in files),
        )

    def scan(self, given: Path | None) -> Path:
        """The path of the scan: `given`, else the recorded one."""
        found = self._path("path", given)
        if found is None:
            raise ConfigError("run.json does not record the path of the scan", remedy="name the scan with -i")
        return found

    def lung_mask(self, given: Path | None) -> Path | None:
        """The path of the lung mask, if the run was given one; the mask of an NPZ case is inside the case."""
        found = self._path("lung_mask", given)
        inside = str(self._source.get("path") or "").lower().endswith(".npz")
        if found is None and self.values["fingerprints"]["lung_mask"] is not None and not inside:
            raise ConfigError(
                "run.json does not record the path of the lung mask that was given",
                remedy="name the mask with --lung-mask",
            )
        return found

    def _path(self, key: str, given: Path | None) -> Path | None:
        recorded = self._source.get(key)
        return given or (serialization.as_path(recorded) if recorded else None)

    def model(self, given: Path | None) -> Path | None:
        """The weights file with the recorded hash: `given`, else at its recorded path, else the installed one."""
        wanted = self.values["model"]
        if wanted is None:
            return None
        places = [given] if given else [serialization.as_path(wanted["file"]), checkpoint.default_path()]
        for place in places:
            if _is_file(place) and checkpoint.sha256(place) == wanted["sha256"]:
                return place
        raise ConfigError(
            f"no weights file with SHA-256 {wanted['sha256'][:12]} (model {wanted['name']}) is at {places[0]}",
            remedy="name the weights file of that run with --model",
        )

    def check_inputs(self, ct: Volume, lung_mask: Volume | None) -> None:
        """Raises InputError if the scan or its lung mask is not the recorded one."""
        wanted = self.values["fingerprints"]
        if fingerprint(ct) != wanted["ct"]:
            raise InputError("this is not the scan of run.json: its voxels differ", remedy="name the scan with -i")
        if (None if lung_mask is None else fingerprint(lung_mask)) != wanted["lung_mask"]:
            raise InputError("this is not the lung mask of run.json", remedy="name the mask with --lung-mask")

    def check_output(self, output: Path) -> None:
        """Raises ConfigError if the new result would overwrite the one it is compared with."""
        if output.resolve() == self.folder.resolve():
            raise ConfigError(f"{output} holds the result to compare with", remedy="choose another output folder")


def read(path: Path) -> Recorded:
    """Read run.json, or that of a folder.  Raises ConfigError for another file, another format, or missing entries."""
    path = path / RECORD if path.is_dir() else path
    try:
        values = serialization.read(path)
    except (OSError, ValueError) as cause:
        raise ConfigError(f"{path} cannot be read as run.json ({reason(cause)})", remedy=_WHOLE) from cause
    found = values.get("format") if isinstance(values, dict) else None
    if found != FORMAT:
        problem = f"{path} is not a run.json of format {FORMAT}" + (f" but of format {found}" if found else "")
        raise ConfigError(problem, remedy=f"{_WHOLE}; older records have no fingerprints")
    recorded = Recorded(path.absolute().parent, values)
    try:
        _require_entries(recorded)
    except (KeyError, TypeError, AttributeError) as cause:
        raise ConfigError(f"{path} is incomplete ({cause!r})", remedy=_WHOLE) from cause
    if values["fingerprints"]["lung_mask"] is None and not values.get("lung_tool"):
        _check_lung_settings(path, values.get("lungs"))
    return recorded


def _require_entries(recorded: Recorded) -> None:
    """Raises KeyError, TypeError or AttributeError if an entry is missing, or a path, name or hash is not text."""
    _ = recorded.config, recorded.device, recorded.products, recorded.series, recorded.keeps_identifiers
    values, source = recorded.values, recorded.values.get("source") or {}
    fingerprints, model, _ = values["fingerprints"], values["model"], values["lungs"]
    texts = {f"source.{key}": source.get(key) for key in ("path", "lung_mask", "series")}
    texts |= {f"fingerprints.{key}": fingerprints[key] for key in ("ct", "lung_mask", "label_map")}
    wrong = [key for key, value in texts.items() if not (value is None or isinstance(value, str))]
    if model is not None:
        wrong += [f"model.{key}" for key in ("sha256", "name", "file") if not isinstance(model[key], str)]
    if wrong:
        raise TypeError(f"{wrong[0]} is not text")


def _check_lung_settings(path: Path, recorded: Any) -> None:
    """Raises ConfigError if the lungs were found with settings that the command line cannot set."""
    now = json.loads(json.dumps(LungMaskConfig().to_dict()))
    if recorded == now:
        return
    if not isinstance(recorded, dict) or recorded.keys() != now.keys():
        raise ConfigError(
            f"{path}: another version found these lungs, with other settings",
            remedy="segment the scan again, or install the version that run.json names",
        )
    raise ConfigError(
        f"{path}: these lungs were found with settings of the Python interface",
        remedy="repeat the run in Python: Segmenter(..., lung_config=LungMaskConfig(**record['lungs']))",
    )


def _is_file(place: Path) -> bool:
    try:
        return place.is_file()
    except OSError:  # a name that no file system allows
        return False


def compare(recorded: Recorded, result: Segmentation) -> dict[str, Any]:
    """How a new result differs from the recorded one, as plain values; None where the older files are gone."""
    now, older = versions() | _tool(result.run), recorded.values.get("versions", {}) | _tool(recorded.values)
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
    """The outcome of `compare` as text."""
    count = found["voxels_that_differ"]
    shown = ["the same label map, voxel by voxel"]
    if not found["same_labels"]:
        shown = ["another label map" + (f": {count} voxels differ" if count is not None else "")]
    if found["same_statistics"] is not None:
        shown.append("the same statistics" if found["same_statistics"] else "other statistics")
    changed = [f"{name} {old} then, {new} now" for name, (old, new) in found["versions_that_differ"].items()]
    if not found["same_lung_network"]:
        changed.append("the network that helps to find the lungs has other weights now, or was not recorded then")
    return [*shown, *(f"  note: {text}" for text in changed)]


def _tool(run: dict[str, Any]) -> dict[str, Any]:
    """Name and version of the external tool that found the lungs; empty if there was none."""
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
