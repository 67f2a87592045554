"""Lungs that are right score high and are not talked about; each kind of wrong lungs scores low, and is told."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from diffseglung.lungs.anatomy import BODY, CLASSES, LEFT, RIGHT, ROOM, Anatomy
from diffseglung.lungs.quality import LIMITS, LungQuality, lung_quality, lung_sentences, parts
from diffseglung.lungs.torso import Torso
from diffseglung.volume import Volume
from tests.lungs.conftest import AFFINE, SHAPE, Chest

Scan = tuple[Volume, np.ndarray, Anatomy]
_z, _y, _x = np.indices(SHAPE)
ACROSS, ALONG = AFFINE[0, 2] * _x + AFFINE[0, 3], AFFINE[1, 1] * _y + AFFINE[1, 3]
HEIGHT = AFFINE[2, 0] * _z + AFFINE[2, 3]


def _oval(width: float, depth: float) -> np.ndarray:
    return (ACROSS / width) ** 2 + (ALONG / depth) ** 2 < 1


@pytest.fixture(scope="module")
def scan(chest: Chest) -> Scan:
    """The synthetic chest with a rib cage 14 mm below the skin; its lungs, and the anatomy that knows them."""
    lungs = np.where(_oval(98, 66), chest.lungs, 0).astype(np.uint8)
    hu = np.where((chest.lungs > 0) & (lungs == 0), 40.0, chest.ct.array)
    hu[_oval(104, 72) & ~_oval(99, 67)] = 400.0
    classes = np.zeros((CLASSES, *SHAPE), np.float32)
    for kind, where in ((ROOM, ~_oval(118, 85)), (RIGHT, lungs == 1), (LEFT, lungs == 2)):
        classes[kind] = where
    classes[BODY] = 1 - classes.sum(0)
    ct = chest.ct.with_array(hu.astype(np.float32))
    return ct, lungs, Anatomy(classes, ct, (0.0, 0.0, 0.0, 0.0))


def _judged(scan: Scan, lungs: np.ndarray) -> LungQuality:
    return lung_quality(scan[0], scan[0].with_array(lungs), scan[2])


@pytest.fixture(scope="module")
def right(scan: Scan) -> LungQuality:
    return _judged(scan, scan[1])


def test_right_lungs_score_high_and_are_not_told_of(scan: Scan, right: LungQuality) -> None:
    assert right.score > 0.9
    assert lung_sentences(right) == []
    assert right.right_ml == pytest.approx((scan[1] == 1).sum() * scan[0].voxel_ml, abs=0.1)
    assert right.outside_ml == right.beyond_ribs_ml == right.fat_ml == right.other_side_share == right.body_cut == 0
    assert right.plain_dice is not None
    assert right.plain_dice > 0.95
    assert right.learned_dice == 1


def _spoilt(kind: str, scan: Scan) -> tuple[Scan, np.ndarray]:
    (ct, lungs, anatomy), wrong = scan, scan[1].copy()
    front = _oval(118, 85) & ~_oval(105, 73) & (ALONG < -30) & (np.abs(HEIGHT) < 60)
    if kind == "room air":
        wrong[~_oval(118, 85) & (ALONG < -50) & (np.abs(HEIGHT) < 40)] = 1
    elif kind == "chest wall":
        wrong[front] = 1
    elif kind == "fat":
        between = np.hypot(ACROSS, ALONG + 15) < 24
        between &= (np.abs(HEIGHT + 20) < 45) & (lungs == 0)
        wrong[between] = 2
        ct = ct.with_array(np.where(between, -100 + ct.array % 7, ct.array).astype(np.float32))
        seen = anatomy.classes.copy()
        seen[:, between] = 0
        seen[LEFT, between] = 1
        anatomy = Anatomy(seen, ct, anatomy.turns)
    elif kind == "liver":
        wrong[(np.hypot(ACROSS + 50, ALONG) < 45) & (HEIGHT < -60) & (lungs == 0)] = 1
    elif kind == "lost side":
        wrong[lungs == 2] = 0
    elif kind == "lost base":
        wrong[HEIGHT < 0] = 0
    elif kind == "one side only":
        wrong[lungs > 0] = 1
    else:
        wrong = np.where(lungs > 0, 3 - lungs, 0).astype(np.uint8)
    return (ct, lungs, anatomy), wrong


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("room air", "lie outside the body"),
        ("chest wall", "lie outside the rib cage"),
        ("fat", "look like fat"),
        ("liver", "expected by a network"),
        ("lost side", "the left lung is missing"),
        ("lost base", "found by thresholds"),
        ("one side only", "belong to the other side"),
        ("swapped", "belong to the other side"),
    ],
)
def test_each_kind_of_wrong_lungs_scores_low_and_is_told(scan: Scan, kind: str, words: str) -> None:
    found = _judged(*_spoilt(kind, scan))
    assert found.score < 0.6, kind
    assert words in " | ".join(lung_sentences(found))


def test_fluid_that_the_network_takes_for_lung_is_told_and_not_held_against_lungs_without_it(scan: Scan) -> None:
    ct, lungs, anatomy = scan
    fluid = (lungs == 1) & (HEIGHT < -40)
    wet = ct.with_array(np.where(fluid, np.float32(10), ct.array))
    found = _judged((wet, lungs, anatomy), np.where(fluid, 0, lungs).astype(np.uint8))
    assert found.fluid_ml == pytest.approx(fluid.sum() * ct.voxel_ml, rel=0.1)
    assert found.score > 0.9
    assert "look like fluid" in " ".join(lung_sentences(found))


def test_storage_does_not_matter(scan: Scan, right: LungQuality) -> None:
    def turned(v: Volume) -> Volume:
        return Volume(v.array.transpose(2, 0, 1)[::-1], v.affine[:, [2, 0, 1, 3]] * [-1, 1, 1, 1])

    ct, lungs = scan[0], scan[0].with_array(scan[1])
    shift = np.eye(4)
    shift[:3, 3] = ct.affine[:3, 2] * (SHAPE[2] - 1)
    stored = [Volume(turned(v).array, shift @ turned(v).affine) for v in (ct, lungs)]
    assert lung_quality(*stored, scan[2]) == right
    assert lung_quality(ct, lungs, scan[2], Torso.of(ct)) == right


def test_what_cannot_be_measured_is_none_and_is_not_held_against_the_lungs(scan: Scan) -> None:
    ct = scan[0].with_array(np.minimum(scan[0].array, 60))
    boneless = lung_quality(ct, ct.with_array(scan[1]), scan[2])
    assert boneless.beyond_ribs_ml is None
    none = _judged(scan, np.zeros_like(scan[1]))
    assert none.fat_share is none.other_side_share is none.right_dense is None
    known = {f.name: None for f in dataclasses.fields(LungQuality) if f.init and "None" in str(f.type)}
    assert dataclasses.replace(boneless, **known).score == 1  # type: ignore[arg-type]


def test_the_score_is_the_lowest_part_and_goes_into_json(right: LungQuality) -> None:
    for name, (good, bad) in LIMITS.items():
        if name == "turns":
            continue
        half = dataclasses.replace(right, **{name: (good + bad) / 2})  # type: ignore[arg-type]
        assert parts(half)[name] == pytest.approx(0.5, abs=1e-3)
        assert (half.score, half.weakest) == (parts(half)[name], name)
        assert dataclasses.replace(right, **{name: bad}).score == 0  # type: ignore[arg-type]
    assert right.weakest is None
    assert json.loads(json.dumps(dataclasses.asdict(right)))["score"] == right.score


@pytest.mark.parametrize("which", range(4))
def test_a_turned_header_is_told_only_where_it_is_sure(right: LungQuality, which: int) -> None:
    words = ("head and feet", "front and back", "right and left", "two axes")[which]
    for sure, told in ((0.99, True), (0.85, False)):
        turns = tuple(sure if i == which else 0.0 for i in range(4))
        found = dataclasses.replace(right, turns=turns)
        assert any(words in text for text in lung_sentences(found)) == told
    assert dataclasses.replace(right, turns=(0.99, 0.0, 0.0, 0.0)).score < 0.1


def test_little_lung_and_small_and_white_sides_are_told(right: LungQuality) -> None:
    def told(**figures: float) -> str:
        return " | ".join(lung_sentences(dataclasses.replace(right, **figures)))  # type: ignore[arg-type]

    assert "hardly any lung in the scan (210 mL)" in told(right_ml=200.0, left_ml=10.0)
    assert "left lung is very small (100 of 2600 mL)" in told(right_ml=2500.0, left_ml=100.0)
    assert "81 % of the right lung are as dense as tissue" in told(right_dense=0.81)


def test_a_body_that_the_scan_cuts_is_told(scan: Scan) -> None:
    ct, lungs, anatomy = scan
    low, high = (0, 0, 16), (SHAPE[0], SHAPE[1], SHAPE[2] - 16)
    narrow = ct.crop(low, high)
    found = lung_quality(narrow, ct.with_array(lungs).crop(low, high), anatomy)
    assert found.body_cut == 1
    assert "cut the body in 100 % of the slices" in " | ".join(lung_sentences(found))
    padded = np.full(SHAPE, -1024, np.float32)
    padded[:, :, 16:-16] = narrow.array
    assert lung_quality(ct.with_array(padded), ct.with_array(lungs), anatomy).body_cut == 1
