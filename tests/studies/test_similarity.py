"""SSIM and PSNR agree with scikit-image; MS-SSIM with SSIM at one scale, and with a plain reckoning at two."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from diffseglung.platform.errors import InputError
from studies.similarity import SCALE_WEIGHTS, ms_ssim, psnr, scales, ssim


def images(shape: tuple[int, ...], noise: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth random image and a noisy copy, two of each."""
    rng = np.random.default_rng(0)
    one = np.stack([ndimage.gaussian_filter(rng.standard_normal(shape), 2) * 3 for _ in range(2)])
    return torch.from_numpy(one), torch.from_numpy(one + noise * rng.standard_normal(one.shape))


@pytest.mark.parametrize("shape", [(40, 31), (16, 20, 24)])
def test_ssim_and_psnr_are_those_of_scikit_image(shape: tuple[int, ...]) -> None:
    a, b = images(shape)
    options = {"data_range": 2.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    wanted = [structural_similarity(x, y, **options) for x, y in zip(a.numpy(), b.numpy(), strict=True)]
    assert ssim(a, b, data_range=2).tolist() == pytest.approx(wanted, abs=1e-6)
    wanted = [peak_signal_noise_ratio(x, y, data_range=2) for x, y in zip(a.numpy(), b.numpy(), strict=True)]
    assert psnr(a, b, data_range=2).tolist() == pytest.approx(wanted)


def test_what_lies_outside_the_mask_does_not_count() -> None:
    a, b = images((20, 40, 40))
    where = torch.zeros_like(a)
    where[..., :14] = 1
    spoiled = b.clone()
    spoiled[..., 20:] = 5.0  # beyond the reach of windows centred in the mask
    assert torch.equal(ssim(a, b, data_range=2, where=where), ssim(a, spoiled, data_range=2, where=where))
    assert torch.equal(psnr(a, b, data_range=2, where=where), psnr(a, spoiled, data_range=2, where=where))
    assert ssim(a, spoiled, data_range=2)[0] < ssim(a, b, data_range=2)[0]


def test_equal_images_are_alike_and_noise_makes_them_less_so() -> None:
    a, b = images((64, 64))
    worse = a + 3 * (b - a)
    for measure in (ssim, ms_ssim):
        assert measure(a, a, data_range=2).tolist() == pytest.approx([1, 1])
        assert torch.equal(measure(a, b, data_range=2), measure(b, a, data_range=2))
        assert (measure(a, worse, data_range=2) < measure(a, b, data_range=2)).all()
    assert psnr(a, a, data_range=2).isinf().all()
    assert psnr(a, b, data_range=2, where=torch.zeros_like(a)).isnan().all()


def test_ms_ssim_of_one_scale_is_ssim_and_of_two_a_weighted_product() -> None:
    a, b = images((20, 20))
    assert ms_ssim(a, b, data_range=2).tolist() == pytest.approx(ssim(a, b, data_range=2).tolist())
    a, b = images((30, 30))
    halves = [x.reshape(2, 15, 2, 15, 2).mean((2, 4)) for x in (a, b)]

    def smooth(x: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(x, 1.5, truncate=3.5)[5:-5, 5:-5]

    def structure(x: np.ndarray, y: np.ndarray) -> float:
        mx, my = smooth(x), smooth(y)
        c = 0.06**2
        top = 2 * (smooth(x * y) - mx * my) + c
        return float((top / (smooth(x * x) - mx**2 + smooth(y * y) - my**2 + c)).mean())

    w = np.array(SCALE_WEIGHTS[:2]) / sum(SCALE_WEIGHTS[:2])
    fine = structure(a[0].numpy(), b[0].numpy())
    wanted = fine ** w[0] * float(ssim(*halves, data_range=2)[0]) ** w[1]
    assert float(ms_ssim(a, b, data_range=2)[0]) == pytest.approx(wanted, rel=1e-6)


def test_an_image_smaller_than_the_window_is_refused() -> None:
    assert [scales((s, s)) for s in (11, 21, 22, 44, 500)] == [1, 1, 2, 3, 5]
    with pytest.raises(InputError, match="window"):
        ssim(torch.zeros(1, 8, 30), torch.zeros(1, 8, 30), data_range=2)
