"""Clusters of a scan made of tissues that differ in density and texture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from diffseglung.cli import main
from diffseglung.io import read_volume
from diffseglung.io.npz import Case, write_case
from diffseglung.method.radiomics.clusters import cluster_volume, kmeans
from diffseglung.method.radiomics.descriptor import DESCRIPTOR_NAMES
from diffseglung.platform.config import ClusterConfig
from diffseglung.platform.errors import InputError
from diffseglung.volume import Reorientation, Volume

COARSE = ClusterConfig(spacing_mm=3.0, stride=3, window=6)


@pytest.fixture
def tissues(oblique_affine: np.ndarray) -> tuple[Volume, Volume, np.ndarray]:
    """Two lungs on a tilted, anisotropic, flipped grid (2.5 x 0.8 x 0.7 mm in the fixture, 4 times coarser in plane):
    dark and smooth, bright and smooth, and bright with a grain, each a third. The grid of positions, 9 mm apart, begins
    with the array: its windows are nearly as thick as a third."""
    affine = oblique_affine.copy()
    affine[:3, 1:3] *= 4
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    affine[:3, 3] = affine[:3, :3] / spacing @ (9.0 * np.array([13, -2, 4]) + spacing / 2)
    rng = np.random.default_rng(0)
    shape = (30, 36, 40)
    truth = np.zeros(shape, np.uint8)
    truth[3:27, 4:32, 4:18] = 1
    truth[3:27, 4:32, 22:36] = 1
    third = np.digitize(np.arange(shape[0]), (11, 19)) + 1
    truth *= third[:, None, None].astype(np.uint8)
    hu = np.where(truth == 0, 40.0, np.where(truth == 1, -930.0, -600.0)) + rng.normal(0, 8, shape)
    hu += (truth == 3) * rng.choice([-200.0, 200.0], shape)
    lungs = (truth > 0).astype(np.uint8)  # 1 right, 2 left: the fixture runs from left to right
    lungs[:, :, :20] *= 2
    return Volume(hu.astype(np.float32), affine), Volume(lungs, affine), truth


def test_clusters_find_density_and_grain(tissues: tuple[Volume, Volume, np.ndarray]) -> None:
    ct, lungs, truth = tissues
    ids, _ = cluster_volume(ct, lungs, 3, 0, config=COARSE)
    assert ids.same_grid(ct)
    assert ((ids.array > 0) == (truth > 0)).all()
    found = {int(np.bincount(ids.array[truth == kind]).argmax()) for kind in (1, 2, 3)}
    assert found == {1, 2, 3}
    pure = np.mean([np.bincount(ids.array[truth == kind]).max() / (truth == kind).sum() for kind in (1, 2, 3)])
    assert pure > 0.85


def test_table_is_in_order_of_density_and_adds_up(tissues: tuple[Volume, Volume, np.ndarray]) -> None:
    ct, lungs, _ = tissues
    ids, table = cluster_volume(ct, lungs, 3, 0, config=COARSE)
    assert [cluster.id for cluster in table] == [1, 2, 3]
    means = [cluster.centre["hu_mean"] for cluster in table]
    assert means == sorted(means)
    assert all(tuple(cluster.centre) == DESCRIPTOR_NAMES for cluster in table)
    assert sum(cluster.volume_ml for cluster in table) == pytest.approx((lungs.array > 0).sum() * ct.voxel_ml)
    assert sum(cluster.fraction_of_lung for cluster in table) == pytest.approx(1)
    assert table[0].mean_hu == pytest.approx(float(ct.array[ids.array == 1].mean()), rel=1e-5)


def test_orientation_and_repetition_do_not_change_the_map(tissues: tuple[Volume, Volume, np.ndarray]) -> None:
    ct, lungs, _ = tissues
    ids, _ = cluster_volume(ct, lungs, 3, 4, config=COARSE)
    again, _ = cluster_volume(ct, lungs, 3, 4, config=COARSE)
    turn = Reorientation.of(ct)
    turned, _ = cluster_volume(turn.apply(ct), turn.apply(lungs), 3, 4, config=COARSE)
    assert (again.array == ids.array).all()
    assert (turn.undo(turned.array) == ids.array).mean() > 0.995  # nearest neighbours may tie


def test_too_few_patches_is_an_error() -> None:
    rows = np.repeat(np.arange(34.0)[None], 9, 0)
    with pytest.raises(InputError, match="too few different ones"):
        kmeans(rows, 2, 0)


@pytest.mark.parametrize("flags", [("--npz", "--out"), ("-i", "-o")])
def test_command_writes_picture_table_and_map(
    tissues: tuple[Volume, Volume, np.ndarray],
    tmp_path: Path,
    flags: tuple[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    ct, lungs, truth = tissues
    write_case(tmp_path / "toy__a.npz", Case("toy__a", ct, lungs, {}))
    out = tmp_path / "out"
    words = ["clusters", flags[0], str(tmp_path / "toy__a.npz"), flags[1], str(out), "--k", "3"]
    assert main([*words, "--spacing-mm", "3", "--stride", "3", "--window", "6"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["clusters.json", "clusters.nii.gz", "clusters.png"]
    document = json.loads((out / "clusters.json").read_text(encoding="utf-8"))
    assert [cluster["id"] for cluster in document["clusters"]] == [1, 2, 3]
    assert set(document["clusters"][0]["centre"]) == set(DESCRIPTOR_NAMES)
    from diffseglung.io.nifti import read_nifti

    written = read_nifti(out / "clusters.nii.gz")
    assert written.same_grid(read_volume(tmp_path / "toy__a.npz"))
    assert ((written.array > 0) == (truth > 0)).all()
    assert (out / "clusters.png").read_bytes().startswith(b"\x89PNG")
    assert "cluster 3" in capsys.readouterr().out
