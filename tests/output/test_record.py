"""run.json holds what is needed to make a result again, in plain JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from diffseglung import __version__
from diffseglung.io import Scan, read_volume
from diffseglung.output.record import Origin, describe, fingerprint, source_record, told_name, write_json
from diffseglung.platform.serialization import plain
from diffseglung.segmentation import Segmentation
from diffseglung.volume import Volume


def test_the_record_holds_versions_grid_settings_and_files(chest: Segmentation) -> None:
    record = describe(chest, ["run.json", "label_map.nii.gz"])
    assert record["versions"]["diffseglung"] == __version__
    assert {"python", "torch", "numpy"} <= record["versions"].keys()
    assert record["grid"]["shape_zyx"] == [40, 36, 48]
    assert record["settings"]["method"] == "seeded"
    assert record["warnings"] == ["thick slices"]
    assert record["files"] == ["label_map.nii.gz", "run.json"]
    assert "not a medical device" in record["notice"].lower()


def test_unknown_numbers_become_null(tmp_path: Path) -> None:
    value = {"a": np.float32("nan"), 1: [np.int64(3), float("inf"), np.array([1.5])], "path": Path("x"), "no": None}
    assert plain(value) == {"a": None, "1": [3, None, [1.5]], "path": "x", "no": None}
    write_json(tmp_path / "x.json", value)
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == plain(value)


DOE = {"PatientName": "Doe^Jane", "PatientID": "MRN-0042", "StudyDate": "20200102"}


def test_equal_volumes_have_equal_fingerprints_however_they_lie_in_memory(oblique: Volume) -> None:
    twin = Volume(np.asfortranarray(oblique.array.copy()), oblique.affine.copy())
    assert fingerprint(oblique) == fingerprint(twin)


@pytest.mark.parametrize("what", ["value", "place", "type", "shape"])
def test_any_change_changes_the_fingerprint(oblique: Volume, what: str) -> None:
    array, affine = oblique.array.copy(), oblique.affine.copy()
    if what == "value":
        array[2, 3, 4] = np.nextafter(array[2, 3, 4], np.float32(np.inf))
    elif what == "place":
        affine[2, 3] = np.nextafter(affine[2, 3], np.inf)
    elif what == "type":
        array = array.astype(np.float64)
    else:
        array = array.reshape(7, 5, 9)
    assert fingerprint(Volume(array, affine)) != fingerprint(oblique)


def test_a_scan_has_one_fingerprint_in_every_format_that_keeps_it(tmp_path: Path) -> None:
    import SimpleITK as itk

    image = itk.GetImageFromArray(np.random.default_rng(0).integers(-1000, 300, (40, 30, 20)).astype(np.int16))
    image.SetSpacing((1.0, 2.0, 4.0))
    image.SetOrigin((8.0, -16.0, 32.0))
    found = set()
    for ending in (".nrrd", ".mha", ".nii.gz"):
        itk.WriteImage(image, str(tmp_path / f"ct{ending}"))
        found.add(fingerprint(read_volume(tmp_path / f"ct{ending}")))
    assert len(found) == 1


def scan(oblique: Volume, identity: dict[str, str]) -> Scan:
    return Scan(oblique, source={"series_hash": "ab" * 8}, identity=identity)


def test_records_tell_where_files_lie_unless_that_tells_who_it_is(oblique: Volume) -> None:
    plain = Origin(Path("/data/case-7/ct"), Path("/data/case-7/lungs.nii.gz"))
    assert source_record(scan(oblique, DOE), plain) == {
        "path": "/data/case-7/ct", "lung_mask": "/data/case-7/lungs.nii.gz", "series": "ab" * 8,
    }  # fmt: skip
    named = Origin(Path("/data/DOE JANE/ct"), Path("/data/lungs.nii.gz"))
    assert source_record(scan(oblique, DOE), named)["path"] is None
    assert source_record(scan(oblique, DOE), named)["lung_mask"] == "/data/lungs.nii.gz"
    assert source_record(scan(oblique, {}), named)["path"] == "/data/DOE JANE/ct"


def test_who_asks_for_identifiers_gets_them(oblique: Volume) -> None:
    record = source_record(scan(oblique, DOE), Origin(Path("/data/DOE JANE/ct"), keep=True))
    assert record["path"] == "/data/DOE JANE/ct"
    assert record["identifiers"] == DOE
    assert "identifiers" not in source_record(scan(oblique, DOE), Origin(Path("/data/x")))


def test_a_scan_named_after_its_patient_is_called_by_its_fingerprint(oblique: Volume) -> None:
    known = scan(oblique, DOE)
    assert told_name(known, Origin(Path("/data/MRN-0042")), "0123456789") == "scan-01234567"
    assert told_name(known, Origin(Path("/data/MRN-0042"), name="case 3"), "0123456789") == "case 3"
    assert told_name(known, Origin(Path("/data/MRN-0042"), keep=True), "0123456789") == "MRN-0042"
