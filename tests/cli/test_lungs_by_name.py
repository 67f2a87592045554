"""`--lungs TOOL` in segment, rerun, convert and cohort, with stand-ins of the tools' interface."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffseglung.cli import main
from diffseglung.io.nifti import read_nifti, write_nifti
from diffseglung.io.npz import Case, read_case, write_case
from diffseglung.lungs.external_tools import Source, lungs_of
from diffseglung.output.report.wording import methods
from diffseglung.pipeline import segment
from diffseglung.platform.config import SegmentConfig
from diffseglung.volume import Volume
from tests import lung_stand_ins
from tests.lungs.test_external_tools import TOOLS, scan

FEW = ["--no-preview", "--no-report", "--spacing-mm", "3", "-q"]


@pytest.fixture
def ct(tmp_path: Path, oblique_affine: np.ndarray) -> Path:
    """A scan on the tilted grid."""
    path = tmp_path / "ct.nii.gz"
    write_nifti(path, scan(oblique_affine)[0])
    return path


def record(folder: Path) -> Any:
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", TOOLS)
def test_segment_takes_its_lungs_and_tells_so(
    ct: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    lung_stand_ins.install(tmp_path / "site", monkeypatch)
    out, again = tmp_path / "out", tmp_path / "again"
    assert main(["segment", "-i", str(ct), "-o", str(out), "--lungs", name, "--json", *FEW]) == 0
    printed = capfd.readouterr()
    assert json.loads(printed.out)["lung"]["volume_ml"] > 900
    assert printed.err == ""
    expected = lungs_of(read_nifti(ct), None, Source(name)).array > 0
    np.testing.assert_array_equal(read_nifti(out / "label_map.nii.gz").array > 0, expected)
    told = record(out)
    title = lung_stand_ins.VERSIONS.keys() & {told["lung_tool"]["name"]}
    assert told["lung_tool"]["version"] == lung_stand_ins.VERSIONS[next(iter(title))]
    assert told["settings"]["lungs"] == name
    assert told["lung_network"] is None
    assert told["fingerprints"]["lung_mask"] is None
    named = f"found by {told['lung_tool']['name']} {told['lung_tool']['version']} (model {told['lung_tool']['model']})"
    assert named in methods(told, (1.0, 1.0, 1.0))
    assert main(["rerun", str(out), "-o", str(again), "--json", "-q"]) == 0
    assert json.loads(capfd.readouterr().out)["versions_that_differ"] == {}
    assert record(again)["lung_tool"] == told["lung_tool"]


def test_rerun_tells_of_another_version_of_the_tool(
    ct: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lung_stand_ins.install(tmp_path / "site", monkeypatch)
    out = tmp_path / "out"
    assert main(["segment", "-i", str(ct), "-o", str(out), "--lungs", "lungmask", *FEW]) == 0
    told = record(out)
    (out / "run.json").write_text(json.dumps(told | {"lung_tool": told["lung_tool"] | {"version": "0.2.1"}}))
    assert main(["rerun", str(out), "-o", str(tmp_path / "again")]) == 0
    assert "lungmask 0.2.1 then, 0.2.22 now" in capsys.readouterr().out


def test_a_word_of_the_minutes_it_takes(
    ct: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lung_stand_ins.install(tmp_path / "site", monkeypatch)
    words = ["segment", "-i", str(ct), "-o", str(tmp_path / "out"), "--lungs", "lungmask", "--dry-run"]
    assert main([*words, "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["seconds"] > 0
    assert "lungmask finds the lungs" in printed.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["segment", "convert", "cohort"])
@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_that_is_not_installed_is_one_sentence_and_the_pip_line(
    ct: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, name: str
) -> None:
    place = ct.parent if command == "cohort" else ct
    assert main([command, "-i", str(place), "-o", str(tmp_path / "out"), "--lungs", name]) == 2
    title = {"totalsegmentator": "TotalSegmentator", "lungmask": "lungmask"}[name]
    assert f"which is not installed\n  try: pip install {title}\n" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("command", "option"), [("segment", "--lung-mask"), ("convert", "--lung-mask"), ("cohort", "--mask-suffix")]
)
def test_a_mask_beside_a_tool_is_refused(
    ct: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str,
    option: str,
) -> None:  # fmt: skip
    lung_stand_ins.install(tmp_path / "site", monkeypatch)
    given = "_lung" if option == "--mask-suffix" else str(ct)
    words = [command, "-i", str(ct), "-o", str(tmp_path / "out"), "--lungs", "lungmask", option, given]
    assert main(words) == 2
    assert "--lungs lungmask does not go with a given lung mask" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("how", "code", "words"), [("offline", 1, "no network"), ("empty", 2, "found no lungs")])
def test_a_tool_that_fails_is_one_sentence(
    ct: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], how: str, code: int,
    words: str,
) -> None:  # fmt: skip
    lung_stand_ins.install(tmp_path / "site", monkeypatch, how=how)
    assert main(["segment", "-i", str(ct), "-o", str(tmp_path / "out"), "--lungs", "totalsegmentator", *FEW]) == code
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.err.count("\n") == 2
    assert not (tmp_path / "out" / "run.json").exists()


def test_a_tool_comes_before_the_lungs_of_a_case(ct: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lung_stand_ins.install(tmp_path / "site", monkeypatch)
    volume = read_nifti(ct)
    ball = np.zeros(volume.shape, np.uint8)
    ball[15:25, 15:25, 15:25] = 1
    write_case(tmp_path / "case.npz", Case("case", volume, volume.with_array(ball), {}))
    words = ["segment", "-i", str(tmp_path / "case.npz"), "-o", str(tmp_path / "out"), "--lungs", "lungmask", *FEW]
    assert main(words) == 0
    assert (read_nifti(tmp_path / "out" / "label_map.nii.gz").array > 0).sum() > 5 * ball.sum()
    assert main(["rerun", str(tmp_path / "out"), "-o", str(tmp_path / "again"), "-q"]) == 0


def test_convert_takes_its_lungs_too(ct: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lung_stand_ins.install(tmp_path / "site", monkeypatch)
    assert main(["convert", "-i", str(ct), "-o", str(tmp_path / "cases"), "--lungs", "lungmask", "-q"]) == 0
    case = read_case(tmp_path / "cases" / "local__ct.npz")
    np.testing.assert_array_equal(case.lungs.array > 0, lungs_of(read_nifti(ct), None, Source("lungmask")).array > 0)
    assert case.meta["lung_tool"]["name"] == "lungmask"


def test_from_python(oblique_affine: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lung_stand_ins.install(tmp_path, monkeypatch)
    ct, truth = scan(oblique_affine)
    result = segment(ct, config=SegmentConfig(lungs="totalsegmentator", spacing_mm=3.0), device="cpu")
    np.testing.assert_array_equal(result.lungs.array, truth)


@pytest.mark.filterwarnings("ignore")  # Dask's, on closing sockets
def test_a_cohort_goes_on_past_a_scan_that_the_tool_refuses(
    oblique_affine: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("distributed")
    log = lung_stand_ins.install(tmp_path / "site", monkeypatch)
    ct, _ = scan(oblique_affine)
    metal = Volume(ct.array.copy(), ct.affine)
    metal.array[20, 20, 20] = 3000
    for name, volume in (("a", ct), ("b", metal)):
        write_nifti(tmp_path / "in" / f"{name}.nii.gz", volume)
    words = ["cohort", "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--workers", "1", *FEW]
    assert main([*words, "--lungs", "totalsegmentator"]) == 1
    assert "TotalSegmentator failed (RuntimeError: cannot work on metal)" in capsys.readouterr().err
    assert record(tmp_path / "out" / "a")["lung_tool"]["name"] == "TotalSegmentator"
    assert [path.parent.name for path in (tmp_path / "out").glob("*/run.json")] == ["a"]
    assert len(lung_stand_ins.asked(log)) == 2
