"""What --dry-run tells: tiles and calls as they will be made, memory and seconds of the right size, nothing written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from diffseglung import dry_run
from diffseglung.cli import main
from diffseglung.method import features
from diffseglung.phantom.record import Phantom
from diffseglung.pipeline import Segmenter, network_settings
from diffseglung.platform import out_of_core
from diffseglung.platform.config import SegmentConfig
from tests.cli.test_bad_input import scan
from tests.toy_models import toy_phantom


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    """A few centimetres of both lungs."""
    return toy_phantom()


@pytest.mark.parametrize("fast", [False, True])
def test_tiles_and_calls_are_those_that_are_made(phantom: Phantom, monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    segmenter = Segmenter.load(None, config=SegmentConfig(method="diffusion", fast=fast), device="cpu")
    told = dry_run.foretell(segmenter, phantom.ct, phantom.lungs)
    batches: list[int] = []

    def count(grid, lungs, batch, *rest):  # type: ignore[no-untyped-def]
        batches.append(len(batch))
        return original(grid, lungs, batch, *rest)

    original = features.tile_features
    monkeypatch.setattr(features, "tile_features", count)
    result = segmenter(phantom.ct, phantom.lungs)
    assert sum(batches) == told.tiles > 0
    assert told.calls == told.tiles * len(network_settings(segmenter.config).steps)
    assert list(told.model_grid_zyx) == result.run["scan"]["model_grid"]["shape"]
    assert 0.2 < told.seconds / sum(result.run["seconds"].values()) < 5


def test_a_method_without_a_network_makes_no_calls_and_takes_less(phantom: Phantom) -> None:
    plain, network = (
        dry_run.foretell(Segmenter.load(None, config=SegmentConfig(method=method)), phantom.ct, phantom.lungs)
        for method in ("physics", "diffusion")
    )
    assert (plain.tiles, plain.calls) == (0, 0)
    assert plain.memory_bytes < network.memory_bytes
    assert plain.positions == network.positions > 0


def test_dry_run_tells_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = set(tmp_path.rglob("*")) | {scan(tmp_path)}
    words = ["segment", "-i", str(tmp_path / "ct.nii.gz"), "-o", str(tmp_path / "out"), "--dry-run"]
    assert main([*words, "-q", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["shape_zyx"] == [40, 50, 60]
    assert told["memory_bytes"] > 2**28
    assert told["temporary_bytes"] == 0
    assert main(words) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("model grid", "memory", "temporary files", "time: about"))
    assert set(tmp_path.rglob("*")) == before


def test_a_large_scan_states_its_temporary_files(phantom: Phantom, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def keep(shape: tuple[int, ...], dtype: object) -> np.ndarray:
        made.append(np.zeros(shape, dtype).nbytes)  # type: ignore[call-overload]
        return np.zeros(shape, dtype)  # type: ignore[call-overload]

    monkeypatch.setattr(out_of_core, "LARGE_MIB", 0)
    segmenter = Segmenter.load(None, config=SegmentConfig(method="rule"))
    told = dry_run.foretell(segmenter, phantom.ct, phantom.lungs)
    monkeypatch.setattr("diffseglung.pipeline.zeros", keep)
    monkeypatch.setattr("diffseglung.lungs.masks.zeros", keep)
    segmenter(phantom.ct, phantom.lungs)
    assert phantom.ct.array.nbytes + sum(made) <= told.temporary_bytes <= 2 * (phantom.ct.array.nbytes + sum(made))
