"""Laws that all settings obey."""

from __future__ import annotations

import dataclasses
import inspect
import json
import subprocess
import sys

import pytest

from diffseglung.platform import config
from diffseglung.platform.config import UNETS, Config, FeatureConfig, PatchConfig, SegmentConfig, UNetConfig
from diffseglung.platform.errors import ConfigError

ALL = [
    value
    for value in vars(config).values()
    if inspect.isclass(value) and issubclass(value, Config) and value is not Config
]


@pytest.mark.parametrize("kind", ALL)
def test_defaults_lie_in_range_and_survive_json(kind: type[Config]) -> None:
    settings = kind()
    assert kind.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


@pytest.mark.parametrize("kind", ALL)
def test_every_setting_has_help(kind: type[Config]) -> None:
    assert inspect.getdoc(kind)
    for field in dataclasses.fields(kind):
        assert len(field.metadata["help"]) > 5, field.name


@pytest.mark.parametrize("kind", ALL)
def test_values_outside_their_range_are_refused_by_name(kind: type[Config]) -> None:
    for field in dataclasses.fields(kind):
        for bound, outside in (("low", -1.0), ("high", 1.0)):
            if field.metadata[bound] is None:
                continue
            bad = field.metadata[bound] + outside
            value = (bad,) * len(field.default) if isinstance(field.default, tuple) else bad
            with pytest.raises(ConfigError, match=f"{field.name} is"):
                kind(**{field.name: value})


@pytest.mark.parametrize("kind", ALL)
def test_choices_are_closed(kind: type[Config]) -> None:
    for field in dataclasses.fields(kind):
        if field.metadata["choices"] and isinstance(field.default, str):
            assert field.default in field.metadata["choices"]
            with pytest.raises(ConfigError, match="choose one of"):
                kind(**{field.name: "something else"})


@pytest.mark.parametrize("kind", ALL)
def test_settings_do_not_change(kind: type[Config]) -> None:
    settings = kind()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(settings, dataclasses.fields(kind)[0].name, 1)


def test_not_a_number_is_never_in_range() -> None:
    with pytest.raises(ConfigError, match="nan"):
        PatchConfig(spacing_mm=float("nan"))


def test_an_unknown_setting_is_met_with_the_right_one() -> None:
    with pytest.raises(ConfigError) as error:
        FeatureConfig.from_dict({"overlaps": 0.2})
    assert "did you mean overlap?" in error.value.remedy
    with pytest.raises(ConfigError) as error:
        SegmentConfig.from_dict({"zzzzzz": 1})
    assert "known settings" in error.value.remedy


def test_lists_become_tuples_so_that_settings_compare_and_hash() -> None:
    settings = UNetConfig.from_dict({"multipliers": [1, 2]})
    assert settings.multipliers == (1, 2)
    assert len({settings, UNetConfig(multipliers=(1, 2))}) == 1


def test_named_networks_differ() -> None:
    assert {"tiny", "small", "reference"} <= UNETS.keys()
    assert len(set(UNETS.values())) == len(UNETS)
    reference = UNETS["reference"]
    assert (reference.base_channels, reference.multipliers, reference.blocks) == (64, (1, 2, 3, 4), 1)


def test_settings_import_nothing_heavy() -> None:
    code = (
        "import sys, diffseglung.platform.config; print([m for m in ('torch', 'numpy', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
