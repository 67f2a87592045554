"""The lowest versions allowed are those that `make test-lowest` tests."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NOT_INSTALLED = {"atheris", "einops"}
"""Of the extras `fuzz` and `bench`, which `.[dev]` leaves out."""


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = (re.fullmatch(r"([\w.-]+)==(\S+)", line) for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(match[1]): match[2] for match in found if match}


def requirements() -> list[Requirement]:
    every = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]
    return [one for one in map(Requirement, sorted(set(every))) if one.name not in {"diffseglung", *NOT_INSTALLED}]


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_every_lower_bound_is_the_version_tested_as_the_lowest(requirement: Requirement) -> None:
    bounds = [one.version for one in requirement.specifier if one.operator == ">="]
    assert len(bounds) == 1
    assert Version(pins("constraints-lowest.txt")[canonicalize_name(requirement.name)]) == Version(bounds[0])


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-lowest.txt"])
def test_every_line_of_the_constraints_is_one_exact_version(name: str) -> None:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    listed = [line for line in lines if line and not line.startswith("#")]
    assert len(pins(name)) == len(listed)
