"""preview.png: a scan with its labels in six planes, its lungs in a soft-tissue window, measurements and warnings.

In radiological convention: patient right on the left of the image, front on top in axial, head on top in other planes.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from diffseglung.case.prepared import lung_box
from diffseglung.io.plausibility import cross_sections, occupied
from diffseglung.labels import HEALTHY, LESIONS, TISSUES, Label
from diffseglung.output.statistics import LAA_HU
from diffseglung.platform.out_of_core import slabs
from diffseglung.segmentation import Segmentation
from diffseglung.volume import Reorientation, Volume

WINDOW_HU = (-1350.0, 150.0)
"""The usual lung window: level -600, width 1500."""
SOFT_HU = (-160.0, 240.0)
"""Soft-tissue window: level 40, width 400. It shows a mask that contains fat, muscle or liver."""
TITLE_LENGTH = 61
NOTE_LINES, NOTE_LENGTH = 2, 150
INK, DIM, AMBER, PAPER = "#f2f2f2", "#9aa0a6", "#ffc24b", "#0b0d10"
TINT = {HEALTHY.id: 0.10} | {label.id: 0.45 for label in LESIONS}
"""Opacity of each class over the scan."""
OUTLINES = {1: "#33d6ff", 2: "#ff9f1c"}
"""Colours of the outlines of the right and left lung."""
POOR = 0.75
"""Lung scores below this are shown in amber."""


@dataclass(frozen=True, eq=False)
class Plane:
    """One plane: HU and labels (rows, columns), pixel height and width, and the letters of its four sides."""

    title: str
    hu: NDArray[np.float32]
    labels: NDArray[np.uint8]
    pixel_mm: tuple[float, float]
    sides: tuple[str, str, str, str]  # left, right, top, bottom

    @property
    def height_mm(self) -> float:
        """Height of the plane."""
        return float(self.labels.shape[0] * self.pixel_mm[0])

    @property
    def width_mm(self) -> float:
        """Width of the plane."""
        return float(self.labels.shape[1] * self.pixel_mm[1])


def draw(segmentation: Segmentation) -> bytes:
    """A 1920 x 1080 PNG of a segmentation on any grid, including oblique and anisotropic ones."""
    turn = Reorientation.of(segmentation.ct)
    whole = [turn.apply(v) for v in (segmentation.ct, segmentation.lungs, segmentation.label_map)]
    figure = new_figure()
    planes, outlined = choose_planes(*_crop(*whole)), lung_plane(whole[0], whole[1])
    lined = planes[:3], [*planes[3:], outlined]
    heights = [max(p.height_mm for p in row) / sum(p.width_mm for p in row) for row in lined]
    rows = figure.add_gridspec(
        2, 1, left=0.015, right=0.715, bottom=0.045, top=0.875, hspace=0.09, height_ratios=heights
    )
    upper = rows[0].subgridspec(1, 3, wspace=0.03)
    lower = rows[1].subgridspec(1, 4, wspace=0.05, width_ratios=[plane.width_mm for plane in lined[1]])
    for number, plane in enumerate(planes):
        _draw_plane(figure.add_subplot((upper, lower)[number // 3][number % 3]), plane)
    _draw_outlines(figure.add_subplot(lower[3]), outlined, segmentation.run.get("lung_quality"))
    _draw_header(figure, segmentation.run)
    _draw_shares(figure, segmentation.statistics)
    _draw_density(figure, segmentation.statistics["lung"])
    return png_of(figure)


def new_figure() -> Figure:
    """An empty dark figure of 1920 x 1080 pixels."""
    figure = Figure(figsize=(19.2, 10.8), dpi=100, facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def png_of(figure: Figure) -> bytes:
    """A figure as PNG, without a time stamp."""
    png = io.BytesIO()
    figure.savefig(png, format="png", facecolor=PAPER, metadata={"Software": "DiffSegLung"})
    return png.getvalue()


def choose_planes(ct: Volume, lungs: Volume, label_map: Volume) -> list[Plane]:
    """Three axial, two coronal and one sagittal plane of canonical volumes: in each part of the lungs, the one with the
    most disease, or the most lung if there is none."""
    lung_areas = cross_sections(lungs.array)
    sick_areas = cross_sections(label_map.array, *(label.id for label in LESIONS))
    z_mm, y_mm, x_mm = ct.spacing_mm
    planes = []
    for axis, parts, name, pixel, sides in (
        (0, 3, "axial", (y_mm, x_mm), ("R", "L", "A", "P")),
        (1, 2, "coronal", (z_mm, x_mm), ("R", "L", "S", "I")),
        (2, 1, "sagittal", (z_mm, y_mm), ("A", "P", "S", "I")),
    ):
        for number, index in enumerate(_most_telling(sick_areas[axis], lung_areas[axis], parts)):
            part = {3: ("lower third", "middle third", "upper third"), 2: ("front", "back"), 1: ("",)}[parts][number]
            hu, ids = _slice(ct.array, axis, index), _slice(label_map.array, axis, index)
            if axis:
                hu, ids = hu[::-1], ids[::-1]  # head on top
            planes.append(Plane(f"{name} {part}".strip(), hu, ids, pixel, sides))
    return [*planes[2::-1], *planes[3:]]  # upper lungs first


def lung_plane(ct: Volume, lungs: Volume) -> Plane:
    """The coronal plane of canonical volumes with the most lung, cropped to tissue; its labels are the lungs."""
    areas = cross_sections(lungs.array)[1]
    index = int(areas.argmax()) if areas.any() else len(areas) // 2
    z, _, x = occupied(ct)
    hu, sides = (_slice(volume.array, 1, index)[z, x][::-1] for volume in (ct, lungs))
    return Plane("lungs, soft tissue", hu, sides, (ct.spacing_mm[0], ct.spacing_mm[2]), ("R", "L", "S", "I"))


def _slice(array: NDArray[Any], axis: int, index: int) -> NDArray[Any]:
    """One plane across an axis, read a few slices at a time."""
    if axis == 0:
        return np.asarray(array[index])
    return np.concatenate([np.take(array[planes], index, axis) for planes in slabs(array)])


def _most_telling(disease: NDArray[np.int64], lung: NDArray[np.int64], parts: int) -> list[int]:
    """The plane with most disease in each of `parts` equal shares of the lung.  disease, lung: voxels of each plane."""
    share = np.cumsum(lung) / max(lung.sum(), 1)
    score = disease + 0.03 * lung * (lung > 0.3 * lung.max())
    chosen = []
    for part in range(parts):
        here = (share > (part + 0.08) / parts) & (share <= (part + 0.92) / parts)
        middle = min(int(np.searchsorted(share, (part + 0.5) / parts)), len(share) - 1)
        candidates = np.flatnonzero(here) if here.any() else np.array([middle])
        chosen.append(int(candidates[np.argmax(score[candidates])]))
    return chosen


def _crop(ct: Volume, lungs: Volume, label_map: Volume) -> tuple[Volume, Volume, Volume]:
    """Crop to the lungs with a margin; no crop if there are none."""
    areas = cross_sections(lungs.array)
    if not areas[0].any():
        return ct, lungs, label_map
    corners = lung_box(areas, ct.spacing_mm)
    return ct.crop(*corners), lungs.crop(*corners), label_map.crop(*corners)


def _draw_plane(axes: Axes, plane: Plane) -> None:
    extent = _draw_scan(axes, plane, WINDOW_HU)
    colours = np.zeros((*plane.labels.shape, 4))
    for label in TISSUES:
        colours[plane.labels == label.id] = (*_rgb(label), TINT[label.id])
    axes.imshow(colours, extent=extent, interpolation="nearest")
    for label in TISSUES:
        here = plane.labels > 0 if label is HEALTHY else plane.labels == label.id
        _draw_contour(axes, plane, here, _rgb(label), 0.7)
    _annotate(axes, plane, extent)


def _draw_outlines(axes: Axes, plane: Plane, quality: dict[str, Any] | None) -> None:
    """The outline of each lung on soft tissue, and the lung score if it is known."""
    extent = _draw_scan(axes, plane, SOFT_HU)
    for side, colour in OUTLINES.items():
        _draw_contour(axes, plane, plane.labels == side, colour, 1.3)
    _annotate(axes, plane, extent)
    if quality is not None:
        colour = AMBER if quality["score"] < POOR else INK
        axes.set_title(f"lung score {quality['score']:.2f}", color=colour, fontsize=12, loc="right", pad=4)


def _draw_scan(axes: Axes, plane: Plane, window: tuple[float, float]) -> tuple[float, float, float, float]:
    """Draw the scan in grey; returns its extent in mm."""
    extent = (0.0, plane.width_mm, plane.height_mm, 0.0)
    axes.imshow(plane.hu, cmap="gray", vmin=window[0], vmax=window[1], extent=extent, interpolation="bilinear")
    axes.set_aspect("equal")
    axes.set_axis_off()
    return extent


def _draw_contour(axes: Axes, plane: Plane, here: NDArray[np.bool_], colour: Any, width: float) -> None:
    if here.any() and not here.all():
        across, down = ((np.arange(n) + 0.5) * mm for n, mm in zip(here.shape[::-1], plane.pixel_mm[::-1], strict=True))
        axes.contour(across, down, here, levels=[0.5], colors=[colour], linewidths=width)


def _annotate(axes: Axes, plane: Plane, extent: tuple[float, float, float, float]) -> None:
    left, right, top, bottom = plane.sides
    axes.set_title(plane.title, color=DIM, fontsize=12, loc="left", pad=4)
    outline = [withStroke(linewidth=2.5, foreground=PAPER)]
    for x, y, letter in ((0.02, 0.5, left), (0.98, 0.5, right), (0.5, 0.965, top), (0.5, 0.035, bottom)):
        style: dict[str, Any] = {"color": INK, "fontsize": 13, "ha": "center", "va": "center", "path_effects": outline}
        axes.text(x, y, letter, transform=axes.transAxes, **style)
    end, height = extent[1] * 0.97, extent[2] * 0.96
    axes.plot([end - 50, end], [height] * 2, color=INK, linewidth=2.5, path_effects=outline, solid_capstyle="butt")
    axes.text(end - 25, height - 3, "5 cm", color=INK, fontsize=10, ha="center", va="bottom", path_effects=outline)


def scan_title(name: str) -> str:
    """A scan's name in at most TITLE_LENGTH characters, with the middle cut out and ? for glyphs the font lacks.

    >>> scan_title("case-7"), len(scan_title(100 * "x"))
    ('case-7', 61)
    """
    font = get_font(findfont(FontProperties(weight="bold")))
    shown = "".join(c if c.isprintable() and font.get_char_index(ord(c)) else "?" for c in name)
    half = (TITLE_LENGTH - 3) // 2
    return shown if len(shown) <= TITLE_LENGTH else f"{shown[:half]}...{shown[-half:]}"


def note_lines(warnings: list[str]) -> list[str]:
    """Warnings in at most NOTE_LINES lines: in full, else only the findings, else those that fit and a count."""
    found = [re.split(r": (?![^(]*\))", warning, maxsplit=1)[0] for warning in warnings]  # not within parentheses
    for shown in (warnings, found, *(found[:n] for n in range(len(found) - 1, 0, -1))):
        more = f"; {len(warnings) - len(shown)} more in run.json" if len(shown) < len(warnings) else ""
        lines = textwrap.wrap("Note: " + "; ".join(shown) + more, NOTE_LENGTH) if shown else []
        if len(lines) <= NOTE_LINES:
            return lines
    return lines[:NOTE_LINES]


def _draw_header(figure: Figure, run: dict[str, Any]) -> None:
    title = scan_title(run.get("input") or "Chest CT")
    figure.text(0.015, 0.965, title, color=INK, fontsize=19, weight="bold", va="center", parse_math=False)
    method = run.get("settings", {}).get("method")
    name = "DiffSegLung" + (f"  -  method {method}" if method else "")
    figure.text(0.985, 0.965, name, color=DIM, fontsize=13, va="center", ha="right")
    lines = note_lines([str(warning) for warning in run.get("warnings", [])])
    figure.text(0.015, 0.938, "\n".join(lines), color=AMBER, fontsize=11, va="top", linespacing=1.3)
    notice = (
        "Research use only. Not a medical device.   Lung window -1350 to 150 HU, soft tissue -160 to 240 HU. R is the "
        "patient's right."
    )
    figure.text(0.015, 0.018, notice, color=DIM, fontsize=10.5)


def _draw_shares(figure: Figure, statistics: dict[str, Any]) -> None:
    """The legend, with the share of both lungs of each class, and its share of each lung as a bar."""
    axes = figure.add_axes((0.735, 0.37, 0.25, 0.53))
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(len(TISSUES) + 0.2, -0.45)
    axes.text(0.0, -0.3, "share of the lungs", color=DIM, fontsize=12, va="center")
    axes.text(1.0, -0.3, "right | left lung", color=DIM, fontsize=12, va="center", ha="right")
    parts = [statistics[label.name][side]["fraction_of_lung"] or 0.0 for label in LESIONS for side in ("right", "left")]
    full = max(0.10, *parts)
    for row, label in enumerate(TISSUES):
        entry = statistics[label.name]
        axes.add_patch(Rectangle((0, row + 0.06), 0.055, 0.30, color=_rgb(label)))
        axes.text(0.08, row + 0.21, label.title, color=INK, fontsize=14, va="center")
        share = _percent(entry["fraction_of_lung"])
        axes.text(1.0, row + 0.21, share, color=INK, fontsize=18, weight="bold", va="center", ha="right")
        axes.text(0.08, row + 0.52, f"{entry['volume_ml']:,.0f} mL", color=DIM, fontsize=11, va="center")
        scale = 1.0 if label is HEALTHY else full
        for side, direction in (("right", -1), ("left", 1)):
            fraction = entry[side]["fraction_of_lung"]
            length = 0.21 * min((fraction or 0.0) / scale, 1.0)
            start = 0.66 + direction * 0.004
            left, anchor = min(start, start + direction * length), "right" if direction < 0 else "left"
            axes.add_patch(Rectangle((left, row + 0.44), length, 0.17, color=_rgb(label)))
            place = (0.66 + direction * 0.225, row + 0.53)
            axes.text(*place, _percent(fraction), color=DIM, fontsize=10.5, va="center", ha=anchor)
        axes.plot([0.66, 0.66], [row + 0.40, row + 0.65], color=DIM, linewidth=1)


def _draw_density(figure: Figure, lung: dict[str, Any]) -> None:
    rows: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        ("lung volume", lambda part: _number(part["volume_ml"] / 1000, "{:.2f} L")),
        ("mean density", lambda part: _number(part["mean_lung_density_hu"], "{:.0f} HU")),
        ("15th percentile", lambda part: _number(part["percentiles_hu"]["15"], "{:.0f} HU")),
        *((f"LAA{hu}", lambda part, hu=hu: _percent(part[f"LAA{hu}"])) for hu in LAA_HU),
        ("HAA -600 to -250", lambda part: _percent(part["HAA"])),
    ]
    axes = figure.add_axes((0.735, 0.05, 0.25, 0.28))
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(len(rows) + 0.1, -0.9)
    for x, title in ((0.62, "both"), (0.81, "right"), (1.0, "left")):
        axes.text(x, -0.5, title, color=DIM, fontsize=12, va="center", ha="right")
    axes.plot([0, 1], [-0.05, -0.05], color=DIM, linewidth=0.8)
    for row, (title, show) in enumerate(rows):
        axes.text(0.0, row + 0.5, title, color=DIM, fontsize=12, va="center")
        for x, part in ((0.62, lung), (0.81, lung["right"]), (1.0, lung["left"])):
            axes.text(x, row + 0.5, show(part), color=INK, fontsize=12, va="center", ha="right")


def _rgb(label: Label) -> tuple[float, float, float]:
    red, green, blue = label.colour
    return red / 255, green / 255, blue / 255


def _percent(fraction: float | None) -> str:
    return _number(None if fraction is None else 100 * fraction, "{:.1f} %")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
