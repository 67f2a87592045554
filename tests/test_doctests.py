"""The examples in the docstrings run and print what they say."""

import doctest
import importlib
import pkgutil

import pytest

import diffseglung

MODULES = [m.name for m in pkgutil.walk_packages(diffseglung.__path__, "diffseglung.") if "__main__" not in m.name]
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def examples(name: str) -> list[doctest.DocTest]:
    return [test for test in doctest.DocTestFinder().find(importlib.import_module(name)) if test.examples]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for test in examples(name):
        assert doctest.DocTestRunner(optionflags=FLAGS).run(test).failed == 0, test.name


def test_the_main_entries_have_examples() -> None:
    assert sum(len(examples(name)) for name in MODULES) >= 24
