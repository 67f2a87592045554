"""Tell whether this machine is ready: versions, devices, memory, disk, models, readers, and a trial run.

Each line is `good`, `note` (works, with less) or `bad` (does not work; what to do stands beneath).
Exit code 0 where nothing is bad, else 1. `diffseglung check` tests the parts of training.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from diffseglung.cli import add_general_options
from diffseglung.cli.json_output import add_json, answer

GOOD, NOTE, BAD = "good", "note", "bad"
MEMORY_GIB, DISK_GIB = 3.0, 2.0
"""What one scan of usual size needs (docs/performance.md), and room for its temporary files and results."""
SELF_TEST_S = 60.0
HEALTHY_DICE = 0.9


@dataclass(frozen=True)
class Finding:
    """One line.  remedy: what to do, empty where nothing is to be done."""

    title: str
    verdict: str
    text: str
    remedy: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `doctor`."""
    parser.add_argument("-o", "--output", type=Path, default=Path(), help="folder whose disk is looked at (default: .)")
    parser.add_argument("--no-self-test", dest="self_test", action="store_false", help="leave the trial run out")
    add_json(parser, "the findings")
    add_general_options(parser)


def run(args: argparse.Namespace) -> int:
    """Look at everything, whatever was found before; 0 unless something is bad."""
    found: list[Finding] = []
    examinations: list[Callable[[], Iterator[Finding]]] = [
        _versions, _processor, lambda: _device(args.device), lambda: _space(args.output), _extras, _models, _readers,
    ]  # fmt: skip
    if args.self_test:
        examinations.append(lambda: _trial(args.device))
    for examine in examinations:
        for finding in _caught(examine):
            found.append(finding)
            if not args.json and not (args.quiet and finding.verdict == GOOD):
                print(_line(finding), flush=True)
    bad = [finding.title for finding in found if finding.verdict == BAD]
    answer(args, {"ready": not bad, "findings": [asdict(finding) for finding in found]})
    if not (args.json or args.quiet):
        print("\nready" if not bad else f"\nnot ready: {', '.join(bad)}")
    return 1 if bad else 0


def _caught(examine: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What an examination finds; if it cannot be made, that is the finding."""
    try:
        yield from examine()
    except Exception as error:  # whatever goes wrong here is the finding
        name = getattr(examine, "__name__", "examination").strip("_<>")
        yield Finding(
            name, BAD, f"{type(error).__name__}: {error}", "install again, with the versions of constraints.txt"
        )


def _line(finding: Finding) -> str:
    text = f"{finding.verdict:5} {finding.title:16} {finding.text}"
    return text + (f"\n      {'':16} try: {finding.remedy}" if finding.remedy else "")


def _versions() -> Iterator[Finding]:
    from diffseglung import __version__
    from diffseglung.cli.info import LIBRARIES, library_version

    yield Finding("diffseglung", GOOD, f"{__version__}, Python {platform.python_version()}, {platform.platform()}")
    versions = {name: library_version(name) for name in LIBRARIES}
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
    yield Finding(
        "bf16 on the CPU",
        GOOD if bf16 else NOTE,
        "used by networks" if bf16 else "none: networks use fp32",
    )


def _device(wish: str) -> Iterator[Finding]:
    from diffseglung.platform import runtime

    chosen = runtime.choose_device(wish)
    names = runtime.accelerators()
    text = "; ".join(names) if names else "none; the default method needs none, training does"
    yield Finding("GPU", GOOD if names else NOTE, text)
    yield Finding("device", GOOD, f"{chosen}, {runtime.choose_precision('auto', chosen)}")


def _space(output: Path) -> Iterator[Finding]:
    from diffseglung.platform import resources

    free = resources.memory_bytes()
    if free is None:
        yield Finding("memory", NOTE, "this system does not tell how much is free")
    else:
        enough = free >= MEMORY_GIB * 2**30
        remedy = "" if enough else f"free some; a scan of 300 slices takes about {MEMORY_GIB:g} GiB"
        yield Finding("memory", GOOD if enough else BAD, f"{free / 2**30:.1f} GiB free", remedy)
    output = next(place for place in (output.absolute(), *output.absolute().parents) if place.exists())
    for title, place in (("output disk", output), ("temporary disk", Path(tempfile.gettempdir()))):
        room = shutil.disk_usage(place).free / 2**30
        writable = os.access(place, os.W_OK)
        good = writable and room >= DISK_GIB
        text = f"{room:.1f} GiB free in {place}" + ("" if writable else ", which cannot be written to")
        way = "set TMPDIR to a folder with room" if title.startswith("temp") else "choose another folder"
        yield Finding(title, GOOD if good else BAD, text, "" if good else way)


def _extras() -> Iterator[Finding]:
    from diffseglung.platform.extras import EXTRAS, missing

    for extra in EXTRAS:
        absent = missing(extra)
        text = f"without {', '.join(absent)}" if absent else "installed"
        yield Finding(
            f"[{extra}]", NOTE if absent else GOOD, text, f"pip install 'diffseglung[{extra}]'" if absent else ""
        )


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
    yield Finding("model", GOOD, f"{card.name}, stage {card.stage}, {len(weights)} tensors are read")


def _readers() -> Iterator[Finding]:
    """Which compressed DICOM pixels can be read here."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

    able: list[str] = []
    fallback: list[str] = []
    for syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless, JPEGLosslessSV1):
        (able if get_decoder(syntax).is_available else fallback).append(syntax.name.split(",")[0])
    text = f"compressed: {', '.join(able)}" + (f"; through SimpleITK: {', '.join(fallback)}" if fallback else "")
    yield Finding("DICOM", GOOD, text)


def _trial(device: str) -> Iterator[Finding]:
    """A small phantom is made and labelled; the shipped network is asked once."""
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
    slow = f"; slow: {SELF_TEST_S:.0f} s would be much" if seconds > SELF_TEST_S else ""
    text = f"a phantom labelled in {seconds:.1f} s, Dice of healthy lung {dice:.2f}{slow}"
    good = dice >= HEALTHY_DICE
    yield Finding("self-test", GOOD if good else BAD, text, "" if good else "install the versions of constraints.txt")
