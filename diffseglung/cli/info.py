"""Check this installation, or describe and check scans, cases, models and results.

  diffseglung info
  diffseglung info --training
  diffseglung info ct.nii.gz out

Without a path: versions, devices, memory, disk, models, readers and a trial run. Each line is `good`, `note` (works,
with limits) or `bad` (does not work; what to do is below it). --training also tests the parts of training.
With paths: a scan of any format, a folder or archive of DICOM series, an NPZ case, a case folder of `diffseglung
phantom`, a model file, or a result of `diffseglung segment`. The last line says whether anything is odd.
Exit codes: 0, or 1 if something is bad, or 2 if a path cannot be read.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from diffseglung.cli.exit_codes import print_error
from diffseglung.cli.options import add_general_options, add_json, add_shared
from diffseglung.cli.terminal import answer, harmless
from diffseglung.platform.errors import DiffSegLungError, InputError

PERCENTILES = (0, 1, 5, 25, 50, 75, 95, 99, 100)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `info`."""
    parser.add_argument("path", type=Path, nargs="*", help="scan, case, model file or result; none: this installation")
    add_shared(parser, "series")
    group = parser.add_argument_group("installation")
    group.add_argument("-o", "--output", type=Path, default=Path(), help="folder whose disk is checked (default: .)")
    group.add_argument("--no-self-test", dest="self_test", action="store_false", help="skip the trial run")
    group.add_argument("--training", action="store_true", help="also test the parts of training (under a minute)")
    add_json(parser, "everything")
    add_general_options(parser)


def run(args: argparse.Namespace) -> int:
    """Describe each path, or the installation; see the exit codes above."""
    return _paths(args) if args.path else _installation(args)


def _installation(args: argparse.Namespace) -> int:
    from diffseglung.cli import installation

    findings = []
    for finding in installation.examine(args.device, args.output, self_test=args.self_test, training=args.training):
        findings.append(finding)
        if not args.json and not (args.quiet and finding.verdict == installation.GOOD):
            print(harmless(finding), flush=True)
    ready = all(finding.verdict != installation.BAD for finding in findings)
    if args.json:
        found = {"ready": ready, "findings": [dataclasses.asdict(finding) for finding in findings]}
        answer(args, installation.describe() | found)
    elif not args.quiet:
        print(f"\n{installation.summary(findings)}")
    return 0 if ready else 1


def _paths(args: argparse.Namespace) -> int:
    documents: list[dict[str, Any]] = []
    for path in args.path:
        try:
            documents.append(describe(path, series=args.series))
        except DiffSegLungError as error:
            if args.debug or len(args.path) == 1:
                raise
            print_error(error.problem, error.remedy)
            documents.append({"kind": "unreadable", "path": path, "problem": error.problem, "remedy": error.remedy})
    answer(args, documents if len(documents) > 1 else documents[0])
    if not args.json:
        odd = {str(found["path"]): _odd(found) for found in documents if _odd(found)}
        for found in [] if args.quiet else documents:
            rest = {key: value for key, value in found.items() if key != "series"}
            for line in (*series_table(found.get("series", [])), *_lines(rest), ""):
                print(harmless(line))
        if odd:
            print(harmless("odd: " + "; ".join(f"{path} ({text})" for path, text in odd.items())))
        elif not args.quiet:
            print("nothing odd was found")
    return 2 if any(found["kind"] == "unreadable" for found in documents) else 0


def _odd(found: dict[str, Any]) -> str:
    """What is odd about one path, in a few words; empty if nothing is."""
    if "problem" in found:
        return str(found["problem"])
    count = len(found["notes"])
    return found["notes"][0] if count == 1 else f"{count} notes" if count else ""


def describe(path: Path, *, series: str | None = None) -> dict[str, Any]:
    """Plain values about a scan, a case, a model or a result; unknown is None.

    `notes` lists what is odd.  Raises DiffSegLungError if the path cannot be read.
    """
    from diffseglung.output.record import RECORD

    if path.suffix in (".safetensors", ".pt"):
        return describe_model(path)
    if path.name == RECORD or (path / RECORD).is_file():
        return describe_result(path)
    if (path / "truth.nii.gz").is_file():
        return describe_case(path)
    rows = [] if series is not None else several_series(path)
    if not rows:
        return describe_scan(path, series=series)
    try:
        return describe_scan(path) | {"series": rows}
    except InputError as error:  # the list of series was asked for, and tells how to go on
        return {"kind": "series", "path": str(path), "problem": error.problem, "remedy": error.remedy, "series": rows}


def several_series(path: Path) -> list[dict[str, Any]]:
    """The DICOM series of a folder or archive; empty if there are fewer than two."""
    if not (path.is_dir() or path.suffix.lower() == ".zip" or path.name.upper() == "DICOMDIR"):
        return []
    from diffseglung.io.dicom.reader import list_series

    try:
        rows = list_series(path)
    except InputError:  # reading it as a scan reports the error
        return []
    return rows if len(rows) > 1 else []


def series_table(rows: list[dict[str, Any]]) -> list[str]:
    """A heading and one line for each series, the chosen one marked with >; empty for no rows."""
    if not rows:
        return []
    table = [["", "number", "description", "kernel", "thick", "apart", "slices", "cannot be used because"]]
    for row in rows:
        plain = ["-" if row[key] is None else str(row[key]) for key in ("number", "description", "kernel")]
        lengths = ["-" if row[key] is None else f"{row[key]:g} mm" for key in ("thickness_mm", "spacing_mm")]
        mark = ">" if row["chosen"] else ""
        table.append([mark, *plain, *lengths, str(row["slices"]), row["problem"] or ""])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in table]
    chosen = next((row for row in rows if row["chosen"]), None)
    last = "no series would be used: choose one with --series NUMBER"
    if chosen is not None:
        last = f"> series {chosen['number'] or chosen['uid']} is used unless --series names another"
    return [*lines, last, ""]


def describe_scan(path: Path, *, series: str | None = None) -> dict[str, Any]:
    """Format, grid, HU percentiles, and notes on quality; of an NPZ case also its lungs."""
    import numpy as np

    from diffseglung.io import read_mask, read_scan

    scan = read_scan(path, series_uid=series)
    ct = scan.volume
    values = np.percentile(ct.array, PERCENTILES)
    found = {
        "kind": "scan",
        "path": str(path),
        **scan.source,
        "shape_zyx": list(ct.shape),
        "spacing_mm_zyx": [round(s, 4) for s in ct.spacing_mm],
        "extent_mm_zyx": [round(n * s, 1) for n, s in zip(ct.shape, ct.spacing_mm, strict=True)],
        "orientation_zyx": orientation(ct.affine),
        "affine_lps": [[round(float(v), 6) for v in row] for row in ct.affine],
        "hu_percentiles": {str(q): round(float(v), 1) for q, v in zip(PERCENTILES, values, strict=True)},
    }
    notes = list(scan.notes)
    if path.suffix.lower() == ".npz":
        try:
            found["lung_ml"] = round(float(np.count_nonzero(read_mask(path).array)) * ct.voxel_ml, 1)
        except InputError as error:
            found["lung_ml"] = None
            notes.append(error.problem)
    return found | {"notes": notes}


def describe_case(folder: Path) -> dict[str, Any]:
    """A case folder: its scan, the volumes of its lungs and of each class of its truth."""
    import numpy as np

    from diffseglung.io import read_mask, read_volume
    from diffseglung.labels import TISSUES

    ct, truth = read_volume(folder / "ct.nii.gz"), read_mask(folder / "truth.nii.gz")
    lungs = read_mask(folder / "lungs.nii.gz")
    found = describe_scan(folder / "ct.nii.gz")
    masks = {"lungs.nii.gz": lungs, "truth.nii.gz": truth}
    notes = [f"{name} is not on the grid of ct.nii.gz" for name, mask in masks.items() if not ct.same_grid(mask)]
    if not notes and np.any((truth.array > 0) & (lungs.array == 0)):
        notes.append("truth.nii.gz labels voxels outside the lungs")
    truth_ml = {x.name: round(float(np.count_nonzero(truth.array == x.id)) * truth.voxel_ml, 1) for x in TISSUES}
    lung_ml = round(float(np.count_nonzero(lungs.array)) * lungs.voxel_ml, 1)
    own = {"kind": "case", "path": str(folder), "lung_ml": lung_ml, "truth_ml": truth_ml}
    return found | own | {"notes": [*found["notes"], *notes]}


def describe_result(path: Path) -> dict[str, Any]:
    """How a result was made, its volumes, and which of its files are missing."""
    from diffseglung.output import record
    from diffseglung.platform import serialization

    recorded = record.read(path)
    values = recorded.values
    missing = [name for name in values["files"] if not (recorded.folder / name).is_file()]
    try:
        statistics = serialization.read(recorded.folder / "statistics.json")
        volumes = {name: row["volume_ml"] for name, row in statistics.items() if "volume_ml" in row}
    except (OSError, ValueError, TypeError, AttributeError):
        volumes = None
    notes = [*values["warnings"], *(f"{name} is missing" for name in missing)]
    notes += [f"{name} could not be written" for name in values.get("failed", [])]
    return {
        "kind": "result",
        "path": str(path),
        "created": values.get("created"),
        "diffseglung": values.get("versions", {}).get("diffseglung"),
        "method": recorded.config.method,
        "model": (values["model"] or {}).get("name"),
        "volume_ml": volumes,
        "files": values["files"],
        "notes": notes,
    }


def describe_model(path: Path) -> dict[str, Any]:
    """The card of a weights file and the number of its parameters."""
    from diffseglung.method import checkpoint

    weights, card = checkpoint.load(path)
    network = [value.numel() for name, value in weights.items() if name.startswith(checkpoint.NETWORK)]
    broken = [name for name, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]
    return {
        "kind": "model",
        "path": str(path),
        "sha256": checkpoint.sha256(path),
        "megabytes": round(path.stat().st_size / 1e6, 1),
        "network_parameters": sum(network),
        "parameters": sum(value.numel() for value in weights.values()),
        **card.to_dict(),
        "notes": [f"{name} holds values that are not finite" for name in broken],
    }


def orientation(affine: Any) -> str:
    """Direction in which each index (z, y, x) increases: nearest of Left Right Posterior Anterior Superior Inferior."""
    import numpy as np

    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    letters, oblique = "", False
    for column in directions.T:
        axis = int(np.abs(column).argmax())
        letters += ("RL", "AP", "IS")[axis][int(column[axis] > 0)]
        oblique |= bool(abs(column[axis]) < 0.9998)
    return letters + (" (oblique)" if oblique else "")


def _lines(found: dict[str, Any], indent: str = "") -> list[str]:
    """One `key: value` a line, nested values indented."""
    lines = []
    for key, value in found.items():
        if isinstance(value, dict) and value:
            lines += [f"{indent}{key}:", *_lines(value, indent + "  ")]
        elif isinstance(value, list) and value and isinstance(value[0], str | list):
            lines += [f"{indent}{key}:", *(f"{indent}  {json.dumps(v) if isinstance(v, list) else v}" for v in value)]
        else:
            text = "unknown" if value is None else "none" if value in ([], {}) else value
            lines.append(f"{indent}{key}: {text}")
    return lines
