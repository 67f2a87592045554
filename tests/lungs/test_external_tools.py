"""Lungs by tools of others, with stand-ins of their interface: sides, grids, failures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from diffseglung.io.mask_folder import LOBES
from diffseglung.lungs.external_tools import Source, lungs_of
from diffseglung.platform import extras
from diffseglung.platform.errors import ConfigError, InputError, ToolError
from diffseglung.volume import Reorientation, Volume
from tests import lung_stand_ins

TOOLS = ("totalsegmentator", "lungmask")
TURNS = [((0, 1, 2), (False, False, False)), ((2, 0, 1), (True, False, True)), ((1, 2, 0), (False, True, True))]


def scan(affine: np.ndarray) -> tuple[Volume, np.ndarray]:
    """A body with a larger right and a smaller left lung, 40 x 44 x 60 voxels, and its truth: 1 right, 2 left."""
    grid = affine.copy()
    grid[:3, :3] *= [2.4, 5.0, 6.0]  # columns Z, Y, X: 6, 4, 4.2 mm
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in (40, 44, 60)], indexing="ij")
    hu = np.where((y / 0.75) ** 2 + (x / 0.85) ** 2 < 1, 40.0, -1000.0)
    lungs = np.zeros(hu.shape, np.uint8)
    right = float(np.sign(-grid[0, 2]))  # the end of the X axis that lies to the patient's right
    for side, centre, width in ((1, 0.42 * right, 0.30), (2, -0.42 * right, 0.22)):
        lungs[(z / 0.8) ** 2 + (y / 0.45) ** 2 + ((x - centre) / width) ** 2 < 1] = side
    hu[lungs > 0] = -850
    return Volume((hu + np.random.default_rng(0).normal(0, 10, hu.shape)).astype(np.float32), grid), lungs


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize(("axes", "flips"), TURNS)
def test_sides_and_grid_are_right_on_a_tilted_flipped_anisotropic_scan(
    oblique_affine: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, axes: tuple[int, int, int],
    flips: tuple[bool, bool, bool], capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    lung_stand_ins.install(tmp_path, monkeypatch)
    ct, truth = scan(oblique_affine)
    turn = Reorientation(axes, flips)
    turned = turn.apply(ct)
    found = lungs_of(turned, None, Source(name))
    assert found.same_grid(turned)
    assert found.array.dtype == np.uint8
    np.testing.assert_array_equal(found.array, turn.view(truth))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", TOOLS)
def test_a_sheared_grid_is_taken_as_upright(
    oblique_affine: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    lung_stand_ins.install(tmp_path, monkeypatch)
    ct, truth = scan(oblique_affine)
    sheared = ct.affine.copy()
    sheared[1, 0] += 2.0
    np.testing.assert_array_equal(lungs_of(Volume(ct.array, sheared), None, Source(name)).array, truth)


def test_labels_on_other_axes_of_the_same_box_are_brought_back(
    oblique_affine: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lung_stand_ins.install(tmp_path, monkeypatch, how="other axes")
    ct, truth = scan(oblique_affine)
    np.testing.assert_array_equal(lungs_of(ct, None, Source("totalsegmentator")).array, truth)


def test_what_the_tools_are_asked(oblique_affine: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = lung_stand_ins.install(tmp_path, monkeypatch)
    ct, _ = scan(oblique_affine)
    for device in ("cpu", "cuda:1"):
        lungs_of(ct, None, Source("totalsegmentator", device, fast=device == "cpu"))
    lungs_of(ct, None, Source("lungmask"))
    first, second, third = lung_stand_ins.asked(log)
    assert (first["device"], first["fast"], first["quiet"]) == ("cpu", True, True)
    assert (second["device"], second["fast"]) == ("gpu:1", False)
    assert first["roi_subset"] == list(LOBES)
    assert third["force_cpu"]
    assert third["pid"] != os.getpid()


@pytest.mark.parametrize("name", TOOLS)
def test_a_lone_lung_keeps_its_side(
    oblique_affine: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    lung_stand_ins.install(tmp_path, monkeypatch, how="one lung")
    ct, truth = scan(oblique_affine)
    np.testing.assert_array_equal(lungs_of(ct, None, Source(name)).array, np.where(truth == 1, 1, 0))


@pytest.mark.parametrize(
    ("name", "how", "problem", "remedy"),
    [
        ("lungmask", "offline", "lungmask failed (urllib.error.URLError: <urlopen error no network>)", "run lungmask"),
        ("totalsegmentator", "ends", "failed (ERROR: the weights are damaged)", "run TotalSegmentator"),
        ("totalsegmentator", "ends with 0", "failed (no output)", "run TotalSegmentator"),
        ("totalsegmentator", "old", "TypeError", "pip install --upgrade TotalSegmentator"),
        ("lungmask", "killed", "ended by signal 9", "--workers"),
        ("lungmask", "shape", "labels of shape (40, 44, 58)", "pip install --upgrade lungmask"),
        ("totalsegmentator", "shape", "labels of shape", "pip install --upgrade"),
    ],
)
def test_a_failing_tool_is_one_sentence_with_a_remedy(
    oblique_affine: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    name: str, how: str, problem: str, remedy: str,
) -> None:  # fmt: skip
    lung_stand_ins.install(tmp_path, monkeypatch, how=how)
    with pytest.raises(ToolError) as caught:
        lungs_of(scan(oblique_affine)[0], None, Source(name))
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize(
    ("how", "problem"), [("empty", "found no lungs"), ("mirrored", "right lung lies on the patient's left")]
)
def test_no_lungs_and_exchanged_sides_are_refused(
    oblique_affine: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, how: str, problem: str
) -> None:
    lung_stand_ins.install(tmp_path, monkeypatch, how=how)
    with pytest.raises(InputError, match=problem) as caught:
        lungs_of(scan(oblique_affine)[0], None, Source(name))
    assert extras.LUNG_TOOLS[name] in caught.value.problem


def test_labels_stored_as_fractions_are_rounded(
    oblique_affine: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lung_stand_ins.install(tmp_path, monkeypatch, how="fractions")
    ct, truth = scan(oblique_affine)
    np.testing.assert_array_equal(lungs_of(ct, None, Source("lungmask")).array, truth)


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_that_is_not_there_or_not_needed_is_refused(oblique: Volume, name: str) -> None:
    with pytest.raises(ConfigError, match="not installed") as caught:
        lungs_of(oblique, None, Source(name))
    assert caught.value.remedy == f"pip install {extras.LUNG_TOOLS[name]}"
    with pytest.raises(ConfigError, match="does not go with a given lung mask"):
        lungs_of(oblique, oblique, Source(name))


def test_the_record_names_tool_version_and_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Source().record() is None
    assert Source("lungmask").record() == {"name": "lungmask", "version": None, "model": "R231"}
    lung_stand_ins.install(tmp_path, monkeypatch)
    assert Source("lungmask", fast=True).record() == {"name": "lungmask", "version": "0.2.22", "model": "R231"}
    told = Source("totalsegmentator", fast=True).record()
    assert told == {"name": "TotalSegmentator", "version": "2.18.0", "model": "total (fast)"}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no such signal")
def test_the_tool_ends_with_the_process_that_waits_for_it(
    oblique_affine: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = lung_stand_ins.install(tmp_path, monkeypatch, how="hangs")
    np.save(tmp_path / "hu.npy", scan(oblique_affine)[0].array)
    code = (
        "import sys, numpy as np; from diffseglung.volume import Volume; "
        "from diffseglung.lungs.external_tools import Source, lungs_of; "
        "lungs_of(Volume(np.load(sys.argv[1]), np.eye(4)), None, Source('lungmask'))"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "hu.npy")], cwd=Path(__file__).parents[2]) as us:
        assert _until(lambda: bool(lung_stand_ins.asked(log)))
        us.kill()
    tool = int(str(lung_stand_ins.asked(log)[0]["pid"]))
    assert _until(lambda: not _alive(tool))


def _until(holds, seconds: float = 60.0) -> bool:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while time.monotonic() < end and not holds():
        time.sleep(0.05)
    return bool(holds())


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:
        return False
    stat = Path("/proc", str(process), "stat")
    return not (stat.exists() and stat.read_text().rpartition(") ")[2].startswith("Z"))
