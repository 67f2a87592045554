"""Probes hold what the pipeline computes, and are read back instead of computed again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from diffseglung.method import checkpoint
from diffseglung.method.card import ModelCard
from diffseglung.method.distillation import StudentHead
from diffseglung.method.unet import UNet
from diffseglung.phantom.folder import write_case_folder
from diffseglung.platform.config import DistillConfig
from diffseglung.platform.runtime import Runtime
from diffseglung.tissue.bundle import Bundle, load_bundle
from diffseglung.tissue.local import local_descriptors, shaped
from diffseglung.tissue.methods import Rows
from studies import probes
from studies.probes import Probe, Reading, gather
from tests.toy_models import DEEPER, toy_phantom

RUNTIME = Runtime(device=torch.device("cpu"))


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases") / "one"
    write_case_folder(toy_phantom(), folder)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    torch.manual_seed(0)
    network, distill = UNet(DEEPER), DistillConfig(dimensions=8, hidden=8)
    weights = {f"network.{k}": v for k, v in network.state_dict().items()}
    weights |= {f"head.{k}": v for k, v in StudentHead(network, distill).state_dict().items()}
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    checkpoint.save(path, weights, ModelCard(unet=DEEPER, distill=distill, stage=2, name="tiny"))
    return load_bundle(path)


@pytest.fixture(scope="module")
def probe(case: Path, tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Probe:
    return gather(case, tmp_path_factory.mktemp("probes"), {"tiny": tiny}, RUNTIME, radiomics=True)


def test_local_columns_are_those_of_the_methods(probe: Probe, case: Path) -> None:
    prepared, truth = probes.read_prepared(case, 1.5)
    rows = Rows(prepared, None, RUNTIME)
    np.testing.assert_array_equal(probe.local, rows.local.numpy())
    np.testing.assert_array_equal(probe.rows("local").numpy(), shaped(rows.local.numpy())[probe.kept])
    assert truth is not None
    assert set(np.unique(probe.truth)) <= {-1, 0, 1, 2, 3, 4}


def test_activations_and_radiomics_are_of_the_kept_positions(probe: Probe) -> None:
    n = len(probe.kept)
    assert n == min(probes.KEPT, len(probe.local))
    assert probe.columns["radiomics"].shape == (n, 34)
    assert probe.columns["tiny/0/projected"].shape == (n, 8)
    assert {name.split("/")[2] for name in probe.columns if "/" in name} >= {"projected", "bottleneck", "decoder"}
    assert all(np.isfinite(values).all() for values in probe.columns.values())


def test_what_was_kept_is_read_back(case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = gather(case, tmp_path, {}, RUNTIME)

    def refuse(*_: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(probes, "read_prepared", refuse)
    again = gather(case, tmp_path, {}, RUNTIME)
    np.testing.assert_array_equal(first.local, again.local)
    np.testing.assert_array_equal(first.truth, again.truth)
    assert [p.name for p in tmp_path.iterdir()] == ["one.npz"]


@pytest.mark.parametrize(("kind", "scale", "offset"), [("range", 1.7, 200.0), ("z-score", 0.6, -90.0)])
def test_normalising_scan_by_scan_forgets_hu(case: Path, kind: str, scale: float, offset: float) -> None:
    prepared, _ = probes.read_prepared(case, 1.5)
    other = dataclasses.replace(prepared, grid=prepared.grid.with_array(prepared.hu * scale + offset))
    seen = probes.intensities(prepared, kind)
    np.testing.assert_allclose(probes.intensities(other, kind), seen, atol=0.05)
    assert np.abs(seen - prepared.hu)[prepared.lungs].max() > 1


def test_a_reading_has_its_own_grid_and_intensities(case: Path, tmp_path: Path) -> None:
    coarse = gather(case, tmp_path / "coarse", {}, RUNTIME, reading=Reading(spacing_mm=3.0))
    plain = gather(case, tmp_path / "plain", {}, RUNTIME, reading=Reading(intensity="plain"))
    prepared, _ = probes.read_prepared(case, 1.5)
    assert coarse.spacing_mm == 3.0
    assert len(coarse.local) < len(plain.local) / 4
    expected = local_descriptors(prepared.hu, prepared.lungs, 1.5, plain.where)
    np.testing.assert_array_equal(plain.local, expected)
