"""generation.md, .csv, .json and .png: the generation table for readers and programs."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from diffseglung.case.intensity import denormalise
from diffseglung.platform import atomic_files
from diffseglung.platform.config import IntensityConfig
from studies.tables import grid

Row = dict[str, Any]
CHAIN = "ancestral, full chain"
COLUMNS = (
    ("frechet {primary}", "FRD", 1), ("frechet training, real scans", "FRD, real training scans", 1),
    ("frechet held-out", "FRD, held-out", 1), ("frechet network", "FD, network", 2), ("precision", "precision", 2),
    ("recall", "recall", 2), ("pair ms-ssim", "MS-SSIM of pairs", 3),
)  # fmt: skip
NEAREST = (
    ("voxels_hu", "nearest, HU", 0), ("voxels_hu ratio", "to held-out", 2),
    ("descriptors_sd", "nearest, SD of descriptors", 2), ("descriptors_sd ratio", "to held-out", 2),
)  # fmt: skip
LIKENESS = (
    ("ssim lungs", "SSIM, lungs", 3),
    ("psnr lungs", "PSNR, lungs", 1),
    ("ssim all", "SSIM", 3),
    ("psnr all", "PSNR", 1),
)
LOW_HU, HIGH_HU = -1350.0, 150.0
"""The lung window."""
SHOWN = 6


def write(
    output: Path, record: dict[str, Any], pictures: dict[str, NDArray[np.float32]], intensity: IntensityConfig
) -> None:
    """Write all four files, atomically. pictures: title -> patches (n, Z, Y, X) in model units."""
    atomic_files.write_bytes(
        output / "generation.json", (json.dumps(record, indent=1, allow_nan=False) + "\n").encode()
    )
    atomic_files.write_bytes(output / "generation.csv", csv_text(record).encode())
    atomic_files.write_bytes(output / "generation.md", markdown(record).encode())
    atomic_files.write_bytes(output / "generation.png", picture(pictures, intensity))


def slug(*words: str | None) -> str:
    """A file name from words."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(w for w in words if w).lower()).strip("-")


def csv_text(record: dict[str, Any]) -> str:
    """One line per value; unknown numbers are empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("set", "sampler", "calls", "level", "metric", "value", "low", "high", "patches", "cubes"))
    for row in record["rows"]:
        lead = (row["set"], row["sampler"] or "", _empty(row["calls"]), "")
        writer.writerow((*lead, "seconds", _empty(row["seconds"]), "", "", row["patches"], row["cubes"]))
        for metric, f in row["figures"].items():
            numbers = (_empty(f[k]) for k in ("value", "low", "high", "cases"))
            writer.writerow((*lead, metric, *numbers, row["cubes"]))
    for row in record["repairs"]:
        for metric, f in row.items():
            if isinstance(f, dict):
                lead = (row["set"], "DPM-Solver++", row["calls"], row["level"])
                writer.writerow((*lead, metric, *(_empty(f[k]) for k in ("value", "low", "high", "cases")), ""))
    return buffer.getvalue()


def markdown(record: dict[str, Any]) -> str:
    """The tables, their inputs, and the findings."""
    about, rows = record["about"], record["rows"]
    n = about["settings"]["n"]
    parts = ["# Quality of drawn patches", _header(record)]
    parts += ["## Samples against real patches", _explain(n, about), _table(rows, _columns(about), timed=True)]
    parts += ["## Nearest training patch"]
    if about["training patches"] is None:
        parts += ["Unknown: the training patches were not given (`--patches-dir`)."]
    else:
        parts += [_explain_nearest(about), _table(rows, NEAREST, timed=False)]
    if record["repairs"]:
        parts += ["## Held-out patches, noised and denoised", _explain_repair(n), _repairs(record["repairs"])]
    parts += ["## What follows", "\n".join(f"- {line}" for line in findings(record)) or "- nothing yet"]
    return "\n\n".join(parts) + "\n"


def findings(record: dict[str, Any]) -> list[str]:
    """Smallest number of calls as good as the full chain, and warnings of repeated training patches."""
    metric, lines = f"frechet {record['about']['primary reference']}", []
    for name in dict.fromkeys(row["set"] for row in record["rows"] if row["sampler"]):
        own = [row for row in record["rows"] if row["set"] == name and row["sampler"]]
        chain = next((row for row in own if row["sampler"] == CHAIN), None)
        high = chain["figures"][metric]["high"] if chain else None
        if chain is not None and high is not None:
            found = [(row, row["figures"][metric]["value"]) for row in own]
            near = [row for row, value in found if value is not None and value <= high]
            least = min(near, key=lambda row: row["calls"])
            lines.append(
                f"{name}: the fewest calls with a Frechet distance within the interval of the full chain are "
                f"{least['calls']} ({least['sampler']}), {chain['calls'] / least['calls']:.0f} times fewer."
            )
        for kind in ("voxels_hu", "descriptors_sd"):
            ratios = [row["figures"].get(f"{kind} ratio", {}).get("value") for row in own]
            low = [f"{row['sampler']} {f:.2f}" for row, f in zip(own, ratios, strict=True) if f is not None and f < 1]
            if low:
                what = "voxels" if kind == "voxels_hu" else "descriptors"
                lines.append(
                    f"Warning, {name}: by {what}, nearer to training patches than held-out ones: {', '.join(low)}."
                )
    return lines


def picture(pictures: dict[str, NDArray[np.float32]], intensity: IntensityConfig) -> bytes:
    """PNG: one row per set, the middle axial slice of its first patches in the lung window, anterior up."""
    columns = min(SHOWN, *(len(patches) for patches in pictures.values()))
    figure = Figure(figsize=(2.6 + 1.15 * columns, 0.3 + 1.17 * len(pictures)), facecolor="white")
    axes = figure.subplots(len(pictures), columns, squeeze=False)
    figure.subplots_adjust(0.30, 0.01, 0.995, 0.99, 0.03, 0.03)
    for line, (title, patches) in zip(axes, pictures.items(), strict=True):
        for place, patch in zip(line, patches[:columns], strict=True):
            hu = denormalise(patch[patch.shape[0] // 2], intensity)
            place.imshow(hu, cmap="gray", vmin=LOW_HU, vmax=HIGH_HU, interpolation="nearest")
            place.set_axis_off()
        box = line[0].get_position()
        figure.text(0.29, (box.y0 + box.y1) / 2, title.replace(", ", ",\n", 1), ha="right", va="center", fontsize=8)
    file = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(file, format="png", metadata={"Software": "diffseglung"})
    return file.getvalue()


def _columns(about: dict[str, Any]) -> tuple[tuple[str, str, int], ...]:
    """Columns whose reference is available."""
    primary = about["primary reference"]
    named = [(key.format(primary=primary), title, digits) for key, title, digits in COLUMNS]
    known = {f"frechet {name}" for name in about["reference patches"]} | {"frechet network"}
    kept = [c for c in named if not c[0].startswith("frechet") or c[0] in known]
    return tuple({c[0]: c for c in reversed(kept)}[key] for key in dict.fromkeys(c[0] for c in kept))


def _table(rows: list[Row], columns: tuple[tuple[str, str, int], ...], *, timed: bool) -> str:
    """One line per row; real patches first."""
    chain = next((row["calls"] for row in rows if row["sampler"] == CHAIN), None)
    head = [
        "set",
        *(("patches / cubes", "calls", "speed-up", "s/sample") if timed else ()),
        *(title for _, title, _ in columns),
    ]
    body = []
    for row in rows:
        line = [f"{row['set']}, {row['sampler']}" if row["sampler"] else f"{row['set']} (real)"]
        if timed:
            calls = row["calls"]
            line += [f"{row['patches']} / {row['cubes']}", str(calls or "-")]
            line += [f"{chain / calls:.0f}" if chain and calls else "-", _number(row["seconds"], 2)]
        body.append([*line, *(_cell(row["figures"].get(key), digits) for key, _, digits in columns)])
    return grid(head, body)


def _repairs(rows: list[Row]) -> str:
    names = {0: "noised, not denoised", 1: "1 call"}
    body = [
        [f"{row['set']}, {row['level']:g} T, {names.get(row['calls'], str(row['calls']) + ' calls')}"]
        + [_cell(row[key], digits) for key, _, digits in LIKENESS]
        for row in rows
    ]
    return grid(["patches", *(title for _, title, _ in LIKENESS)], body)


def _header(record: dict[str, Any]) -> str:
    about = record["about"]
    models = ", ".join(f"{k}: {m['file']} (SHA-256 {m['sha256'][:12]})" for k, m in about["models"].items())
    lines = [
        f"models: {models}",
        f"held-out scans: {', '.join(about['held-out scans'])}",
        *(f"{key}: {about[key]}" for key in ("training patches", "feature network", "device", "precision")),
        f"seed: {about['settings']['seed']}; resamples: {about['settings']['resamples']}",
    ]
    return "\n".join(f"- {line}" for line in lines).replace(": None", ": unknown (not given)")


def _explain(n: int, about: dict[str, Any]) -> str:
    sizes = "; ".join(
        f"{name} {about['reference patches'][name]} patches, {about['reference cubes'][name]} cubes"
        for name in about["reference patches"]
    )
    return (
        f"Each row: {n} patches, drawn in the lungs of the same {n} held-out patches. FRD: Frechet distance of the 34\n"
        f"descriptors of cubes of 32 voxels, lung voxels only, in standard deviations of the reference, covariance by\n"
        f"Ledoit-Wolf; against `{about['primary reference']}` unless said. References: {sizes}.\n"
        "Real rows are the floor: what real patches score at the same n. Against a reference of their own name they\n"
        "come from its patients, and may overlap it in place, which flatters them; against another, from others. In\n"
        "brackets: 95 % bootstrap over patches. A dash is unknown or does not apply. s/sample is processor time where\n"
        "the device is cpu.\n"
        "Precision and recall: k = 3, on as many reference patches as there are samples."
    )


def _explain_nearest(about: dict[str, Any]) -> str:
    return (
        f"Distance to the nearest of {about['training patches']} training patches: root mean square over all voxels,\n"
        "at the best of eight flips; and of the descriptors of the whole patch. The ratio is to the held-out patches\n"
        "whose lungs the samples share. Below 1 a sample is nearer to the training set than a real new patient is;\n"
        "samples that are smoother than scans are so in voxels without repeating anything."
    )


def _explain_repair(n: int) -> str:
    return (
        "A sample from pure noise has no true picture to be compared with, so SSIM and PSNR are undefined for it.\n"
        f"Defined is this pairing: {n} held-out patches noised to a share of the chain and denoised by DPM-Solver++,\n"
        "against themselves. Data range 2 (model units); SSIM in 3D, Gaussian window of 11 voxels."
    )


def _cell(figure: dict[str, Any] | None, digits: int) -> str:
    if figure is None or figure["value"] is None:
        return "-"
    text = _number(figure["value"], digits)
    if figure["low"] is not None:
        text += f" [{_number(figure['low'], digits)}, {_number(figure['high'], digits)}]"
    return text


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _empty(value: float | None) -> str | float:
    return "" if value is None else value
