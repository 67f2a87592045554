"""Lesions in a given scan; a phantom stands in for the real one."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from diffseglung.labels import CONSOLIDATION, EMPHYSEMA, GGO
from diffseglung.phantom.record import Phantom
from diffseglung.phantom.semisynthetic import add_lesions
from diffseglung.platform.errors import GeometryError, InputError
from diffseglung.volume import Volume


def test_only_the_lungs_change_and_far_from_lesions_nothing_does(small: Phantom) -> None:
    result = add_lesions(small.ct, small.lungs, 1, models=("ggo_geographic",))
    changed = result.ct.array != small.ct.array
    assert changed.any()
    assert (small.ct.array[small.lungs.array == 0] == result.ct.array[small.lungs.array == 0]).mean() > 0.98
    labelled = result.truth.array == GGO.id
    assert changed[labelled].mean() > 0.95
    assert (result.truth.array > 0).sum() == (small.lungs.array > 0).sum()


@pytest.mark.parametrize(
    ("model", "label", "low", "high"),
    [
        ("ggo_geographic", GGO.id, -780, -300),
        ("consolidation_lobar", CONSOLIDATION.id, -250, 60),
        ("emphysema_panlobular", EMPHYSEMA.id, -980, -750),
    ],
)
def test_lesions_have_the_density_of_their_kind(
    small: Phantom, model: str, label: int, low: float, high: float
) -> None:
    result = add_lesions(small.ct, small.lungs, 2, models=(model,))
    hu = result.ct.array[result.truth.array == label]
    assert low < np.median(hu) < high


def test_ground_glass_keeps_the_noise_of_the_scan(small: Phantom) -> None:
    """Neighbour differences inside the lesion are not smaller than they were there before."""
    result = add_lesions(small.ct, small.lungs, 1, models=("ggo_geographic",))
    labelled = result.truth.array == GGO.id
    pair = labelled[:, :, 1:] & labelled[:, :, :-1]

    def roughness(hu: np.ndarray) -> float:
        return float(np.median(np.abs(np.diff(hu, axis=2))[pair]))

    assert roughness(result.ct.array) > 0.8 * roughness(small.ct.array)


def test_any_orientation_gives_the_same_case(small: Phantom) -> None:
    """A permuted and flipped grid holds the same patient, so it gets the same lesions."""

    def turned(volume: Volume) -> Volume:
        affine = volume.affine[:, [2, 0, 1, 3]].copy()
        array = volume.array.transpose(2, 0, 1)[:, ::-1]
        affine[:3, 3] += affine[:3, 1] * (array.shape[1] - 1)
        affine[:3, 1] *= -1
        return Volume(np.ascontiguousarray(array), affine)

    plain = add_lesions(small.ct, small.lungs, 3)
    other = add_lesions(turned(small.ct), turned(small.lungs), 3)
    np.testing.assert_array_equal(turned(plain.truth).array, other.truth.array)
    np.testing.assert_allclose(turned(plain.ct).array, other.ct.array, atol=1)


@pytest.mark.parametrize(
    ("split", "parameters", "voxels"),
    [
        ("train", "ae2f4d3fda6c24aa", [-999, -92, 97, 59, -495, -103, -876, 25, -583, 95, 72, 263]),
        ("test", "39f2f2750bbbfabf", [-999, -92, 97, 59, -615, -103, -876, 25, -105, 95, 72, 263]),
    ],
)
def test_seeds_without_severity_give_what_they_always_gave(
    small: Phantom, split: str, parameters: str, voxels: list[int]
) -> None:
    """Recorded before severities were there; voxels to 2 HU, because arithmetic differs a little between processors."""
    case = add_lesions(small.ct, small.lungs, 3, split=split)
    records = [{k: v for k, v in record.items() if k != "added_ml"} for record in case.meta["lesions"]]
    parts = {"anatomy": case.meta["anatomy"], "scanner": None, "lesions": records}
    assert hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16] == parameters
    found = case.ct.array.ravel()[:: case.ct.array.size // 24][:12]
    np.testing.assert_allclose(found, voxels, atol=2)


def test_a_severe_case_holds_more_than_a_subtle_one(small: Phantom) -> None:
    def share(severity: str) -> float:
        models = ("ggo_geographic", "consolidation_patchy")
        case = add_lesions(small.ct, small.lungs, 4, models=models, severity=severity)
        assert case.meta["severity"] == severity
        return float((case.truth.array > 1).mean())

    assert 0 < share("subtle") < share("extensive")


def test_a_binary_mask_will_do(small: Phantom) -> None:
    binary = small.lungs.with_array((small.lungs.array > 0).astype(np.uint8))
    result = add_lesions(small.ct, binary, 1, models=("ggo_geographic",))
    assert (result.truth.array == GGO.id).any()


def test_a_mask_of_another_grid_or_an_empty_one_is_refused(small: Phantom) -> None:
    with pytest.raises(GeometryError):
        add_lesions(small.ct, Volume(small.lungs.array[1:], small.lungs.affine))
    with pytest.raises(InputError):
        add_lesions(small.ct, small.lungs.with_array(np.zeros_like(small.lungs.array)))
