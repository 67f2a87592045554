"""Weights files: what is saved comes back, and what is not ours is refused in words."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from safetensors.torch import save_file

from diffseglung.method import checkpoint
from diffseglung.method.card import ModelCard
from diffseglung.method.unet import UNet
from diffseglung.platform.config import UNETS, DiffusionConfig, DistillConfig, IntensityConfig, PatchConfig
from diffseglung.platform.errors import CheckpointError
from tests.toys import not_utf8

CARD = ModelCard(
    unet=UNETS["tiny"],
    diffusion=DiffusionConfig(steps=250, schedule="linear", prediction="v"),
    patch=PatchConfig(shape=(16, 32, 32), spacing_mm=2.0),
    intensity=IntensityConfig(low_hu=-1024),
    distill=DistillConfig(temperature=0.2),
    stage=2,
    iteration=1234,
    name="toy",
    training={"cases": ["a__1", "b__2"], "seed": 3, "seconds": 1.5},
)
ENDINGS = [".pt", ".safetensors"]


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    network = UNet(UNETS["tiny"]).state_dict()
    return {f"network.{name}": value for name, value in network.items()} | {"head.weight": torch.ones(3, 2)}


@pytest.mark.parametrize("ending", ENDINGS)
def test_weights_and_card_come_back(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "deep" / f"model{ending}"
    checkpoint.save(path, weights(), CARD)
    found, card = checkpoint.load(path)
    assert card == CARD
    assert found.keys() == weights().keys()
    assert all(torch.equal(found[name], value) for name, value in weights().items())
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", [pytest.param(b"M\xfcller", marks=not_utf8), "Müller".encode(), "肺".encode()])
def test_any_name_is_read(tmp_path: Path, ending: str, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name) / (os.fsdecode(name) + ending)
    checkpoint.save(path, weights(), CARD)
    found, card = checkpoint.load(path)
    assert card == CARD
    assert torch.equal(found["head.weight"], torch.ones(3, 2))


def test_a_card_without_distillation_comes_back() -> None:
    card = ModelCard(unet=UNETS["small"])
    assert ModelCard.from_json(card.to_json()) == card


@pytest.mark.parametrize("ending", ENDINGS)
def test_half_precision_halves_the_file_and_loads_as_float32(tmp_path: Path, ending: str) -> None:
    wide, narrow = tmp_path / f"wide{ending}", tmp_path / f"narrow{ending}"
    extra = {"head.count": torch.tensor(70_000)}
    checkpoint.save(wide, weights() | extra, CARD)
    checkpoint.save(narrow, weights() | extra, CARD, dtype=torch.float16)
    found, _ = checkpoint.load(narrow)
    assert narrow.stat().st_size < 0.65 * wide.stat().st_size
    assert int(found.pop("head.count")) == 70_000
    assert {value.dtype for value in found.values()} == {torch.float32}
    torch.testing.assert_close(found["network.enter.weight"], weights()["network.enter.weight"], rtol=1e-3, atol=1e-4)


def test_weights_in_another_memory_format_come_back(tmp_path: Path) -> None:
    network = UNet(UNETS["tiny"]).to(memory_format=torch.channels_last_3d)
    checkpoint.save(tmp_path / "m.safetensors", {f"network.{k}": v for k, v in network.state_dict().items()}, CARD)
    found, _ = checkpoint.load(tmp_path / "m.safetensors")
    assert torch.equal(found["network.enter.weight"], network.enter.weight)


def test_building_gives_the_network_of_the_card(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "m.pt", weights(), CARD, dtype=torch.float16)
    model = checkpoint.build(*checkpoint.load(tmp_path / "m.pt"))
    assert not model.network.training
    assert model.config == CARD.diffusion
    assert len(model.signal) == 251
    assert {p.dtype for p in model.network.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in model.network.parameters())


@pytest.mark.parametrize("ending", ENDINGS)
def test_equal_content_has_an_equal_fingerprint(tmp_path: Path, ending: str) -> None:
    for name in ("a", "b"):
        checkpoint.save(tmp_path / name / f"model{ending}", weights(), CARD)
    checkpoint.save(tmp_path / "c" / f"model{ending}", weights(1), CARD)
    a, b, c = (checkpoint.sha256(tmp_path / name / f"model{ending}") for name in "abc")
    assert a == b != c


def test_an_interrupted_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.pt"
    checkpoint.save(path, weights(), CARD)
    before = checkpoint.sha256(path)

    def fail(content: object, file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save(path, weights(1), CARD)
    assert checkpoint.sha256(path) == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.pt"]


class Trap:
    """Pickles into code that makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("by", ["pickle", "torch"])
def test_pickled_code_never_runs(tmp_path: Path, ending: str, by: str) -> None:
    path, sprung = tmp_path / f"m{ending}", tmp_path / "sprung"
    content = {"format": 1, "card": CARD.to_json(), "weights": {"x": Trap(sprung)}}
    if by == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load(path)
    assert not sprung.exists()


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_missing_file_is_named(tmp_path: Path, ending: str) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere.* does not exist"):
        checkpoint.load(tmp_path / f"nowhere{ending}")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, ending: str, share: float) -> None:
    path = tmp_path / f"m{ending}"
    checkpoint.save(path, weights(), CARD)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load(path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_text_is_refused(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"m{ending}").write_text("these are not weights\n" * 50)
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load(tmp_path / f"m{ending}")


def foreign() -> list[object]:
    plain = {"enter.weight": torch.zeros(2)}
    return [
        plain,
        {"model": plain, "epoch": 3},
        [torch.zeros(2)],
        torch.zeros(2),
        {"card": 5, "weights": plain},
        {"card": CARD.to_json(), "weights": {"x": 1}},
        {"card": CARD.to_json(), "weights": {1: torch.zeros(1)}},
    ]


@pytest.mark.parametrize("content", foreign())
def test_a_foreign_checkpoint_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match="not written by diffseglung") as error:
        checkpoint.load(tmp_path / "m.pt")
    assert "diffseglung train" in error.value.remedy


def test_foreign_safetensors_are_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(2)}, tmp_path / "m.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="no model card"):
        checkpoint.load(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 99}, "format 99"),
        ({"unet": {"base_chanels": 8}}, "base_chanels"),
        ({"unet": {"base_channels": 1}}, "outside"),
        ({"stage": "two"}, "model card"),
        ({"training": 3}, "model card"),
    ],
)
def test_cards_of_another_kind_are_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    text = json.dumps(CARD.to_dict() | change)
    torch.save({"format": 1, "card": text, "weights": weights()}, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match=words) as error:
        checkpoint.load(tmp_path / "m.pt")
    assert "m.pt" in error.value.problem


@pytest.mark.parametrize("text", ["", "[]", "{}", "not json", "3"])
def test_cards_that_are_no_cards_are_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match="model card"):
        ModelCard.from_json(text)


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"\.safetensors or \.pt"):
        checkpoint.save(tmp_path / "m.ckpt", weights(), CARD)
    with pytest.raises(CheckpointError, match=r"\.safetensors or \.pt"):
        checkpoint.load(tmp_path / "m.nii.gz")


def test_weights_that_do_not_fit_their_card_are_refused() -> None:
    larger = dataclasses.replace(CARD, unet=UNETS["small"])
    fewer = {name: value for name, value in weights().items() if "enter" not in name}
    for broken, card in ((weights(), larger), (fewer, CARD), (weights() | {"network.more": torch.ones(1)}, CARD)):
        with pytest.raises(CheckpointError, match="do not fit"):
            checkpoint.build(broken, card)


def test_weights_that_are_not_finite_are_refused() -> None:
    broken = weights()
    broken["network.enter.bias"] = torch.full_like(broken["network.enter.bias"], torch.nan)
    with pytest.raises(CheckpointError, match="not finite"):
        checkpoint.build(broken, CARD)


def test_the_shipped_model_lies_in_the_package() -> None:
    assert checkpoint.default_path().parts[-3:] == ("diffseglung", "weights", "lung-small.safetensors")
