"""What the page is told: the files' own numbers, voxels that hold what is said of them, and the CT on its place."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from diffseglung import output
from diffseglung.io.nifti import write_nifti
from diffseglung.labels import TISSUES
from diffseglung.platform.errors import GeometryError, InputError
from diffseglung.segmentation import Segmentation
from diffseglung.viewer.contents import find_places, gather, thinned, whole_hu
from diffseglung.volume import Volume


@pytest.fixture
def result(chest: Segmentation, tmp_path: Path) -> Path:
    output.write(chest, tmp_path / "out")
    return tmp_path / "out"


def test_numbers_are_those_of_statistics_json(result: Path, chest: Segmentation) -> None:
    facts = gather(result).facts
    assert [entry["id"] for entry in facts["classes"]] == [label.id for label in TISSUES]
    for entry, label in zip(facts["classes"], TISSUES, strict=True):
        record = chest.statistics[label.name]
        assert entry["colour"] == list(label.colour)
        for part, source in (("both", record), ("right", record["right"]), ("left", record["left"])):
            assert entry[part] == {name: source[name] for name in ("volume_ml", "fraction_of_lung", "mean_hu")}
    assert facts["lung"]["left"]["LAA-950"] == chest.statistics["lung"]["left"]["LAA-950"]
    assert facts["warnings"] == ["thick slices"]
    assert facts["title"] == "chest.nii.gz"


def test_each_place_lies_in_its_class(result: Path, chest: Segmentation) -> None:
    facts = gather(result).facts
    for entry in facts["classes"]:
        assert chest.label_map.array[tuple(entry["place"])] == entry["id"]
        z, y, x = entry["place"]
        assert (chest.label_map.array[z, y - 1 : y + 2, x - 1 : x + 2] == entry["id"]).all()  # not on its border
    assert chest.label_map.array[tuple(facts["start"])] > 1


def test_a_class_that_is_absent_has_no_place(chest: Segmentation) -> None:
    healthy = chest.label_map.with_array(np.minimum(chest.label_map.array, 1))
    assert set(find_places(healthy, Path("label_map.nii.gz"))) == {1}


def test_without_records_every_number_is_unknown(result: Path) -> None:
    (result / "statistics.json").unlink()
    (result / "run.json").unlink()
    facts = gather(result).facts
    assert facts["title"] == "out"
    assert facts["warnings"] == []
    assert all(value is None for entry in facts["classes"] for value in entry["both"].values())


def test_what_is_no_number_is_unknown(result: Path) -> None:
    record = json.loads((result / "statistics.json").read_text(encoding="utf-8"))
    record["ggo"] = {"volume_ml": "<b>much</b>", "fraction_of_lung": True, "right": 3, "mean_hu": -600}
    record["emphysema"] = None
    (result / "statistics.json").write_text(json.dumps(record))
    by_title = {entry["title"]: entry for entry in gather(result).facts["classes"]}
    unknown = {"volume_ml": None, "fraction_of_lung": None, "mean_hu": None}
    assert by_title["Ground-glass opacity"]["both"] == unknown | {"mean_hu": -600}
    assert by_title["Ground-glass opacity"]["right"] == by_title["Emphysema"]["both"] == unknown


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_damaged_record_is_named(result: Path, text: str) -> None:
    (result / "run.json").write_text(text)
    with pytest.raises(InputError, match=r"run\.json"):
        gather(result)


def test_the_ct_is_taken_in_whole_hu_on_the_label_map_s_grid(result: Path, chest: Segmentation, tmp_path: Path) -> None:
    ct = chest.ct.with_array(chest.ct.array + np.float32(0.4))
    write_nifti(tmp_path / "ct.nii.gz", ct)
    contents = gather(result, tmp_path / "ct.nii.gz")
    assert contents.ct is not None
    assert contents.label_map is not None
    assert contents.ct.array.dtype == np.int16
    np.testing.assert_array_equal(contents.ct.array, chest.ct.array)
    assert contents.ct.same_grid(contents.label_map)
    assert contents.facts["has_ct"]


def test_a_ct_elsewhere_is_refused(result: Path, chest: Segmentation, tmp_path: Path) -> None:
    moved = chest.ct.affine.copy()
    moved[0, 3] += 1.0
    for name, ct in (("moved", Volume(chest.ct.array, moved)), ("short", chest.ct.crop((0, 0, 0), (39, 36, 48)))):
        write_nifti(tmp_path / f"{name}.nii.gz", ct)
        with pytest.raises(GeometryError, match=rf"{name}\.nii\.gz has .* but the label map"):
            gather(result, tmp_path / f"{name}.nii.gz")


def test_a_scan_alone_is_shown_with_its_notes(chest: Segmentation, tmp_path: Path) -> None:
    write_nifti(tmp_path / "ct.nii.gz", chest.ct)
    contents = gather(tmp_path / "ct.nii.gz")
    assert contents.label_map is None
    assert contents.facts["classes"] == []
    assert contents.facts["title"] == "ct.nii.gz"
    with pytest.raises(InputError, match="no label_map"):
        gather(tmp_path, tmp_path / "ct.nii.gz")


def test_a_cohort_s_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "cohort.csv").write_text("scan\n")
    with pytest.raises(InputError, match="cohort"):
        gather(tmp_path)


def test_an_id_without_a_class_is_refused(chest: Segmentation, result: Path) -> None:
    write_nifti(result / "label_map.nii.gz", chest.label_map.with_array(chest.label_map.array * 2))
    with pytest.raises(InputError, match="holds the id 10"):
        gather(result)


def test_thinning_keeps_places(chest: Segmentation) -> None:
    coarse = thinned(chest.label_map)  # 2.5 x 0.8 x 0.7 mm: every 1st, 3rd, 3rd voxel
    assert coarse.spacing_mm == pytest.approx((2.5, 2.4, 2.1))
    for index in ((0, 0, 0), (7, 3, 2), (20, 11, 15)):
        fine = np.array([index[0], index[1] * 3, index[2] * 3])
        assert coarse.array[index] == chest.label_map.array[tuple(fine)]
        np.testing.assert_allclose(coarse.affine @ [*index, 1], chest.label_map.affine @ [*fine, 1])


def test_hu_beyond_sixteen_bits_are_held_at_the_ends() -> None:
    volume = Volume(np.array([[[-1e6, -1023.5, 0.5, 1.5, 1e6]]], np.float32), np.eye(4))
    assert whole_hu(volume).array.ravel().tolist() == [-32768, -1024, 0, 2, 32767]
