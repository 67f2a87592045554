"""Files are whole under their name or not there; nobody's half-written work is taken away while they live."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from diffseglung.platform import atomic_files
from diffseglung.platform.atomic_files import HOST, settle, sweep, workshop, write_bytes, write_text, written


def part_of(name: str, *, host: str = HOST, process: int) -> str:
    return f".{host}-{process}-0123abcd.part.{name}"


@pytest.fixture(scope="module")
def gone() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    with written(target) as part:
        part.write_text("half")
        assert not target.exists()
        assert part.parent == target.parent
        part.write_text("whole")
    assert target.read_text(encoding="utf-8") == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    target = write_text(tmp_path / "a.txt", "old")

    def fail() -> None:
        with written(target) as part:
            part.write_text("new")
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        fail()
    assert target.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_killed_writer_leaves_what_was_there_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    target = write_text(tmp_path / "a.txt", "old")
    code = (
        "import os, signal, sys; from pathlib import Path; from diffseglung.platform.atomic_files import written\n"
        f"with written(Path({str(target)!r})) as part:\n"
        " part.write_text('new'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert target.read_text(encoding="utf-8") == "old"
    assert len(list(tmp_path.iterdir())) == 2
    write_text(target, "newer")
    assert target.read_text(encoding="utf-8") == "newer"
    assert list(tmp_path.iterdir()) == [target]


def test_only_the_dead_of_this_machine_are_swept(tmp_path: Path, gone: int) -> None:
    dead = tmp_path / part_of("a", process=gone)
    other_name = tmp_path / part_of("b", process=gone)
    alive = tmp_path / part_of("a", process=os.getpid())
    elsewhere = tmp_path / part_of("a", host="0" * 6, process=gone)
    folder = tmp_path / part_of("c", process=gone)
    mine = tmp_path / ".hidden.part.a"
    for path in (dead, other_name, alive, elsewhere, mine):
        path.touch()
    (folder / "inner").mkdir(parents=True)
    sweep(tmp_path, "a")
    assert not dead.exists()
    assert all(path.exists() for path in (other_name, alive, elsewhere, folder, mine))
    sweep(tmp_path)
    assert not other_name.exists()
    assert not folder.exists()
    sweep(tmp_path, everybody=True)
    assert sorted(tmp_path.iterdir()) == [mine]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="a dead process is told from its entry there")
def test_the_dead_whom_nobody_has_buried_yet_do_not_count_as_alive(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        while Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").split()[2] != "Z":
            time.sleep(0.01)
        (tmp_path / part_of("a", process=process.pid)).touch()
        write_text(tmp_path / "a", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links here")
def test_links_are_neither_followed_nor_waited_for(tmp_path: Path, gone: int) -> None:
    """A link put beside a name leads nowhere: sweeping removes the link, and names cannot be guessed."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("kept")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / part_of("a", process=gone)).symlink_to(outside)
    write_text(folder / "a", "text")
    assert (outside / "precious").read_text(encoding="utf-8") == "kept"
    assert [path.name for path in folder.iterdir()] == ["a"]
    names = set()
    for _ in range(20):
        with written(folder / "a") as part:
            part.touch()
            names.add(part.name)
    assert len(names) == 20


def test_a_target_that_is_a_link_is_replaced_and_what_it_leads_to_is_kept(tmp_path: Path) -> None:
    kept = write_text(tmp_path / "kept", "old")
    link = tmp_path / "link"
    link.symlink_to(kept)
    write_text(link, "new")
    assert (kept.read_text(encoding="utf-8"), link.read_text(encoding="utf-8"), link.is_symlink()) == (
        "old",
        "new",
        False,
    )


def test_what_a_file_holds_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(atomic_files.os, "fsync", lambda number: (events.append("fsync"), fsync(number))[1])
    monkeypatch.setattr(Path, "replace", lambda self, to: (events.append("rename"), replace(self, to))[1])
    write_bytes(tmp_path / "a", b"x")
    assert events == ["fsync", "rename", "fsync"]


def test_settling_flushes_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        (tmp_path / name).touch()
    flushed: list[int] = []
    monkeypatch.setattr(atomic_files.os, "fsync", flushed.append)
    settle(tmp_path)
    assert len(flushed) == 3


def test_many_writers_of_one_name_leave_one_of_their_files(tmp_path: Path) -> None:
    target, texts = tmp_path / "a", [str(i) * 100_000 for i in range(8)]
    threads = [threading.Thread(target=write_text, args=(target, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_text(encoding="utf-8") in texts
    assert list(tmp_path.iterdir()) == [target]


def test_a_workshop_goes_with_all_it_holds(tmp_path: Path) -> None:
    def fail() -> None:
        with workshop(tmp_path / "out") as folder:
            (folder / "a").touch()
            assert folder.parent == tmp_path
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert not list(tmp_path.iterdir())
