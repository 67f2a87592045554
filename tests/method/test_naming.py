import numpy as np
import pytest

from diffseglung.method.naming import component_hu, named_posterior, physics_name, published_name


def test_component_hu_is_the_weighted_mean_and_spread() -> None:
    hu = np.array([-900.0, -800.0, 0.0], np.float32)
    mean, sd = component_hu(np.array([[1, 0], [1, 0], [0, 1]], np.float32), hu)
    assert mean == pytest.approx([-850, 0])
    assert sd == pytest.approx([50, 0], abs=1e-2)


def test_published_ranges_call_normal_lung_emphysema_and_ours_do_not() -> None:
    assert published_name(-860, 40) == 2
    assert physics_name(-860, 40) == 1
    assert [physics_name(hu, 50) for hu in (-950, -860, -600, -50)] == [2, 1, 3, 5]
    assert physics_name(-600, 220) == 4


def test_permuting_components_changes_no_posterior() -> None:
    random = np.random.default_rng(0)
    responsibility = random.dirichlet(np.ones(4), 500).astype(np.float32)
    hu = random.uniform(-1000, 100, 500).astype(np.float32)
    plain = named_posterior(responsibility, hu)
    np.testing.assert_allclose(plain, named_posterior(responsibility[:, [2, 0, 3, 1]], hu), atol=1e-6)
    np.testing.assert_allclose(plain.sum(1), 1, atol=1e-5)
