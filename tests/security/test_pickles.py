"""No file makes this program run anything: pickles planted wherever something is read are refused, and do not run."""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from diffseglung.cohort import cluster
from diffseglung.io import read_mask, read_scan
from diffseglung.io.npz import read_case
from diffseglung.method.train.data import open_patches
from diffseglung.method.train.state import load_state
from diffseglung.platform.config import IntensityConfig
from diffseglung.platform.errors import DiffSegLungError
from diffseglung.platform.row_files import StoredRows
from diffseglung.tissue.bundle import load_bundle
from studies import nearest
from tests.kept_formats import FOLDER

ROOT = Path(__file__).parents[2]
KEPT = FOLDER / "0.1.0"


class Trap:
    """Pickles into code that makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def pickled(sprung: Path) -> bytes:
    return pickle.dumps(Trap(sprung))


def torched(sprung: Path) -> bytes:
    """As torch.save writes it, with the trap among the tensors."""
    out = io.BytesIO()
    torch.save({"format": 1, "card": "{}", "weights": {"x": Trap(sprung)}, "iteration": 1}, out)
    return out.getvalue()


def legacy(sprung: Path) -> bytes:
    """As torch.save wrote it before its archives."""
    out = io.BytesIO()
    torch.save({"weights": {"x": Trap(sprung)}}, out, _use_new_zipfile_serialization=False)
    return out.getvalue()


def array(sprung: Path) -> bytes:
    """An .npy file of one object."""
    out = io.BytesIO()
    np.save(out, np.array([Trap(sprung)], dtype=object), allow_pickle=True)
    return out.getvalue()


def archive(sprung: Path) -> bytes:
    """An .npz file of such arrays."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        for name in ("ct.npy", "mask.npy", "meta.npy"):
            made.writestr(name, array(sprung))
    return out.getvalue()


def dangerous_yaml(sprung: Path) -> bytes:
    """What an unsafe loader would call."""
    return f"queue: !!python/object/apply:os.mkdir ['{sprung}']\n".encode()


def read_patches(path: Path) -> object:
    for name in ("ct.npy", "mask.npy"):
        (path.parent / name).write_bytes(path.read_bytes())
    return open_patches(path.parent)


READERS: list[tuple[str, Callable[[Path], object]]] = [
    *((f"scan{ending}", read_scan) for ending in (".npz", ".nii", ".nii.gz", ".nrrd", ".mha", ".dcm", ".zip", "")),
    ("mask.npz", read_mask),
    ("mask.nii.gz", read_mask),
    ("case.npz", read_case),
    ("model.pt", load_bundle),
    ("model.safetensors", load_bundle),
    ("last.pt", load_state),
    ("rows.npy", StoredRows.open),
    ("any.npy", read_patches),
    ("options.yaml", cluster.read_options),
]


@pytest.mark.parametrize("plant", [pickled, torched, legacy, array, archive, dangerous_yaml], ids=lambda f: f.__name__)
@pytest.mark.parametrize(("name", "read"), READERS, ids=[name for name, _ in READERS])
def test_a_planted_pickle_is_refused_and_does_not_run(
    tmp_path: Path, name: str, read: Callable[[Path], object], plant: Callable[[Path], bytes]
) -> None:
    sprung = tmp_path / "sprung"
    (tmp_path / name).write_bytes(plant(sprung))
    with pytest.raises(DiffSegLungError) as caught:
        read(tmp_path / name)
    assert not sprung.exists()
    assert caught.value.remedy


@pytest.mark.parametrize("plant", [pickled, torched, array, archive], ids=lambda f: f.__name__)
def test_a_planted_cache_is_made_again(tmp_path: Path, plant: Callable[[Path], bytes]) -> None:
    sprung = tmp_path / "sprung"
    training = nearest.TrainingPatches(*(StoredRows.open(KEPT / "patches" / n) for n in ("ct.npy", "mask.npy")), *"ab")
    wanted = nearest.training_descriptors(training, IntensityConfig(), tmp_path)
    (tmp_path / "training_b.npy").write_bytes(plant(sprung))
    np.testing.assert_array_equal(nearest.training_descriptors(training, IntensityConfig(), tmp_path), wanted)
    assert not sprung.exists()


@pytest.mark.filterwarnings("ignore")  # torch's, on its old format
def test_the_traps_would_spring(tmp_path: Path) -> None:
    """Else the test above could not fail."""
    loaders: list[tuple[Callable[[Path], bytes], Callable[[bytes], object]]] = [
        (pickled, pickle.loads),
        (torched, lambda data: torch.load(io.BytesIO(data), weights_only=False)),
        (legacy, lambda data: torch.load(io.BytesIO(data), weights_only=False)),
        (array, lambda data: np.load(io.BytesIO(data), allow_pickle=True)),
        (archive, lambda data: np.load(io.BytesIO(data), allow_pickle=True)["ct"]),
        (dangerous_yaml, lambda data: yaml.load(data, yaml.UnsafeLoader)),
    ]
    for number, (plant, load) in enumerate(loaders):
        sprung = tmp_path / f"sprung{number}"
        load(plant(sprung))
        assert sprung.exists(), plant.__name__


FORBIDDEN = {
    "a pickle": r"\b(import|from) (pickle|cPickle|dill|joblib|shelve|marshal|cloudpickle)\b",
    "torch.load without weights_only=True": r"torch\.load\((?![^\n]*weights_only=True)",
    "np.load without allow_pickle=False": r"np\.load\((?![^\n]*allow_pickle=False)",
    "allow_pickle=True": r"allow_pickle\s*=\s*True",
    "YAML that makes objects": r"yaml\.(unsafe_load|full_load|load)\(",
    "code made of text": r"(?<![\w.])(eval|exec|compile|__import__)\(",
    "a shell": r"shell\s*=\s*True|os\.(system|popen)\(",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_the_package_holds_nothing_that_would_run_a_file(what: str) -> None:
    found = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "diffseglung").rglob("*.py"))
        if re.search(FORBIDDEN[what], path.read_text(encoding="utf-8"))
    ]
    assert found == []
