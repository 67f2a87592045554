"""Cases survive the disk, published files are read, and nothing is unpickled."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffseglung.io import read_mask, read_scan, read_volume
from diffseglung.io.npz import Case, iter_cases, read_case, without_spacing, write_case
from diffseglung.platform.errors import GeometryError, InputError
from diffseglung.volume import Volume


@pytest.fixture
def case(chest: Volume) -> Case:
    lungs = ((chest.array < -700) & (chest.array > -900)).astype(np.uint8)
    lungs[..., 12:] *= 2
    return Case("lidc__0007", chest, chest.with_array(lungs), {"source": {"format": "NIfTI"}, "notes": ["thick"]})


@pytest.mark.parametrize("compress", [True, False])
def test_case_survives_the_disk(tmp_path: Path, case: Case, compress: bool) -> None:
    path = tmp_path / "lidc__0007.npz"
    write_case(path, case, compress=compress)
    found = read_case(path)
    assert np.allclose(found.ct.array, case.ct.array.clip(-1000, 400), atol=1e-3)
    assert np.array_equal(found.lungs.array, case.lungs.array)
    assert np.array_equal(found.ct.affine, case.ct.affine)
    assert (found.name, found.dataset) == ("lidc__0007", "lidc")
    assert found.meta["source"] == {"format": "NIfTI"}
    assert found.meta["notes"] == ["thick"]
    assert [p.name for p in tmp_path.iterdir()] == ["lidc__0007.npz"]


def test_stored_values_are_the_published_ones(tmp_path: Path, case: Case) -> None:
    write_case(tmp_path / "a__b.npz", case)
    with np.load(tmp_path / "a__b.npz", allow_pickle=False) as file:
        assert file["ct"].dtype == np.float32
        assert file["mask"].dtype == np.uint8
        wanted = ((case.ct.array + 1000) / 700 - 1).clip(-1, 1)
        assert np.allclose(file["ct"], wanted, atol=1e-6)
        assert json.loads(str(file["meta"]))["spacing_mm"] == pytest.approx([2.5, 0.8, 0.7])


def test_bytes_are_reproducible(tmp_path: Path, case: Case) -> None:
    write_case(tmp_path / "a.npz", case)
    write_case(tmp_path / "b.npz", case)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def _seed(path: Path, chest: Volume, **extra: Any) -> Path:
    ct = ((chest.array + 1000) / 700 - 1).clip(-1, 1).astype(np.float32)
    arrays = {"ct": ct, "mask": (np.abs(chest.array + 855) < 60).astype(np.uint8), **extra}
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def test_seed_case_is_read_with_1_mm_and_a_note(tmp_path: Path, chest: Volume) -> None:
    case = read_case(_seed(tmp_path / "a.npz", chest))
    assert case.ct.spacing_mm == (1, 1, 1)
    assert any("1 mm was assumed" in note for note in case.meta["notes"])
    assert case.dataset == ""
    scan = read_scan(tmp_path / "a.npz")
    assert np.allclose(scan.volume.array, chest.array.clip(-1000, 400), atol=1e-3)
    assert any("1 mm was assumed" in note for note in scan.notes)


@pytest.mark.parametrize(
    ("meta", "bare"),
    [
        (None, True),
        ("{}", True),
        ('{"dataset": "x"}', True),
        ('{"spacing_mm": null}', True),
        ('{"spacing": 2}', False),
        ('{"spacing_mm": [3, 1, 1]}', False),
        ('{"affine": [[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]]}', False),
        ('{"spacing_mm": "wide"}', False),
        ("no JSON", False),
        ("[1]", True),
    ],
)
def test_cases_without_a_spacing_are_found_without_reading_their_arrays(tmp_path, chest, meta, bare) -> None:
    path = _seed(tmp_path / "a.npz", chest, meta=meta)
    assert without_spacing([path]) == ([path] if bare else [])


def test_a_case_made_from_one_without_spacing_is_found_too_and_damaged_ones_are_left(tmp_path, chest) -> None:
    paths = [tmp_path / f"{name}.npz" for name in ("copy", "broken", "nowhere")]
    write_case(paths[0], read_case(_seed(tmp_path / "a.npz", chest)))
    paths[1].write_bytes(b"PK broken")
    assert without_spacing(paths) == paths[:1]


@pytest.mark.parametrize("key", ["spacing_mm", "spacing"])
def test_meta_gives_the_spacing(tmp_path: Path, chest: Volume, key: str) -> None:
    case = read_case(_seed(tmp_path / "a.npz", chest, meta=json.dumps({key: [3, 0.8, 0.7], "dataset": "x"})))
    assert case.ct.spacing_mm == pytest.approx((3, 0.8, 0.7))
    assert case.meta["dataset"] == "x"
    assert "notes" not in case.meta


def test_meta_may_be_bytes(tmp_path: Path, chest: Volume) -> None:
    path = _seed(tmp_path / "a.npz", chest, meta=np.array([json.dumps({"spacing": 2}).encode()]))
    assert read_case(path).ct.spacing_mm == (2, 2, 2)


def test_half_precision_and_boolean_masks(tmp_path: Path, chest: Volume) -> None:
    ct = ((chest.array + 1000) / 700 - 1).clip(-1, 1).astype(np.float16)
    case = read_case(_seed(tmp_path / "a.npz", chest, ct=ct, mask=chest.array < -500))
    assert case.ct.array.dtype == np.float32
    assert set(np.unique(case.lungs.array)) == {0, 1}


def test_masks_of_255_mean_lung(tmp_path: Path, chest: Volume) -> None:
    case = read_case(_seed(tmp_path / "a.npz", chest, mask=(chest.array < -500).astype(np.uint8) * 255))
    assert set(np.unique(case.lungs.array)) == {0, 1}


def test_case_in_hu_is_noted(tmp_path: Path, chest: Volume) -> None:
    scan = read_scan(_seed(tmp_path / "a.npz", chest, ct=chest.array))
    assert np.array_equal(scan.volume.array, chest.array)
    assert any("HU instead of normalised" in note for note in scan.notes)


def test_mask_of_a_case_is_a_mask(tmp_path: Path, case: Case) -> None:
    write_case(tmp_path / "a.npz", case)
    assert np.array_equal(read_mask(tmp_path / "a.npz").array, case.lungs.array)


class _Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("key", ["ct", "mask", "meta"])
def test_pickled_objects_are_refused_and_do_not_run(tmp_path: Path, chest: Volume, key: str) -> None:
    _seed(tmp_path / "a.npz", chest, **{key: np.array([_Payload(tmp_path / "ran")], dtype=object)})
    for read in (read_case, read_volume):
        with pytest.raises(InputError, match="pickled objects"):
            read(tmp_path / "a.npz")
    assert not (tmp_path / "ran").exists()


def test_pickle_renamed_npz_is_refused_and_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(pickle.dumps(_Payload(tmp_path / "ran")))
    with pytest.raises(InputError, match="pickled"):
        read_case(tmp_path / "a.npz")
    assert not (tmp_path / "ran").exists()


def _write_broken(path: Path, chest: Volume, kind: str) -> None:
    if kind == "text":
        path.write_text("not a zip")
    elif kind == "truncated":
        path.write_bytes(_seed(path, chest).read_bytes()[:3000])
    elif kind == "array":
        with path.open("wb") as file:
            np.save(file, chest.array)
    else:
        changes: dict[str, dict[str, Any]] = {
            "no ct": {"ct": None},
            "no mask": {"mask": None},
            "empty mask": {"mask": np.zeros(chest.shape, np.uint8)},
            "other shape": {"mask": np.ones((3, 4, 5), np.uint8)},
            "2D": {"ct": np.zeros((9, 9), np.float32)},
            "strings": {"ct": np.full((9, 9, 9), "a")},
            "unit range": {"ct": np.linspace(0, 1, 729).reshape(9, 9, 9)},
            "counts": {"ct": np.arange(729.0).reshape(9, 9, 9)},
            "meta": {"meta": "{not json"},
            "spacing": {"meta": json.dumps({"spacing": ["a", 1, 2]})},
            "affine": {"meta": json.dumps({"affine": [[0] * 4] * 4})},
        }
        _seed(path, chest, **changes[kind])


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("text", "cannot be read as an NPZ"),
        ("truncated", "cannot be read as an NPZ"),
        ("array", "single array"),
        ("no ct", "has no CT"),
        ("no mask", "has no lung mask"),
        ("empty mask", "empty lung mask"),
        ("other shape", "mask has shape"),
        ("2D", "shape"),
        ("strings", "type"),
        ("unit range", "runs from 0 to 1, without air"),
        ("counts", "neither normalised nor HU"),
        ("meta", "not JSON"),
        ("spacing", "not a list of numbers"),
        ("affine", "singular"),
    ],
)
def test_broken_cases_are_refused(tmp_path: Path, chest: Volume, kind: str, word: str) -> None:
    _write_broken(tmp_path / "bad.npz", chest, kind)
    with pytest.raises(InputError, match=rf"bad\.npz.*{word}") as caught:
        read_case(tmp_path / "bad.npz")
    assert caught.value.remedy


def test_missing_case_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_case(tmp_path / "a.npz")


def test_bad_cases_are_not_written(tmp_path: Path, case: Case) -> None:
    with pytest.raises(InputError, match="not have the name of a case file"):
        write_case(tmp_path / "a.nii", case)
    moved = Volume(case.lungs.array, case.ct.affine + np.eye(4))
    with pytest.raises(GeometryError, match="different grids"):
        write_case(tmp_path / "a.npz", Case("a", case.ct, moved))
    holes = case.ct.with_array(np.where(case.ct.array > 0, np.nan, case.ct.array))
    with pytest.raises(InputError, match="NaN or infinite"):
        write_case(tmp_path / "a.npz", Case("a", holes, case.lungs))
    assert list(tmp_path.iterdir()) == []


def test_cases_are_listed_by_dataset(tmp_path: Path) -> None:
    for name in ("b__2.npz", "b__1.npz", "a__1.npz", "plain.npz", "b__3.npz.part", "b__1.txt"):
        (tmp_path / name).touch()
    assert [p.name for p in iter_cases(tmp_path)] == ["a__1.npz", "b__1.npz", "b__2.npz", "plain.npz"]
    assert [p.name for p in iter_cases(tmp_path, "b")] == ["b__1.npz", "b__2.npz"]
    with pytest.raises(InputError, match="no cases of dataset 'c'"):
        iter_cases(tmp_path, "c")
    with pytest.raises(InputError, match="not a folder"):
        iter_cases(tmp_path / "nowhere")
