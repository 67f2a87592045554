"""The model card: its schema, its formats, and models that are refused because they were made for something else."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffseglung.labels import TISSUES
from diffseglung.method import checkpoint
from diffseglung.method.card import FORMAT, LABELS, MIGRATIONS, PREPROCESSING, ModelCard, schema
from diffseglung.pipeline import Segmenter
from diffseglung.platform.config import UNETS, DistillConfig, PatchConfig, SegmentConfig
from diffseglung.platform.errors import CheckpointError
from tests.toy_models import toy_network

ROOT = Path(__file__).parents[2]
CARD = ModelCard(unet=UNETS["tiny"], distill=DistillConfig(), stage=2, name="toy", training={"cases": ["a"]})
SHIPPED = [checkpoint.default_path(), *sorted((ROOT / "checkpoints").glob("*.pt"))]


@pytest.mark.parametrize("card", [CARD, ModelCard(unet=UNETS["small"])], ids=["distilled", "base"])
def test_a_card_fits_its_schema_and_comes_back(card: ModelCard) -> None:
    jsonschema.validate(json.loads(card.to_json()), schema())
    assert ModelCard.from_json(card.to_json()) == card


def test_the_schema_that_is_published_is_the_one_that_is_used() -> None:
    kept = ROOT / "docs" / "reference" / "model-card.schema.json"
    assert json.loads(kept.read_text(encoding="utf-8")) == schema(), "python scripts/card_schema.py writes it"
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("path", SHIPPED, ids=[path.name for path in SHIPPED])
def test_shipped_models_have_cards_of_this_kind_and_fit_the_pipeline(path: Path) -> None:
    _, card = checkpoint.load(path)
    jsonschema.validate(json.loads(card.to_json()), schema())
    card.check_use(SegmentConfig().spacing_mm)


def paths(value: Any, trail: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [trail, *(p for key, item in inner for p in paths(item, (*trail, key)))] if trail or inner else []


ENTRIES = json.loads(CARD.to_json())
PLACES = [place for place in paths(ENTRIES) if place and place[0] != "training"]


@given(
    place=st.sampled_from(PLACES),
    value=st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=3) | st.lists(st.integers()),
)
def test_what_the_schema_refuses_is_refused(place: tuple[Any, ...], value: Any) -> None:
    entries = copy.deepcopy(ENTRIES)
    inner = entries
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    valid = jsonschema.Draft202012Validator(schema()).is_valid(entries)
    try:
        ModelCard.from_json(json.dumps(entries))
    except CheckpointError:
        return
    assert valid, f"{place} = {value!r} was taken"


@pytest.mark.parametrize("name", [*ENTRIES, "more"])
def test_entries_may_be_neither_missing_nor_unknown(name: str) -> None:
    entries = {key: value for key, value in ENTRIES.items() if key != name}
    with pytest.raises(CheckpointError, match="model card"):
        ModelCard.from_json(json.dumps(entries if name in ENTRIES else ENTRIES | {name: 1}))


def test_every_older_format_leads_to_this_one() -> None:
    assert sorted(MIGRATIONS) == list(range(1, FORMAT))
    older = {name: value for name, value in ENTRIES.items() if name not in ("labels", "preprocessing")} | {"format": 1}
    assert ModelCard.from_json(json.dumps(older)) == CARD


def test_the_label_table_is_the_label_map_s() -> None:
    assert {tissue.name: tissue.id for tissue in TISSUES} == LABELS


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": {**LABELS, "ggo": 4, "fibrosis": 3}}, "3 fibrosis"),
        ({"labels": {"healthy": 1, "ill": 2}}, "2 ill"),
        ({"preprocessing": PREPROCESSING + 1}, "preprocessing"),
        ({"patch": PatchConfig(spacing_mm=2.0)}, "2 mm, not of 1.5 mm"),
    ],
)
def test_a_model_made_for_something_else_labels_nothing(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    card = dataclasses.replace(ModelCard(unet=UNETS["tiny"]), **change)
    checkpoint.save(tmp_path / "m.pt", toy_network(), card)
    for method in ("combined", "simulated", "diffusion", "published"):
        with pytest.raises(CheckpointError, match=words) as error:
            Segmenter.load(tmp_path / "m.pt", config=SegmentConfig(method=method), device="cpu")
        assert error.value.remedy
    Segmenter.load(tmp_path / "m.pt", config=SegmentConfig(method="physics"))  # reads no model


def test_patches_on_each_scan_s_own_grid_make_no_claim() -> None:
    ModelCard(unet=UNETS["tiny"], patch=PatchConfig(spacing_mm=0.0)).check_use(3.0)
