import numpy as np
import pytest

from diffseglung.features.local import NAMES
from diffseglung.labelling.physics import physics_posterior, step
from diffseglung.labels import CONSOLIDATION, EMPHYSEMA, GGO, HEALTHY


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


def test_mild_emphysema_is_seen_in_a_quiet_scan_and_not_in_a_noisy_one() -> None:
    quiet = quiet_scan(density=-908.0)
    noisy = quiet.copy()
    column = NAMES.index("near_q50")
    noisy[:200, column] = -860 + np.random.default_rng(1).normal(0, 40, 200)
    assert physics_posterior(quiet)[200:, 1].min() > 0.5
    assert physics_posterior(noisy)[200:, 1].max() < 0.5
