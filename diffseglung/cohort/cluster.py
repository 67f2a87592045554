"""Where the work runs, all by Dask: processes of this machine, an existing scheduler, or jobs of a Slurm queue."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffseglung.platform.errors import ConfigError
from diffseglung.platform.resources import thread_variables

SCAN_GIB = 3.0
"""Memory of a worker for one scan (docs/performance.md)."""
CONNECT_S = 20.0
ANY_PORT = "127.0.0.1:0"
"""Address of the scheduler's dashboard: Dask warns if its usual port is taken."""


@dataclass(frozen=True)
class Place:
    """workers: processes, 0 for as many as fit.  scheduler: address of a running scheduler.

    slurm: options of dask_jobqueue.SLURMCluster, None without Slurm.  gpus: of this machine, one worker each.
    threads: per worker, 0 for an equal share of the cores.
    """

    workers: int = 0
    scheduler: str | None = None
    slurm: dict[str, Any] | None = None
    gpus: int = 0
    threads: int = 0


def fitting_workers(place: Place, scans: int) -> int:
    """Worker processes of this machine: as requested, else one per GPU, else as many as cores and memory allow."""
    from dask.system import CPU_COUNT
    from distributed.system import MEMORY_LIMIT

    most = place.workers or place.gpus or min(CPU_COUNT, int(MEMORY_LIMIT / (SCAN_GIB * 2**30)))
    return max(1, min(most, scans))


def threads_each(place: Place, scans: int) -> int:
    """Threads per worker: by default, the cores divided by the workers."""
    if place.threads:
        return place.threads
    if place.scheduler or place.slurm:
        return int(os.environ.get("OMP_NUM_THREADS", "1"))
    from dask.system import CPU_COUNT

    return max(1, CPU_COUNT // fitting_workers(place, scans))


@contextlib.contextmanager
def connected(place: Place, scans: int, *, verbose: bool = False) -> Iterator[Any]:
    """A Dask client of the chosen place.  Raises ConfigError if no scheduler answers."""
    import dask
    import distributed

    connect: Any = distributed.Client  # not typed
    for name in ("distributed", "tornado", "asyncio"):
        logging.getLogger(name).setLevel(logging.INFO if verbose else logging.CRITICAL)
    settings = {"distributed.scheduler.allowed-failures": 0, "distributed.admin.tick.limit": "1h"}
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(settings))
        if place.scheduler:
            try:
                client = connect(place.scheduler, timeout=CONNECT_S, set_as_default=False)
            except (OSError, ValueError) as cause:
                raise ConfigError(f"no scheduler answers at {place.scheduler}", remedy="check the address") from cause
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="diffseglung-", ignore_cleanup_errors=True))
            cluster = _slurm(place) if place.slurm is not None else _local(place, scans, folder)
            stack.callback(cluster.close)
            client = connect(cluster, set_as_default=False)
        stack.callback(client.close)
        yield client


def _local(place: Place, scans: int, folder: str) -> Any:
    """Worker processes that communicate over TLS with a key of this run: Dask messages can run code, so other users of
    a shared machine must not be able to send any."""
    import distributed

    security: Any = distributed.Security
    make: Any = distributed.LocalCluster  # not typed
    return make(
        n_workers=fitting_workers(place, scans),
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": ANY_PORT},
        local_directory=folder,
        silence_logs=logging.CRITICAL,
        security=security.temporary(),
        env=thread_variables(threads_each(place, scans)),
    )


def _slurm(place: Place) -> Any:
    import dask

    jobqueue: Any = importlib.import_module("dask_jobqueue")
    given, known = place.slurm or {}, dask.config.get("jobqueue.slurm.scheduler-options", {})
    try:
        scheduler = {"dashboard_address": ANY_PORT, **known, **given.get("scheduler_options", {})}
        options = {"cores": 1, "processes": 1, "memory": f"{SCAN_GIB + 1:g}GB", **given}
        cluster = jobqueue.SLURMCluster(**options | {"scheduler_options": scheduler})
    except (TypeError, ValueError) as cause:
        raise ConfigError(
            f"Slurm options are not accepted: {cause}", remedy="use options of dask_jobqueue.SLURMCluster"
        ) from cause
    cluster.scale(place.workers or 4)
    return cluster


def read_options(path: Path) -> dict[str, Any]:
    """Options of SLURMCluster from a YAML or JSON file.  Raises ConfigError for any other content."""
    import yaml  # Dask brings it

    try:
        options = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as cause:
        reason = " ".join(str(cause).split())[:160]
        raise ConfigError(f"{path} cannot be read: {reason}", remedy="pass a YAML or JSON file of options") from cause
    if not isinstance(options, dict) or not all(isinstance(name, str) for name in options):
        raise ConfigError(f"{path} holds no named options", remedy="write lines such as `queue: normal`")
    return options
