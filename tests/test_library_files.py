"""The library files of the published repository do, from a clone's root, what its description says of them."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

import distillation
import gpu_gmm
import gpu_radiomics
import patch_utils
import radiomic_features
from diffseglung.method.train.data import Batch
from diffseglung.method.unet import UNet
from diffseglung.platform.config import UNETS, DiffusionConfig, IntensityConfig
from diffseglung.platform.errors import InputError
from diffseglung.platform.runtime import Runtime
from lung_dataset import LungDataset, PatchConfig, iter_cases, read_case
from lung_dataset_precomputed import PrecomputedLungDataset
from tests.test_architecture import LIBRARY

ROOT = Path(__file__).parents[1]
SHAPE = (8, 16, 16)
PATCHES = PatchConfig(shape=SHAPE, patches_per_patient=3, spacing_mm=0.0)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def lung_patches(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """HU and masks (N, Z, Y, X) of noisy lung beside a wall."""
    lung = torch.zeros(count, *SHAPE, dtype=torch.bool)
    lung[..., 3:] = True
    return torch.where(lung, -850 + 60 * drawn(count, *SHAPE, seed=seed), torch.tensor(40.0)), lung


@pytest.mark.parametrize("name", sorted(LIBRARY))
def test_a_library_file_lies_at_the_root_and_says_where_its_code_lives(name: str) -> None:
    module = importlib.import_module(name)
    assert Path(str(module.__file__)) == ROOT / f"{name}.py"
    assert all(hasattr(module, public) for public in module.__all__)
    first, _, rest = str(module.__doc__).partition("\n\n")
    assert first.endswith(".")
    homes = [word.strip("`") for word in rest.split() if word.startswith("`diffseglung.")]
    assert homes
    assert all(importlib.import_module(home.rstrip("`,.;")) for home in homes)


# --- distillation.py ---


def distilled() -> tuple[distillation.DistillObjective, Batch]:
    """The published loss of stage 2 for a small network, and a batch of four patches; lambda is 0.5 from 10 on."""
    config = distillation.DistillConfig(loss="published", warmup_start=10, warmup_end=10)
    network, process = UNet(UNETS["tiny"]), DiffusionConfig()
    objective = distillation.DistillObjective(network, process, distill=config, intensity=IntensityConfig(), seed=0)
    hu, lung = lung_patches(4)
    clean = ((hu + 1000) / 700 - 1)[:, None]
    batch = Batch(clean, lung[:, None].float(), drawn(4, 1, *SHAPE, seed=1), torch.tensor([50, 100, 150, 200]), None)
    return objective, batch


def test_infonce_is_the_written_formula() -> None:
    """-log exp(s_i . r_i / T) / sum_j exp(s_i . r_j / T)"""
    student, teacher, tau = F.normalize(drawn(5, 16), dim=1), F.normalize(drawn(5, 16, seed=1), dim=1), 0.07
    scores = (student @ teacher.T / tau).exp()
    wanted = -(scores.diagonal() / scores.sum(1)).log()
    torch.testing.assert_close(distillation.info_nce(student, teacher, torch.eye(5), tau), wanted)


def test_both_heads_give_unit_vectors_of_128_values() -> None:
    objective, batch = distilled()
    _, taps = objective.model.loss(batch.clean, batch.lung, batch.noise, batch.step)
    student = objective.head(taps).flatten(2).mean(2)
    teacher = distillation.TeacherHead(34, distillation.DistillConfig())(drawn(4, 34))
    assert isinstance(objective.head, distillation.StudentHead)
    assert student.shape == teacher.shape == (4, 128)
    torch.testing.assert_close(teacher.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(objective.head(taps).norm(dim=1), torch.ones_like(objective.head(taps)[:, 0]))


def test_the_contrastive_loss_reaches_network_and_heads_once_the_warm_up_is_over() -> None:
    objective, batch = distilled()
    (contrast,) = objective.contrasts([batch], 1, Runtime(device=torch.device("cpu")))
    gradients = {}
    for iteration, weight in ((9, 0.0), (10, 0.5)):
        objective.zero_grad()
        found = objective(batch, iteration, contrast)
        wanted = found.patches.mean() + weight * torch.as_tensor(found.terms["contrastive"])
        torch.testing.assert_close(found.loss.detach(), wanted)
        found.loss.backward()
        gradients[iteration] = {name: part.grad.clone() for name, part in objective.named_parameters()}
    heads = [name for name in gradients[10] if not name.startswith("network.")]
    assert all(not gradients[9][name].any() for name in heads)
    assert all(gradients[10][name].any() for name in heads if name.endswith("weight"))
    changed = [name for name in gradients[10] if not torch.equal(gradients[9][name], gradients[10][name])]
    assert any(name.startswith("network.") for name in changed)


def test_the_warm_up_of_the_published_command() -> None:
    """--warmup_start 4000 --warmup_end 6000 --lambda_max 0.5"""
    config = distillation.DistillConfig(warmup_start=4000, warmup_end=6000, lambda_max=0.5)
    weights = [distillation.warmup(i, config) for i in (0, 4000, 5000, 6000, 100_000)]
    assert weights == pytest.approx([0, 0, 0.25, 0.5, 0.5])


# --- gpu_radiomics.py, radiomic_features.py ---


def test_the_fast_descriptors_are_those_of_the_cpu() -> None:
    hu, lung = lung_patches(3)
    fast = gpu_radiomics.describe_batch(hu, lung)
    exact = np.stack([radiomic_features.describe_patch(hu[i].numpy(), lung[i].numpy()) for i in range(3)])
    assert fast.shape == exact.shape == (3, 34) == (3, len(radiomic_features.DESCRIPTOR_NAMES))
    np.testing.assert_allclose(fast, exact, rtol=1e-4, atol=1e-5)
    assert gpu_radiomics.DESCRIPTOR_NAMES == radiomic_features.DESCRIPTOR_NAMES


def test_descriptors_tell_density_and_texture() -> None:
    hu, lung = lung_patches(1)
    names, inside = radiomic_features.DESCRIPTOR_NAMES, lung[0].numpy()
    light, dense = (radiomic_features.describe_patch(values[0].numpy(), inside) for values in (hu, hu + 300))
    change = dict(zip(names, dense - light, strict=True))
    assert change["hu_mean"] == pytest.approx(300, abs=1)
    assert change["lbp_8"] == pytest.approx(0)
    flat = gpu_radiomics.describe_batch(torch.full((1, *SHAPE), -850.0), torch.ones(1, *SHAPE))
    assert flat[0, names.index("hu_sd")] == 0


def test_dense_descriptors_lie_on_a_grid_and_are_unknown_off_the_lung() -> None:
    hu, lung = lung_patches(1)
    lung[..., :8] = False
    dense = gpu_radiomics.describe_dense(hu, lung, stride=4, window=4)
    assert dense.shape == (1, 34, 2, 4, 4)
    assert torch.isfinite(dense[..., 2:]).all()
    assert torch.isnan(dense[..., :2]).all()


# --- lung_dataset.py, lung_dataset_precomputed.py ---


@pytest.fixture
def npz_dir(tmp_path: Path) -> Path:
    """Two cases as described: `ct` float32 in [-1, 1], binary `mask`; nothing else."""
    folder = tmp_path / "NPZ_DATA"
    folder.mkdir()
    for name in ("patient_a", "patient_b"):
        hu, lung = lung_patches(2, seed=len(name))
        ct = ((hu.flatten(0, 1) + 1000) / 700 - 1).clamp(-1, 1).numpy().astype(np.float32)
        np.savez(folder / f"{name}.npz", ct=ct, mask=lung.flatten(0, 1).numpy().astype(np.uint8))
    return folder


def test_a_dataset_of_npz_files_feeds_a_data_loader(npz_dir: Path, tmp_path: Path) -> None:
    data = LungDataset(npz_dir, tmp_path / "patches", PATCHES)
    assert len(data) == 6
    ct, mask = next(iter(DataLoader(data, batch_size=4)))
    assert ct.shape == mask.shape == (4, 1, *SHAPE)
    assert ct.dtype == mask.dtype == torch.float32
    assert -1 <= float(ct.min()) < float(ct.max()) <= 1
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    assert float(ct[mask > 0].mean()) == pytest.approx(-850 / 700 + 1000 / 700 - 1, abs=0.02)
    assert len(list(data)) == 6


def test_its_cases_are_read_in_hu(npz_dir: Path) -> None:
    case = read_case(iter_cases(npz_dir)[0])
    assert case.ct.array[case.lungs.array > 0].mean() == pytest.approx(-850, abs=5)
    with pytest.raises(InputError, match="holds no cases"):
        LungDataset(npz_dir.parent, npz_dir.parent / "patches")


def test_the_precomputed_dataset_reads_what_was_cut_and_cuts_nothing_again(npz_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "patches_precomputed"
    cut = LungDataset(npz_dir, folder, PATCHES)
    assert {"ct.npy", "mask.npy", "patient_ids.npy"} <= {path.name for path in folder.iterdir()}
    before = (folder / "ct.npy").stat().st_mtime_ns
    stored = PrecomputedLungDataset(folder)
    assert stored.patches.patient_ids.tolist() == ["patient_a"] * 3 + ["patient_b"] * 3
    for one, other in zip(LungDataset(npz_dir, folder, PATCHES), stored, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert (folder / "ct.npy").stat().st_mtime_ns == before
    whole = np.load(folder / "ct.npy", mmap_mode="r")
    np.testing.assert_array_equal(cut[4][0][0], whole[4])
    assert json.loads((folder / "patches.json").read_text())["patch"]["patches_per_patient"] == 3


# --- patch_utils.py ---


def test_tiles_cover_a_grid_and_blend_back_to_it() -> None:
    grid = np.random.default_rng(0).normal(size=(11, 20, 17)).astype(np.float32)
    corners = patch_utils.tile_corners(grid.shape, (8, 8, 8), overlap=0.25)
    back = patch_utils.blend(((corner, patch_utils.cut(grid, corner, (8, 8, 8))) for corner in corners), grid.shape)
    np.testing.assert_allclose(back, grid, atol=1e-5)


def test_training_patches_hold_the_lung_asked_for() -> None:
    lungs = np.zeros((20, 40, 40), np.uint8)
    lungs[:, :, 10:30] = 1
    rng = np.random.default_rng(0)
    corners = patch_utils.choose_corners(lungs, SHAPE, count=12, min_lung_fraction=0.8, rng=rng)
    assert len(corners) == 12
    assert all(patch_utils.cut(lungs, corner, SHAPE).mean() >= 0.8 for corner in corners)
    tiles = patch_utils.tile_corners(lungs.shape, (10, 10, 10))
    assert {corner[2] for corner in patch_utils.lung_corners(tiles, (10, 10, 10), lungs)} == {10, 20}


# --- gpu_gmm.py ---


def test_a_mixture_finds_five_clusters() -> None:
    centres = 8 * torch.eye(5, 6)
    truth = torch.arange(5).repeat_interleave(200)
    rows = centres[truth] + drawn(1000, 6)
    found = gpu_gmm.fit(rows, 5)
    labels = found.labels(rows)
    assert len(set(zip(truth.tolist(), labels.tolist(), strict=True))) == 5
    torch.testing.assert_close(found.responsibilities(rows).sum(1), torch.ones(1000))
    torch.testing.assert_close(found.means[labels[::200]].float(), centres, atol=0.3, rtol=0)
    again = gpu_gmm.em(rows, found)
    assert again.log_likelihood(rows) >= found.log_likelihood(rows) - 1e-4


def test_bic_chooses_the_number_of_clusters() -> None:
    rows = torch.cat([drawn(200, 2) + shift for shift in (-10.0, 0.0, 10.0)])
    assert len(gpu_gmm.fit_by_bic(rows, 2, 5).weights) == 3
