"""Lungs by third-party tools if installed: TotalSegmentator and lungmask, with their own weights.

Each runs in a separate process: TotalSegmentator starts processes, which Dask workers must not; it changes threads and
environment and may exit Python; both write to standard output. A tool that crashes fails only its scan.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diffseglung.case.resample import covers_same_box, resample_onto
from diffseglung.lungs.anatomy import Anatomy
from diffseglung.lungs.finder import find_lungs
from diffseglung.lungs.masks import LOBES_TOTALSEGMENTATOR, adapt_mask, check_sides
from diffseglung.lungs.sides import LEFT, RIGHT
from diffseglung.platform.config import LungMaskConfig
from diffseglung.platform.errors import InputError, ToolError
from diffseglung.platform.extras import LUNG_TOOLS, lung_tool_version, require_lung_tool
from diffseglung.platform.out_of_core import converted, slabs, zeros
from diffseglung.platform.resources import thread_variables
from diffseglung.platform.runtime import gpu_spelling
from diffseglung.volume import Reorientation, Volume

CHILD = "diffseglung.lungs.tool_process"
SIDES = {"totalsegmentator": LOBES_TOTALSEGMENTATOR, "lungmask": {1: RIGHT, 2: LEFT}}
"""Label of the tool -> side."""
MODELS = {"totalsegmentator": "total", "lungmask": "R231"}
OUTDATED = ("TypeError", "ImportError", "ModuleNotFoundError", "AttributeError")
"""Errors of a tool whose version does not fit, or that lacks a library."""


@dataclass(frozen=True)
class Source:
    """Where lungs come from.  name: a value of `--lungs`.  device: `cpu`, `cuda`, `cuda:N`, `mps`.

    fast: use the faster model of a tool that has one.
    """

    name: str = "auto"
    device: str = "cpu"
    fast: bool = False

    def record(self) -> dict[str, Any] | None:
        """Entry of the tool in run.json; None without one."""
        if self.name == "auto":
            return None
        model = MODELS[self.name] + (" (fast)" if self.fast and self.name == "totalsegmentator" else "")
        return {"name": LUNG_TOOLS[self.name], "version": lung_tool_version(self.name), "model": model}


def lungs_of(
    ct: Volume, lung_mask: Volume | None, source: Source, config: LungMaskConfig | None = None,
    anatomy: Anatomy | None = None,
) -> Volume:  # fmt: skip
    """The lungs of a CT as uint8 on its grid, 0 outside, 1 right, 2 left: from a mask, found, or by a tool.

    Raises ConfigError for a tool that is not installed or a mask together with a tool, ToolError for one that fails,
    and InputError if a mask or the CT has no lungs.
    """
    require_lung_tool(source.name, mask_given=lung_mask is not None)
    if lung_mask is not None:
        return adapt_mask(lung_mask, ct)
    return find_lungs(ct, config, anatomy) if source.name == "auto" else lungs_by_tool(ct, source)


def lungs_by_tool(ct: Volume, source: Source) -> Volume:
    """`lungs_of` by the tool named in `source`."""
    title, turn = LUNG_TOOLS[source.name], Reorientation.of(ct)
    upright = turn.apply(ct)
    found = _labels(_squared(upright), source, title)
    table = np.zeros(256, np.uint8)
    for label, side in SIDES[source.name].items():
        table[label] = side
    sides = zeros(ct.shape, np.uint8)
    onto = turn.view(sides)
    for planes in slabs(onto, found):
        onto[planes] = table[np.clip(found[planes], 0, 255)]
    if not sides.any():
        raise InputError(
            f"{title} found no lungs", remedy="check that this is a CT of the chest; omit --lungs, or give a mask"
        )
    try:
        check_sides(ct.with_array(sides))
    except InputError as cause:
        raise InputError(
            f"{title}: {cause.problem}", remedy="check the scan's orientation; omit --lungs, or give a mask"
        ) from cause
    return ct.with_array(sides)


def _squared(volume: Volume) -> Volume:
    """The same voxels on the nearest orthogonal axes, as ITK requires."""
    spacing, affine = np.asarray(volume.spacing_mm), volume.affine.copy()
    before, _, after = np.linalg.svd(affine[:3, :3] / spacing)
    affine[:3, :3] = before @ after * spacing
    return Volume(volume.array, affine)


def _labels(ct: Volume, source: Source, title: str) -> NDArray[Any]:
    """The tool's own labels (Z, Y, X) for a CT with canonical axes."""
    with tempfile.TemporaryDirectory(prefix="diffseglung-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        np.save(folder / "ct.npy", converted(ct.array, np.float32))
        np.save(folder / "affine.npy", ct.affine)
        place = gpu_spelling(source.device)
        code, said = _run([source.name, str(folder), place, str(int(source.fast))], folder / "log.txt")
        if code or not (folder / "labels.npy").is_file():
            raise _failure(title, code, said)
        array, affine = (
            np.load(folder / "labels.npy", allow_pickle=False),
            np.load(folder / "labels_affine.npy", allow_pickle=False),
        )
    found = Volume(array, affine) if array.ndim == 3 and array.size else None
    if found is None or not (found.same_grid(ct) or covers_same_box(found, ct)):
        raise ToolError(
            f"{title} returned labels of shape {array.shape}, which do not match the CT of shape {ct.shape}",
            remedy=f"pip install --upgrade {title}, or omit --lungs",
        )
    return array if found.same_grid(ct) else resample_onto(found, ct, order=0).array


def _run(words: list[str], log: Path) -> tuple[int, str]:
    """Exit code of the child, and its last line of output; it ends with this process."""
    paths = [path or str(Path.cwd()) for path in sys.path]
    environment = os.environ | thread_variables(torch.get_num_threads()) | {"PYTHONPATH": os.pathsep.join(paths)}
    call = [sys.executable, "-P", "-m", CHILD, *words]
    with log.open("wb") as out:
        child = subprocess.Popen(call, stdin=subprocess.PIPE, stdout=out, stderr=out, env=environment)  # noqa: S603
        with child:  # leaving it closes the child's standard input, which ends it
            code = child.wait()
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    return code, next((line for line in reversed(lines) if line), "no output")


def _failure(title: str, code: int, said: str) -> ToolError:
    """Error for a tool that ended without a result."""
    if code < 0:
        return ToolError(
            f"{title} was ended by signal {-code}, as happens when memory runs out",
            remedy="close other programs or use fewer --workers; omit --lungs, or give a mask",
        )
    remedy = f"run {title} by itself once, which also downloads its weights; omit --lungs, or give a mask"
    if said.startswith(OUTDATED):
        remedy = f"pip install --upgrade {title}; omit --lungs, or give a mask"
    return ToolError(f"{title} failed ({said[:200]})", remedy=remedy)
