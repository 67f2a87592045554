"""The commands for fault injection, at toy size, and the parts of their results that must not vary."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from diffseglung.method import checkpoint
from diffseglung.method.train.state import load_state
from tests.toys import toy_cases

QUICK = "--batch_size 2 --save_every 2 --log_every 1 --sample_every 4 --precision fp32 -q"
VARYING = {"created", "seconds", "versions", "task", "source", "waiting", "patches_per_second"}
"""What may differ between two equal runs: times and paths."""


@dataclass(frozen=True)
class Job:
    """words: of the command line, with {input} and {output}.  prepare: makes the input folder.

    real: started as a separate command, because it starts processes itself.
    """

    name: str
    words: str
    prepare: Callable[[Path], None]
    real: bool = False


def scans(folder: Path, count: int = 3) -> None:
    """Small chests as NIfTI, each with different haze."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(count):
        hu = np.full((60, 50, 40), -1000.0, np.float32)
        hu[4:56, 4:46] = 40
        hu[10:26, 12:38, 6:34] = hu[34:50, 12:38, 6:34] = -850
        hu[12:20, 14:22, 8 + 4 * seed : 20 + 4 * seed] = -500
        hu += np.random.default_rng(seed).normal(0, 10, hu.shape).astype(np.float32)
        nib.save(
            nib.Nifti1Image(np.rint(hu).astype(np.int16), np.diag([4.0, 4.0, 4.0, 1.0])), folder / f"s{seed}.nii.gz"
        )


def one_scan(folder: Path) -> None:
    """A single chest."""
    scans(folder, 1)


def cases(folder: Path) -> None:
    """Training cases."""
    toy_cases(folder, 4)


def patches(folder: Path) -> None:
    """Training patches with descriptors."""
    from tests.toys import toy_patches

    toy_patches(folder)


def patches_and_model(folder: Path) -> None:
    """The same, with a model of stage 1."""
    import torch

    from diffseglung.method.card import ModelCard
    from diffseglung.method.checkpoint import save
    from diffseglung.method.unet import UNet
    from diffseglung.platform.config import UNETS, PatchConfig
    from tests.toys import SHAPE

    patches(folder)
    torch.manual_seed(0)
    weights = {f"network.{name}": value for name, value in UNet(UNETS["tiny"]).state_dict().items()}
    patch = PatchConfig(shape=SHAPE, patches_per_patient=3, spacing_mm=0.0)
    save(folder / "base.pt", weights, ModelCard(unet=UNETS["tiny"], patch=patch))


JOBS = (
    Job("convert", "convert -i {input} -o {output}/npz -q", scans),
    Job(
        "precompute",
        "precompute --npz_dir {input} --out_dir {output}/patches --patches_per_patient 3 --shape 8 16 16 "
        "--spacing-mm 0 --teacher --num_workers 1 -q",
        cases,
    ),
    Job("train", f"train --patches_dir {{input}}/patches -o {{output}} --size tiny --iterations 8 {QUICK}", patches),
    Job(
        "distill",
        f"distill --patches_dir {{input}}/patches --resume {{input}}/base.pt -o {{output}} --iterations 8 "
        f"--warmup_start 1 --warmup_end 4 {QUICK}",
        patches_and_model,
    ),
    Job("segment", "segment -i {input}/s0.nii.gz -o {output}/out -q", one_scan),
    Job("cohort", "cohort -i {input} -o {output} --workers 2 --method rule --no-report -q", scans, real=True),
)


def digest(folder: Path) -> dict[str, str]:
    """Name -> hash of each file below a folder, without what may vary; hidden files are skipped."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            if not any(name.endswith(end) for end in ("curve.png", "report.html", "index.html", ".parquet")):
                found[name] = hashlib.sha256(content(path)).hexdigest()
            else:
                found[name] = "there"  # it shows times
    return {name: value for name, value in found.items() if "tensorboard" not in name and "events." not in name}


def content(path: Path) -> bytes:
    """Content of a file, as bytes that are equal for equal results.  Raises if the file is incomplete."""
    if path.suffix in (".json", ".jsonl"):
        lines = [path.read_text()] if path.suffix == ".json" else path.read_text().splitlines()
        return json.dumps([lasting(json.loads(line)) for line in lines], sort_keys=True).encode()
    if path.suffix == ".csv":
        rows = path.read_text().splitlines()
        drop = {i for i, name in enumerate(rows[0].split(",")) if "seconds" in name}
        return "\n".join(",".join(c for i, c in enumerate(row.split(",")) if i not in drop) for row in rows).encode()
    if path.name == "last.pt":
        state = load_state(path)
        return repr((state.iteration, tensors(state.weights), tensors(state.ema), tensors(state.optimiser))).encode()
    if path.suffix == ".pt":
        weights, card = checkpoint.load(path)
        return repr((tensors(weights), card.iteration, json.dumps(lasting(card.to_dict())))).encode()
    if path.suffix == ".npz":
        with zipfile.ZipFile(path) as archive:
            return b"".join(archive.read(name) for name in sorted(archive.namelist()))
    if path.name.endswith(".nii.gz"):
        return nib.load(path).to_bytes()
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False).tobytes()
    if path.suffix == ".png":
        from PIL import Image

        with Image.open(path) as image:
            return image.tobytes()
    data = path.read_bytes()
    if path.suffix == ".html" and not data.rstrip().endswith(b"</html>"):
        raise ValueError("the page is truncated")
    return data


def lasting(value: Any) -> Any:
    """A JSON value without what may vary."""
    if isinstance(value, dict):
        return {key: lasting(item) for key, item in value.items() if key not in VARYING}
    return [lasting(item) for item in value] if isinstance(value, list) else value


def tensors(value: Any) -> Any:
    """A nested state with each tensor replaced by a hash."""
    import torch

    if isinstance(value, torch.Tensor):
        return hashlib.sha256(
            value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        ).hexdigest()
    if isinstance(value, dict):
        return {str(key): tensors(item) for key, item in value.items()}
    return [tensors(item) for item in value] if isinstance(value, list | tuple) else value


def damage(folder: Path) -> list[str]:
    """Errors on disk after a fault: incomplete files with a final name, records whose files are missing.

    The last line of a journal may be incomplete; readers skip it.
    """
    wrong = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if not path.is_file() or any(part.startswith(".") or part.endswith(".part") for part in parts):
            continue
        try:
            if path.suffix == ".jsonl":
                text = path.read_text()
                for line in text[: text.rfind("\n") + 1].splitlines():
                    json.loads(line)
            elif "events." not in path.name:
                content(path)
            if path.name == "run.json":
                wrong += _mixture(path)
        except Exception as error:
            wrong.append(f"{path.relative_to(folder)}: {type(error).__name__}: {error}")
    return wrong


def _mixture(path: Path) -> list[str]:
    """Check that a record lists the files beside it and belongs to this label map."""
    from diffseglung.io import read_mask
    from diffseglung.output.record import fingerprint

    record = json.loads(path.read_text())
    missing = [name for name in record["files"] if not (path.parent / name).exists()]
    labels = fingerprint(read_mask(path.parent / "label_map.nii.gz"))
    other = [] if labels == record["fingerprints"]["label_map"] else ["another label map"]
    return [f"{path.name}: {what}" for what in (*missing, *other)]
