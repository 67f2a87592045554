"""The record of a run: settings.json, journal.jsonl, TensorBoard events and the loss curve."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from diffseglung.platform import atomic_files, serialization
from diffseglung.platform.errors import ConfigError, TrainingError
from diffseglung.platform.extras import require

Line = dict[str, float | int | None]


class Journal:
    """One line of JSON per logged interval; unknown values are null.

    Keys: iteration, loss, diffusion, diffusion_q1..q4 (by quarter of the noise chain, q1 least noise) or, in stage 3,
    segmentation (cross entropy), contrastive or dice (its loss), lambda (the weight of these), grad_norm, lr, seconds
    (since the run began, without interruptions), patches_per_second, waiting (share of the time that the network waited
    for a batch).
    """

    def __init__(self, folder: Path, *, start: int = 0) -> None:
        """Continue after iteration `start`; later lines, of lost updates, are dropped."""
        require("train", "training")
        if serialization.readable(str(folder)) != str(folder):
            raise ConfigError(
                f"TensorBoard cannot write to {folder}: its name is not UTF-8", remedy="choose another folder"
            )
        self.folder, self.path = folder, folder / "journal.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        self.lines = [line for line in read(self.path) if (line["iteration"] or 0) <= start] if start else []
        atomic_files.write_text(self.path, "".join(json.dumps(line) + "\n" for line in self.lines))
        from torch.utils.tensorboard import SummaryWriter  # heavy import, needed in the first process of a run only

        self.events = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)

    @property
    def seconds(self) -> float:
        """Training time up to the last line."""
        return float(self.lines[-1]["seconds"] or 0) if self.lines else 0.0

    def settings(self, values: dict[str, Any]) -> None:
        """Write settings.json."""
        atomic_files.write_text(self.folder / "settings.json", json.dumps(values, indent=1, sort_keys=True) + "\n")

    def write(self, line: dict[str, float | int]) -> None:
        """Append one line; NaN becomes null."""
        clean: Line = {name: value if math.isfinite(value) else None for name, value in line.items()}
        self.lines.append(clean)
        with self.path.open("a") as file:
            file.write(json.dumps(clean) + "\n")
        for name, value in clean.items():
            if value is not None and name != "iteration":
                self.events.add_scalar(name, value, int(line["iteration"]))

    def draw(self) -> Path | None:
        """Write curve.png, the losses over the iterations; None while there are fewer than two lines."""
        if len(self.lines) < 2:
            return None
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        iterations = [line["iteration"] for line in self.lines]
        for name in ("diffusion", "diffusion_q1", "diffusion_q4", "contrastive", "segmentation", "dice"):
            values = [line.get(name) for line in self.lines]
            if any(value is not None for value in values):
                points = [math.nan if value is None else value for value in values]
                axes.plot(np.array(iterations), smooth(points), label=name)
        axes.set(xlabel="iteration", ylabel="loss", yscale="log")
        axes.legend()
        axes.grid(alpha=0.3)
        path = self.folder / "curve.png"
        with atomic_files.written(path) as part:
            figure.savefig(part, dpi=110)
        return path

    def close(self) -> None:
        """Flush and close the events."""
        self.events.close()


def smooth(values: list[float], share: float = 0.02) -> list[float]:
    """Running mean over about `share` of the values, ignoring NaN."""
    reach = max(int(len(values) * share), 1)
    out = []
    for i in range(len(values)):
        near = [v for v in values[max(0, i - reach + 1) : i + 1] if math.isfinite(v)]
        out.append(sum(near) / len(near) if near else math.nan)
    return out


def read(path: Path) -> list[Line]:
    """Lines of a journal, without an incomplete last line."""
    if not path.is_file():
        return []
    try:
        text = path.read_text(encoding="utf-8")
        lines = [serialization.parse(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        if not all(isinstance(line, dict) for line in lines):
            raise ValueError("a line is not a record")
        return lines
    except ValueError as cause:
        raise TrainingError(f"{path} is damaged: {cause}", remedy="move it away and run again") from cause
