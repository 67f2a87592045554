"""The whole way from a CT to a Segmentation, with a network of random weights and tissue models fitted in the test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffseglung.io import read_volume
from diffseglung.labels import TISSUES
from diffseglung.method import checkpoint
from diffseglung.method.card import ModelCard
from diffseglung.method.unet import UNet
from diffseglung.phantom.record import Phantom
from diffseglung.pipeline import Segmenter, segment
from diffseglung.platform.config import UNETS, SegmentConfig
from diffseglung.platform.errors import CheckpointError, GeometryError
from diffseglung.volume import Volume
from studies.scores import dice
from tests.toy_models import toy_model, toy_phantom

METHODS = ("physics", "seeded", "diffusion", "combined", "published")


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return toy_phantom()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_labels_every_lung_voxel_and_nothing_else(phantom: Phantom, model: Path, method: str) -> None:
    segmenter = Segmenter.load(model, config=SegmentConfig(method=method), device="cpu")
    result = segmenter(phantom.ct, phantom.lungs)
    assert result.label_map.same_grid(phantom.ct)
    assert ((result.label_map.array > 0) == (phantom.lungs.array > 0)).all()
    assert result.label_map.array.max() <= 5
    assert result.run["settings"]["method"] == method
    assert result.statistics["lung"]["volume_ml"] == pytest.approx(
        (phantom.lungs.array > 0).sum() * phantom.ct.voxel_ml, rel=1e-3
    )


def test_physics_finds_most_of_the_lung_healthy(phantom: Phantom) -> None:
    result = Segmenter.load(None, config=SegmentConfig(method="physics"))(phantom.ct, phantom.lungs)
    healthy = dice(result.label_map.array == 1, phantom.truth.array == 1)
    assert healthy > 0.85


def test_a_flipped_and_permuted_scan_gets_the_same_labels_in_the_patient(phantom: Phantom) -> None:
    segmenter = Segmenter.load(None, config=SegmentConfig(method="physics"))
    plain = segmenter(phantom.ct, phantom.lungs).label_map.array

    def turned(volume: Volume) -> Volume:
        affine = volume.affine[:, [2, 0, 1, 3]].copy()
        affine[:3, 3] += affine[:3, 0] * (volume.shape[2] - 1)
        affine[:3, 0] *= -1
        return Volume(volume.array.transpose(2, 0, 1)[::-1], affine)

    other = segmenter(turned(phantom.ct), turned(phantom.lungs)).label_map.array
    np.testing.assert_array_equal(other[::-1].transpose(1, 2, 0), plain)


def test_posterior_sums_to_one_in_the_lung_and_abstention_follows_it(phantom: Phantom) -> None:
    config = SegmentConfig(method="physics", abstain=0.8)
    result = Segmenter.load(None, config=config)(phantom.ct, phantom.lungs, probabilities=True)
    assert result.posterior is not None
    total = result.posterior.astype(np.float32).sum(-1)
    inside = phantom.lungs.array > 0
    np.testing.assert_allclose(total[inside], 1, atol=5e-3)
    assert (total[~inside] == 0).all()
    unsure = result.posterior.max(-1) < 0.79
    assert (result.label_map.array[inside & unsure] == 6).all()


def test_expected_volumes_are_the_posterior_s_whether_it_is_kept_or_not(phantom: Phantom) -> None:
    segmenter = Segmenter.load(None, config=SegmentConfig(method="physics"))
    without, kept = (segmenter(phantom.ct, phantom.lungs, probabilities=wish) for wish in (False, True))
    assert without.posterior is None
    assert without.statistics == kept.statistics
    assert kept.posterior is not None
    sums = kept.posterior.sum((0, 1, 2), dtype=np.float64) * phantom.ct.voxel_ml
    found = [kept.statistics[label.name]["expected_volume_ml"] for label in TISSUES]
    np.testing.assert_allclose(found, sums, rtol=1e-3, atol=0.01)
    assert sum(found) == pytest.approx(kept.statistics["lung"]["volume_ml"], rel=1e-4)


def test_a_mask_of_another_shape_and_a_model_without_tissues_are_answers(phantom: Phantom, tmp_path: Path) -> None:
    with pytest.raises(GeometryError):
        segment(phantom.ct, Volume(np.ones((4, 5, 6), np.uint8), np.eye(4)), config=SegmentConfig(method="physics"))
    network = UNet(UNETS["tiny"])
    weights = {f"network.{k}": v for k, v in network.state_dict().items()}
    checkpoint.save(tmp_path / "bare.pt", weights, ModelCard(unet=UNETS["tiny"]))
    with pytest.raises(CheckpointError, match="no tissue model"):
        segment(phantom.ct, phantom.lungs, model=tmp_path / "bare.pt", config=SegmentConfig(method="combined"))


def test_the_record_tells_what_was_measured_and_what_not_to_trust(phantom: Phantom) -> None:
    """The middle of a chest is cut off at both ends; what the reader told stands first and is not repeated."""
    note = "the scan covers only 44 mm from feet to head: the lungs are probably incomplete"
    run = Segmenter.load(config=SegmentConfig(method="physics"))(phantom.ct, phantom.lungs, notes=[note]).run
    assert run["warnings"][0] == note
    assert len([w for w in run["warnings"] if "the scan covers only" in w]) == 1
    assert any("lungs are cut off (lowest slice of the scan; highest slice of the scan)" in w for w in run["warnings"])
    assert run["quality"]["noise_hu"] == pytest.approx(phantom.meta["scanner"]["noise_hu"], rel=0.25)
    assert 0 <= run["lung_quality"]["score"] <= 1
    ml = phantom.lungs.voxel_ml
    assert run["lung_quality"]["right_ml"] == pytest.approx((phantom.lungs.array == 1).sum() * ml, abs=0.1)


def test_a_model_that_was_never_fitted_gives_way_with_a_note_unless_its_method_was_named(
    phantom: Phantom, model: Path, tmp_path: Path
) -> None:
    weights, card = checkpoint.load(model)
    bare = tmp_path / "bare.safetensors"
    checkpoint.save(bare, {k: v for k, v in weights.items() if not k.startswith("tissue.")}, card)
    result = Segmenter.load(bare, device="cpu")(phantom.ct, phantom.lungs)
    assert result.run["settings"]["method"] == "physics"
    assert "fit" in result.run["warnings"][0]
    assert Segmenter.load(model, device="cpu").config.method == "combined"
    named = Segmenter.load(bare, config=SegmentConfig(method="combined"), device="cpu")
    with pytest.raises(CheckpointError, match="no tissue model"):
        named(phantom.ct, phantom.lungs)


def test_certainty_is_the_highest_probability(phantom: Phantom) -> None:
    segmenter = Segmenter.load(None, config=SegmentConfig(method="physics"))
    result = segmenter(phantom.ct, phantom.lungs, probabilities=True)
    assert result.certainty is not None
    assert result.posterior is not None
    highest = result.posterior.max(-1).astype(np.float64) * 255
    np.testing.assert_allclose(result.certainty, highest, atol=0.7)


def test_a_normal_chest_has_next_to_no_lesions_in_lungs_that_were_found() -> None:
    """LIDC-IDRI-1011, the real scan that comes with the repository."""
    ct = read_volume(Path(__file__).parents[1] / "demo" / "lidc_1011.nii.gz")
    assert Segmenter.load()(ct).statistics["lesions"]["fraction_of_lung"] < 0.015
