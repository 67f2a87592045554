"""Random patches: reproducible, with truth inside the lungs alone."""

from __future__ import annotations

import dataclasses

import numpy as np

from diffseglung.labels import EMPHYSEMA, TISSUES
from diffseglung.phantom.backgrounds import Background
from diffseglung.phantom.canvas import UNKNOWN
from diffseglung.phantom.random_patches import random_patch

SHAPE = (32, 32, 32)


def test_a_patch_depends_on_its_generator_alone(background: Background) -> None:
    one, two = (random_patch([background], np.random.default_rng([5, 1]), SHAPE) for _ in range(2))
    assert all(np.array_equal(getattr(two, name), value) for name, value in vars(one).items())
    other = random_patch([background], np.random.default_rng([5, 2]), SHAPE)
    assert not np.array_equal(other.ct, one.ct)


def test_patches_have_truth_in_the_lungs_alone_and_all_classes_come(
    background: Background,
) -> None:
    seen: set[int] = set()
    for index in range(20):
        patch = random_patch([background], np.random.default_rng([6, index]), SHAPE)
        assert patch.ct.shape == patch.lung.shape == patch.truth.shape == SHAPE
        assert np.isfinite(patch.ct).all()
        assert not patch.truth[~patch.lung].any()
        assert (patch.truth[patch.lung] > 0).all()
        seen |= set(np.unique(patch.truth))
    assert {label.id for label in TISSUES} <= seen


def test_what_is_in_a_scan_keeps_its_name_where_nothing_is_drawn_and_has_none_where_something_is(
    background: Background,
) -> None:
    """Free patches show what is certain in the background; others call it by no name."""
    for own, allowed in ((UNKNOWN, {UNKNOWN}), (EMPHYSEMA.id, {UNKNOWN, EMPHYSEMA.id})):
        truth = np.where(background.lungs > 0, own, 0).astype(np.uint8)
        seen = set()
        for index in range(25):
            patch = random_patch(
                [dataclasses.replace(background, truth=truth)], np.random.default_rng([7, index]), SHAPE
            )
            names = set(np.unique(patch.truth[patch.lung]).tolist())
            assert len(names) <= 1
            seen |= names
        assert seen == allowed
