"""Coverage-guided inputs by libFuzzer through atheris, if installed: `python -m qa.fuzz.guided FORM SECONDS FOLDER`.

Inputs are selected by the lines of the readers, of pydicom and of nibabel that they reach. An error other than the
package's own ends the run, and its input is kept. Each form runs in its own process.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

FORMS: dict[str, tuple[str, str]] = {
    "NIfTI": ("NIfTI", "x.nii"), "NIfTI, packed": ("NIfTI", "x.nii.gz"), "NRRD": ("NRRD and MetaImage", "x.nrrd"),
    "MetaImage": ("NRRD and MetaImage", "x.mha"), "NPZ case": ("NPZ case", "x.npz"), "DICOM": ("DICOM", "x.dcm"),
    "weights": ("weights", "x.safetensors"), "model card": ("model card", "x.json"),
    "training state": ("training state", "x.pt"), "cohort table": ("cohort tables and options", "cohort.csv"),
}  # fmt: skip
"""Form -> target with its reader, and file name."""
BOUND_MIB, PATIENCE_S, LONGEST = 2048, 10, 20_000


def available() -> bool:
    """Whether atheris is installed."""
    return importlib.util.find_spec("atheris") is not None


def run(seconds: float, output: Path) -> dict[str, dict[str, Any]]:
    """Form -> number of inputs and finds."""
    found = {}
    for form in FORMS:
        place = output / "guided" / form.replace(" ", "-").replace(",", "")
        place.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "fuzz.guided", form, str(seconds), str(place)]
        told = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=seconds * 3 + 300)
        runs = re.findall(r"^#(\d+)|Done (\d+) runs", told.stderr, re.MULTILINE)
        count = max((int(a or b) for a, b in runs), default=0)
        artifacts = [str(path) for path in sorted(place.iterdir()) if path.is_file()]
        finds = [] if told.returncode == 0 else [{"artifacts": artifacts, "about": told.stderr[-1500:]}]
        found[form] = {"inputs": count, "finds": finds}
        print(f"guided, {form}: {count} inputs, {len(finds)} found", flush=True)
        for find in finds:
            print("  " + find["about"].replace("\n", "\n  "), flush=True)
    return found


def table(found: dict[str, dict[str, Any]]) -> str:
    """Markdown for docs/reliability.md."""
    lines = ["", "| format, coverage-guided | inputs | findings |", "|---|---:|---:|"]
    lines += [f"| {form} | {row['inputs']} | {len(row['finds'])} |" for form, row in found.items()]
    inputs, finds = sum(row["inputs"] for row in found.values()), sum(len(row["finds"]) for row in found.values())
    return "\n".join([*lines, f"| **all** | {inputs} | {finds} |"]) + "\n"


def main(form: str, seconds: str, folder: str) -> None:
    """Fuzz one form; ends the process."""
    import atheris  # type: ignore[import-not-found]

    with atheris.instrument_imports(include=["diffseglung.io", "diffseglung.method", "pydicom", "nibabel"]):
        import nibabel  # noqa: F401
        import pydicom.filereader  # noqa: F401

        import diffseglung.io.dicom.reader
        import diffseglung.io.itk
        import diffseglung.io.nifti
        import diffseglung.io.npz
        import diffseglung.method.card  # noqa: F401
    from diffseglung.platform.errors import DiffSegLungError
    from qa.fuzz.targets import TARGETS, seeds_of

    name, file = FORMS[form]
    target = next(target for target in TARGETS if target.name == name)
    ending = file[file.index(".") :]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        corpus, work = Path(place) / "corpus", Path(place) / "input"
        corpus.mkdir()
        work.mkdir()
        for number, seed in enumerate(seeds_of(target)):
            for inner, content in seed.items():
                if inner.endswith(ending) and len(content) <= LONGEST:
                    (corpus / f"{number}-{inner.replace('/', '-')}").write_bytes(content)

        def one(data: bytes, read: Callable[[Path], Any] = target.read) -> None:
            (work / file).write_bytes(data)
            with contextlib.suppress(DiffSegLungError):
                read(work)

        options = [f"-max_total_time={int(float(seconds))}", f"-rss_limit_mb={BOUND_MIB}", f"-timeout={PATIENCE_S}",
                   f"-artifact_prefix={folder}/", f"-max_len={LONGEST}", "-seed=1", str(corpus)]  # fmt: skip
        atheris.Setup(["qa.fuzz", *options], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
