"""First-order statistics against IBSI and SciPy."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy import stats

from diffseglung.method.radiomics.firstorder import (
    entropy,
    first_order_batch,
    first_order_patch,
    moments,
    quantise,
    quantise_batch,
    tally,
)
from diffseglung.platform.config import RadiomicsConfig

from .conftest import GOLDEN, Patch


def test_ibsi_digital_phantom() -> None:
    """The published consensus values of the phantom, to the digits given."""
    golden = json.loads((GOLDEN / "ibsi_digital_phantom.json").read_text(encoding="utf-8"))["first_order"]
    image, mask = (np.load(GOLDEN / f"ibsi_digital_phantom_{name}.npy") for name in ("image", "mask"))
    inside = image[mask > 0]
    mean, variance, skewness, kurtosis = moments(inside)
    found = {"mean": mean, "variance": variance, "skewness": skewness, "excess_kurtosis": kurtosis}
    found["entropy"] = entropy(np.bincount(inside))
    assert found.keys() == golden.keys()
    assert found == pytest.approx(golden, rel=5e-3)


def test_agrees_with_scipy(real: Patch) -> None:
    """Independent implementation of the same moments."""
    hu, lung = real
    inside = np.clip(hu, -1000, 400)[lung].astype(float)
    found = first_order_patch(np.clip(hu, -1000, 400), lung, RadiomicsConfig())
    counts, _ = np.histogram(inside, 50, (-1000, 400))
    wanted = [inside.mean(), inside.std(), stats.skew(inside), stats.kurtosis(inside), stats.entropy(counts, base=2)]
    assert found == pytest.approx(np.array(wanted), rel=1e-9)


def test_levels_share_the_window_evenly() -> None:
    """64 levels of 21.875 HU; what lies outside joins the last level on its side."""
    levels = quantise(np.array([-2000, -1000, -978.2, -978.0, 399, 400, 3000]), 64, RadiomicsConfig())
    assert levels.tolist() == [0, 0, 0, 1, 63, 63, 63]


def test_entropy_of_equal_shares() -> None:
    """n equally full bins hold log2 n bits."""
    assert entropy(np.array([5, 5, 0, 5, 5])) == pytest.approx(2.0)
    assert np.isnan(entropy(np.zeros(4, int)))


@pytest.mark.parametrize(("sd", "flat"), [(0.009, True), (0.011, False)])
def test_a_patch_is_constant_below_a_hundredth_of_a_hu(sd: float, flat: bool) -> None:
    """Constant: skewness and kurtosis 0 by convention. Else those of the values, however small their spread."""
    values = np.array([-1.0, -1.0, -1.0, 3.0]) / 3**0.5 * sd
    assert values.std() == pytest.approx(sd)
    _, variance, skewness, kurtosis = moments(values)
    assert variance == pytest.approx(sd**2)
    wanted = [0.0, 0.0] if flat else [stats.skew(values), stats.kurtosis(values)]
    assert [skewness, kurtosis] == pytest.approx(wanted)
    hu, lung = torch.from_numpy(values).float().reshape(1, 1, 2, 2), torch.ones(1, 1, 2, 2, dtype=torch.bool)
    assert first_order_batch(hu, lung, RadiomicsConfig())[0, 2:4].tolist() == pytest.approx(wanted, rel=1e-3)


def test_a_batch_is_the_reference_patch_by_patch(noise: Patch) -> None:
    """Also where a patch has no lung (NaN throughout), one voxel of it, or the same HU everywhere."""
    config, (hu, lung) = RadiomicsConfig(), noise
    none, one = np.zeros_like(lung), np.zeros_like(lung)
    one[3, 4, 5] = True
    patches = [(hu, lung), (hu[::-1], ~lung), (hu, none), (hu, one), (np.full_like(hu, -700), lung)]
    fast = first_order_batch(*(torch.from_numpy(np.stack(part)) for part in zip(*patches, strict=True)), config)
    slow = np.stack([first_order_patch(*patch, config) for patch in patches])
    assert fast.numpy() == pytest.approx(slow, rel=2e-4, abs=1e-4, nan_ok=True)
    assert np.isnan(slow).all(1).tolist() == [False, False, True, False, False]
    assert slow[3:, 1:].tolist() == [[0, 0, 0, 0]] * 2


def test_levels_of_a_tensor_are_those_of_its_array() -> None:
    hu = np.linspace(-1000, 400, 2801, dtype=np.float32)
    levels = quantise_batch(torch.from_numpy(hu), 64, RadiomicsConfig())
    assert levels.dtype == torch.int32
    assert (levels.numpy() == quantise(hu, 64, RadiomicsConfig())).all()


def test_a_tally_is_numpys_bincount() -> None:
    values = torch.tensor([[0, 3, 3], [1, 3, 0]], dtype=torch.int32)
    assert tally(values, 6).tolist() == [2, 1, 0, 3, 0, 0]
