"""Every documented command line, word by word: it parses, and at toy size it runs.

Running means: the documented words, paths moved to where the toy data lie, and flags appended that make it small.
torchrun with two processes is tested in test_training_commands.py; here its script runs as one.
"""

from __future__ import annotations

import functools
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diffseglung.case.resample import resample, resample_onto
from diffseglung.cli import build_parser, run_command
from diffseglung.io.nifti import write_nifti
from diffseglung.io.npz import Case, write_case
from diffseglung.method import checkpoint
from diffseglung.method.card import ModelCard
from diffseglung.tissue.fit import Cohort
from diffseglung.training import labelled_cases
from diffseglung.volume import Volume
from studies.cases import LISTS
from tests import lung_stand_ins
from tests.cli.documented import ALL, OWN, PUBLISHED, SCRIPTS
from tests.cli.test_cli import SCRIPTS as COMMAND_OF
from tests.io.conftest import write_series_of
from tests.output.dicom.conftest import identify_patient
from tests.toy_models import small_phantom

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:\\s*Port 8787"
)
TRAINED = "--batch_size 2 --precision fp32 --sample_every 0 --log_every 1"
SMALL = {
    "precompute": "--patches_per_patient 2 --shape 8 16 16 --num_workers 1",
    "train": f"--size tiny --iterations 2 --patches_per_patient 2 --shape 8 16 16 {TRAINED}",
    "distill": f"{TRAINED} --window 8 --grid_stride 4 --positions 16",
    "segment": "--spacing_mm 3",
    "rerun": "",
    "clusters": "",
    "sample": "-n 1 --shape 8 16 16 --steps 2",
    "phantom": "-n 1 --size small",
    "evaluate": "--no-surfaces",
    "convert": "",
    "fit": "--rows-per-scan 2000",
    "info": "",
    "check": "",
    "cohort": "--workers 1",
    "bench": "--quick --parts mixture",
    "benchmark": f"--quick --only {LISTS['quick'][0].name} --methods physics hu_bands_median --workers 1",
}
"""Flags appended to a documented command so that it runs in seconds."""


def split(line: str) -> tuple[str, list[str]]:
    """Command and its words, of `diffseglung X ...`, `python script.py ...` or `torchrun ... script.py ...`."""
    words = shlex.split(line)
    if words[0] == "diffseglung":
        return words[1], words[2:]
    script = next(word for word in words if word.endswith(".py"))
    assert (ROOT / script).is_file()
    return COMMAND_OF[script], words[words.index(script) + 1 :]


@pytest.mark.parametrize("line", ALL)
def test_it_parses(line: str) -> None:
    command, words = split(line)
    args = build_parser(command).parse_args(words)
    assert args.run


@functools.cache
def coarse() -> tuple[Volume, Volume]:
    """A small phantom on voxels of 2.5 mm, and its lungs."""
    phantom = small_phantom(5)
    ct = resample(phantom.ct, 2.5)
    return ct, ct.with_array(resample_onto(phantom.lungs, ct, order=0).array.astype(np.uint8))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one phantom as NPZ case, NIfTI, mask and study, where the documented paths point."""
    monkeypatch.setattr(ModelCard, "check_use", lambda card, spacing_mm: None)  # 3 mm, to be quick
    read = labelled_cases.read_prepared
    monkeypatch.setattr(labelled_cases, "read_prepared", lambda path, spacing_mm: read(path, 3.0))
    fit = Cohort.fit
    monkeypatch.setattr(Cohort, "fit", lambda cohort, config: fit(cohort, replace(config, iterations=100)))
    folder, (ct, lungs) = tmp_path, coarse()
    lung_stand_ins.install(folder / "site", monkeypatch)
    for name in ("NPZ_DATA", "studies"):
        (folder / name).mkdir()
    write_case(folder / "NPZ_DATA" / "toy__0.npz", Case("toy__0", ct, lungs, {}))
    write_nifti(folder / "ct.nii.gz", ct)
    write_nifti(folder / "lungs.nii.gz", lungs)
    write_nifti(folder / "studies" / "one.nii.gz", ct)
    write_series_of(folder / "dicom_folder", ct, edit=identify_patient)
    return folder


def moved(words: list[str], place: Path) -> list[str]:
    """The words with every documented path inside the toy folder."""
    places = {
        "/path/to/your/NPZ_DATA": place / "NPZ_DATA",
        "/path/to/NPZ_DATA": place / "NPZ_DATA",
        "/path/to/patient.npz": place / "NPZ_DATA" / "toy__0.npz",
        "./checkpoints/ddpm_base.pt": place / "results" / "ddpm_base.pt",
        "./checkpoints/ddpm_distill.pt": place / "results_distill" / "ddpm_distill.pt",
    }
    inside = (
        "./",
        "ct.nii",
        "dicom_folder",
        "lungs.nii",
        "lung-",
        "out",
        "again",
        "studies",
        "cases",
        "patches",
        "results",
        "phantoms",
        "faint",
        "bench",
        "labelled",
        "scores",
    )
    return [str(places.get(word, place / word if word.startswith(inside) else word)) for word in words]


def run(line: str, place: Path) -> int:
    command, words = split(line)
    small = shlex.split(SMALL[command])
    words = moved(words, place)
    if command == "distill" and "--start_step" in words:
        small += ["--iterations", "4002"]
    elif command == "distill":
        small += ["--warmup_start", "2", "--warmup_end", "3", "--iterations", "4"]
    if command == "phantom" and "--background" in words:
        small = ["-n", "1"]
    return run_command(command, [*words, *small, "-q"])


def test_the_published_commands_run_in_order(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in [*PUBLISHED, *SCRIPTS]:
        assert run(line, place) == 0, f"{line}\n{capsys.readouterr().err}"
    assert "ALL 5 TESTS PASSED" in capsys.readouterr().out
    assert {"ct.npy", "mask.npy", "patient_ids.npy"} <= {p.name for p in (place / "patches_precomputed").iterdir()}
    for name in ("segmentation", "ablation"):
        assert (place / "results" / name / "label_map.nii.gz").is_file()
    assert any((place / "cluster_preview").glob("*.png"))
    assert any((place / "cluster_preview").glob("*.json"))
    assert any((place / "samples").iterdir())


@pytest.mark.timeout(600)
def test_our_own_commands_run_in_order(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in OWN:
        if "lung-mycohort" in line and "segment" in line:
            assert (place / "lung-mycohort.safetensors").is_file()
        assert run(line, place) == 0, f"{line}\n{capsys.readouterr().err}"
    assert (place / "out" / "label_map.nii.gz").is_file()
    assert (place / "scores.json").is_file()
    assert (place / "bench" / "table.md").is_file()
    assert (place / "bench" / "bench.md").is_file()
    assert (place / "labelled" / "one" / "label_map.nii.gz").is_file()


@pytest.mark.skipif(not checkpoint.default_path().exists(), reason="no installed model")
def test_the_installed_model_is_the_default(place: Path) -> None:
    assert run_command("segment", ["-i", str(place / "ct.nii.gz"), "-o", str(place / "default"), "-q"]) == 0
    assert (place / "default" / "label_map.nii.gz").is_file()
