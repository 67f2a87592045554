"""Backgrounds: taken apart, kept, and honest about what may be diseased."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffseglung.phantom.backgrounds import Background, real_background
from diffseglung.volume import Volume
from tests.toys import toy_volumes


@pytest.fixture(scope="module")
def background() -> Background:
    hu, inside = toy_volumes(0)
    ct = Volume(hu, np.diag([1.5, 1.5, 1.5, 1.0])[[2, 1, 0, 3]])
    return real_background(ct, ct.with_array(inside))


def test_a_background_comes_back_from_its_folder(background: Background, tmp_path: Path) -> None:
    background.save(tmp_path / "one")
    again = Background.load(tmp_path / "one")
    assert all(np.array_equal(getattr(again, name), value) for name, value in vars(background).items())
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_what_may_be_diseased_is_neither_healthy_nor_drawn() -> None:
    hu, inside = toy_volumes(0)
    ct = Volume(hu, np.diag([1.5, 1.5, 1.5, 1.0])[[2, 1, 0, 3]])
    doubtful = np.zeros(ct.shape, np.float32)
    doubtful[:, : ct.shape[1] // 2] = 1
    found = real_background(ct, ct.with_array(inside), ct.with_array(doubtful))
    share = found.unknown[found.lungs > 0].mean()
    assert 0.1 < share < 0.9
