"""The wheel holds all that the package reads, and works where nothing else of the repository is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "diffseglung"


def pip(*words: str) -> None:
    """pip of the running environment. What it warns of its own copy of pkg_resources is not ours to mend."""
    own = "ignore:pkg_resources is deprecated:DeprecationWarning"
    environment = os.environ | {"PYTHONWARNINGS": f"{os.environ['PYTHONWARNINGS']},{own}", "PYTHONPATH": ""}
    subprocess.run([sys.executable, "-m", "pip", *words], env=environment, check=True)


def data_files() -> set[str]:
    """Everything below the package that is neither code nor made by running it."""
    found = (p for p in PACKAGE.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {p.relative_to(PACKAGE).as_posix() for p in found if p.suffix not in (".py", ".pyc", ".part")}


def test_every_file_that_is_no_code_is_declared_as_package_data() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    globs = project["tool"]["setuptools"]["package-data"]["diffseglung"]
    declared = {p.relative_to(PACKAGE).as_posix() for glob in globs for p in PACKAGE.glob(glob) if p.is_file()}
    assert data_files() == declared
    assert all(list(PACKAGE.glob(glob)) for glob in globs)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what a release holds, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(PACKAGE, source / "diffseglung", ignore=shutil.ignore_patterns("__pycache__", "*.part"))
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "-w", str(folder)]
    pip("wheel", *options, str(source))
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert {name.split("/")[0] for name in names} == {"diffseglung"}
    assert {"diffseglung/" + name for name in data_files()} <= set(names)


def test_it_works_in_an_empty_environment_without_a_network(wheel: Path, tmp_path: Path) -> None:
    """The libraries come from the running environment by a path file; this package does not."""
    place = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    python = place / "bin" / "python"
    install = ["--no-deps", "--no-index", "--quiet", "--disable-pip-version-check", str(wheel)]
    pip("--python", str(python), "install", *install)
    own = next(place.glob("lib/python*/site-packages"))
    (own / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
    shield = [] if shutil.which("unshare") is None else ["unshare", "-rn"]
    if shield and subprocess.run([*shield, "true"], capture_output=True, check=False).returncode:
        shield = []
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    away = tmp_path / "elsewhere"
    away.mkdir()

    def run(*words: str) -> str:
        command = [*shield, str(place / "bin" / "diffseglung"), *words]
        done = subprocess.run(command, cwd=away, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    home = subprocess.run(
        [str(python), "-c", "import diffseglung; print(diffseglung.__file__)"], cwd=away, env=environment,
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert Path(home.strip()).is_relative_to(place)
    assert run("--version").startswith("diffseglung ")
    run("phantom", "-o", "phantoms", "-n", "1", "--size", "small", "-q")
    ct = next((away / "phantoms").glob("*/ct.nii.gz"))
    found = json.loads(run("segment", "-i", str(ct), "-o", "out", "--method", "combined", "--fast", "--json", "-q"))
    assert found["lung"]["volume_ml"] > 300
    assert (away / "out" / "report.html").stat().st_size > 100_000
