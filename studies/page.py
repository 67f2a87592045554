"""index.html: one axial slice per case, as CT, truth and every label map side by side, in one file without links."""

from __future__ import annotations

import base64
import html
import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffseglung.labels import HEALTHY, TISSUES
from studies.runner import unpack
from studies.summary import Results
from studies.tables import title_of

WINDOW_HU = (-1350.0, 150.0)
WIDTH = 190
"""Width of a picture in pixels."""
LIMIT_BYTES = 15_000_000
TINT = 0.55
STYLE = """body{font:14px system-ui,sans-serif;background:#14161a;color:#e8e8e8;margin:1.2em}
h2{font-size:15px;margin:1.4em 0 .3em}.row{display:flex;gap:6px;overflow-x:auto}figure{margin:0;width:190px;flex:none}
img{width:190px;display:block}figcaption{font-size:11px;line-height:1.25;color:#b8bcc4}
.key{display:inline-block;width:.9em;height:.9em;margin:0 .3em 0 1em}a{color:#9cf}"""


def write(cases: list[dict[str, Any]], found: Results, order: list[str], title: str) -> str:
    """Write the page, with pictures compressed until the size is acceptable."""
    for quality in (80, 60, 40, 20):
        text = _page(cases, found, order, title, quality)
        if len(text) <= LIMIT_BYTES:
            break
    return text


def _page(cases: list[dict[str, Any]], found: Results, order: list[str], title: str, quality: int) -> str:
    keys = "".join(f'<span class="key" style="background:rgb{t.colour}"></span>{html.escape(t.title)}' for t in TISSUES)
    rows = [_case(case, {key: found[key][i] for key in order}, quality) for i, case in enumerate(cases)]
    head = f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
    intro = "<p>The axial slice with the most disease of each case. Below a picture: Dice of the whole case.</p>"
    body = f"<h1>{html.escape(title)}</h1>{intro}<p>{keys}</p>{''.join(rows)}"
    return f"{head}<style>{STYLE}</style></head><body>{body}</body></html>\n"


def _case(case: dict[str, Any], results: dict[str, dict[str, Any]], quality: int) -> str:
    shown = case["slice"]
    hu, truth = unpack(shown["ct"]), unpack(shown["truth"])
    box = _box(truth)
    size = _size(hu[box].shape, case["pixel_mm"])

    def picture(labels: NDArray[Any] | None, caption: str) -> str:
        data = _jpeg(hu[box], None if labels is None else labels[box], size, quality)
        return f'<figure><img alt="" src="data:image/jpeg;base64,{data}"><figcaption>{caption}</figcaption></figure>'

    pictures = [picture(None, f"CT, slice {shown['index']}"), picture(truth, "Truth")]
    for key, result in results.items():
        caption = f"<b>{html.escape(title_of(key))}</b><br>{_scores(result['scores'])}"
        pictures.append(picture(unpack(result["slice"]), caption))
    about = ", ".join(v for v in case["strata"].values() if v != "unknown")
    text = html.escape(f"{case['name']} ({about})" if about else case["name"])
    return f'<h2>{text}</h2><div class="row">{"".join(pictures)}</div>'


def _scores(scores: dict[str, Any]) -> str:
    """Dice of the classes present, or the false lesions of a healthy case."""
    if scores["healthy_case"]:
        share = scores["predicted_lesion_fraction"]
        return f"called lesion: {100 * share:.1f} %" if share is not None else "-"
    there = [(t, scores["classes"][t.name]) for t in TISSUES if scores["classes"][t.name]["true_voxels"]]
    return ", ".join(f"{t.name} {100 * row['dice']:.0f}" for t, row in there)


def _box(truth: NDArray[Any]) -> tuple[slice, slice]:
    """Box of the lungs with a small margin; the whole slice if it has none."""
    found = np.argwhere(truth > 0)
    if not len(found):
        return slice(None), slice(None)
    low, high = np.maximum(found.min(0) - 8, 0), found.max(0) + 9
    return slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))


def _size(shape: tuple[int, ...], pixel_mm: list[float]) -> tuple[int, int]:
    """Width and height in pixels that keep the body's proportions."""
    ratio = shape[0] * pixel_mm[0] / (shape[1] * pixel_mm[1])
    return WIDTH, max(math.floor(WIDTH * ratio), 1)


def _jpeg(hu: NDArray[Any], labels: NDArray[Any] | None, size: tuple[int, int], quality: int) -> str:
    """CT in the lung window, lesions tinted in their colours; base64."""
    grey = np.clip((hu - WINDOW_HU[0]) / (WINDOW_HU[1] - WINDOW_HU[0]), 0, 1).astype(np.float32)
    picture = np.repeat(255 * grey[..., None], 3, axis=2)
    for label in TISSUES if labels is not None else ():
        tint = TINT if label is not HEALTHY else 0.12
        here = labels == label.id
        picture[here] = (1 - tint) * picture[here] + tint * np.array(label.colour)
    image = Image.fromarray(picture.astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return base64.b64encode(buffer.getvalue()).decode()
