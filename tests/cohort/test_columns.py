"""Every column of the table has a name for people and, unless it is words, a unit."""

from __future__ import annotations

from diffseglung.cohort.columns import ALL
from diffseglung.cohort.table import COLUMNS, NUMBERS


def test_every_column_is_described_once_in_the_table_s_order() -> None:
    assert tuple(column.name for column in ALL) == COLUMNS
    assert [column.name for column in ALL if not column.is_text] == list(NUMBERS)


def test_units_are_those_in_the_names() -> None:
    units = {"ml": "mL", "percent": "%", "hu": "HU", "mm": "mm", "seconds": "s", "score": ""}
    for column in ALL:
        assert column.title
        assert column.unit == ("" if column.is_text else units[column.name.split("_")[-1]]), column.name


def test_shares_end_at_a_hundred() -> None:
    for column in ALL:
        assert (column.low, column.high) == (0, 100) or not column.name.endswith("_percent")
