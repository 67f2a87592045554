"""Run a benchmark: one JSON file per case and candidate, reused while everything it depends on is unchanged.

    results/<case>/case.json       description of the case, and its displayed slice
    results/<case>/<candidate>.json  key, scores, calibration, seconds, labels of that slice

An interrupted run loses at most the current candidate; the next run resumes there.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import math
import multiprocessing
import os
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseglung import __version__, io
from diffseglung.labels import HEALTHY
from diffseglung.platform import atomic_files, serialization
from diffseglung.platform.errors import InputError
from diffseglung.platform.runtime import Runtime, choose_device, choose_precision
from diffseglung.tissue.bundle import load_bundle
from diffseglung.volume import Reorientation, Volume
from studies import cases, scores
from studies.cases import CaseSpec
from studies.compared_methods import ComparedMethod, LoadedModels, Prediction
from studies.report import rounded

CALIBRATION_VOXELS = 200_000
"""Minimum number of lung voxels on which calibration is measured (all, if there are fewer than twice as many)."""
UNKNOWN = {"kind": "unknown", "condition": "unknown", "severity": "unknown", "novelty": "unknown"}
FILES = ("ct.nii.gz", "lungs.nii.gz", "truth.nii.gz")
NO_RESULT = (
    *("diffseglung/cli/", "diffseglung/output/", "studies/commands/"),
    *(f"studies/{name}.py" for name in ("page", "plots", "tables", "summary", "bootstrap")),
)
"""Sources that cannot change a result: they only print or plot."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One case: its folder, its spec (None: the folder is read as it is), and folder of its results."""

    name: str
    folder: Path
    results: Path
    spec: CaseSpec | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is run on every case.

    candidates: methods;  model, base_model: weights files;  backgrounds: folder of real scans;  surfaces: whether
    distances are measured;  keep: also reuse results of other versions of the code;  sources: hash of the code.
    """

    candidates: tuple[ComparedMethod, ...]
    model: Path | None = None
    base_model: Path | None = None
    backgrounds: Path | None = None
    surfaces: bool = True
    keep: bool = False
    device: str = "cpu"
    sources: str = field(default_factory=lambda: source_hash())


def catalogue_jobs(specs: tuple[CaseSpec, ...], output: Path) -> list[Job]:
    """Jobs of a list of the catalogue; cases are made below `output`."""
    return [
        Job(name=s.name, folder=output / "cases" / s.name, results=output / "results" / s.name, spec=s) for s in specs
    ]


def folder_jobs(folder: Path, output: Path) -> list[Job]:
    """Jobs of a folder of case folders; InputError if it has none."""
    found = sorted(path.parent for path in folder.glob("*/truth.nii.gz")) if folder.is_dir() else []
    if not found:
        raise InputError(f"{folder} holds no case folders with truth.nii.gz", remedy="make some: diffseglung phantom")
    for path in found:
        for name in FILES:
            if not (path / name).is_file():
                raise InputError(f"{path} has no {name}", remedy="make the case again, or move it away")
    return [
        Job(name=serialization.readable(path.name), folder=path, results=output / "results" / path.name)
        for path in found
    ]


def run_all(jobs: list[Job], plan: Plan, workers: int = 1) -> Iterator[tuple[str, int]]:
    """Run every case; yields its name and the number of results computed, as each finishes."""
    if workers == 1:
        for job in jobs:
            yield job.name, run_case(job, plan)
        return
    before = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    os.environ.update(dict.fromkeys(before, "1"))
    try:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool:
            try:
                waiting = {pool.submit(run_case, job, plan): job.name for job in jobs}
                for done in as_completed(waiting):
                    yield waiting[done], done.result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _one_thread() -> None:
    """One thread per worker: the cases are run in parallel instead."""
    import torch

    torch.set_num_threads(1)


def run_case(job: Job, plan: Plan) -> int:
    """Compute what is missing or out of date of one case; returns the number of results."""
    keys = {candidate.key: result_key(job, candidate, plan) for candidate in plan.candidates}
    pending = [e for e in plan.candidates if not _is_current(job.results / f"{e.key}.json", keys[e.key], plan.keep)]
    if not pending and (job.results / "case.json").exists():
        return 0
    if job.spec is not None:
        cases.make_case(job.spec, job.folder, plan.backgrounds)
    ct, lungs, truth = read_case(job.folder)
    shown = _shown_slice(truth)
    _write(job.results / "case.json", _describe(job, ct, truth, shown))
    known = scores.true_surfaces(truth) if plan.surfaces else None
    begin = time.perf_counter()
    for candidate, answer in _loaded_models(plan, pending).predictions(ct, lungs, pending):
        seconds = time.perf_counter() - begin
        scored = scores.score_case(answer.label_map, truth, surfaces=plan.surfaces, known=known)
        result = {
            "key": keys[candidate.key],
            "scores": scored,
            "calibration": _calibration(answer, truth),
            "seconds": round(seconds, 2),
            "slice": pack(_plane(answer.label_map, shown).astype(np.uint8)),
        }
        _write(job.results / f"{candidate.key}.json", result)
        begin = time.perf_counter()
    return len(pending)


def _loaded_models(plan: Plan, pending: list[ComparedMethod]) -> LoadedModels:
    """The models that the candidates need, loaded."""
    device = choose_device(plan.device)
    runtime = Runtime(device=device, precision=choose_precision("auto", device))
    model = any(e.needs_model and not e.base for e in pending)
    base = any(e.needs_model and e.base for e in pending)
    return LoadedModels(
        runtime=runtime,
        model=load_bundle(plan.model, str(device)) if model else None,
        base=load_bundle(plan.base_model, str(device)) if base else None,
    )


def read_case(folder: Path) -> tuple[Volume, Volume, Volume]:
    """CT, lungs and truth of a case folder; InputError where they lie on different grids."""
    ct = io.read_volume(folder / FILES[0])
    lungs, truth = io.read_mask(folder / FILES[1]), io.read_mask(folder / FILES[2])
    for name, volume in zip(FILES[1:], (lungs, truth), strict=True):
        if not volume.same_grid(ct, tolerance_mm=0.05):
            raise InputError(f"{folder / name} is not on the grid of its CT", remedy="make the case again")
    return ct, lungs, truth


def result_key(job: Job, candidate: ComparedMethod, plan: Plan) -> dict[str, Any]:
    """Everything that a result depends on."""
    made = job.folder if job.spec is None else None
    model = plan.base_model if candidate.base else plan.model
    return {
        "catalogue": None if made else cases.VERSION,
        "case": {name: file_hash(made / name) for name in FILES} if made else _as_json(dataclasses.asdict(job.spec)),  # type: ignore[arg-type]
        "candidate": _as_json(candidate.settings()),
        "model": file_hash(model) if candidate.needs_model and model else None,
        "surfaces": plan.surfaces,
        "device": plan.device if candidate.config else None,
        "package": __version__,
        "sources": plan.sources,
    }


_HASHES: dict[tuple[str, int, int], str] = {}


def file_hash(path: Path) -> str:
    """SHA-256 of a file; computed once for each state of the file."""
    state = path.stat()
    mark = (str(path.resolve()), state.st_size, state.st_mtime_ns)
    if mark not in _HASHES:
        with path.open("rb") as file:
            _HASHES[mark] = hashlib.file_digest(file, "sha256").hexdigest()
    return _HASHES[mark]


def source_hash() -> str:
    """SHA-256 over the sources of the package and of the studies, without those that only print and draw."""
    root = Path(__file__).parents[1]
    found = hashlib.sha256()
    for path in sorted([*(root / "diffseglung").rglob("*.py"), *(root / "studies").rglob("*.py")]):
        name = path.relative_to(root).as_posix()
        if not name.startswith(NO_RESULT):
            found.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def _is_current(path: Path, key: dict[str, Any], keep: bool) -> bool:
    """Whether a result is there and was made from the same; `keep` disregards the code."""
    found = read_json(path).get("key") if path.exists() else None
    if not isinstance(found, dict):
        return False
    if keep:
        found, key = ({k: v for k, v in d.items() if k not in ("sources", "package")} for d in (found, key))
    return bool(found) and found == key


def _calibration(answer: Prediction, truth: Volume) -> dict[str, Any] | None:
    """`scores.reliability` on evenly spaced lung voxels of the scan's own grid."""
    if answer.posterior is None:
        return None
    inside = np.flatnonzero(truth.array)
    step = max(len(inside) // CALIBRATION_VOXELS, 1)
    picked = inside[int(np.random.default_rng(0).integers(step)) :: step]
    rows = answer.posterior.reshape(-1, answer.posterior.shape[-1])[picked].astype(np.float32)
    return scores.reliability(rows, truth.array.reshape(-1)[picked])


def _describe(job: Job, ct: Volume, truth: Volume, shown: int) -> dict[str, Any]:
    """case.json. A case in a plain folder takes its strata from its meta.json, if given there."""
    spec = dataclasses.asdict(job.spec) if job.spec else _read_spec(job.folder)
    names = {"kind", "condition", "severity", "novelty"}
    return {
        "name": job.name,
        "strata": UNKNOWN | {k: str(v) for k, v in spec.items() if k in names},
        "models": list(spec.get("models") or ()),
        "slice": {"index": shown, "ct": pack(_plane(ct, shown).astype(np.int16)), "truth": pack(_plane(truth, shown))},
        "pixel_mm": Reorientation.of(ct).apply(ct).spacing_mm[1:],
    }


def _read_spec(folder: Path) -> dict[str, Any]:
    """The spec in a case's meta.json; empty if there is none."""
    path = folder / "meta.json"
    found = read_json(path).get("spec") if path.is_file() else None
    return found if isinstance(found, dict) else {}


def _shown_slice(truth: Volume) -> int:
    """The axial slice with the most disease, or with the most lung if there is no disease."""
    labels = Reorientation.of(truth).apply(truth).array
    ill = (labels > HEALTHY.id).sum((1, 2))
    return int(ill.argmax() if ill.any() else (labels > 0).sum((1, 2)).argmax())


def _plane(volume: Volume, index: int) -> NDArray[Any]:
    """An axial slice, front on top and the patient's right on the left."""
    return np.ascontiguousarray(Reorientation.of(volume).apply(volume).array[index])


MOST_PICTURE_BYTES = 2**28


def pack(array: NDArray[Any]) -> dict[str, Any]:
    """An array as JSON."""
    data = base64.b64encode(zlib.compress(array.tobytes(), 6)).decode()
    return {"shape": list(array.shape), "dtype": array.dtype.str, "data": data}


def unpack(packed: dict[str, Any]) -> NDArray[Any]:
    """Inverse of `pack`.  Raises InputError for anything else."""
    try:
        dtype, shape = np.dtype(packed["dtype"]), [int(n) for n in packed["shape"]]
        size = math.prod(shape) * dtype.itemsize
        if not 0 <= size <= MOST_PICTURE_BYTES:
            raise ValueError("no picture has this shape")
        data = zlib.decompressobj().decompress(base64.b64decode(packed["data"]), size + 1)
        return np.frombuffer(data, dtype).reshape(shape)
    except Exception as cause:  # NumPy parses the name of a type as it likes
        raise InputError("a kept result holds no picture", remedy="remove the results, and run again") from cause


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty if the file is incomplete."""
    try:
        found = serialization.read(path)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _as_json(value: Any) -> Any:
    """The value after a round trip through JSON."""
    return json.loads(json.dumps(value))


def _write(path: Path, value: dict[str, Any]) -> None:
    """Write atomically."""
    atomic_files.write_text(path, json.dumps(rounded(value), allow_nan=False) + "\n")
