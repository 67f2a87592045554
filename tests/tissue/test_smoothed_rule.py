import numpy as np
import pytest
import torch

from diffseglung.case.positions import Positions, positions
from diffseglung.labels import EMPHYSEMA, FIBROSIS, GGO, HEALTHY, TISSUES
from diffseglung.platform.runtime import generator
from diffseglung.tissue.local import NAMES
from diffseglung.tissue.smoothed_rule import (
    in_context,
    neighbourhood_mean,
    sharpened,
    trunks,
    with_homogeneous_ggo,
    without_trunks,
)

SPACING_MM = 1.5


def lung(size: int = 40) -> Positions:
    """A ball of lung on the feature grid."""
    grid = np.indices((size,) * 3) - (size - 1) / 2
    return positions((grid**2).sum(0) < (0.45 * size) ** 2)


def opinion(where: Positions, label: object, chosen: np.ndarray) -> torch.Tensor:
    """A rule that is 0.75 sure of `label` at the chosen positions and 0.9 sure of healthy lung elsewhere."""
    posterior = torch.full((len(where.index), len(TISSUES)), 0.025)
    posterior[:, TISSUES.index(HEALTHY)] = 0.9
    posterior[torch.from_numpy(chosen)] = 0.0625
    posterior[torch.from_numpy(chosen), TISSUES.index(label)] = 0.75  # type: ignore[arg-type]
    return posterior


def random_opinion(where: Positions, seed: int = 0) -> torch.Tensor:
    return (3 * torch.randn(len(where.index), len(TISSUES), generator=generator(seed))).softmax(1)


def test_an_even_opinion_is_its_own_context_also_at_the_rim_of_the_lung() -> None:
    where = lung()
    even = torch.tensor([0.5, 0.1, 0.2, 0.15, 0.05]).repeat(len(where.index), 1)
    torch.testing.assert_close(in_context(even, where, SPACING_MM), even)


def test_context_is_a_posterior_and_reach_zero_changes_nothing() -> None:
    where = lung()
    posterior = random_opinion(where)
    seen = in_context(posterior, where, SPACING_MM)
    torch.testing.assert_close(seen.sum(1), torch.ones(len(seen)))
    assert float(seen.min()) >= 0
    torch.testing.assert_close(in_context(posterior, where, SPACING_MM, reach_mm=0), posterior)


def test_a_thin_thing_is_no_fibrosis_and_a_thick_one_is() -> None:
    where = lung()
    z, y, x = where.index.T
    middle = where.shape[0] // 2
    vessel = (y == middle) & (x == middle)
    scar = (abs(y - middle) <= 4) & (abs(x - middle) <= 4) & (abs(z - middle) <= 4)
    fibrosis = TISSUES.index(FIBROSIS)
    core = torch.from_numpy(vessel & (abs(z - middle) <= 2))
    thin = in_context(opinion(where, FIBROSIS, vessel), where, SPACING_MM)
    thick = in_context(opinion(where, FIBROSIS, scar), where, SPACING_MM)
    assert (thin.argmax(1) == TISSUES.index(HEALTHY)).all()
    assert (thick[core].argmax(1) == fibrosis).all()


def test_small_emphysema_stays_where_it_is() -> None:
    where = lung()
    z, y, x = where.index.T
    middle = where.shape[0] // 2
    spot = (abs(z - middle) + abs(y - middle) + abs(x - middle)) <= 1
    seen = in_context(opinion(where, EMPHYSEMA, spot), where, SPACING_MM)
    assert ((seen.argmax(1) == TISSUES.index(EMPHYSEMA)).numpy() == spot).all()


def test_context_does_not_depend_on_the_order_of_the_classes_it_does_not_split() -> None:
    where = lung()
    posterior = random_opinion(where)
    order = [0, 1, 4, 2, 3]
    torch.testing.assert_close(
        in_context(posterior[:, order], where, SPACING_MM), in_context(posterior, where, SPACING_MM)[:, order]
    )


def test_homogeneous_haze_is_ground_glass_whatever_lies_around_it_unless_the_rivals_are_sure() -> None:
    where = lung()
    z, y, x = where.index.T
    middle = where.shape[0] // 2
    nodule = (abs(z - middle) + abs(y - middle) + abs(x - middle)) <= 1
    haze, scar = TISSUES.index(GGO), TISSUES.index(FIBROSIS)
    seen = in_context(opinion(where, GGO, nodule), where, SPACING_MM)
    assert (seen.argmax(1) != haze).all()
    kept = with_homogeneous_ggo(seen, torch.from_numpy(nodule.astype(np.float32)))
    assert ((kept.argmax(1) == haze).numpy() == nodule).all()
    torch.testing.assert_close(kept.sum(1), torch.ones(len(kept)))
    assert bool((kept[:, haze] >= seen[:, haze]).all())
    torch.testing.assert_close(with_homogeneous_ggo(seen, torch.zeros(len(seen))), seen)
    among_scars = in_context(opinion(where, FIBROSIS, np.ones(len(z), bool)), where, SPACING_MM)
    everywhere = with_homogeneous_ggo(among_scars, torch.ones(len(z)))
    assert (everywhere.argmax(1) == scar).all()


def test_neighbourhood_mean_keeps_a_ramp_of_weights_within_its_range() -> None:
    where = lung()
    ramp = torch.from_numpy(where.index[:, :1].astype(np.float32))
    mean = neighbourhood_mean(ramp, where, 2.0)
    assert float(mean.min()) > float(ramp.min())
    assert float(mean.max()) < float(ramp.max())
    torch.testing.assert_close(neighbourhood_mean(ramp + 5, where, 2.0), mean + 5)


def test_sharpening_decides_without_changing_its_mind() -> None:
    posterior = random_opinion(lung(12))
    decided = sharpened(posterior, 3.0)
    torch.testing.assert_close(decided.sum(1), torch.ones(len(decided)))
    assert (decided.argmax(1) == posterior.argmax(1)).all()
    assert (decided.max(1).values >= posterior.max(1).values - 1e-6).all()
    torch.testing.assert_close(sharpened(posterior, 1.0), posterior)


@pytest.mark.parametrize(
    ("plate_hu", "lower_quartile_hu", "explained"), [(26, -810, True), (26, -640, False), (9, -820, False)]
)
def test_trunks_are_coarse_structure_in_thin_lung(plate_hu: float, lower_quartile_hu: float, explained: bool) -> None:
    where = lung()
    local = np.zeros((len(where.index), len(NAMES)), np.float32)
    local[:, NAMES.index("plate_1")] = plate_hu
    local[:, NAMES.index("far_q25")] = lower_quartile_hu
    assert bool(((trunks(local, where, SPACING_MM) > 0.5) == explained).all())


def test_what_trunks_explain_is_healthy_and_no_fibrosis() -> None:
    where = lung()
    posterior = random_opinion(where)
    healthy, scar = TISSUES.index(HEALTHY), TISSUES.index(FIBROSIS)
    freed = without_trunks(posterior, torch.ones(len(posterior)))
    assert float(freed[:, scar].max()) == 0
    torch.testing.assert_close(freed[:, healthy], posterior[:, healthy] + posterior[:, scar])
    torch.testing.assert_close(freed.sum(1), posterior.sum(1))
    torch.testing.assert_close(without_trunks(posterior, torch.zeros(len(posterior))), posterior)
