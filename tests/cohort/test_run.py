"""Work on many processes: each scan gets one outcome, whatever happens to workers."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import ssl
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("distributed")

from diffseglung.cohort import cluster, run
from diffseglung.cohort.cluster import Place, connected, fitting_workers, read_options, threads_each
from diffseglung.cohort.plan import Order, Task, alone, is_finished, plan
from diffseglung.cohort.run import TaskResult
from diffseglung.cohort.table import row_of, with_result
from diffseglung.output import Products
from diffseglung.platform.config import PatienceConfig, SegmentConfig
from diffseglung.platform.errors import ConfigError

SPEC = importlib.util.spec_from_file_location("cohort_toys", Path(__file__).parent / "cohort_toys.py")
assert SPEC is not None
assert SPEC.loader is not None
toys = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(toys)

pytestmark = pytest.mark.filterwarnings("ignore")  # Dask's, on closing sockets and on other event loops


def an_order(folder: Path) -> Order:
    return Order(output=folder / "out", config=SegmentConfig(fusion=False), products=Products(preview=False))


def conducted(
    tasks: list[Task], order: Order, patience: PatienceConfig, on_first=None, place: Place | None = None
) -> list[TaskResult]:
    """Outcomes on worker processes; on_first: called with the client at the first outcome."""
    told: list[TaskResult] = []
    with connected(place or Place(workers=2), len(tasks)) as client:

        def tell(outcome: TaskResult | None) -> None:
            if outcome is not None:
                told.append(outcome)
                if len(told) == 1 and on_first:
                    on_first(client)

        outcomes = run.run_tasks(client, tasks, order, patience, tell)
    assert outcomes == told
    return outcomes


def test_a_killed_worker_loses_nothing_and_a_bad_file_stops_nobody(tmp_path: Path) -> None:
    scans, order = tmp_path / "in", an_order(tmp_path)
    paths = toys.write_scans(scans, 5)
    toys.spoil(paths[3])
    tasks = plan(scans, order)

    def kill(client) -> None:
        pids = client.run(os.getpid)
        os.kill(next(iter(pids.values())), signal.SIGKILL)

    with alone(order.output):  # as the command does: it takes away what the killed worker left half-made
        outcomes = conducted(tasks, order, PatienceConfig(retries=2), kill)
    assert sorted(o.name for o in outcomes) == [f"scan_{i:03d}" for i in range(5)]
    (failed,) = [o for o in outcomes if o.error]
    assert failed.name == "scan_003"
    assert "cannot be read" in str(failed.error)
    assert [is_finished(task, order.output) for task in tasks] == [True, True, True, False, True]
    assert not list(order.output.glob(".*"))  # nothing half-made


def test_a_port_that_others_use_is_no_news() -> None:
    """Dask's own port is taken where another cluster runs; nothing here needs it."""
    with socket.socket() as other, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with contextlib.suppress(OSError):  # taken already
            other.bind(("127.0.0.1", 8787))
            other.listen()
        with connected(Place(workers=1), 1) as client:
            assert client.scheduler_info()["services"]["dashboard"] != 8787
    assert [str(warning.message) for warning in told if "already in use" in str(warning.message)] == []


def test_slurm_s_scheduler_takes_any_port_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[dict[str, Any]] = []

    class Cluster:
        def __init__(self, **options: Any) -> None:
            taken.append(options)

        def scale(self, jobs: int) -> None:
            """Nothing."""

    monkeypatch.setattr(pytest.importorskip("dask_jobqueue"), "SLURMCluster", Cluster)
    for given in ({"queue": "normal"}, {"host": "login1"}, {"host": "login1", "dashboard_address": ":9000"}):
        cluster._slurm(Place(slurm={"scheduler_options": given} if "host" in given else given))
    assert [options["scheduler_options"] for options in taken] == [
        {"dashboard_address": "127.0.0.1:0"},
        {"dashboard_address": "127.0.0.1:0", "host": "login1"},
        {"dashboard_address": ":9000", "host": "login1"},
    ]
    with pytest.raises(ConfigError, match="Slurm options"):
        cluster._slurm(Place(slurm={"scheduler_options": 3}))


class Vanished:
    """A future that has ended well, whose result was lost with its worker before anybody fetched it."""

    status = "finished"

    def result(self) -> TaskResult:
        raise RuntimeError("its worker left")


def test_a_result_lost_before_it_was_fetched_is_a_problem_and_no_crash() -> None:
    outcome, problem = run._result(Vanished())
    assert outcome is None
    assert "its worker left" in str(problem)


@pytest.mark.slow
def test_the_number_of_workers_and_of_their_threads_changes_no_result(tmp_path: Path) -> None:
    toys.write_scans(tmp_path / "in", 2)
    found = []
    for number, place in enumerate((Place(workers=1, threads=2), Place(workers=2, threads=1))):
        order = replace(an_order(tmp_path), output=tmp_path / f"out{number}")
        outcomes = conducted(plan(tmp_path / "in", order), order, PatienceConfig(), place=place)
        assert [outcome.error for outcome in outcomes] == [None] * 2
        folders = [order.output / f"scan_{i:03d}" for i in range(2)]
        found.append([(f / name).read_bytes() for f in folders for name in ("label_map.nii.gz", "statistics.json")])
    assert found[0] == found[1]


def slow(task: Task, order: Order, device: str | None = None) -> TaskResult:
    import time

    if task.name == "scan_000":
        time.sleep(600)
    return TaskResult(task.name, task.source)


def deadly(task: Task, order: Order, device: str | None = None) -> TaskResult:
    if task.name == "scan_000":
        os.kill(os.getpid(), signal.SIGKILL)
    return TaskResult(task.name, task.source)


@pytest.mark.parametrize(("behaviour", "words"), [(slow, "took longer than 8 s"), (deadly, "its worker was lost")])
def test_a_scan_that_hangs_or_kills_its_worker_becomes_a_row_and_the_others_go_on(
    behaviour, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toys.write_scans(tmp_path / "in", 3)
    order = an_order(tmp_path)
    monkeypatch.setattr(run, "_on_worker", behaviour)
    outcomes = conducted(plan(tmp_path / "in", order), order, PatienceConfig(retries=1, timeout_s=8))
    assert sorted(o.name for o in outcomes) == [f"scan_{i:03d}" for i in range(3)]
    assert {o.name: bool(o.error) for o in outcomes} == {f"scan_{i:03d}": i == 0 for i in range(3)}
    assert words in str(next(o.error for o in outcomes if o.error))


def test_a_scan_is_an_outcome_and_an_accident_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toys.write_scans(tmp_path / "in", 1)
    order = an_order(tmp_path)
    (task,) = plan(tmp_path / "in", order)
    assert run.label(task, order).error is None
    before = (order.output / task.name / "label_map.nii.gz").stat().st_mtime_ns
    task.study.path.write_bytes(b"no scan")
    assert "cannot be read" in str(run.label(task, order).error)
    assert (order.output / task.name / "label_map.nii.gz").stat().st_mtime_ns == before

    def accident(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(run, "_segmenter", accident)
    toys.write_scans(tmp_path / "in", 1)
    with pytest.raises(ZeroDivisionError):
        run.label(task, order)


def test_a_file_that_fails_costs_a_scan_no_figures(tmp_path: Path) -> None:
    """DICOM objects of a NIfTI file: its row has figures and an error, and it is tried again next time."""
    toys.write_scans(tmp_path / "in", 1)
    order = replace(an_order(tmp_path), products=Products(preview=False, report=False, dicom=("seg",)))
    (task,) = plan(tmp_path / "in", order)
    outcome = run.label(task, order)
    assert "segmentation.dcm could not be made" in str(outcome.error)
    assert (order.output / task.name / "label_map.nii.gz").exists()
    assert not is_finished(task, order.output)
    row = row_of(task, order.output, with_result({}, outcome))
    assert row["status"] == "done"
    assert row["error"] == outcome.error
    assert row["lung_ml"]


def test_workers_fit_the_machine_the_scans_and_the_wish() -> None:
    assert fitting_workers(Place(workers=8), 3) == 3
    assert fitting_workers(Place(workers=2), 100) == 2
    assert fitting_workers(Place(gpus=4), 100) == 4
    automatic = fitting_workers(Place(), 1000)
    cores = os.cpu_count() or 1
    assert 1 <= automatic <= cores
    assert automatic * threads_each(Place(), 1000) <= cores


def test_nobody_else_on_the_machine_may_speak_with_the_workers() -> None:
    """What Dask sends is unpickled by who receives it: without the run's own key no word is understood."""
    with connected(Place(workers=1), 1) as client:
        address = client.scheduler.address
        assert address.startswith("tls://127.0.0.1:")
        assert all(worker.startswith("tls://127.0.0.1:") for worker in client.scheduler_info()["workers"])
        host, port = address.removeprefix("tls://").split(":")
        for stranger in (ssl.create_default_context(), _trusting()):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                _say_hello(stranger, host, int(port))


def _say_hello(context: ssl.SSLContext, host: str, port: int) -> None:
    with socket.create_connection((host, port), timeout=10) as plain:
        wrapped = context.wrap_socket(plain, server_hostname="localhost")
        try:
            wrapped.sendall(b"hello")
            wrapped.recv(1)
        finally:
            wrapped.close()


def _trusting() -> ssl.SSLContext:
    """A stranger who believes everybody, and has no certificate to show."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def test_a_place_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_S", 1.0)
    with pytest.raises(ConfigError, match="no scheduler"), connected(Place(scheduler="tcp://127.0.0.1:1"), 1):
        pass
    (tmp_path / "options.yaml").write_text("- a list\n")
    with pytest.raises(ConfigError, match="options"):
        read_options(tmp_path / "options.yaml")
    (tmp_path / "options.yaml").write_text("queue: normal\ncores: 2\n")
    assert read_options(tmp_path / "options.yaml") == {"queue": "normal", "cores": 2}


def test_slurm_options_reach_the_job_script(monkeypatch: pytest.MonkeyPatch) -> None:
    jobqueue = pytest.importorskip("dask_jobqueue")
    asked: list[int] = []
    monkeypatch.setattr(jobqueue.SLURMCluster, "scale", lambda self, count: asked.append(count))
    made = cluster._slurm(Place(workers=3, slurm={"queue": "long", "account": "lungs", "walltime": "02:00:00"}))
    try:
        script = made.job_script()
    finally:
        made.close()
    assert asked[0] == 3
    assert "#SBATCH -p long" in script
    assert "#SBATCH -A lungs" in script
    assert "#SBATCH -t 02:00:00" in script
    assert "#SBATCH --mem=4G" in script
    with pytest.raises(ConfigError, match="Slurm options"):
        cluster._slurm(Place(slurm={"no_such_option": 1}))


def test_a_running_scheduler_is_used(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    toys.write_scans(tmp_path / "in", 2)
    order = an_order(tmp_path)
    tasks = plan(tmp_path / "in", order)
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as running,
        connected(Place(scheduler=running.scheduler_address), 2) as client,
    ):
        outcomes = run.run_tasks(client, tasks, order, PatienceConfig(), lambda outcome: None)
    assert [o.error for o in outcomes] == [None, None]
    assert all(is_finished(task, order.output) for task in tasks)
