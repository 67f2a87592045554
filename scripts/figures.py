"""The figures of the documentation, made anew: the pipeline, segmentations, drawn patches.

    python -m scripts.figures [--out docs/images] [--only pipeline segmentation generation scenes]
    python -m scripts.figures --pdf [--out figures] [--only pipeline segmentation generation]

The second makes PDFs with the names that the published repository gives its three figures; text and lines are vectors.
They need what comes with the repository and nothing else: the scans in demo/, the phantoms' generator, the shipped
weights. The same commit gives the same pictures. Cases and slices follow rules (the first seeds, the slice with most
disease), so that nothing is chosen for looking good. About two minutes on two cores.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Patch
from numpy.typing import NDArray
from PIL import Image

from diffseglung.case.intensity import denormalise
from diffseglung.io import read_volume
from diffseglung.labels import LESIONS, TISSUES
from diffseglung.lungs.finder import find_lungs
from diffseglung.method import checkpoint
from diffseglung.phantom.backgrounds import synthetic_background
from diffseglung.phantom.canvas import UNKNOWN
from diffseglung.phantom.procedural import make_phantom
from diffseglung.phantom.random_patches import random_patch
from diffseglung.phantom.semisynthetic import add_lesions
from diffseglung.pipeline import Segmenter
from diffseglung.platform.config import GenerationConfig, PhantomConfig, SegmentConfig
from diffseglung.platform.runtime import Runtime
from diffseglung.training.backgrounds import background_of
from diffseglung.volume import Reorientation, Volume
from studies.generation import Inputs
from studies.sample_sets import Sampler, Studio, cut_scans

ROOT = Path(__file__).parents[1]
MODELS = ("emphysema_centrilobular", "ggo_nodular", "fibrosis_honeycomb", "consolidation_organising")
SEED = 4
"""That of `make demo`."""
WINDOW_HU = (-1350.0, 150.0)
PATCH, SCENES_HU = (32, 64, 64), (-1000.0, 0.0)
INK, DIM, LINE, DEFAULT, LEARNED = "#1c2126", "#5c6770", "#8a949c", "#dcebf5", "#fbe9d7"
PDF_DPI, PDF_COLOURS = 110, 128
"""Resolution of pictures in a PDF, and how many colours each has at most."""


@dataclass(frozen=True)
class Box:
    """A stage: where it stands, what it is called, what it does, where its code is."""

    x: float
    y: float
    title: str
    does: str
    module: str
    colour: str = DEFAULT


SCAN_Y, MODEL_Y, TRAIN_Y = 4.3, 2.45, 0.6
BOXES = {
    "io": Box(0.0, SCAN_Y, "Read", "CT in HU,\nchecked", "io/"),
    "preprocess": Box(2.1, SCAN_Y, "Prepare", "lungs, healthy\nlevel, 1.5 mm grid", "case/"),
    "local": Box(4.2, SCAN_Y, "Local statistics", "of density and shape,\n5 and 10 mm", "tissue/local.py"),
    "labelling": Box(
        6.3, SCAN_Y, "Label", "physics rule in context:\na posterior per class", "tissue/smoothed_rule.py"
    ),
    "fusion": Box(8.4, SCAN_Y, "Fuse", "borders of CT\nand posterior", "method/fusion.py"),
    "output": Box(10.5, SCAN_Y, "Measure, write", "mL, LAA, labels,\nreport", "output/"),
    "diffusion": Box(4.2, MODEL_Y, "Diffusion features", "3 noise levels,\n384 values", "method/features.py", LEARNED),
    "tissue": Box(
        6.3, MODEL_Y, "Tissue models", "mixture, classifier,\ntaught by the rule", "tissue/classifier.py", LEARNED
    ),
    "patches": Box(0.0, TRAIN_Y, "Cases, patches", "unlabelled CT", "method/patches.py", LEARNED),
    "training": Box(2.1, TRAIN_Y, "Stage 1: diffusion", "3D U-Net learns\nhow lung looks", "method/train/", LEARNED),
    "distillation": Box(
        4.2, TRAIN_Y, "Stage 2: distillation", "InfoNCE with\nthe teacher", "method/distillation.py", LEARNED
    ),
    "radiomics": Box(
        6.3, TRAIN_Y, "Radiomic teacher", "34 descriptors: HU,\nGLCM, LBP, Gabor", "method/radiomics/", LEARNED
    ),
}
ARROWS = (
    ("io", "preprocess"), ("preprocess", "local"), ("local", "labelling"), ("labelling", "fusion"),
    ("fusion", "output"), ("patches", "training"), ("training", "distillation"), ("radiomics", "distillation"),
    ("distillation", "diffusion"), ("preprocess", "diffusion"), ("diffusion", "tissue"), ("tissue", "labelling"),
)  # fmt: skip
WIDTH, HEIGHT = 1.75, 1.3
HEADINGS = (
    (SCAN_Y, "A scan, by the default method: a rule labels the tissue; only the lung mask uses a network"),
    (TRAIN_Y, "Training"),
)


def pipeline() -> Figure:
    """The stages, what each does, and where its code is; the files also list these modules as text."""
    figure = Figure(figsize=(12.6, 5.75), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-0.25, 12.5), ylim=(0.35, 6.1))
    axes.set_axis_off()
    for box in BOXES.values():
        _box(axes, box)
    for start, end in ARROWS:
        _arrow(axes, BOXES[start], BOXES[end])
    for y, text in HEADINGS:
        axes.text(0.0, y + HEIGHT + 0.14, text, color=DIM, fontsize=11, style="italic", va="bottom")
    axes.text(
        8.4, MODEL_Y + HEIGHT / 2, "methods combined, diffusion, published:\nthe network's features decide, "
        "alone or beside\nlocal statistics. On simulated disease they\ndo not beat the default (see Results).",
        color=DIM, fontsize=10, style="italic", va="center",
    )  # fmt: skip
    keys = [Patch(facecolor=DEFAULT, edgecolor=LINE), Patch(facecolor=LEARNED, edgecolor=LINE)]
    axes.legend(
        keys, ["default", "learned, on request"], loc="lower right", frameon=False, fontsize=10, labelcolor=INK,
        bbox_to_anchor=(0.985, 0.08),
    )  # fmt: skip
    return figure


def _box(axes: Axes, box: Box) -> None:
    shape = FancyBboxPatch(
        (box.x, box.y), WIDTH, HEIGHT, boxstyle="round,pad=0,rounding_size=0.12", facecolor=box.colour, edgecolor=LINE
    )
    axes.add_patch(shape)
    middle = box.x + WIDTH / 2
    axes.text(middle, box.y + 1.08, box.title, color=INK, fontsize=10.5, weight="bold", ha="center", va="center")
    axes.text(middle, box.y + 0.66, box.does, color=INK, fontsize=9, ha="center", va="center")
    axes.text(middle, box.y + 0.2, box.module, color=DIM, fontsize=8, family="monospace", ha="center", va="center")


def _arrow(axes: Axes, start: Box, end: Box) -> None:
    if start.y == end.y:
        sign = 1 if end.x > start.x else -1
        tail = (start.x + (WIDTH if sign > 0 else 0), start.y + HEIGHT / 2)
        head = (end.x + (0 if sign > 0 else WIDTH), end.y + HEIGHT / 2)
    elif start.x == end.x:
        up = end.y > start.y
        tail = (start.x + WIDTH / 2, start.y + (HEIGHT if up else 0))
        head = (end.x + WIDTH / 2, end.y + (0 if up else HEIGHT))
    else:
        tail, head = (start.x + WIDTH / 2, start.y), (end.x, end.y + HEIGHT / 2)
    bend = "arc3" if start.y == end.y or start.x == end.x else "angle,angleA=-90,angleB=180,rad=12"
    arrow = FancyArrowPatch(tail, head, arrowstyle="-|>", mutation_scale=12, color=LINE, connectionstyle=bend)
    axes.add_patch(arrow)


@dataclass(frozen=True, eq=False)
class Example:
    """A scan, its labels, and its truth where that is known; all canonical, (Z, Y, X)."""

    title: str
    ct: Volume
    labels: Volume
    truth: Volume | None


def segmentation() -> Figure:
    """Two real scans, drawn lesions and a phantom, with the default method's labels and the truth."""
    segmenter = Segmenter.load(config=SegmentConfig(), device="cpu")
    real = read_volume(ROOT / "demo" / "lidc_1011.nii.gz")
    drawn = add_lesions(real, find_lungs(real), SEED, split="test", models=MODELS)
    phantom = make_phantom(PhantomConfig(split="test", seed=SEED, models=MODELS))
    scans = [
        ("LIDC-IDRI-1011, near normal", real, None, None),
        ("Lung-PET-CT-Dx A0002, tumour", read_volume(ROOT / "demo" / "lungdx_A0002_s3.nii.gz"), None, None),
        ("lesions drawn into LIDC-IDRI-1011", drawn.ct, drawn.lungs, drawn.truth),
        ("phantom", phantom.ct, phantom.lungs, phantom.truth),
    ]
    examples = []
    for title, ct, lungs, truth in scans:
        turn = Reorientation.of(ct)
        labels = segmenter(ct, lungs).label_map
        examples.append(Example(title, turn.apply(ct), turn.apply(labels), turn.apply(truth) if truth else None))
    return _example_figure(examples)


def _example_figure(examples: Sequence[Example]) -> Figure:
    figure = Figure(figsize=(9.6, 6.1), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        3, len(examples), left=0.045, right=0.995, top=0.95, bottom=0.055, wspace=0.03, hspace=0.03
    )
    for column, example in enumerate(examples):
        index = _slice_index(example)
        for row, labels in enumerate((None, example.labels, example.truth)):
            axes = figure.add_subplot(grid[row, column])
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if row == 2 and labels is None:
                axes.text(0.5, 0.5, "truth not known", color=DIM, ha="center", va="center", transform=axes.transAxes)
            else:
                _draw_slice(axes, example.ct, labels, index)
            if row == 0:
                axes.set_title(example.title, fontsize=9, color=INK, pad=5)
            if column == 0:
                axes.set_ylabel(("scan", "labels (default method)", "truth")[row], fontsize=9.5, color=INK)
    keys = [Patch(facecolor=_rgb(label.colour), label=label.title) for label in TISSUES]
    figure.legend(handles=keys, ncols=len(keys), loc="lower center", frameon=False, fontsize=9, labelcolor=INK)
    return figure


def _slice_index(example: Example) -> int:
    """The axial slice that holds most kinds of disease, of these the one with most; with none, the most lung."""
    ids = (example.truth or example.labels).array
    counts = np.stack([(ids == label.id).sum((1, 2)) for label in LESIONS])
    pixel_ml = example.ct.voxel_ml
    score = np.minimum(counts * pixel_ml, 1.0).sum(0) + 1e-3 * counts.sum(0) * pixel_ml
    if example.truth is None and counts.sum() < 0.05 * (ids > 0).sum():
        score = (ids > 0).sum((1, 2)).astype(float)
    return int(np.argmax(score))


def _draw_slice(axes: Axes, ct: Volume, labels: Volume | None, index: int) -> None:
    _, y_mm, x_mm = ct.spacing_mm
    box = _chest(ct.array[index])
    extent = (0.0, (box[1].stop - box[1].start) * x_mm, (box[0].stop - box[0].start) * y_mm, 0.0)
    axes.imshow(
        ct.array[index][box], cmap="gray", vmin=WINDOW_HU[0], vmax=WINDOW_HU[1], extent=extent, interpolation="bilinear"
    )
    if labels is not None:
        colours = np.zeros((*labels.array[index][box].shape, 4))
        for label in TISSUES:
            colours[labels.array[index][box] == label.id] = (*_rgb(label.colour), 0.55 if label in LESIONS else 0.16)
        axes.imshow(colours, extent=extent, interpolation="nearest")
    axes.set_aspect("equal")


def _chest(hu: NDArray[np.float32]) -> tuple[slice, slice]:
    """The box around what is not air."""
    body = hu > -300
    rows, columns = (np.flatnonzero(body.mean(1 - axis) > 0.03) for axis in (0, 1))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _rgb(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    return colour[0] / 255, colour[1] / 255, colour[2] / 255


def generation(count: int = 6) -> Figure:
    """Held-out real patches, and patches that both stages draw in the same lungs."""
    inputs = Inputs.of_checkout(ROOT)
    loaded = {name: checkpoint.load(path) for name, path in inputs.models.items()}
    card = next(iter(loaded.values()))[1]
    real = cut_scans(inputs.held_out, count, card.patch, card.intensity, seed=0)
    rows: dict[str, Any] = {"real, held out": real.ct}
    sampler = Sampler("DPM-Solver++ 20", "dpm", 20)
    with tempfile.TemporaryDirectory() as folder:
        for name, (weights, own_card) in loaded.items():
            studio = Studio(checkpoint.build(weights, own_card), Runtime(device=torch.device("cpu")), Path(folder))
            rows[f"drawn, {name}"] = studio.draw(real.lungs, sampler, GenerationConfig(n=count)).ct
    figure = Figure(figsize=(9.0, 4.75), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        len(rows), count, left=0.04, right=0.995, top=0.99, bottom=0.01, wspace=0.04, hspace=0.04
    )
    for row, (name, patches) in enumerate(rows.items()):
        for column in range(count):
            axes = figure.add_subplot(grid[row, column])
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            hu = denormalise(patches[column][patches.shape[1] // 2], card.intensity)
            axes.imshow(hu, cmap="gray", vmin=WINDOW_HU[0], vmax=WINDOW_HU[1], interpolation="bicubic")
            if column == 0:
                axes.set_ylabel(name, fontsize=10, color=INK)
    return figure


def scenes(rows: int = 6, columns: int = 5) -> Figure:
    """Random patches, as stage 3 sees them, and their truth; in a real chest and in synthetic ones."""
    real = read_volume(ROOT / "demo" / "lidc_1011.nii.gz")
    backgrounds = [background_of(real, find_lungs(real)), *(synthetic_background(seed) for seed in range(2))]
    figure = Figure(figsize=(1.9 * columns, 1.0 * rows + 0.25), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        rows, 2 * columns, left=0, right=1, top=1, bottom=0.25 / (rows + 0.25), wspace=0.03, hspace=0.03
    )
    for index in range(rows * columns):
        patch = random_patch(backgrounds, np.random.default_rng([SEED, index]), PATCH)
        ct, truth = patch.ct[PATCH[0] // 2], patch.truth[PATCH[0] // 2]
        grey = np.repeat(np.clip((ct - SCENES_HU[0]) / np.ptp(SCENES_HU), 0, 1)[..., None], 3, 2)
        painted = grey.copy()
        for label in LESIONS:
            painted[truth == label.id] = 0.45 * grey[truth == label.id] + 0.55 * np.array(_rgb(label.colour))
        painted[truth == UNKNOWN] = 0.45 * grey[truth == UNKNOWN] + 0.55
        for place, picture in enumerate((grey, painted)):
            axes = figure.add_subplot(grid[index // columns, 2 * (index % columns) + place])
            axes.imshow(picture, interpolation="nearest")
            axes.set_axis_off()
    keys = [Patch(facecolor=_rgb(label.colour), label=label.title) for label in LESIONS]
    keys.append(Patch(facecolor="white", edgecolor=LINE, label="not scored"))
    figure.legend(handles=keys, ncols=len(keys), loc="lower center", frameon=False, fontsize=8, labelcolor=INK)
    return figure


def _modules() -> str:
    return " ".join(box.module for box in BOXES.values())


def _save_svg(figure: Figure, path: Path) -> None:
    """Without a date."""
    with matplotlib.rc_context({"svg.hashsalt": "diffseglung", "svg.fonttype": "path"}):
        figure.savefig(path, format="svg", metadata={"Date": None, "Description": _modules()})


def _save_png(figure: Figure, path: Path) -> None:
    """Of few colours, those of the labels among them, without a date."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white")
    with Image.open(buffer) as picture:
        _few_colours(picture, 160).save(path, optimize=True)


def _save_pdf(figure: Figure, path: Path) -> None:
    """Without a date. The pictures in each axes become one, of few colours."""
    figure.set_dpi(PDF_DPI)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white", dpi=PDF_DPI)
    with Image.open(buffer) as page:
        for axes in figure.axes:
            if axes.images:
                _flatten(axes, page)
    told = {"Keywords": _modules()} if path.name == PUBLISHED["pipeline"] else {}
    figure.savefig(path, format="pdf", facecolor="white", dpi=PDF_DPI, metadata={"CreationDate": None, **told})


def _flatten(axes: Axes, page: Image.Image) -> None:
    """Replace the pictures of `axes` by what they look like on the rendered page."""
    first = axes.images[0]
    left, bottom, right, top = first.get_window_extent().extents
    box = (round(left), round(page.height - top), round(right), round(page.height - bottom))
    seen = np.asarray(_few_colours(page.crop(box), PDF_COLOURS).convert("RGB"))
    extent = first.get_extent()
    for image in list(axes.images):
        image.remove()
    axes.imshow(seen, extent=extent, interpolation="none", aspect=axes.get_aspect())


def _few_colours(picture: Image.Image, colours: int) -> Image.Image:
    return picture.convert("RGB").quantize(colours, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)


FIGURES = {"pipeline": pipeline, "segmentation": segmentation, "generation": generation, "scenes": scenes}
PUBLISHED = {
    "pipeline": "pipeline_distilation.pdf",
    "segmentation": "qualitative_segmentatio_reuslts_miccai.pdf",
    "generation": "qualitative_generation_difseglung.drawio.pdf",
}
"""Names that the published repository gives its figures."""


def main() -> None:
    """Make the figures that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder to write into (default: docs/images; with --pdf: figures)")
    parser.add_argument("--only", nargs="+", choices=FIGURES, help="default: all; with --pdf: those published")
    parser.add_argument("--pdf", action="store_true", help="PDFs under the published names")
    args = parser.parse_args()
    out = args.out or ROOT / ("figures" if args.pdf else "docs/images")
    names = args.only or list(PUBLISHED if args.pdf else FIGURES)
    if args.pdf and not PUBLISHED.keys() >= set(names):
        parser.error(f"with --pdf, --only takes {', '.join(PUBLISHED)}")
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        save = _save_pdf if args.pdf else _save_svg if name == "pipeline" else _save_png
        ending = "svg" if name == "pipeline" else "png"
        path = out / (PUBLISHED[name] if args.pdf else f"{name}.{ending}")
        save(FIGURES[name](), path)
        print(f"{path}  {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
