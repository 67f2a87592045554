"""Headers as hospitals write them: each gives DICOM results, which carry what they may and tell of the rest."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from diffseglung.io import Scan, read_scan
from diffseglung.output.dicom import NAMES, write_objects
from diffseglung.output.products import Attempts
from diffseglung.output.statistics import measure
from diffseglung.segmentation import Segmentation
from tests.io.dicom.test_headers import enhanced
from tests.io.dicom_defects import edit, write_good
from tests.output.dicom.conftest import identify_patient
from tests.output.dicom.test_images import validated

Change = Callable[[Any], object]


def raw(keyword: str, value: bytes) -> Change:
    """Bytes as a file holds them, whatever the attribute allows."""
    tag = Tag(keyword)
    kind = pydicom.datadict.dictionary_VR(tag)
    even = value + b" " * (len(value) % 2)
    return lambda image: image.update({tag: RawDataElement(tag, kind, len(even), even, 0, False, True)})


def result_of(folder: Path) -> tuple[Segmentation, Scan]:
    """Labels for the dark part of a series, whatever they mean."""
    scan = read_scan(folder)
    ct = scan.volume
    labels = ct.with_array((ct.array < -500).astype(np.uint8))
    return Segmentation(ct, labels, labels, measure(ct, labels, labels), None, {"settings": {"method": "rule"}}), scan


def objects(
    tmp_path: Path, change: Change, only: int | None = None, kinds: tuple[str, ...] = ("seg", "sr")
) -> tuple[dict[str, Any], str]:
    """The objects of a small series whose headers were changed, or the header of one slice; and what was told."""
    files = write_good(tmp_path / "series")
    edit(files, identify_patient)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is put in here
        edit(files if only is None else files[only : only + 1], lambda image, _: change(image))
    result, scan = result_of(tmp_path / "series")
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    attempts = Attempts(tmp_path)
    notes = write_objects(result, scan.frames, kinds, picture.getvalue, attempts)
    assert attempts.failed == {}
    return {kind: pydicom.dcmread(tmp_path / NAMES[kind]) for kind in kinds}, " ".join(notes)


@pytest.mark.parametrize("value", [None, b"", b"0", b"-2", b"nan", b"thin", b"2\\2"])
def test_thickness_that_is_none_comes_from_positions(tmp_path: Path, value: bytes | None) -> None:
    change = raw("SliceThickness", value) if value is not None else lambda image: image.pop("SliceThickness")
    made, told = objects(tmp_path, change)
    measures = made["seg"].SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.SliceThickness == 2
    assert "the header gives no slice thickness" in told
    assert all(validated(tmp_path / NAMES[kind]) == [] for kind in made)


JAPANESE = "Yamada^Tarou=山田^太郎=やまだ^たろう"


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        (["", "ISO 2022 IR 87"], JAPANESE),
        (["ISO 2022 IR 6", "ISO 2022 IR 87"], JAPANESE),
        (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        (["ISO 2022 IR 100", "ISO 2022 IR 144"], "Müller^Люк"),
        ("ISO_IR 100", "Müller^Ä"),
        ("ISO_IR 144", "Люк^Ж"),
        ("ISO_IR 192", "王^小东"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
    ],
)
def test_names_are_carried_in_any_alphabet(tmp_path: Path, charset: list[str] | str, name: str) -> None:
    def change(image: Any) -> None:
        image.SpecificCharacterSet, image.PatientName = charset, name

    made, told = objects(tmp_path, change)
    assert [str(item.PatientName) for item in made.values()] == [name] * 2
    assert not told


@pytest.mark.parametrize("charset", [b"ISO_IR 999", b"iso8859-77"])
def test_text_of_an_unknown_alphabet_is_left_out(tmp_path: Path, charset: bytes) -> None:
    def change(image: Any) -> None:
        raw("SpecificCharacterSet", charset)(image)
        raw("PatientName", b"M\xfcller^A")(image)

    made, told = objects(tmp_path, change)
    assert not made["seg"].PatientName
    assert made["seg"].PatientID == "Secret-Id"
    assert "PatientName" in told
    assert "ller" not in told


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientBirthDate", b"19XX"),
        ("PatientBirthDate", b"1950-01-02"),
        ("PatientBirthDate", b"1950"),
        ("StudyDate", b"00000000"),
        ("StudyDate", b"20200102\\20200103"),
        ("StudyTime", b"12:30:00"),
        ("StudyTime", b"240000"),
        ("PatientSex", b"FEMALE"),
        ("PatientSex", b"f"),
        ("PatientSize", b"1,75"),
        ("PatientWeight", b"70 kg"),
        ("PatientName", b"A^B\\C^D"),
        ("ReferringPhysicianName", b"A^B\\C^D"),
    ],
)
def test_what_dicom_does_not_allow_is_left_out_and_told(tmp_path: Path, keyword: str, value: bytes) -> None:
    made, told = objects(tmp_path, raw(keyword, value), kinds=("seg", "sr", "sc"))
    for item in made.values():
        assert not item.get(keyword)
        assert item.PatientID == "Secret-Id"
    assert keyword in told
    assert value.decode() not in told.replace(keyword, "")


@pytest.mark.parametrize("keyword", ["Modality", "SOPClassUID", "SOPInstanceUID", "InstanceNumber", "ImageType"])
def test_what_the_file_tells_elsewhere_may_be_missing(tmp_path: Path, keyword: str) -> None:
    made, _ = objects(tmp_path, lambda image: image.pop(keyword))
    assert made["seg"].PatientID == made["sr"].PatientID == "Secret-Id"


def test_slices_turned_by_a_rounding_error_are_one_stack(tmp_path: Path) -> None:
    def change(image: Any) -> None:
        image.ImageOrientationPatient = [f"{float(value) + 1e-6:.8g}" for value in image.ImageOrientationPatient]

    made, _ = objects(tmp_path, change, only=2)
    assert made["seg"].PatientID == made["sr"].PatientID == "Secret-Id"


@pytest.mark.parametrize("change", ["no thickness", "measures in frames"])
def test_multi_frame_headers(tmp_path: Path, change: str) -> None:
    def move(image: Any) -> None:
        identify_patient(image, 0)
        shared = image.SharedFunctionalGroupsSequence[0]
        if change == "no thickness":
            del shared.PixelMeasuresSequence[0].SliceThickness
        else:
            for name in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
                moved = shared.pop(name).value if name in shared else None
                for frame in image.PerFrameFunctionalGroupsSequence if moved else ():
                    setattr(frame, name, moved)

    result, scan = result_of(enhanced(tmp_path / "s" / "ct.dcm", edit=move))
    attempts = Attempts(tmp_path)
    write_objects(result, scan.frames, ("seg", "sr"), bytes, attempts)
    assert attempts.failed == {}
    item = hd.seg.segread(tmp_path / NAMES["seg"])
    assert item.get_volume(combine_segments=True).spacing == pytest.approx(scan.volume.spacing_mm)


def test_a_report_does_without_its_segmentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_good(tmp_path / "series")
    edit(sorted((tmp_path / "series").iterdir()), identify_patient)
    result, scan = result_of(tmp_path / "series")

    def fail(*_: object) -> None:
        raise ValueError

    monkeypatch.setattr("diffseglung.output.dicom.images.segments", fail)
    attempts = Attempts(tmp_path)
    write_objects(result, scan.frames, ("seg", "sr"), bytes, attempts)
    assert set(attempts.failed) == {NAMES["seg"]}
    assert hd.sr.srread(tmp_path / NAMES["sr"]).Modality == "SR"
