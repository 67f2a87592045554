"""Devices, ranks, precision and threads. The only module that names CUDA."""

from __future__ import annotations

import os
import platform
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from diffseglung.platform.errors import ConfigError

Part = TypeVar("Part")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """One process of a run: its device, its rank among `world_size`, and its precision."""

    device: torch.device
    rank: int = 0
    world_size: int = 1
    precision: str = "fp32"

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a CUDA GPU: copies can overlap with computation, and channels last is faster."""
        return self.device.type == "cuda"

    @property
    def fuses_optimiser(self) -> bool:
        """Whether PyTorch has fused optimisers for the device."""
        return self.device.type in ("cpu", "cuda")

    def autocast(self) -> AbstractContextManager[object]:
        """A context for the forward pass: mixed precision for bf16, else none."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def summed(self, values: Tensor) -> Tensor:
        """`values` summed over all processes, in place; every process must call."""
        if self.world_size > 1:
            dist.all_reduce(values)
        return values


def choose_device(wish: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda`, `cuda:1`, `mps`, or the TotalSegmentator spellings `gpu` and `gpu:1`.

    Raises ConfigError if there is no such device.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    name = wish.replace("gpu", "cuda", 1)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda"):
        index = int(name.split(":")[1]) if ":" in name and name.split(":")[1].isdigit() else 0
        if index >= torch.cuda.device_count():
            raise ConfigError(
                f"device {wish} is not available: PyTorch sees {torch.cuda.device_count()} GPUs",
                remedy="--device cpu, or --device auto",
            )
    if name == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device mps is not available: PyTorch sees no Apple GPU", remedy="--device cpu")
    try:
        return torch.device(name)
    except RuntimeError as cause:
        raise ConfigError(f"device {wish!r} is unknown", remedy="use auto, cpu, cuda, cuda:N or mps") from cause


def shared_gpus(wish: str) -> int:
    """Number of GPUs that processes on this machine can share; 0 if `wish` names a device."""
    return torch.cuda.device_count() if wish in ("auto", "cuda", "gpu") else 0


def own_gpu(wish: str, process: int) -> str:
    """The device of one of many processes: its own GPU if `wish` leaves several to choose from."""
    count = shared_gpus(wish)
    return f"cuda:{process % count}" if count > 1 else wish


def gpu_spelling(device: str) -> str:
    """`gpu:1` for `cuda:1`, as TotalSegmentator spells it."""
    return device.replace("cuda", "gpu")


def make_current(device: str) -> None:
    """Make the device, such as `gpu:1`, the current GPU, for libraries that use that one."""
    torch.cuda.set_device(choose_device(device))


def choose_precision(wish: str, device: torch.device) -> str:
    """`fp32` or `bf16`; `auto` is bf16 if the hardware multiplies it natively."""
    if wish != "auto":
        return wish
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type == "cpu" and "bf16" in _cpu_flags():
        return "bf16"
    return "fp32"


def _cpu_flags() -> str:
    """Instruction set extensions of the processor, as Linux lists them; else empty."""
    try:
        with Path("/proc/cpuinfo").open() as file:
            return next((line for line in file if line.startswith(("flags", "Features"))), "")
    except OSError:
        return ""


def processor_name() -> str:
    """The processor as the system names it."""
    try:
        with Path("/proc/cpuinfo").open() as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def accelerators() -> list[str]:
    """Every GPU that PyTorch sees, with its memory."""
    found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    names = [f"{item.name}, {item.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}" for item in found]
    return [*names, *(["Apple GPU (mps)"] if torch.backends.mps.is_available() else [])]


@contextmanager
def start(wish: str = "auto", precision: str = "fp32") -> Iterator[Runtime]:
    """The runtime of this process: the only one under `python`, one of many under `torchrun`."""
    device, world_size = choose_device(wish), int(os.environ.get("WORLD_SIZE", 1))
    if world_size == 1:
        yield Runtime(device=device, precision=choose_precision(precision, device))
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Runtime(
            device=device, rank=dist.get_rank(), world_size=world_size, precision=choose_precision(precision, device)
        )
    finally:
        dist.destroy_process_group()


def started(call: Callable[[], Result]) -> Callable[[], Result]:
    """Start a call in a thread if one is free; returns a function that waits for the result."""
    threads = _cores.free()
    if threads < 2:
        return call
    pool = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(threads,))
    future = pool.submit(call)
    pool.shutdown(wait=False)
    return future.result


def finished(device: torch.device) -> None:
    """Wait until an accelerator has finished its work; does nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def generator(*words: int) -> torch.Generator:
    """A CPU generator for one purpose, seeded by all words (run seed, rank, iteration, patch index, ...).

    The words are hashed, because a CPU generator uses only the low 32 bits of its seed.
    """
    word = int(np.random.SeedSequence([int(w) for w in words]).generate_state(1)[0])
    return torch.Generator().manual_seed(word)


def patch_noise(shape: tuple[int, ...], *words: int) -> Tensor:
    """Standard normal noise of a patch, independent of batch size, workers and device."""
    return torch.randn(shape, generator=generator(*words))


def spread(work: Callable[[Part], Result], parts: Iterable[Part], *, most: int | None = None) -> Iterator[Result]:
    """`work(part)` of each part, in order, on as many threads as PyTorch may use, each computing on one core.

    Threads with different parts never wait for each other, as cores do within one tensor operation, and results do not
    depend on the number of threads. Parts are taken from the iterable as needed, a few at a time.
    most: largest number of parts at once, to limit memory.  On an accelerator, `work` only queues.

    >>> list(spread(lambda n: n * n, range(5)))
    [0, 1, 4, 9, 16]
    """
    threads = _cores.free()
    at_once = threads if most is None else max(1, min(threads, most))
    waiting: deque[Future[Result]] = deque()
    with _cores.lent():
        if at_once == 1:
            torch.set_num_threads(1)
            yield from map(work, parts)
            return
        with ThreadPoolExecutor(at_once, initializer=_cores.take_one) as pool:
            for part in parts:
                waiting.append(pool.submit(work, part))
                if len(waiting) > 2 * at_once:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


class _Cores:
    """The number of threads that PyTorch may use, while workers of `spread` use one each.

    PyTorch has one such number for new threads: a value of 1 set by a worker must not be restored as the original.
    """

    def __init__(self) -> None:
        self._lock, self._own, self._lent, self._all = threading.Lock(), threading.local(), 0, 1

    def free(self) -> int:
        """Threads that the current thread may use: one in a worker of `spread`, else all."""
        if getattr(self._own, "one", False):
            return 1
        with self._lock:
            return self._all if self._lent else torch.get_num_threads()

    def take_one(self) -> None:
        """Make the current thread a worker."""
        self._own.one = True
        torch.set_num_threads(1)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Restore the number afterwards, except in a worker."""
        if getattr(self._own, "one", False):
            yield
            return
        with self._lock:
            if not self._lent:
                self._all = torch.get_num_threads()
            self._lent += 1
        try:
            yield
        finally:
            with self._lock:
                self._lent -= 1
                torch.set_num_threads(self._all)


_cores = _Cores()
