"""precompute, train and distill as commands: the published command lines, two processes, a kill, and bad input."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from diffseglung.cli import build_parser, run_command
from diffseglung.cli.options import read_config
from diffseglung.method import checkpoint
from diffseglung.method.distillation import load_student
from diffseglung.method.train.journal import read
from diffseglung.method.train.state import load_state
from diffseglung.platform.config import RECIPES, Config, DiffusionConfig, DistillConfig, PatchConfig, TrainConfig
from tests.toys import toy_cases

ROOT = Path(__file__).parents[2]
QUICK = "--size tiny --iterations 6 --batch_size 2 --save_every 3 --log_every 1 --sample_every 0 --precision fp32 -q"
CUT = "--patches_per_patient 3 --shape 8 16 16 --spacing-mm 0 -q"
DISTILL = (
    "--batch_size 2 --start_step 40 --warmup_start 40 --warmup_end 44 --iterations 46 --log_every 1 --precision fp32"
)

SEED_COMMANDS = [
    "precompute_patches.py --npz_dir /path/to/your/NPZ_DATA --out_dir ./patches_precomputed "
    "--patches_per_patient 150 --num_workers 24",
    "sanity_check.py",
    "train.py --npz_dir /path/to/NPZ_DATA --results_dir ./results",
    "train.py --npz_dir /path/to/NPZ_DATA --results_dir ./results --batch_size 8 --lr 1e-4 --epochs 100000 "
    "--sample_every 500",
    "train_distill.py --patches_dir ./patches_precomputed --results_dir ./results_distill "
    "--resume ./checkpoints/ddpm_base.pt --start_step 4000 --warmup_start 4000 --warmup_end 6000 --batch_size 16 "
    "--lr 1e-4 --lambda_max 0.5",
]
COMMAND_OF = {
    "precompute_patches.py": "precompute",
    "sanity_check.py": "check",
    "train.py": "train",
    "train_distill.py": "distill",
}


def go(command: str, *more: object) -> int:
    name, *words = shlex.split(command)
    return run_command(name, [*words, *map(str, more)])


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **more}


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of precomputed toy patches with stored teacher."""
    folder = tmp_path_factory.mktemp("cut")
    toy_cases(folder / "npz")
    assert go(f"precompute {CUT} --teacher", "--npz_dir", folder / "npz", "--out_dir", folder / "patches") == 0
    return folder / "patches"


@pytest.fixture(scope="module")
def base(cut: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a toy stage 1."""
    results = tmp_path_factory.mktemp("base")
    assert go(f"train {QUICK}", "--patches_dir", cut, "--results_dir", results) == 0
    return results


@pytest.mark.parametrize("line", SEED_COMMANDS)
def test_the_seeds_command_lines_parse_verbatim(line):
    script, *words = shlex.split(line)
    assert (ROOT / script).is_file()
    args = build_parser(COMMAND_OF[script]).parse_args(words)
    if "--epochs" in words:
        assert (args.iterations, args.batch_size, args.lr, args.sample_every) == (100000, 8, 1e-4, 500)
    if "--warmup_start" in words:
        assert (args.start_step, args.warmup_start, args.warmup_end, args.lambda_max) == (4000, 4000, 6000, 0.5)


def test_precomputed_files_are_the_seeds(cut):
    assert {"ct.npy", "mask.npy", "patient_ids.npy", "patches.json"} <= {path.name for path in cut.iterdir()}
    assert np.load(cut / "ct.npy", mmap_mode="r", allow_pickle=False).shape == (6, 8, 16, 16)


def test_more_workers_than_cores_are_bounded_with_a_note(tmp_path, capsys):
    toy_cases(tmp_path / "npz", 1)
    command = CUT.removesuffix("-q")
    code = go(f"precompute {command} --num_workers 9999", "--npz_dir", tmp_path / "npz", "--out_dir", tmp_path / "p")
    out = capsys.readouterr()
    assert code == 0
    assert "instead of 9999" in out.err
    assert "3 patches of (8, 16, 16)" in out.out


def test_the_dataset_filter_keeps_cases_by_prefix(tmp_path, capsys):
    toy_cases(tmp_path / "npz", 2)
    where = ["--npz_dir", tmp_path / "npz", "--out_dir", tmp_path / "p"]
    assert go(f"precompute {CUT} --dataset toy__1", *where) == 0
    assert set(np.load(tmp_path / "p" / "patient_ids.npy")) == {"toy__1"}
    assert go(f"precompute {CUT} --dataset nowhere", *where) == 2
    assert "nowhere" in capsys.readouterr().err


def test_a_case_without_spacing_is_said_and_others_are_not(tmp_path, capsys):
    """By whatever reads training cases; `fit` names them before it reads them."""
    path = toy_cases(tmp_path / "npz", 3)[1]
    with np.load(path) as case:
        np.savez(path, ct=case["ct"], mask=case["mask"])
    said = "note: 1 of 3 cases give no voxel spacing, assumed 1 mm: toy__1\n"
    cut, npz = CUT.removesuffix("-q"), tmp_path / "npz"
    assert go(f"precompute {cut}", "--npz_dir", npz, "--out_dir", tmp_path / "p") == 0
    assert said in capsys.readouterr().out
    assert go(f"precompute {cut} --json", "--npz_dir", npz, "--out_dir", tmp_path / "p") == 0
    assert json.loads(capsys.readouterr().out)["notes"] == [said[len("note: ") : -1]]
    run = f"train {QUICK.removesuffix('-q')} {cut} --iterations 1".replace("--iterations 6 ", "")
    assert go(run, "--npz_dir", npz, "--results_dir", tmp_path / "out") == 0
    assert said in capsys.readouterr().out
    options = "--warmup_start 1 --warmup_end 1 --iterations 2 --sample_every 0 --batch_size 2"
    resume = ["--resume", tmp_path / "out" / "ddpm_base.pt"]
    assert go(f"distill {options} {cut}", "--npz_dir", npz, "--results_dir", tmp_path / "two", *resume) == 0
    assert said in capsys.readouterr().out
    model = ["--model", tmp_path / "out" / "ddpm_base.pt", "--output", tmp_path / "fitted.pt"]
    assert go("fit --local-only", "--cases", npz, *model) == 2  # three millilitres are no lungs
    assert said in capsys.readouterr().out
    assert go(f"precompute {CUT} --dataset toy__0", "--npz_dir", npz, "--out_dir", tmp_path / "q") == 0
    assert capsys.readouterr().out == ""


def test_stage_one_cuts_its_own_patches_and_draws_samples(tmp_path):
    toy_cases(tmp_path / "npz")
    code = go(f"train {QUICK} {CUT} --sample_every 6", "--npz_dir", tmp_path / "npz", "--results_dir", tmp_path / "out")
    assert code == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"ddpm_base.pt", "last.pt", "journal.jsonl", "settings.json", "curve.png", "samples", "patches"} <= names
    assert (tmp_path / "out" / "samples" / "0000006.png").is_file()
    _, card = checkpoint.load(tmp_path / "out" / "ddpm_base.pt")
    assert (card.stage, card.iteration, card.name) == (1, 6, "lung-tiny")
    assert card.training["cases"] == ["toy__0", "toy__1"]


@pytest.mark.parametrize("loss", ["local", "published"])
def test_stage_two_writes_the_student_without_the_teacher(cut, base, tmp_path, loss):
    code = go(
        f"distill {DISTILL} --sample_every 0 --loss {loss} -q",
        *("--patches_dir", cut, "--results_dir", tmp_path, "--resume", base / "ddpm_base.pt"),
    )
    assert code == 0
    weights, card = checkpoint.load(tmp_path / "ddpm_distill.pt")
    assert (card.stage, card.iteration) == (2, 46)
    assert card.distill is not None
    assert card.distill.loss == loss
    assert not any(name.startswith("teacher_head") for name in weights)
    assert load_student(weights, card).stride == 4
    lines = read(tmp_path / "journal.jsonl")
    assert [line["lambda"] for line in lines] == [0.125, 0.25, 0.375, 0.5, 0.5, 0.5]
    assert [line["iteration"] for line in lines] == list(range(41, 47))


def settings_of(command: str, words: str, *kinds: type[Config]) -> list[Config]:
    args = build_parser(command).parse_args(shlex.split(words))
    return [read_config(args, kind, command=command) for kind in kinds]


def test_recipes_fill_in_what_is_not_given():
    (config,) = settings_of("train", "", TrainConfig)
    assert config == TrainConfig()
    config, distill = settings_of("distill", "", TrainConfig, DistillConfig)
    assert (config, distill) == (TrainConfig(batch_size=16), DistillConfig())
    for words in ("--recipe shipped --lr 1e-4 --iterations 9", "--lr 1e-4 --epochs 9 --recipe shipped"):
        config, diffusion = settings_of("train", words, TrainConfig, DiffusionConfig)
        assert (config.iterations, config.batch_size, config.lr, config.lr_schedule) == (9, 4, 1e-4, "cosine")
        assert diffusion == DiffusionConfig(prediction="v")
    (patch,) = settings_of("precompute", "--npz_dir a --out_dir b --recipe shipped", PatchConfig)
    assert (patch.shape, patch.patches_per_patient) == ((32, 64, 64), 90)


def test_every_setting_of_a_recipe_is_an_option_of_its_command():
    for stages in RECIPES.values():
        for command, values in stages.items():
            words = "--npz_dir a --out_dir b" if command == "precompute" else ""
            for name, value in values.items():
                given = " ".join(map(str, value)) if isinstance(value, tuple) else value
                args = build_parser(command).parse_args(shlex.split(f"{words} --{name} {given}"))
                assert getattr(args, name) == (list(value) if isinstance(value, tuple) else value)


def test_the_shipped_recipe_is_that_of_the_shipped_model():
    """As its card tells it."""
    _, card = checkpoint.load(checkpoint.default_path())
    config, distill = settings_of("distill", "--recipe shipped", TrainConfig, DistillConfig)
    assert card.training["settings"].items() <= config.to_dict().items()
    assert card.distill == distill
    config, diffusion = settings_of("train", "--recipe shipped", TrainConfig, DiffusionConfig)
    assert card.training["stage1"]["settings"].items() <= config.to_dict().items()
    assert card.diffusion == diffusion
    assert card.patch.shape == RECIPES["shipped"]["precompute"]["shape"]


def test_stage_two_counts_its_own_updates_after_a_short_stage_one(cut, base, tmp_path, capsys):
    where = ["--patches_dir", cut, "--results_dir", tmp_path, "--resume", base / "ddpm_base.pt"]
    assert go("distill --iterations 2 --log_every 1 --sample_every 0 --batch_size 2", *where) == 0
    lines = read(tmp_path / "journal.jsonl")
    assert [line["iteration"] for line in lines] == [1, 2]
    assert [line["lambda"] for line in lines] == [0.5 / 2000, 1 / 2000]
    assert "note: the run ends during the warm-up, at lambda 0.00 of 0.5" in capsys.readouterr().out


def test_stage_two_without_start_step_begins_at_the_warm_up(cut, base, tmp_path):
    where = ["--patches_dir", cut, "--results_dir", tmp_path, "--resume", base / "ddpm_base.pt"]
    options = "--warmup_start 20 --warmup_end 22 --iterations 22 --log_every 1 --sample_every 0 --batch_size 2 -q"
    assert go(f"distill {options}", *where) == 0
    assert [line["iteration"] for line in read(tmp_path / "journal.jsonl")] == [21, 22]


def test_the_same_command_again_says_that_it_is_done(base, cut, capsys):
    before = (base / "last.pt").stat().st_mtime_ns
    assert go(f"train {QUICK.removesuffix('-q')}", "--patches_dir", cut, "--results_dir", base) == 0
    assert "is already at iteration 6" in capsys.readouterr().out
    assert (base / "last.pt").stat().st_mtime_ns == before


def test_a_killed_run_started_again_equals_one_that_was_not(base, cut, tmp_path):
    """SIGKILL leaves no time to save: the second run goes on from the last checkpoint."""
    command = f"{QUICK} --iterations 400 --save_every 1".replace("--iterations 6 ", "")
    where = ["--patches_dir", str(cut), "--results_dir", str(tmp_path / "killed")]
    process = subprocess.Popen([sys.executable, ROOT / "train.py", *shlex.split(command), *where], env=environment())
    limit = time.monotonic() + 120
    while not (tmp_path / "killed" / "last.pt").is_file() and time.monotonic() < limit:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    reached = load_state(tmp_path / "killed" / "last.pt").iteration
    assert 1 <= reached < 400
    last = reached + 3
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name in ("killed", "whole"):
            end = f"{QUICK} --save_every 1 --iterations {last}".replace("--iterations 6 ", "")
            assert go(f"train {end}", "--patches_dir", cut, "--results_dir", tmp_path / name) == 0
    finally:
        torch.set_num_threads(threads)
    one, two = (load_state(tmp_path / name / "last.pt") for name in ("killed", "whole"))
    assert one.iteration == two.iteration == last
    assert all(torch.equal(one.weights[name], two.weights[name]) for name in one.weights)
    assert all(torch.equal(one.ema["weights"][name], two.ema["weights"][name]) for name in one.weights)
    assert not list((tmp_path / "killed").glob("*.part*")) or one.iteration > reached


def torchrun(script: str, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(ROOT / script)]
    done = subprocess.run(
        [*command, *map(str, words)], env=environment(), capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done


@pytest.mark.slow
def test_two_processes_train_both_stages_and_equal_one_with_the_double_batch(tmp_path):
    toy_cases(tmp_path / "npz")
    quick, cut = QUICK.split(), CUT.split()
    torchrun("train.py", *quick, *cut, "--npz_dir", tmp_path / "npz", "--results_dir", tmp_path / "two")
    single = f"train {QUICK} --batch_size 4".replace("--batch_size 2 ", "")
    assert go(single, "--patches_dir", tmp_path / "two" / "patches", "--results_dir", tmp_path / "one") == 0
    two, one = (read(tmp_path / name / "journal.jsonl") for name in ("two", "one"))
    assert two[0]["diffusion"] == pytest.approx(one[0]["diffusion"], rel=1e-5)
    assert two[0]["grad_norm"] == pytest.approx(one[0]["grad_norm"], rel=1e-3)
    assert two[-1]["diffusion"] == pytest.approx(one[-1]["diffusion"], rel=1e-3)
    torchrun(
        "train_distill.py",
        *DISTILL.split(),
        *("--patches_dir", tmp_path / "two" / "patches", "--results_dir", tmp_path / "distilled", "-q"),
        *("--resume", tmp_path / "two" / "ddpm_base.pt", "--sample_every", "0"),
    )
    _, card = checkpoint.load(tmp_path / "distilled" / "ddpm_distill.pt")
    assert card.training["processes"] == 2
    lines = read(tmp_path / "distilled" / "journal.jsonl")
    assert len(lines) == 6
    options = f"distill {DISTILL} --sample_every 0 -q --accumulate 2 --results_dir {tmp_path / 'divided'}"
    where = ["--patches_dir", tmp_path / "two" / "patches", "--resume", tmp_path / "two" / "ddpm_base.pt"]
    assert go(options, *where) == 0
    divided = read(tmp_path / "divided" / "journal.jsonl")
    for name in ("diffusion", "contrastive", "grad_norm"):
        assert lines[0][name] == pytest.approx(divided[0][name], rel=1e-3)
        assert lines[-1][name] == pytest.approx(divided[-1][name], rel=2e-2)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("train", "no training data"),
        ("train --npz_dir nowhere", "nowhere does not exist"),
        ("train --patches_dir nowhere", "nowhere does not exist"),
        ("train --patches_dir {cut} --size tiny --start_step 10 --iterations 5", "ends at 5"),
        ("train --patches_dir {cut} --size small --resume {base}/ddpm_base.pt", "not of size small"),
        ("train --patches_dir {cut} --size tiny --lr -1", "lr is -1"),
        ("distill --patches_dir {cut}", "needs a stage 1 checkpoint"),
        ("distill --patches_dir {cut} --resume nowhere.pt", "nowhere.pt"),
        ("distill --patches_dir {cut} --resume {base}/last.pt", "last.pt"),
        ("distill --patches_dir {cut} --resume {base}/ddpm_base.pt --taps level9", "level9"),
        ("precompute --npz_dir nowhere --out_dir x", "nowhere"),
    ],
)
def test_bad_input_is_one_sentence_with_a_remedy_and_exit_code_2(
    command, said, cut, base, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert go(command.format(cut=cut, base=base)) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "\n  try: " in err
    assert "Traceback" not in err


def test_changed_settings_on_the_second_run_are_named(base, cut, capsys):
    assert go(f"train {QUICK} --seed 5", "--patches_dir", cut, "--results_dir", base) == 2
    assert "seed is 5" in capsys.readouterr().err


def test_settings_and_journal_can_be_read_by_anyone(base):
    settings = json.loads((base / "settings.json").read_text(encoding="utf-8"))
    assert settings["train"]["iterations"] == 6
    assert settings["network"]["size"] == "tiny"
    lines = [json.loads(line) for line in (base / "journal.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["iteration"] for line in lines] == list(range(1, 7))
