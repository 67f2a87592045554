"""What `qa/mutants.py` changes, what it leaves alone, and that its tests run on the copy with the mutant."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutants_script", ROOT / "qa" / "mutants.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("line", "mutants"),
    [
        ("a = b < c", ["a = b <= c"]),
        ("a = b + c", ["a = b - c"]),
        ("a = b and c", ["a = b or c"]),
        ("a = 3", ["a = 4"]),
        ("a = True", ["a = False"]),
        ("a = f(b, c=d, e=g)", ["a = f(b, e=g)", "a = f(b, c=d)"]),
        ("def f(): return a", ["def f():\n    return None"]),
        ("@f(a=1)\nclass A: pass", []),
        ("def f(a: int | str, b: A[1]) -> int | str: pass", []),
        ("a: int | str", []),
        ('a = f"{b + 1}"', []),
        ("a = zip(b, c, strict=True)", []),
        ("TILE = 32", []),
    ],
)
def test_one_place_is_changed_at_a_time(script: ModuleType, line: str, mutants: list[str]) -> None:
    assert [source for _, _, source in script.mutants(line)] == mutants


def test_every_module_of_the_core_and_its_tests_exist(script: ModuleType) -> None:
    for module, tests in script.CORE.items():
        assert (ROOT / "diffseglung" / module).is_file()
        assert (ROOT / tests).is_file()


def test_the_line_that_keeps_a_promise_is_there_once_and_so_is_its_test(script: ModuleType) -> None:
    for promise in script.PROMISES:
        assert (ROOT / "diffseglung" / promise.file).read_text(encoding="utf-8").count(promise.text) == 1, promise
        path, name = promise.test.split("::")
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), promise


PROBE = """
import subprocess, sys
import diffseglung.volume, tests.browser

def test_where():
    ours = [m for name, m in sys.modules.items() if name.split(".")[0] in ("diffseglung", "tests")]
    assert len(ours) > 4
    assert all(FOLDER in (m.__file__ or m.__path__[0]) for m in ours)
    told = subprocess.check_output([sys.executable, "-c", "import diffseglung; print(diffseglung.__file__)"], text=True)
    assert FOLDER in told
"""
DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import numpy, pytest, mutants
folder = Path(sys.argv[2])
work, tests = mutants.Copy(folder), ["tests/test_probe.py"]
(folder / tests[0]).write_text(f"FOLDER = {str(folder)!r}" + sys.argv[3])
source = (folder / "diffseglung" / "volume.py").read_text()
print(work.fails(tests))
print(work.fails(tests, file="volume.py", source="raise RuntimeError"))
assert (folder / "diffseglung" / "volume.py").read_text() == source
"""


def test_tests_run_on_the_copy_and_on_the_mutant_in_it(tmp_path: Path) -> None:
    """All that they load of the repository is the copy's. A mutant that the fixtures cannot load is killed too."""
    command = [sys.executable, "-c", DRIVER, str(ROOT / "qa"), str(tmp_path), PROBE]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == ["False", "True"]
