"""dice.png, reliability.png and agreement.png."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from diffseglung.labels import TISSUES
from studies.summary import EVERY, Results, column
from studies.tables import Index, title_of

DOTS = 130
GREY = "#8a8f98"


def dice(found: Index, methods: list[str]) -> bytes:
    """Bars of the pooled Dice of each class and of their mean, with intervals, grouped by method."""
    figure = Figure(figsize=(9.5, 1.2 + 0.62 * len(methods)), layout="constrained")
    axes = figure.subplots()
    columns = [*((t.name, t.title, t.colour) for t in TISSUES), (EVERY, "Mean", (120, 120, 120))]
    for place, (tissue, title, colour) in enumerate(columns):
        metric = "dice_mean" if tissue == EVERY else "dice_pooled"
        figures = [found[m, EVERY, tissue, metric] for m in methods]
        value = 100 * np.nan_to_num([f.value for f in figures])
        errors = 100 * np.nan_to_num([[f.value - f.low for f in figures], [f.high - f.value for f in figures]])
        at = np.arange(len(methods)) + (place - 2.5) * 0.135
        axes.barh(at, value, 0.125, color=np.divide(colour, 255), label=title)
        axes.errorbar(value, at, xerr=np.maximum(errors, 0), fmt="none", ecolor="black", elinewidth=0.7)
    axes.set_yticks(range(len(methods)), [title_of(m) for m in methods], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("Dice, %: voxels of all cases together, 95 % bootstrap interval over cases")
    figure.legend(loc="outside upper center", ncols=6, fontsize=8, frameon=False)
    return _png(figure)


def reliability(found: Results) -> bytes | None:
    """Accuracy of the top class against its confidence; None if no candidate gives probabilities."""
    sure = {key: results for key, results in found.items() if all(result["calibration"] for result in results)}
    if not sure:
        return None
    figure = Figure(figsize=(6.4, 5.4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1)
    for key, results in sure.items():
        count, confidence, right = np.sum([result["calibration"]["bins"] for result in results], axis=0)
        used = count > 0
        axes.plot(
            confidence[used] / count[used], right[used] / count[used], marker="o", ms=3, lw=1, label=title_of(key)
        )
    axes.set(xlabel="probability of the top class", ylabel="share that is right", xlim=(0.15, 1), ylim=(0, 1))
    axes.legend(fontsize=7, frameon=False)
    return _png(figure)


def agreement(results: list[dict[str, Any]], found: Index, method: str) -> bytes:
    """Bland-Altman of the volumes of one method: error against the mean of both, mL, one panel per class."""
    figure = Figure(figsize=(15, 3.4), layout="constrained")
    for axes, label in zip(figure.subplots(1, len(TISSUES)), TISSUES, strict=True):
        guess, true = (column(results, label.name, f"{which}_ml") for which in ("predicted", "true"))
        axes.scatter(
            (guess + true) / 2, guess - true, s=12, color=np.divide(label.colour, 255), edgecolor="black", lw=0.3
        )
        _lines(axes, [found[method, EVERY, label.name, f"error_ml_{name}"].value for name in ("low", "bias", "high")])
        axes.set_title(label.title, fontsize=9)
        axes.set_xlabel("mean of both, mL", fontsize=8)
        axes.tick_params(labelsize=7)
    figure.axes[0].set_ylabel("measured less true, mL", fontsize=8)
    figure.suptitle(f"{title_of(method)}: bias and 95 % limits of agreement", fontsize=10)
    return _png(figure)


def _lines(axes: Axes, levels: list[float]) -> None:
    for level, style in zip(levels, ("--", "-", "--"), strict=True):
        if np.isfinite(level):
            axes.axhline(level, color=GREY, linestyle=style, linewidth=1)


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS)
    return buffer.getvalue()
