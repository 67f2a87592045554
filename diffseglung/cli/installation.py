"""What is installed and whether it runs here: versions, devices, memory, disk, models, readers, a trial run."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn", "SimpleITK", "nibabel", "pydicom", "safetensors")
GOOD, NOTE, BAD = "good", "note", "bad"
MEMORY_GIB, DISK_GIB = 3.0, 2.0
"""Memory that a scan of usual size takes (docs/performance.md); room for its temporary files and results."""
SELF_TEST_S = 60.0
"""A trial run that takes longer is reported as slow."""
HEALTHY_DICE = 0.9
REINSTALL = "install again, with the versions of constraints.txt"


@dataclass(frozen=True)
class Finding:
    """One check. verdict: GOOD, NOTE (works, with limits) or BAD (does not work). remedy: what to do, if anything."""

    title: str
    verdict: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.verdict:5} {self.title:16} {self.text}"
        return line + (f"\n{'':23}try: {self.remedy}" if self.remedy else "")


def describe() -> dict[str, Any]:
    """Versions, devices and available models, as plain values; unknown is None."""
    import torch

    from diffseglung import __version__
    from diffseglung.method.checkpoint import ENDINGS, default_path
    from diffseglung.platform.runtime import accelerators

    shipped = default_path()
    folders = [shipped.parent, Path(__file__).parents[2] / "checkpoints"]
    models = [p for folder in folders if folder.is_dir() for p in sorted(folder.iterdir()) if p.suffix in ENDINGS]
    return {
        "kind": "installation",
        "diffseglung": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "libraries": {name: _library_version(name) for name in LIBRARIES},
        "cpu_threads": torch.get_num_threads(),
        "gpus": accelerators(),
        "default_model": str(shipped) if shipped.is_file() else None,
        "models": [str(p) for p in models],
        "research_use_only": True,
    }


def examine(device: str, output: Path, *, self_test: bool, training: bool) -> Iterator[Finding]:
    """Check everything, whatever was found before.

    output: folder whose disk is checked.  self_test: segment a small phantom.  training: also test the training parts.
    """
    checks: list[Callable[[], Iterator[Finding]]] = [
        _versions, _processor, lambda: _device(device), lambda: _space(output), _extras, _models, _readers,
    ]  # fmt: skip
    if self_test:
        checks.append(lambda: _trial(device))
    if training:
        checks.append(lambda: _training(device))
    for check in checks:
        yield from _caught(check)


def summary(findings: list[Finding]) -> str:
    """One sentence on all findings."""
    bad, noted = ([finding.title for finding in findings if finding.verdict == kind] for kind in (BAD, NOTE))
    if bad:
        return f"not ready: {', '.join(bad)}"
    return "ready" + (f", with limits: {', '.join(noted)}" if noted else "")


def _library_version(name: str) -> str | None:
    """Of an installed distribution; None if it is missing."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _caught(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of a check; an error in it is one more finding."""
    try:
        yield from check()
    except Exception as error:
        name = getattr(check, "__name__", "check").strip("_<>")
        yield Finding(name, BAD, f"{type(error).__name__}: {error}", REINSTALL)


def _versions() -> Iterator[Finding]:
    from diffseglung import __version__

    yield Finding("diffseglung", GOOD, f"{__version__}, Python {platform.python_version()}, {platform.platform()}")
    versions = {name: _library_version(name) for name in LIBRARIES}
    absent = [name for name, version in versions.items() if version is None]
    text = ", ".join(f"{name} {version or 'missing'}" for name, version in versions.items())
    remedy = "pip install diffseglung" if absent else ""
    yield Finding("libraries", BAD if absent else GOOD, text, remedy)


def _processor() -> Iterator[Finding]:
    import torch

    from diffseglung.platform import resources, runtime

    cores = resources.cores()
    yield Finding("processor", GOOD, f"{runtime.processor_name()}, {cores} cores, {torch.get_num_threads()} threads")
    bf16 = runtime.choose_precision("auto", torch.device("cpu")) == "bf16"
    text = "used by networks" if bf16 else "not supported: networks use fp32"
    yield Finding("bf16 on the CPU", GOOD if bf16 else NOTE, text)


def _device(wish: str) -> Iterator[Finding]:
    from diffseglung.platform import runtime

    chosen = runtime.choose_device(wish)
    names = runtime.accelerators()
    text = "; ".join(names) if names else "none; the default method does not need one, training does"
    yield Finding("GPU", GOOD if names else NOTE, text)
    yield Finding("device", GOOD, f"{chosen}, {runtime.choose_precision('auto', chosen)}")


def _space(output: Path) -> Iterator[Finding]:
    from diffseglung.platform import resources

    free = resources.memory_bytes()
    if free is None:
        yield Finding("memory", NOTE, "this system does not report how much is free")
    else:
        enough = free >= MEMORY_GIB * 2**30
        remedy = "" if enough else f"close other programs; a scan of 300 slices takes about {MEMORY_GIB:g} GiB"
        yield Finding("memory", GOOD if enough else BAD, f"{free / 2**30:.1f} GiB free", remedy)
    output = next(place for place in (output.absolute(), *output.absolute().parents) if place.exists())
    for title, place in (("output disk", output), ("temporary disk", Path(tempfile.gettempdir()))):
        room = shutil.disk_usage(place).free / 2**30
        writable = os.access(place, os.W_OK)
        good = writable and room >= DISK_GIB
        text = f"{room:.1f} GiB free in {place}" + ("" if writable else ", which cannot be written to")
        way = "choose another folder" if title == "output disk" else "set TMPDIR to a folder with more space"
        yield Finding(title, GOOD if good else BAD, text, "" if good else way)


def _extras() -> Iterator[Finding]:
    from diffseglung.platform.extras import EXTRAS, missing

    for extra in EXTRAS:
        absent = missing(extra)
        text = f"not installed: {', '.join(absent)}" if absent else "installed"
        remedy = f"pip install 'diffseglung[{extra}]'" if absent else ""
        yield Finding(f"[{extra}]", NOTE if absent else GOOD, text, remedy)


def _models() -> Iterator[Finding]:
    from diffseglung.method import checkpoint

    folder = checkpoint.default_path().parent
    for line in (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
        known, name = line.split()
        path = folder / name
        if not path.is_file() or checkpoint.sha256(path) != known:
            yield Finding(name, BAD, "missing or changed since it was shipped", "install diffseglung again")
        else:
            yield Finding(name, GOOD, f"{path.stat().st_size / 1e6:.1f} MB, SHA-256 {known[:16]}")
    weights, card = checkpoint.load(checkpoint.default_path())
    yield Finding("model", GOOD, f"{card.name}, stage {card.stage}, {len(weights)} tensors")


def _readers() -> Iterator[Finding]:
    """Which compressed DICOM transfer syntaxes can be decoded."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

    able: list[str] = []
    fallback: list[str] = []
    for syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless, JPEGLosslessSV1):
        (able if get_decoder(syntax).is_available else fallback).append(syntax.name.split(",")[0])
    text = f"compressed: {', '.join(able)}" + (f"; through SimpleITK: {', '.join(fallback)}" if fallback else "")
    yield Finding("DICOM", GOOD, text)


def _trial(device: str) -> Iterator[Finding]:
    """Segment a small phantom with the default method."""
    import numpy as np

    from diffseglung.phantom.procedural import make_phantom
    from diffseglung.pipeline import Segmenter
    from diffseglung.platform.config import PhantomConfig

    begin = time.perf_counter()
    phantom = make_phantom(PhantomConfig(size="small"))
    result = Segmenter.load(device=device)(phantom.ct, phantom.lungs)
    ours, truth = result.label_map.array == 1, phantom.truth.array == 1
    dice = float(2 * np.count_nonzero(ours & truth) / (np.count_nonzero(ours) + np.count_nonzero(truth)))
    seconds = time.perf_counter() - begin
    slow = f"; slow: more than {SELF_TEST_S:.0f} s" if seconds > SELF_TEST_S else ""
    text = f"a phantom segmented in {seconds:.1f} s, Dice of healthy lung {dice:.2f}{slow}"
    good = dice >= HEALTHY_DICE
    yield Finding("self-test", GOOD if good else BAD, text, "" if good else REINSTALL)


def _training(device: str) -> Iterator[Finding]:
    """The tests of `self_tests`."""
    from diffseglung.cli.self_tests import outcomes

    for row in outcomes(device):
        good = row["passed"]
        yield Finding(row["test"], GOOD if good else BAD, row["found"], "" if good else REINSTALL)
