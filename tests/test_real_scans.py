"""`scripts/real_scans.py`: a row and pictures for every scan, whatever the others do, and figures that hold."""

from __future__ import annotations

import html
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from diffseglung.io.nifti import read_nifti, write_nifti
from diffseglung.platform.errors import InputError
from diffseglung.volume import Volume
from tests.toy_models import small_phantom

SCRIPTS = Path(__file__).parents[1] / "scripts"
PICTURES = [f"{plane}_{window}.png" for plane in ("axial", "coronal", "sagittal") for window in ("lung", "soft")]
GRID = np.diag([2.0, 2.0, 2.0, 1.0])[[2, 1, 0, 3]]


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield importlib.import_module("real_scans")


def run(script: ModuleType, *words: Path | str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["real_scans.py", *map(str, words)])
        patch.setattr(script, "code_hash", lambda: "this code")
        return int(script.main())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chest, and a file that is no scan."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "patient").mkdir()
    write_nifti(folder / "patient" / "ct.nii.gz", small_phantom(3).ct)
    (folder / "broken.nii.gz").write_bytes(b"no scan")
    return folder


@pytest.fixture(scope="module")
def out(script: ModuleType, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    assert run(script, data, "-o", folder) == 0
    return folder


def records(out: Path) -> dict[str, dict[str, object]]:
    return {item["name"]: item for item in json.loads((out / "scans.json").read_text(encoding="utf-8"))}


def test_each_scan_has_a_row_and_pictures_and_a_broken_one_costs_no_other(out: Path) -> None:
    page, found = (out / "index.html").read_text(encoding="utf-8"), records(out)
    assert set(found) == {"patient", "broken"}
    assert page.count("<section") == page.split("</table>")[0].count('<td><a href="#') == 2
    assert html.escape(str(found["broken"]["error"])) in page
    assert found["patient"]["error"] is None
    for picture in PICTURES:
        assert f'src="patient/{picture}"' in page
        assert_picture(out / "patient" / picture)
    for kept in ("lungs", "label_map"):
        assert read_nifti(out / "patient" / f"{kept}.nii.gz").same_grid(small_phantom(3).ct)


def assert_picture(path: Path) -> None:
    with Image.open(path) as image:
        assert image.size[0] > 500


def test_a_scan_that_was_refused_is_shown_without_lungs(script: ModuleType, data: Path, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise InputError("no lungs were found in the scan", remedy="pass a lung mask")

    case = script.Case("patient", data / "patient" / "ct.nii.gz")
    record = script.label(case, tmp_path, refuse)
    assert record["error"] == "no lungs were found in the scan"
    assert not (tmp_path / "lungs.nii.gz").exists()
    for picture in PICTURES:
        assert_picture(tmp_path / picture)


def test_figures_are_those_of_the_kept_lungs(out: Path) -> None:
    figures, lungs = records(out)["patient"]["figures"], read_nifti(out / "patient" / "lungs.nii.gz")
    assert isinstance(figures, dict)
    assert figures["right_ml"] == pytest.approx((lungs.array == 1).sum() * lungs.voxel_ml)
    classes = ("healthy", "emphysema", "ggo", "fibrosis", "consolidation")
    assert sum(figures[name] for name in classes) == pytest.approx(100, abs=0.01)
    assert figures["outside_ml"] < 0.01 * figures["right_ml"]
    assert 0 < figures["lung_seconds"] < figures["seconds"]


def test_the_same_code_labels_a_scan_once(script: ModuleType, data: Path, out: Path) -> None:
    before = (out / "patient" / "label_map.nii.gz").stat().st_mtime_ns
    assert run(script, data, "-o", out) == 0
    assert (out / "patient" / "label_map.nii.gz").stat().st_mtime_ns == before


def test_an_earlier_run_is_shown_beside_with_what_changed(
    script: ModuleType, data: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = json.loads((out / "scans.json").read_text(encoding="utf-8"))
    for item in old:
        if item["figures"]:
            item["figures"]["outside_ml"] += 12.5
    (tmp_path / "patient").mkdir()
    (tmp_path / "scans.json").write_text(json.dumps(old), encoding="utf-8")
    for picture in PICTURES:
        Image.new("RGB", (8, 8)).save(tmp_path / "patient" / picture)
    assert run(script, data, "-o", out, "--before", tmp_path) == 0
    page = (out / "index.html").read_text(encoding="utf-8")
    assert '<small class="better">-12.5</small>' in page
    assert "-12.5" in capsys.readouterr().out
    for picture in PICTURES:
        assert f'src="patient/before/{picture}"' in page
        with Image.open(out / "patient" / "before" / picture) as image:
            assert image.size == (8, 8)


def test_references_give_dice_of_lungs_and_sides_without_airways(
    script: ModuleType, data: Path, out: Path, tmp_path: Path
) -> None:
    lungs = read_nifti(out / "patient" / "lungs.nii.gz")
    drawn = lungs.array.copy()
    drawn[:2] = 3
    write_nifti(tmp_path / "patient.nii.gz", lungs.with_array(drawn))
    assert run(script, data, "-o", out, "--references", tmp_path) == 0
    figures = records(out)["patient"]["figures"]
    assert isinstance(figures, dict)
    lost = (lungs.array[:2] > 0).sum()
    whole = (lungs.array > 0).sum()
    assert figures["reference_dice"] == pytest.approx(2 * (whole - lost) / (2 * whole - lost))
    assert figures["reference_left_ml"] == pytest.approx((drawn == 2).sum() * lungs.voxel_ml)


def test_only_labels_what_was_named_and_knows_the_names(script: ModuleType, data: Path, tmp_path: Path) -> None:
    assert run(script, data, "-o", tmp_path, "--only", "broken") == 0
    assert set(records(tmp_path)) == {"broken"}
    with pytest.raises(SystemExit):
        run(script, data, "-o", tmp_path, "--only", "nobody")


def test_scans_are_found_by_their_names_and_masks_are_not(script: ModuleType, tmp_path: Path) -> None:
    for name in ("one.nii.gz", "one_lung.nii.gz", "two/ct.nii.gz", "two/truth.nii.gz", "cip_ct64/ct-64.nrrd", "a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for folder, count in (("series", 12), ("slices", 2)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            (tmp_path / folder / f"{number}.dcm").touch()
    assert {case.name for case in script.find_cases(tmp_path)} == {"one", "series", "two"}
    assert {case.name for case in script.find_cases(tmp_path, fixtures=True)} == {"ct-64", "one", "series", "two"}


def test_a_scan_s_name_tells_its_split(script: ModuleType) -> None:
    splits = {"lctsc_Test-S1-101": "train", "lctsc_Test-S1-203": "dev", "lungdx_A0002_s3": "test", "somebody": ""}
    assert {name: script.Case(name, Path(name)).split for name in splits} == splits


def chest(shape: tuple[int, int, int] = (24, 90, 120)) -> tuple[np.ndarray, np.ndarray]:
    """HU of a body with two lungs in room air on voxels of 2 mm, and its lungs."""
    z, y, x = np.indices(shape)
    body = ((y - 48) / 34) ** 2 + ((x - 60) / 48) ** 2 < 1
    lungs = sum(((z - 12) / 11) ** 2 + ((y - 46) / 20) ** 2 + ((x - c) / 15) ** 2 < 1 for c in (36, 84)) > 0
    return np.where(lungs, -850.0, np.where(body, 40.0, -1000.0)).astype(np.float32), lungs


def test_the_body_holds_the_lungs_and_no_air_of_the_room(script: ModuleType) -> None:
    hu, lungs = chest()
    y, x = np.indices(hu.shape[1:])
    for centre in (42, 78):  # breasts, with room air between them
        hu[4:20, ((y - 12) / 10) ** 2 + ((x - centre) / 14) ** 2 < 1] = -90
    between = (hu < -900) & (np.abs(x - 60) < 3) & (y > 6) & (y < 14)
    assert between.any()
    gown = np.abs(np.hypot((y - 48) / 42, (x - 60) / 57) - 1) < 0.02
    hu[:, gown & (hu[0] < -900)] = -100
    body = script.body_of(Volume(hu, GRID))
    assert body[lungs].all()
    assert not body[between].any()
    assert body[hu == -1000].mean() < 0.002  # creases of the skin


def test_lungs_that_a_narrow_scan_cuts_are_in_the_body_and_air_between_arms_is_not(script: ModuleType) -> None:
    hu, lungs = chest()
    cut = np.s_[:, :, 30:]
    assert lungs[:, :, 30].any()
    assert script.body_of(Volume(hu[cut], GRID))[lungs[cut]].all()
    y, x = np.indices(hu.shape[1:])
    ring = np.hypot((y - 48) / 44, (x - 60) / 58)
    arm = (ring > 0.9) & (x < 30)
    gap = (hu[0] == -1000) & (ring < 0.9) & (x < 30)
    hu[:, arm] = 40.0
    hu[:3, arm & (y > 60)] = -1000.0  # the gap is open in these slices, and closed by the arm in all others
    assert not script.body_of(Volume(hu, GRID))[:, gap].any()


def test_fat_called_consolidation_is_told_from_tissue_and_from_the_border_of_lung(script: ModuleType) -> None:
    hu = np.full((20, 60, 40), 30.0, np.float32)
    hu[:, 20:40] = -100.0
    hu[:, 50:] = -350.0
    everywhere = np.ones(hu.shape, bool)
    found = script.fat_in(Volume(hu, GRID), everywhere)
    fat, uneven, border = script.page.BODY_FAT, script.page.FAT, script.page.BORDER
    assert (found[:, 22:38] == fat).all()
    streaks = np.where(np.indices(hu.shape)[2] % 4 < 2, 80.0, -80.0).astype(np.float32)
    assert (script.fat_in(Volume(hu + streaks, GRID), everywhere)[:, 24:36, 4:-4] == uneven).all()
    assert not found[:, :18].any()
    assert set(np.unique(found[:, 45:])) == {0, border}
    assert not script.fat_in(Volume(hu, GRID), ~everywhere).any()
