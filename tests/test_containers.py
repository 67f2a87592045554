"""Laws of the container recipes, which are not built in the tests."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCKER = (ROOT / "Dockerfile").read_text(encoding="utf-8")
APPTAINER = (ROOT / "apptainer.def").read_text(encoding="utf-8")
BASE = r"python:(?:\$\{PYTHON_VERSION\}|\d+\.\d+\.\d+)-slim-bookworm"


def test_base_images_are_pinned_to_a_release() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKER, re.MULTILINE) + re.findall(r"^From: (\S+)", APPTAINER, re.MULTILINE)
    assert len(bases) == 3
    assert all(re.fullmatch(BASE, base) for base in bases)
    version = re.search(r"^ARG PYTHON_VERSION=(\d+\.\d+\.\d+)$", DOCKER, re.MULTILINE)
    assert version
    assert f"python:{version[1]}-slim" in APPTAINER


def test_what_is_copied_exists_and_passes_the_ignore_file() -> None:
    allowed = set(re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE))
    copied = [line.split()[1:-1] for line in DOCKER.splitlines() if line.startswith("COPY") and "--from" not in line]
    names = {name for names in copied for name in names}
    assert names == allowed
    assert all((ROOT / name).exists() for name in names)


def test_the_recipe_for_clusters_copies_the_same() -> None:
    files = re.search(r"%files\n(.*?)\n\n", APPTAINER, re.DOTALL)
    assert files
    pairs = [line.split() for line in files[1].splitlines()]
    assert {source for source, _ in pairs} == set(
        re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.M)
    )
    assert all(target == f"/src/{source}" for source, target in pairs)


def test_the_image_runs_as_nobody_in_particular() -> None:
    last = DOCKER.split("\nFROM ")[-1]
    users = re.findall(r"^USER (\S+)", last, re.MULTILINE)
    assert users
    assert users[-1] not in ("root", "0")


@pytest.mark.parametrize("text", [DOCKER, APPTAINER], ids=["Dockerfile", "apptainer.def"])
def test_versions_are_the_tested_ones_and_extras_exist(text: str) -> None:
    assert "-c constraints.txt" in text
    extras = re.search(r'"\.\[([a-z,]+)\]"', text)
    assert extras
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert set(extras[1].split(",")) <= known.keys()


def test_both_start_the_command() -> None:
    assert 'ENTRYPOINT ["diffseglung"]' in DOCKER
    assert 'exec diffseglung "$@"' in APPTAINER


@pytest.mark.parametrize("text", [DOCKER, APPTAINER], ids=["Dockerfile", "apptainer.def"])
def test_nothing_is_left_behind_or_latest(text: str) -> None:
    assert ":latest" not in text
    assert "apt-get" not in text
    assert "--no-cache-dir" in text or "PIP_NO_CACHE_DIR=1" in text
    assert not re.search(r"(PASSWORD|TOKEN|SECRET)", text)
