"""Describe a scan, the series of a DICOM folder or archive, a model file, or (without a path) this installation."""

from __future__ import annotations

import argparse
import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from diffseglung.cli.colours import harmless
from diffseglung.cli.json_output import add_json, answer

LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn", "SimpleITK", "nibabel", "pydicom", "safetensors")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `diffseglung info`."""
    parser.add_argument(
        "path",
        type=Path,
        nargs="?",
        help="a scan (any format), a folder of DICOM series, or a model file; nothing: the installation",
    )
    parser.add_argument(
        "--series", metavar="S", help="SeriesInstanceUID or number, where a folder holds several series"
    )
    add_json(parser, "all of it")


def run(args: argparse.Namespace) -> int:
    """Print what `describe` found."""
    found = describe(args.path, series=args.series)
    answer(args, found)
    if args.json:
        return 0
    series = found.pop("series", [])
    for line in (*series_table(series), *_lines(found)):
        print(harmless(line))
    return 0


def describe(path: Path | None, *, series: str | None = None) -> dict[str, Any]:
    """Plain values about a scan, a model or the installation; unknown is None."""
    if path is None:
        return describe_installation()
    if path.suffix in (".safetensors", ".pt"):
        return describe_model(path)
    rows = [] if series is not None else several_series(path)
    if not rows:
        return describe_scan(path, series=series)
    from diffseglung.platform.errors import InputError

    try:
        return describe_scan(path) | {"series": rows}
    except InputError as error:  # the list is what was asked for, and how to go on
        return {"kind": "series", "path": str(path), "problem": error.problem, "remedy": error.remedy, "series": rows}


def several_series(path: Path) -> list[dict[str, Any]]:
    """The DICOM series of a folder or archive; empty where there are not several."""
    from diffseglung.platform.errors import InputError

    if not (path.is_dir() or path.suffix.lower() == ".zip" or path.name.upper() == "DICOMDIR") or not path.exists():
        return []
    from diffseglung.io.dicom.reader import list_series

    try:
        rows = list_series(path)
    except InputError:  # reading will say it
        return []
    return rows if len(rows) > 1 else []


def series_table(rows: list[dict[str, Any]]) -> list[str]:
    """One line for each series under a heading, the chosen one marked with >; empty for no rows."""
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
    last = "no series would be taken: name one with --series NUMBER"
    if chosen is not None:
        last = f"> series {chosen['number'] or chosen['uid']} is taken if none is named with --series"
    return [*lines, last, ""]


def describe_scan(path: Path, *, series: str | None = None) -> dict[str, Any]:
    """Format, grid, HU percentiles and notes on quality."""
    import numpy as np

    from diffseglung.io import read_scan

    scan = read_scan(path, series_uid=series)
    ct = scan.volume
    ranks = (0, 1, 5, 25, 50, 75, 95, 99, 100)
    return {
        "kind": "scan",
        "path": str(path),
        **scan.source,
        "shape_zyx": list(ct.shape),
        "spacing_mm_zyx": [round(s, 4) for s in ct.spacing_mm],
        "extent_mm_zyx": [round(n * s, 1) for n, s in zip(ct.shape, ct.spacing_mm, strict=True)],
        "orientation_zyx": orientation(ct.affine),
        "affine_lps": [[round(float(v), 6) for v in row] for row in ct.affine],
        "hu_percentiles": {
            str(q): round(float(v), 1) for q, v in zip(ranks, np.percentile(ct.array, ranks), strict=True)
        },
        "notes": scan.notes,
    }


def orientation(affine: Any) -> str:
    """Direction in which each index (z, y, x) runs, nearest of Left Right Posterior Anterior Superior Inferior."""
    import numpy as np

    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    letters, oblique = "", False
    for column in directions.T:
        axis = int(np.abs(column).argmax())
        letters += ("RL", "AP", "IS")[axis][int(column[axis] > 0)]
        oblique |= bool(abs(column[axis]) < 0.9998)
    return letters + (" (oblique)" if oblique else "")


def describe_model(path: Path) -> dict[str, Any]:
    """The card of a weights file and the number of its parameters."""
    from diffseglung.method import checkpoint

    weights, card = checkpoint.load(path)
    network = [value.numel() for name, value in weights.items() if name.startswith(checkpoint.NETWORK)]
    return {
        "kind": "model",
        "path": str(path),
        "sha256": checkpoint.sha256(path),
        "megabytes": round(path.stat().st_size / 1e6, 1),
        "network_parameters": sum(network),
        "parameters": sum(value.numel() for value in weights.values()),
        **card.to_dict(),
    }


def describe_installation() -> dict[str, Any]:
    """Versions, devices and the models at hand."""
    import torch

    from diffseglung import __version__
    from diffseglung.method.checkpoint import ENDINGS, default_path
    from diffseglung.platform.runtime import accelerators

    shipped = default_path()
    package = Path(__file__).parents[1]
    folders = [shipped.parent, package.parent / "checkpoints"]
    models = [p for folder in folders if folder.is_dir() for p in sorted(folder.iterdir()) if p.suffix in ENDINGS]
    return {
        "kind": "installation",
        "diffseglung": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "libraries": {name: library_version(name) for name in LIBRARIES},
        "cpu_threads": torch.get_num_threads(),
        "gpus": accelerators(),
        "default_model": str(shipped) if shipped.is_file() else None,
        "models": [str(p) for p in models],
        "research_use_only": True,
    }


def library_version(name: str) -> str | None:
    """Of an installed distribution; None where there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


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
