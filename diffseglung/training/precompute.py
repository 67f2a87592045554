"""Cut training patches from cases into arrays on disk: parallel, resumable, independent of the number of workers."""

from __future__ import annotations

import json
import multiprocessing
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffseglung.case.intensity import normalise
from diffseglung.case.resample import resample
from diffseglung.io.npz import read_case
from diffseglung.method.distillation import describe
from diffseglung.method.patches import choose_corners, cut
from diffseglung.method.radiomics.descriptor import DESCRIPTOR_NAMES
from diffseglung.method.train.data import Patches
from diffseglung.platform import atomic_files, serialization
from diffseglung.platform.config import DistillConfig, IntensityConfig, PatchConfig
from diffseglung.platform.errors import ConfigError, InputError, TrainingError
from diffseglung.platform.row_files import StoredRows
from diffseglung.volume import Array, Reorientation, Shape

Progress = Callable[[Iterable[Any], int], Iterable[Any]]
"""Wraps an iterable of cases; the number is their count."""
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class PatchJob:
    """What to cut. distill: also store the teacher's descriptors for these settings; None stores none."""

    patch: PatchConfig = field(default_factory=PatchConfig)
    intensity: IntensityConfig = field(default_factory=IntensityConfig)
    distill: DistillConfig | None = None
    seed: int = 0

    def describe(self, cases: Sequence[Path]) -> dict[str, Any]:
        """Content of patches.json."""
        teacher = None
        if self.distill is not None:
            teacher = {
                "stride": self.distill.grid_stride,
                "window": self.distill.window,
                "descriptors": list(DESCRIPTOR_NAMES),
            }
        return {
            "format": FORMAT,
            "patch": {**self.patch.to_dict(), "shape": list(self.patch.shape)},
            "intensity": self.intensity.to_dict(),
            "teacher": teacher,
            "seed": self.seed,
            "cases": [serialization.readable(path.stem) for path in cases],
        }


def precompute(
    cases: Sequence[Path], out: Path, job: PatchJob, *, workers: int = 1, progress: Progress | None = None
) -> Path:
    """Write patches of all cases into the folder `out`; returns it.

    Files are written into a `.part` folder that is renamed at the end. An interrupted run continues with the missing
    cases; a finished one with the same settings and cases is left unchanged.
    Raises InputError if `out` holds other files, or a case cannot be read.
    """
    info = job.describe(cases)
    if _content(out / "patches.json") == info:
        return out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} holds other files than these patches", remedy="choose another --out_dir, or remove it")
    part = out.with_name(out.name + ".part")
    if _content(part / "patches.json") != info:
        _create(part, len(cases), job, info)
        atomic_files.write_text(part / "patches.json", json.dumps(info, indent=1))
    done = _done(part)
    todo = [i for i in range(len(cases)) if i not in done]
    finished = _run(cases, part, job, todo=todo, workers=workers)
    for index in progress(finished, len(todo)) if progress else finished:
        with (part / "done.txt").open("a") as file:
            file.write(f"{index}\n")
    ids = np.repeat(info["cases"], job.patch.patches_per_patient)
    np.save(part / "patient_ids.npy", ids, allow_pickle=False)
    (part / "done.txt").unlink(missing_ok=True)
    if out.exists():
        out.rmdir()
    part.rename(out)
    return out


def _content(path: Path) -> Any:
    """Parsed JSON of a file; None if it is missing or damaged."""
    try:
        return serialization.read(path)
    except (OSError, ValueError):
        return None


def _done(part: Path) -> set[int]:
    """Indices of finished cases; an incomplete last line does not count."""
    path = part / "done.txt"
    if not path.is_file():
        return set()
    text = path.read_text()
    return {int(line) for line in text[: text.rfind("\n") + 1].split()}


def patch_settings(patches: Patches) -> tuple[PatchConfig, IntensityConfig]:
    """Settings of the patches; if unknown, the defaults with the present shape."""
    if "patch" not in patches.info:
        return PatchConfig(shape=patches.shape), IntensityConfig()
    try:
        return PatchConfig.from_dict(patches.info["patch"]), IntensityConfig.from_dict(patches.info["intensity"])
    except (KeyError, ConfigError) as cause:
        raise InputError(
            f"patches.json in {patches.folder} lacks valid settings ({cause})",
            remedy="run precompute again",
        ) from cause


def grid_of(shape: Shape, stride: int) -> Shape:
    """Positions of the feature grid in a patch."""
    return shape[0] // stride, shape[1] // stride, shape[2] // stride


def _create(part: Path, cases: int, job: PatchJob, info: dict[str, Any]) -> None:
    """Empty arrays of the final size."""
    part.mkdir(parents=True, exist_ok=True)
    for name in ("patches.json", "done.txt"):
        (part / name).unlink(missing_ok=True)
    count, shape = cases * job.patch.patches_per_patient, job.patch.shape
    layout: dict[str, tuple[Any, tuple[int, ...]]] = {
        "ct.npy": (np.float16, (count, *shape)),
        "mask.npy": (np.uint8, (count, *shape)),
    }
    if job.distill is not None:
        grid = grid_of(shape, job.distill.grid_stride)
        layout["teacher.npy"] = (np.float16, (count, len(DESCRIPTOR_NAMES), *grid))
        layout["teacher_patch.npy"] = (np.float32, (count, len(DESCRIPTOR_NAMES)))
    for name, (kind, size) in layout.items():
        StoredRows.create(part / name, size, kind)


def _run(cases: Sequence[Path], part: Path, job: PatchJob, *, todo: list[int], workers: int) -> Iterator[int]:
    """Cut the cases in `todo`; yields each index once its patches are on disk."""
    if workers <= 1 or len(todo) <= 1:
        for index in todo:
            yield write_case_patches(cases[index], part, job, index)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(todo)), mp_context=context, initializer=_one_thread) as pool:
        tasks = [pool.submit(write_case_patches, cases[index], part, job, index) for index in todo]
        try:
            for task in as_completed(tasks):
                yield task.result()
        except BrokenProcessPool as cause:
            raise TrainingError(
                "a worker process was lost, possibly for lack of memory",
                remedy="run the same command again with fewer --num_workers; it continues from there",
            ) from cause
        finally:
            pool.shutdown(cancel_futures=True)


def _one_thread() -> None:
    """One thread per worker, since the workers fill the cores."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


def write_case_patches(path: Path, part: Path, job: PatchJob, index: int) -> int:
    """Cut one case and write its rows; returns `index`."""
    ct, mask = case_patches(path, job)
    made: dict[str, Array] = {"ct.npy": ct.astype(np.float16), "mask.npy": mask}
    if job.distill is not None:
        made |= teacher_arrays(ct, mask, job.intensity, job.distill)
    for name, values in made.items():
        StoredRows.open(part / name).write(index * len(ct), values)
    return index


def case_patches(path: Path, job: PatchJob) -> tuple[Array, Array]:
    """Patches (n, Z, Y, X) of one case on canonical axes: float32 model units, and uint8 lung masks."""
    case = read_case(path)
    turn = Reorientation.of(case.ct)
    hu, lungs = turn.apply(case.ct), turn.apply(case.lungs)
    if job.patch.spacing_mm > 0:
        hu, lungs = resample(hu, job.patch.spacing_mm), resample(lungs, job.patch.spacing_mm, order=0)
    values, inside = normalise(np.nan_to_num(hu.array, nan=-1000.0), job.intensity), (lungs.array > 0).astype(np.uint8)
    rng = np.random.default_rng([job.seed, zlib.crc32(os.fsencode(path.stem))])
    try:
        corners = choose_corners(
            inside,
            job.patch.shape,
            count=job.patch.patches_per_patient,
            min_lung_fraction=job.patch.min_lung_fraction,
            rng=rng,
        )
    except InputError as cause:
        raise InputError(f"{path}: {cause.problem}", remedy=cause.remedy) from cause
    ct = np.stack([cut(values, corner, job.patch.shape, fill=-1) for corner in corners])
    return ct.astype(np.float32), np.stack([cut(inside, corner, job.patch.shape) for corner in corners])


def teacher_arrays(ct: Array, mask: Array, intensity: IntensityConfig, distill: DistillConfig) -> dict[str, Array]:
    """Descriptors of patches for both losses: teacher.npy (dense) and teacher_patch.npy (whole patches)."""
    dense: list[Array] = []
    whole: list[Array] = []
    for i in range(len(ct)):
        clean = torch.from_numpy(ct[i : i + 1].astype(np.float32))[None]
        lung = torch.from_numpy(mask[i : i + 1])[None]
        for loss, rows in (("local", dense), ("published", whole)):
            settings = DistillConfig.from_dict({**distill.to_dict(), "loss": loss})
            rows.append(describe(clean, lung, intensity, settings)[0].float().numpy())
    limit = float(np.finfo(np.float16).max)
    clipped = np.clip(np.stack(dense), -limit, limit)
    return {"teacher.npy": clipped.astype(np.float16), "teacher_patch.npy": np.stack(whole).astype(np.float32)}
