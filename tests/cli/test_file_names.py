"""Any name that a file system takes: no command ends for it, and what is written is UTF-8 and JSON for any reader."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from diffseglung.cli import main
from diffseglung.io import read_mask
from diffseglung.io.nifti import write_nifti
from diffseglung.viewer import contents
from tests.cli.test_bad_input import chest, save
from tests.toys import not_utf8

LATIN = os.fsdecode(b"M\xfcller")
SHOWN = "M\\udcfcller"
TEXTS = (".json", ".html", ".csv", ".ctbl", ".txt", ".jsonl", ".md")

pytestmark = [not_utf8, pytest.mark.filterwarnings("ignore")]  # Dask's, on closing sockets


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return save(path, chest())


def require_texts(folder: Path, name: str = SHOWN) -> None:
    """Every text is UTF-8, no JSON holds half a character, and one of them tells the name."""
    files = [path for path in folder.rglob("*") if path.suffix in TEXTS]
    for path in files:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8")
    assert any(name in path.read_text(encoding="utf-8").replace("\\\\", "\\") for path in files)


def test_segment_rerun_and_view(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan, out = put(tmp_path / LATIN / f"{LATIN}.nii.gz"), tmp_path / LATIN / "out"
    assert main(["segment", "-i", str(scan), "-o", str(out), "--json"]) == 0
    json.dumps(json.loads(capsys.readouterr().out), ensure_ascii=False).encode()
    assert len(list(out.iterdir())) == 7
    require_texts(out)
    assert contents.gather(out, scan).facts["title"] == f"{SHOWN}.nii.gz"
    assert main(["rerun", str(out), "-o", str(tmp_path / "again")]) == 0
    assert "the same label map" in capsys.readouterr().out


@pytest.mark.parametrize("option", [[], ["--json"]])
def test_standard_output_takes_it_whatever_its_encoding(tmp_path: Path, option: list[str]) -> None:
    scan = put(tmp_path / f"{LATIN} 肺.nii.gz")
    for encoding, lungs in (("utf-8:strict", "肺"), ("ascii:strict", "\\u80ba")):
        environment = os.environ | {"PYTHONIOENCODING": encoding}
        words = [sys.executable, "-m", "diffseglung", "info", str(scan), *option]
        done = subprocess.run(words, capture_output=True, env=environment, check=True)
        told = json.loads(done.stdout)["path"] if option else done.stdout.decode()
        assert f"{SHOWN} {'肺' if option else lungs}.nii.gz" in told


@pytest.mark.slow
def test_a_cohort_with_such_names_linked_folders_and_a_bad_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("distributed")
    scans, out = tmp_path / "in", tmp_path / LATIN
    put(tmp_path / "far" / "ct.nii.gz")
    put(scans / f"{LATIN}.nii.gz")
    (scans / LATIN).symlink_to(tmp_path / "far")
    (scans / f"{LATIN}.mha").write_bytes(b"damaged")
    (scans / "loop").symlink_to(".")
    words = ["cohort", "-i", str(scans), "-o", str(out), "--workers", "1", "--no-preview", "--json"]
    assert main(words) == 1
    told = capsys.readouterr()
    assert "skipped links that lead to a folder that is searched anyway: loop" in told.err
    assert sorted(row["status"] for row in json.loads(told.out)) == ["done", "done", "failed"]
    with (out / "cohort.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["scan"].rsplit("-", 1)[0] for row in rows} == {"M-ller--ct", "M-ller.mha", "M-ller"}
    assert {row["input"] for row in rows} == {
        str(scans / name) for name in (f"{SHOWN}/ct.nii.gz", f"{SHOWN}.mha", f"{SHOWN}.nii.gz")
    }
    require_texts(out)


def test_evaluate_convert_clusters_and_precompute(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path / "in" / f"{LATIN}.nii.gz")
    out = tmp_path / LATIN
    assert main(["convert", "-i", str(tmp_path / "in"), "-o", str(out / "cases"), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["scans"]
    assert row["input"].endswith(f"{SHOWN}.nii.gz")
    (case,) = (out / "cases").iterdir()
    case = case.rename(out / "cases" / f"{LATIN}.npz")
    assert main(["clusters", "--npz", str(case), "--out", str(out / "clusters"), "-q"]) == 0
    words = ["--npz_dir", str(case.parent), "--out_dir", str(out / "patches"), "--patches_per_patient", "1", "-q"]
    assert main(["precompute", *words]) == 0
    require_texts(out)
    truth = tmp_path / "truth" / LATIN / "truth.nii.gz"
    for path in (truth, tmp_path / "results" / f"{LATIN}.nii.gz"):
        write_nifti(path, read_mask(case))
    words = ["--cases", str(tmp_path / "truth"), "--predictions", str(tmp_path / "results"), "--no-surfaces"]
    assert main(["evaluate", *words, "-o", str(out / "scores"), "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["cases"]["prediction"]) == [SHOWN]
    require_texts(out / "scores")
