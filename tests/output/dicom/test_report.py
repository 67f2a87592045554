"""The structured report says what statistics.json says, in TID 1500's words, and refers to the segments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import highdicom as hd
import pydicom
import pytest

from diffseglung import output
from diffseglung.labels import TISSUES
from diffseglung.output import Products
from diffseglung.output.dicom import NAMES, codes
from tests.output.dicom.conftest import Labelled


def values(group: Any) -> dict[tuple[str, str | None], float]:
    """(measurement's code, side or None) -> value of one group."""
    found = {}
    for measurement in group.get_measurements():
        sites = measurement.finding_sites
        side = sites[0].laterality if sites else None
        found[measurement.name.value, side.meaning.lower() if side else None] = float(measurement.value)
    return found


def test_measurements_are_those_of_the_statistics(written: Path, kept: Labelled) -> None:
    content = hd.sr.srread(written / NAMES["sr"]).content
    groups = {g.tracking_identifier: g for g in content.get_volumetric_roi_measurement_groups()}
    for label in TISSUES:
        entry, found = kept.result.statistics[label.name], values(groups[f"DiffSegLung {label.name}"])
        for side, part in ((None, entry), ("right", entry["right"]), ("left", entry["left"])):
            assert found[codes.VOLUME.value, side] == pytest.approx(part["volume_ml"], rel=1e-5)
            assert found[codes.SHARE.value, side] == pytest.approx(100 * part["fraction_of_lung"], rel=1e-5)
            assert found[codes.ATTENUATION.value, side] == pytest.approx(part["mean_hu"], rel=1e-5)


def test_densitometry_of_the_lungs_has_a_group(written: Path, kept: Labelled) -> None:
    content = hd.sr.srread(written / NAMES["sr"]).content
    (group,) = content.get_image_measurement_groups(tracking_uid=None)
    found, lung = values(group), kept.result.statistics["lung"]
    for side, part in ((None, lung), ("right", lung["right"]), ("left", lung["left"])):
        assert found["LAA-950", side] == pytest.approx(100 * part["LAA-950"], rel=1e-5)
        assert found["perc15", side] == pytest.approx(part["percentiles_hu"]["15"], rel=1e-5)


def test_each_group_refers_to_its_segment(written: Path) -> None:
    segmentation = pydicom.dcmread(written / NAMES["seg"])
    for group in hd.sr.srread(written / NAMES["sr"]).content.get_volumetric_roi_measurement_groups():
        images = [item for item in group[0].ContentSequence if item.ValueType == "IMAGE"]
        (reference,) = [i for item in images for i in item.ReferencedSOPSequence if "ReferencedSegmentNumber" in i]
        assert reference.ReferencedSOPInstanceUID == segmentation.SOPInstanceUID
        number = int(reference.ReferencedSegmentNumber)
        by_number = {int(s.SegmentNumber): s for s in segmentation.SegmentSequence}
        assert group.tracking_uid == by_number[number].TrackingUID


def test_units_are_ucum(written: Path) -> None:
    units = set()
    for group in hd.sr.srread(written / NAMES["sr"]).content.get_volumetric_roi_measurement_groups():
        units |= {(m.unit.value, m.unit.scheme_designator) for m in group.get_measurements()}
    assert units == {("mL", "UCUM"), ("%", "UCUM"), ("[hnsf'U]", "UCUM")}


def test_what_is_unknown_is_left_out(labelled: Labelled, tmp_path: Path) -> None:
    labelled.result.statistics["ggo"]["right"]["mean_hu"] = None
    output.write(
        labelled.result, tmp_path / "out", Products(preview=False, dicom=("seg", "sr")), frames=labelled.scan.frames
    )
    content = hd.sr.srread(tmp_path / "out" / NAMES["sr"]).content
    groups = {g.tracking_identifier: g for g in content.get_volumetric_roi_measurement_groups()}
    assert (codes.ATTENUATION.value, "right") not in values(groups["DiffSegLung ggo"])
    assert (codes.ATTENUATION.value, "left") in values(groups["DiffSegLung ggo"])


def test_a_report_without_a_segmentation_holds_the_same_numbers(labelled: Labelled, tmp_path: Path) -> None:
    output.write(labelled.result, tmp_path / "out", Products(preview=False, dicom=("sr",)), frames=labelled.scan.frames)
    assert not (tmp_path / "out" / NAMES["seg"]).exists()
    content = hd.sr.srread(tmp_path / "out" / NAMES["sr"]).content
    groups = {g.tracking_identifier: g for g in content.get_image_measurement_groups()}
    entry = labelled.result.statistics["emphysema"]
    assert values(groups["DiffSegLung emphysema"])[codes.VOLUME.value, None] == pytest.approx(entry["volume_ml"])
