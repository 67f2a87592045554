"""The same answer twice: over runs, threads, batch sizes and devices, to the last bit where one device is concerned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from diffseglung import pipeline
from diffseglung.method import features
from diffseglung.method.features import within_memory
from diffseglung.phantom.record import Phantom
from diffseglung.pipeline import Segmenter
from diffseglung.platform.config import FeatureConfig, SegmentConfig
from diffseglung.segmentation import Segmentation
from studies.scores import dice
from tests.toy_models import toy_model, toy_phantom


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return toy_phantom()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


def answer(phantom: Phantom, model: Path | None, method: str, *, threads: int = 1, device: str = "cpu") -> Segmentation:
    segmenter = Segmenter.load(model, config=SegmentConfig(method=method), device=device)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads):
            return segmenter(phantom.ct, phantom.lungs, probabilities=True)
    finally:
        torch.set_num_threads(before)


def assert_same(one: Segmentation, other: Segmentation) -> None:
    """To the last bit."""
    assert one.label_map.array.tobytes() == other.label_map.array.tobytes()
    assert one.statistics == other.statistics
    assert one.posterior is not None
    assert other.posterior is not None
    assert one.posterior.tobytes() == other.posterior.tobytes()
    assert one.certainty is not None
    assert other.certainty is not None
    assert one.certainty.tobytes() == other.certainty.tobytes()
    assert one.run["fingerprints"] == other.run["fingerprints"]


@pytest.mark.parametrize("method", ["physics", "combined"])
def test_threads_batches_and_repetition_change_nothing(
    phantom: Phantom, model: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = answer(phantom, model, method)
    for threads, batch in ((1, 1), (2, 3), (3, 2)):
        config = FeatureConfig(batch_size=batch)
        monkeypatch.setattr(pipeline, "network_settings", lambda _, config=config: config)
        assert_same(first, answer(phantom, model, method, threads=threads))


def test_little_memory_makes_smaller_calls_and_no_other_answer(
    phantom: Phantom, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every other call is refused memory, as an accelerator does it: the answer is the undisturbed one."""
    first, calls = answer(phantom, model, "combined"), []
    real = features.tile_features

    def refusing(*args: object) -> object:
        calls.append(1)
        if len(calls) % 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(features, "tile_features", refusing)
    assert_same(first, answer(phantom, model, "combined"))
    assert len(calls) > 2


def test_a_batch_is_halved_until_it_fits_and_order_is_kept() -> None:
    asked: list[int] = []

    def call(batch: list[tuple[int, int, int]]) -> list[torch.Tensor]:
        asked.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return [torch.tensor(corner) for corner in batch]

    corners = [(i, 0, 0) for i in range(7)]
    assert [int(found[0]) for found in within_memory(call, corners)] == list(range(7))
    assert asked == [7, 3, 1, 2, 4, 2, 2]


def test_what_does_not_fit_alone_and_other_errors_come_through() -> None:
    def never(batch: list[tuple[int, int, int]]) -> list[torch.Tensor]:
        raise torch.OutOfMemoryError("out of memory")

    def other(batch: list[tuple[int, int, int]]) -> list[torch.Tensor]:
        raise RuntimeError("something else")

    with pytest.raises(torch.OutOfMemoryError):
        within_memory(never, [(0, 0, 0), (1, 0, 0)])
    with pytest.raises(RuntimeError, match="something else"):
        within_memory(other, [(0, 0, 0), (1, 0, 0)])


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["physics", "combined"])
def test_a_gpu_gives_the_processors_labels(phantom: Phantom, model: Path, method: str) -> None:
    """Dice at least 0.999 of every class that is there; and itself to the last bit."""
    on_cpu, on_gpu = (answer(phantom, model, method, device=device) for device in ("cpu", "cuda"))
    for label in np.unique(on_cpu.label_map.array)[1:]:
        assert dice(on_gpu.label_map.array == label, on_cpu.label_map.array == label) >= 0.999
    assert_same(on_gpu, answer(phantom, model, method, device="cuda"))
