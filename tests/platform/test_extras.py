"""An optional library that is missing is one sentence with the pip line."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from diffseglung.platform import extras
from diffseglung.platform.errors import ConfigError


def test_every_extra_stands_in_pyproject() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(extras.EXTRAS) <= set(project["optional-dependencies"])


@pytest.mark.parametrize("extra", extras.EXTRAS)
def test_what_is_installed_is_not_asked_for(extra: str) -> None:
    assert extras.missing(extra) == []
    extras.require(extra, "this")


@pytest.mark.parametrize("extra", extras.EXTRAS)
def test_absence_prints_the_pip_line(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs") as caught:
        extras.require(extra, "this")
    assert caught.value.remedy == f"pip install 'diffseglung[{extra}]'"


@pytest.mark.parametrize("name", extras.LUNG_TOOLS)
def test_a_missing_tool_prints_its_own_pip_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=f"--lungs {name} needs") as caught:
        extras.require_lung_tool(name)
    assert caught.value.remedy == f"pip install {extras.LUNG_TOOLS[name]}"
    extras.require_lung_tool("auto", mask_given=True)


def test_a_mask_beside_a_tool_is_one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: object())
    extras.require_lung_tool("lungmask")
    with pytest.raises(ConfigError, match="does not go with a given lung mask"):
        extras.require_lung_tool("lungmask", mask_given=True)


def test_a_version_that_nobody_knows_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(extras.LUNG_TOOLS, "numpy", "numpy")
    monkeypatch.setitem(extras.LUNG_TOOLS, "nobody", "no-such-distribution")
    assert extras.lung_tool_version("numpy")
    assert extras.lung_tool_version("nobody") is None
