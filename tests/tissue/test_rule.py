import numpy as np
import pytest

from diffseglung.labels import CONSOLIDATION, EMPHYSEMA, FIBROSIS, GGO, HEALTHY
from diffseglung.tissue.local import NAMES
from diffseglung.tissue.rule import PhysicsRule, opinion, physics_posterior, step


def quiet_scan(**tissue: float) -> np.ndarray:
    """200 rows of healthy lung and 20 of something else, described by their HU quantiles."""
    random = np.random.default_rng(0)
    rows = np.zeros((220, len(NAMES)), np.float32)
    density = [i for i, name in enumerate(NAMES) if "_q" in name]
    rows[:, density] = -860 + random.normal(0, 8, (220, 1))
    rows[:, NAMES.index("near_sd")] = 12
    for name, value in tissue.items():
        chosen = density if name == "density" else [NAMES.index(name)]
        rows[200:, chosen] = value
    return rows


def test_step_is_one_half_at_its_threshold() -> None:
    assert step(np.array([-300.0], np.float32), (-300.0, 20.0))[0] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("hu", "label"), [(-860.0, HEALTHY), (-945.0, EMPHYSEMA), (-560.0, GGO), (-30.0, CONSOLIDATION)]
)
def test_even_tissue_is_named_by_its_density(hu: float, label: object) -> None:
    posterior = physics_posterior(quiet_scan(density=hu))
    np.testing.assert_allclose(posterior.sum(1), 1, atol=1e-5)
    assert (posterior[200:].argmax(1) + 1 == label.id).all()  # type: ignore[attr-defined]
    assert (posterior[:200].argmax(1) == 0).mean() > 0.99


@pytest.mark.parametrize(("spread", "label"), [(20.0, HEALTHY), (90.0, CONSOLIDATION)])
def test_even_tissue_as_dense_as_fat_is_no_consolidation_and_uneven_tissue_is(spread: float, label: object) -> None:
    quartiles = {f"{near}_q{q}": -100.0 + side * spread for near in ("near", "far") for q, side in ((25, -1), (75, 1))}
    posterior = physics_posterior(quiet_scan(**({"density": -100.0} | quartiles)))
    assert (posterior[200:].argmax(1) + 1 == label.id).all()  # type: ignore[attr-defined]


def test_what_noise_does_to_the_whole_scan_is_not_emphysema() -> None:
    clean = quiet_scan()
    noisy = clean.copy()
    for name in ("near_q10", "near_q25", "far_q10", "far_q25"):
        noisy[:, NAMES.index(name)] -= 45
    np.testing.assert_allclose(physics_posterior(noisy), physics_posterior(clean), atol=2e-3)
    mild = noisy.copy()
    for name in ("near_q25", "far_q25"):
        mild[200:, NAMES.index(name)] -= 60
    assert np.median(physics_posterior(mild)[200:, 1]) > 0.9


NET = {"density": -700.0, "near_sd": 120.0, "far_dark_blob": 0.9, "far_plate": 15.0}


def test_a_net_of_strands_around_dark_cells_is_fibrosis() -> None:
    assert (physics_posterior(quiet_scan(**NET))[200:].argmax(1) + 1 == FIBROSIS.id).all()


@pytest.mark.parametrize("change", [{"far_dark_blob": 0.1}, {"near_skew": 6.0}, {"near_sd": 15.0}, {"density": -860.0}])
def test_it_takes_cells_texture_density_and_no_bright_outliers(change: dict[str, float]) -> None:
    posterior = physics_posterior(quiet_scan(**(NET | change)))
    assert (posterior[200:].argmax(1) + 1 != FIBROSIS.id).all()


def test_it_never_believes_texture_alone_entirely() -> None:
    assert physics_posterior(quiet_scan(**NET))[:, FIBROSIS.id - 1].max() <= PhysicsRule().texture_trust + 1e-4


FAINT = {"density": -735.0, "near_haze": 0.95, "border_mm": 20.0}


def test_faint_haze_is_ground_glass_where_it_is_even_and_deep_and_no_net() -> None:
    found = opinion(quiet_scan(**FAINT))
    assert (found.posterior[200:].argmax(1) + 1 == GGO.id).all()
    assert found.homogeneous_ggo[200:].min() > 0.7
    assert found.homogeneous_ggo[:200].max() < 1e-3


@pytest.mark.parametrize(
    "change", [{"near_haze": 0.5}, {"border_mm": 2.0}, {"density": -860.0}, {"density": -30.0}, NET]
)
def test_vessels_the_surface_airless_tissue_and_nets_are_no_even_haze(change: dict[str, float]) -> None:
    assert opinion(quiet_scan(**(FAINT | change))).homogeneous_ggo[200:].max() < 0.2
