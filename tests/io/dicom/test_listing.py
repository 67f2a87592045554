"""A folder of several series is listed: what each is, why one cannot be used, and which would be read."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from diffseglung.cli import main, run_command
from diffseglung.io.dicom.listing import list_series
from diffseglung.platform.errors import InputError
from tests.io.dicom_defects import put, write_good


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Four series: soft and sharp, a localiser, an MR."""
    write_good(tmp_path / "study" / "soft")
    put(write_good(tmp_path / "study" / "sharp"), SeriesInstanceUID="1.2.9", SeriesNumber=4, ConvolutionKernel="B70f")
    put(
        write_good(tmp_path / "study" / "scout")[:1],
        SeriesInstanceUID="1.2.8", SeriesNumber=1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
    )  # fmt: skip
    for path in sorted((tmp_path / "study" / "scout").glob("*.dcm"), key=lambda p: int(p.stem.split("-")[1]))[1:]:
        path.unlink()
    put(write_good(tmp_path / "study" / "mr"), SeriesInstanceUID="1.2.7", SeriesNumber=20, Modality="MR")
    return tmp_path / "study"


def test_every_series_has_a_row(study: Path) -> None:
    rows = list_series(study)
    assert [row["number"] for row in rows] == ["1", "3", "4", "20"]
    assert [row["chosen"] for row in rows] == [False, True, False, False]
    assert [row["problem"] for row in rows] == ["is no CT but localiser", None, None, "is no CT but MR"]
    assert (rows[2]["kernel"], rows[2]["slices"], rows[2]["spacing_mm"]) == ("B70f", 12, 2.0)
    assert "Secret" not in json.dumps(rows)


def test_archive_is_listed_like_its_folder(study: Path) -> None:
    with zipfile.ZipFile(study.parent / "a.zip", "w") as archive:
        for path in study.rglob("*.dcm"):
            archive.write(path, str(path.relative_to(study)))
    assert list_series(study.parent / "a.zip") == list_series(study)


def test_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no DICOM files"):
        list_series(tmp_path)


def test_info_prints_the_table_and_the_chosen_scan(study: Path, capsys: Any) -> None:
    assert run_command("info", [str(study)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["number", "description", "kernel", "thick"]
    assert lines[2].startswith(">  3  ")
    assert lines[4].endswith("is no CT but MR")
    assert "> series 3 is used unless --series names another" in lines
    assert "shape_zyx: [12, 16, 16]" in lines


def test_info_as_json(study: Path, capsys: Any) -> None:
    assert run_command("info", [str(study), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "scan"
    assert [row["number"] for row in found["series"]] == ["1", "3", "4", "20"]
    assert run_command("info", [str(study), "--series", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "series" not in found
    assert found["kernel"] == "B70f"


def test_series_that_is_no_ct_is_named_as_such(study: Path, capsys: Any) -> None:
    assert main(["info", str(study), "--series", "20"]) == 2
    said = capsys.readouterr().err
    assert "series 20 of" in said
    assert "is no CT but MR" in said
    assert "choose one of: 3 (Thorax, 12 slices); 4 (" in said


def test_info_lists_what_it_cannot_choose_between(study: Path, capsys: Any) -> None:
    put(list((study / "sharp").iterdir()), ConvolutionKernel="B30f")
    assert run_command("info", [str(study), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "series"
    assert "holds 2 CT series" in found["problem"]
    assert not any(row["chosen"] for row in found["series"])
    assert main(["info", str(study)]) == 0
    assert "no series would be used: choose one with --series NUMBER" in capsys.readouterr().out
