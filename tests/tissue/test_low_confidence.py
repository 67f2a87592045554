import numpy as np
import pytest
import torch

from diffseglung.case.positions import Positions, positions
from diffseglung.labels import CONSOLIDATION, EMPHYSEMA, FIBROSIS, GGO, HEALTHY, LESIONS, TISSUES, Label
from diffseglung.tissue.low_confidence import DOUBTS, without_low_confidence_components

WHERE = positions(np.ones((60, 60, 60), bool))
SPACING_MM = 1.5
CELL_ML = 0.027


def island(label: Label, ml: float, certainty: float, peak: float | None = None) -> torch.Tensor:
    """Healthy lung around one compact island of a lesion; `peak`: at a single position of it."""
    distance = ((WHERE.index - 15) ** 2).sum(1)
    inside = np.argsort(distance, kind="stable")[: max(round(ml / CELL_ML), 1)]
    posterior = torch.zeros(len(distance), len(TISSUES))
    posterior[:, TISSUES.index(HEALTHY)] = 1
    for rows, value in ((inside, certainty), (inside[:1], peak or certainty)):
        posterior[rows] = (1 - value) / (len(TISSUES) - 1)
        posterior[rows, TISSUES.index(label)] = value
    return posterior


def cleared(posterior: torch.Tensor, where: Positions = WHERE) -> torch.Tensor:
    return without_low_confidence_components(posterior, where, SPACING_MM)


@pytest.mark.parametrize("label", list(DOUBTS))
def test_a_small_weak_island_is_healthy_lung(label: Label) -> None:
    found = cleared(island(label, 0.8 * DOUBTS[label].below_ml, 0.6))
    assert (found.argmax(1) == TISSUES.index(HEALTHY)).all()
    torch.testing.assert_close(found.sum(1), torch.ones(len(found)))


@pytest.mark.parametrize("label", list(DOUBTS))
def test_one_that_is_certain_somewhere_or_large_stays(label: Label) -> None:
    for posterior in (
        island(label, 0.8 * DOUBTS[label].below_ml, 0.6, peak=0.97),
        island(label, 1.3 * DOUBTS[label].below_ml, 0.6),
    ):
        torch.testing.assert_close(cleared(posterior), posterior)


def test_emphysema_is_never_doubted() -> None:
    posterior = island(EMPHYSEMA, 0.1, 0.6)
    torch.testing.assert_close(cleared(posterior), posterior)


def test_a_lung_without_lesions_and_one_without_healthy_lung_pass() -> None:
    for label in (HEALTHY, GGO, FIBROSIS, CONSOLIDATION):
        even = torch.full((len(WHERE.index), len(TISSUES)), 0.1)
        even[:, TISSUES.index(label)] = 0.6
        torch.testing.assert_close(cleared(even), even)


def test_every_lesion_but_emphysema_is_considered() -> None:
    assert {*DOUBTS, EMPHYSEMA} == set(LESIONS)


@pytest.mark.parametrize(("thickness_mm", "label"), [(6, HEALTHY), (15, GGO)])
def test_a_crust_of_ground_glass_is_partial_volume_whatever_its_size_and_certainty(
    thickness_mm: float, label: Label
) -> None:
    posterior = torch.full((len(WHERE.index), len(TISSUES)), 0.01)
    crust = torch.from_numpy(WHERE.index[:, 0] * WHERE.stride * SPACING_MM < thickness_mm)
    posterior[crust, TISSUES.index(GGO)] = posterior[~crust, TISSUES.index(HEALTHY)] = 0.96
    assert (cleared(posterior)[crust].argmax(1) == TISSUES.index(label)).all()
