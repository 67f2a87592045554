"""Backgrounds: taken apart, kept, and honest about what may be diseased."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from diffseglung.phantom.backgrounds import SPACING_MM, Background, drawn_background, real_background
from diffseglung.preprocess.scene import Scene, make_scene
from diffseglung.volume import Volume
from tests.toys import toy_volumes


def toy_scene() -> Scene:
    """A small chest on the model grid."""
    hu, inside = toy_volumes(0)
    ct = Volume(hu, np.diag([1.5, 1.5, 1.5, 1.0])[[2, 1, 0, 3]])
    return make_scene(ct, ct.with_array(inside), SPACING_MM)


@pytest.fixture(scope="module")
def background() -> Background:
    return real_background(toy_scene())


def test_a_background_comes_back_from_its_folder(background: Background, tmp_path: Path) -> None:
    background.save(tmp_path / "one")
    again = Background.load(tmp_path / "one")
    assert all(np.array_equal(getattr(again, name), value) for name, value in vars(background).items())
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_what_may_be_diseased_is_neither_healthy_nor_drawn() -> None:
    scene = toy_scene()
    front = np.zeros(scene.lungs.shape, bool)
    front[:, : front.shape[1] // 2] = True
    found = real_background(scene, front)
    assert 0.1 < found.unknown[found.lungs > 0].mean() < 0.9
    assert not found.unknown[found.lungs == 0].any()


def test_thick_dense_tissue_in_a_lung_may_be_disease() -> None:
    scene = toy_scene()
    middle = tuple(np.argwhere(scene.lungs).mean(0).astype(int))
    box = tuple(slice(m - 6, m + 7) for m in middle)
    scene.hu[box] = 40
    found = real_background(dataclasses.replace(scene))
    assert found.unknown.sum() * SPACING_MM**3 / 1000 > 3


def test_a_drawn_background_is_a_healthy_chest_of_its_seed() -> None:
    one = drawn_background(3)
    litres = (one.lungs > 0).sum() * SPACING_MM**3 / 1e6
    assert 2 < litres < 9
    assert not one.unknown.any()
    inner = one.depth > 10
    assert abs(np.median(one.hu[inner]) - one.healthy.mean()) < 60
