"""clusters.png: a scan and its radiomic clusters, with their shares of the lung, densities and mean descriptors.

In radiological convention: patient right on the left, front on top in axial, head on top in coronal planes.
"""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from diffseglung.case.prepared import lung_box
from diffseglung.io.plausibility import cross_sections
from diffseglung.method.radiomics.clusters import Cluster
from diffseglung.method.radiomics.descriptor import DESCRIPTOR_NAMES
from diffseglung.output.preview import DIM, INK, PAPER, WINDOW_HU, new_figure, png_of
from diffseglung.volume import Reorientation, Volume

MARGIN_MM = 8.0
FAMILIES = (("HU", 0, 5), ("GLCM", 5, 11), ("LBP", 11, 21), ("Gabor", 21, 34))
Picture = NDArray[np.float32]


def draw(ct: Volume, ids: Volume, table: list[Cluster], title: str) -> bytes:
    """A 1920 x 1080 PNG.  ct, ids: HU and cluster numbers on one grid of any orientation."""
    turn = Reorientation.of(ct)
    ct, ids = turn.apply(ct), turn.apply(ids)
    box = lung_box(cross_sections(ids.array), ct.spacing_mm, MARGIN_MM)
    ct, ids = ct.crop(*box), ids.crop(*box)
    colours = colours_for(len(table))
    figure = new_figure()
    grid = figure.add_gridspec(2, 3, left=0.01, right=0.685, bottom=0.02, top=0.87, wspace=0.02, hspace=0.02)
    for column, (hu, numbers, aspect, name) in enumerate(_planes(ct, ids)):
        for row in range(2):
            axes = figure.add_subplot(grid[row, column])
            low, high = WINDOW_HU
            axes.imshow(hu, cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="bilinear")
            if row:
                axes.imshow(_tint(numbers, colours), aspect=aspect, interpolation="nearest")
            else:
                axes.set_title(name, color=DIM, fontsize=13)
            axes.set_axis_off()
            axes.set_anchor("N" if row else "S")  # closes the gap between the two views of a plane
    figure.text(0.015, 0.945, title, color=INK, fontsize=20, weight="bold")
    lead = "K-means on 34 radiomic descriptors of overlapping patches, numbered from dark to bright. Not a diagnosis."
    figure.text(0.015, 0.918, lead, color=DIM, fontsize=12)
    _draw_amounts(figure.add_axes((0.755, 0.60, 0.23, 0.27)), table, colours)
    _draw_densities(figure.add_axes((0.755, 0.40, 0.23, 0.13)), ct, ids, colours)
    _draw_centres(figure.add_axes((0.755, 0.115, 0.23, 0.18)), table, colours)
    return png_of(figure)


def colours_for(count: int) -> list[str]:
    """One colour per cluster, blue for the darkest lung to red for the brightest."""
    return [to_hex(matplotlib.colormaps["turbo"](0.10 + 0.78 * i / max(1, count - 1))) for i in range(count)]


def _planes(ct: Volume, ids: Volume) -> list[tuple[Picture, NDArray[np.uint8], float, str]]:
    """An upper and a lower axial plane, and the coronal plane with most lung, of canonical volumes."""
    lung = ids.array > 0
    share = np.cumsum(lung.sum((1, 2))) / lung.sum()
    z_mm, y_mm, x_mm = ct.spacing_mm
    planes = []
    for name, part in (("upper lungs", 0.68), ("lower lungs", 0.28)):
        index = int(np.searchsorted(share, part))
        planes.append((ct.array[index], ids.array[index], y_mm / x_mm, f"axial, {name}"))
    index = int(lung.sum((0, 2)).argmax())
    planes.append((ct.array[::-1, index], ids.array[::-1, index], z_mm / x_mm, "coronal"))
    return planes


def _tint(numbers: NDArray[np.uint8], colours: list[str]) -> NDArray[np.float64]:
    """RGBA of cluster numbers; transparent outside the lungs."""
    lookup = np.zeros((len(colours) + 1, 4))
    for number, colour in enumerate(colours, 1):
        lookup[number] = (*matplotlib.colors.to_rgb(colour), 0.55)
    return np.asarray(lookup[numbers])


def _draw_amounts(axes: Axes, table: list[Cluster], colours: list[str]) -> None:
    """Horizontal bars of the shares of the lungs, with mL and mean HU."""
    _plain(axes, "share of the lungs")
    rows, shares = np.arange(len(table)), [100 * cluster.fraction_of_lung for cluster in table]
    axes.barh(rows, shares, color=colours, height=0.62)
    for row, cluster in enumerate(table):
        text = f"{shares[row]:.1f} %   {cluster.volume_ml:,.0f} mL   {cluster.mean_hu:.0f} HU"
        inside = shares[row] > 0.5 * max(shares)
        at = max(shares) * 0.02 if inside else shares[row] + max(shares) * 0.02
        axes.text(at, row, text, color=PAPER if inside else INK, va="center", fontsize=11)
    axes.set_yticks(rows, [f"cluster {cluster.id}" for cluster in table])
    axes.set_xticks([])
    axes.invert_yaxis()


def _draw_densities(axes: Axes, ct: Volume, ids: Volume, colours: list[str]) -> None:
    """Histograms of HU, one line per cluster, each scaled to its own peak."""
    _plain(axes, "HU of its voxels (each scaled to its peak)")
    edges = np.linspace(-1024, 200, 103)
    for number, colour in enumerate(colours, 1):
        counts, _ = np.histogram(ct.array[ids.array == number], edges)
        height = counts / max(1, counts.max())
        axes.fill_between((edges[1:] + edges[:-1]) / 2, height, color=colour, alpha=0.18, linewidth=0)
        axes.plot((edges[1:] + edges[:-1]) / 2, height, color=colour, linewidth=1.6)
    axes.set_yticks([])
    axes.set_xlim(-1024, 200)


def _draw_centres(axes: Axes, table: list[Cluster], colours: list[str]) -> None:
    """Heat map of the mean descriptors of each cluster, standardised over clusters."""
    _plain(axes, "descriptors that differ (blue: low, red: high)", pad=24)
    centres = np.array([[cluster.centre[name] for name in DESCRIPTOR_NAMES] for cluster in table])
    spread = centres.std(0)
    relative = (centres - centres.mean(0)) / np.where(spread > 0, spread, 1.0)
    axes.imshow(relative, cmap="RdBu_r", vmin=-2, vmax=2, aspect="auto", interpolation="nearest")
    short = [name.partition("_")[2].replace("_", " ") for name in DESCRIPTOR_NAMES]
    axes.set_xticks(range(len(short)), short, rotation=90, fontsize=7.5)
    axes.set_yticks(range(len(table)), [str(cluster.id) for cluster in table])
    for label, colour in zip(axes.get_yticklabels(), colours, strict=True):
        label.set_color(colour)
        label.set_fontweight("bold")
    for name, low, high in FAMILIES:
        axes.text((low + high - 1) / 2, -0.62, name, color=DIM, ha="center", va="bottom", fontsize=9)
        axes.axvline(high - 0.5, color=PAPER, linewidth=2)


def _plain(axes: Axes, title: str, *, pad: float = 8) -> None:
    axes.set_facecolor(PAPER)
    axes.set_title(title, color=INK, fontsize=13, loc="left", pad=pad)
    axes.tick_params(colors=INK, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
