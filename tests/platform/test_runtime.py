"""Where code runs, and randomness that does not depend on it."""

from __future__ import annotations

import threading

import pytest
import torch

from diffseglung.platform import runtime
from diffseglung.platform.errors import ConfigError
from diffseglung.platform.runtime import Runtime, choose_device, choose_precision, generator, patch_noise


def test_auto_always_finds_a_device() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu").type == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a GPU that is absent")
@pytest.mark.parametrize("wish", ["cuda", "gpu", "cuda:1", "gpu:7", "mps"])
def test_an_absent_gpu_is_an_error_and_not_a_slow_run(wish: str) -> None:
    if wish == "mps" and torch.backends.mps.is_available():
        pytest.skip("has an Apple GPU")
    with pytest.raises(ConfigError, match=f"device {wish}") as error:
        choose_device(wish)
    assert "--device cpu" in error.value.remedy


@pytest.mark.gpu
def test_both_spellings_name_one_gpu() -> None:
    assert choose_device("gpu:0") == choose_device("cuda:0")


@pytest.mark.parametrize("wish", ["tpu", "", "cpu:x", "npu:0:0"])
def test_unknown_devices_are_refused(wish: str) -> None:
    with pytest.raises(ConfigError, match="device"):
        choose_device(wish)


def test_processes_share_gpus_where_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for count, expected in ((0, "auto"), (1, "auto"), (3, "cuda:2")):
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        assert runtime.shared_gpus("auto") == count
        assert runtime.shared_gpus("cuda:1") == runtime.shared_gpus("cpu") == 0
        assert runtime.own_gpu("auto", 5) == expected
        assert runtime.own_gpu("cpu", 5) == "cpu"
        assert runtime.own_gpu("cuda:1", 5) == "cuda:1"


def test_what_a_device_can_do() -> None:
    kinds = {name: Runtime(device=torch.device(name)) for name in ("cpu", "cuda", "mps")}
    assert [name for name, kind in kinds.items() if kind.on_gpu] == ["cuda"]
    assert [name for name, kind in kinds.items() if kind.fuses_optimiser] == ["cpu", "cuda"]


def test_tools_of_others_get_their_spelling_and_their_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    runtime.make_current("gpu:1")
    assert chosen == [torch.device("cuda", 1)]
    assert [runtime.gpu_spelling(name) for name in ("cpu", "cuda", "cuda:1")] == ["cpu", "gpu", "gpu:1"]


def test_precision_follows_the_wish_else_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert choose_precision("fp32", cpu) == "fp32"
    assert choose_precision("bf16", cpu) == "bf16"
    monkeypatch.setattr(runtime, "_cpu_flags", lambda: "flags : avx512f amx_bf16")
    assert choose_precision("auto", cpu) == "bf16"
    monkeypatch.setattr(runtime, "_cpu_flags", lambda: "flags : avx2")
    assert choose_precision("auto", cpu) == "fp32"
    assert choose_precision("auto", torch.device("mps")) == "fp32"


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16"), (False, "fp32")])
def test_a_gpu_that_only_emulates_bfloat16_computes_in_single_precision(
    native: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return including_emulation or native

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert choose_precision("auto", torch.device("cuda")) == precision


def test_precision_is_used_inside_its_block_only() -> None:
    layer, x = torch.nn.Linear(4, 4), torch.ones(2, 4)
    with Runtime(device=torch.device("cpu"), precision="bf16").autocast():
        assert layer(x).dtype == torch.bfloat16
    assert layer(x).dtype == torch.float32
    with Runtime(device=torch.device("cpu")).autocast():
        assert layer(x).dtype == torch.float32


def test_one_process_is_first_and_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with runtime.start("cpu") as process:
        assert (process.rank, process.world_size, process.is_first) == (0, 1, True)
        assert not torch.distributed.is_initialized()
    assert not Runtime(device=torch.device("cpu"), rank=1, world_size=2).is_first


def test_torchrun_with_one_process_needs_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    with runtime.start("cpu", "bf16") as process:
        assert process.precision == "bf16"
    assert not torch.distributed.is_initialized()


def test_noise_belongs_to_its_words() -> None:
    assert torch.equal(patch_noise((2, 3), 1, 2, 3), patch_noise((2, 3), 1, 2, 3))
    others = [patch_noise((2, 3), *words) for words in [(1, 2, 3), (3, 2, 1), (1, 2), (1, 2, 4), (5,), (5 + 2**32,)]]
    for i, one in enumerate(others):
        assert all(not torch.equal(one, other) for other in others[:i])


def test_noise_is_standard_normal() -> None:
    x = torch.stack([patch_noise((1000,), 0, index) for index in range(40)])
    assert float(x.mean()) == pytest.approx(0, abs=0.02)
    assert float(x.std()) == pytest.approx(1, abs=0.02)
    assert float(torch.corrcoef(x).fill_diagonal_(0).abs().max()) < 0.15


def test_drawing_noise_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    patch_noise((5,), 1)
    generator(2, 3)
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize("threads", [1, 3])
def test_spread_keeps_the_order_and_draws_parts_as_it_needs_them(threads: int) -> None:
    before, drawn = torch.get_num_threads(), []
    torch.set_num_threads(threads)
    try:
        results = runtime.spread(lambda n: (n, torch.get_num_threads()), (drawn.append(n) or n for n in range(50)))
        assert next(results) == (0, 1)
        assert len(drawn) <= 2 * threads + 1
        assert [n for n, _ in results] == list(range(1, 50))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("most", [None, 1])
def test_threads_to_come_have_all_cores_whatever_was_spread_at_once(most: int | None) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    first_works, second_works, first_done = threading.Event(), threading.Event(), threading.Event()
    seen: list[int] = []

    def first(_: int) -> None:
        first_works.set()
        second_works.wait(5)

    def second(_: int) -> None:
        second_works.set()
        first_done.wait(5)

    def spread_later() -> None:
        first_works.wait(5)
        list(runtime.spread(second, range(3), most=most))

    later = threading.Thread(target=spread_later)
    try:
        later.start()
        list(runtime.spread(first, range(3)))
        first_done.set()
        later.join()
        last = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        last.start()
        last.join()
        assert seen == [2]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_work_started_beside_a_spread_has_all_cores() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        at_work = runtime.spread(lambda n: n, range(20))
        next(at_work)
        assert runtime.started(torch.get_num_threads)() == 2
        assert runtime.started(lambda: next(runtime.spread(lambda _: torch.get_num_threads(), [0])))() == 1
        assert list(at_work) == list(range(1, 20))
    finally:
        torch.set_num_threads(before)


def test_spread_passes_on_what_goes_wrong() -> None:
    with pytest.raises(ZeroDivisionError):
        list(runtime.spread(lambda n: 1 // n, [1, 0, 2]))
