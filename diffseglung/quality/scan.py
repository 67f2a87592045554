"""Quality of a scan, and a warning for each value that makes results unreliable.

`quality` measures; `warnings` judges. A value that cannot be measured is None and causes no warning. The source of each
limit is given beside it; docs/quality.md has the measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diffseglung.case.alignment import CLIPPED_HU, HealthyLevel
from diffseglung.io.plausibility import THICK_MM, air_peak_hu, cross_sections, cut_ends, darkest_hu, scan_sentences
from diffseglung.lungs.coarse import Coarse, shrink, slice_hulls
from diffseglung.lungs.torso import GRID_MM, Torso
from diffseglung.quality.noise_spectrum import noise_spectrum
from diffseglung.volume import Volume

EXHALE_HU = -790.0
"""Healthy lung reads about -850 in inspiration and 100 HU more in expiration (docs/science.md)."""
NOISE_HU = 40.0
"""Noise of this sd puts 2 % of uniform lung at -868 HU below -950, as in LAA-950 of healthy people (PMC3703944)."""
QUIET_HU = 4.0
"""The quietest scan examined without visible smoothing has 6 HU."""
BLURRED_PER_MM, BLURRED_SHARE = 0.20, 0.45
"""Smoothed if the mean noise frequency (cycles per mm; share of Nyquist) is below both. Soft kernels: 0.26, 0.40."""
SHARP_PER_MM, WHITE_SHARE = 0.39, 0.70
"""Sharp kernel if the mean noise frequency is above one of them. Medium kernels: 0.37 and 0.65, white noise: 0.765."""
TRACHEA_HU = (-1030.0, -935.0)
"""Range around -1000 HU: lower values come from noise, higher ones from the tracheal wall within coarse voxels."""
BLOOD_HU = (15.0, 80.0)
"""Scans without contrast read 33 to 57; more is contrast agent or a shifted scale, less is a shifted scale."""
VOLUME_LITRES = (2.0, 9.0)
"""Lungs of adults, from deep expiration to hyperinflation."""
IMBALANCE_HU = 80.0
"""One level for both lungs would be off by half of this in each, the distance of -900 HU from the aligned -860."""
DENSE_HU, DENSE_SHARE = (-700.0, 200.0), 0.5
"""The densest inspiratory scan used to choose settings has 0.39."""
PIXEL_MM = 1.5
"""Chest CT has pixels of 0.5 to 1 mm; larger ones are resampled and lack fine texture."""

SUBJECTS = (
    ("mm apart",),
    ("the scan covers only",),
    ("no voxel is darker",),
    ("air outside the body",),
    ("is sharp:", "a sharp kernel"),
    ("contrast agent", "contrast medium"),
    ("hardly any lung", "the lungs measure"),
)
"""Subjects on which header, reader or the check of the lungs may have warned already: words of their sentences."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Measured values; None if not measurable.

    slice_mm, pixel_mm:  distance between slices, and the larger in-plane pixel edge.
    height_mm:           of the scan, feet to head.      darkest_hu: lowest value.
    noise_hu:            sd in even soft tissue.
    noise_per_mm:        mean frequency of the noise in plane, cycles per mm; whiteness: as a share of Nyquist.
    air_hu, trachea_hu:  air around the body and in the trachea (None where clipped).
    blood_hu:            soft tissue between the lungs: heart and great vessels.
    level_hu:            healthy lung; right_hu, left_hu: the most frequent density of each lung.
    lung_litres:         both lungs.                     dense_share: of the lungs, from -700 to 200 HU.
    cut:                 where the lungs end in a large cut.
    """

    slice_mm: float
    pixel_mm: float
    height_mm: float
    darkest_hu: float
    noise_hu: float | None
    noise_per_mm: float | None
    whiteness: float | None
    air_hu: float | None
    trachea_hu: float | None
    blood_hu: float | None
    level_hu: float
    right_hu: float | None
    left_hu: float | None
    lung_litres: float
    dense_share: float
    cut: tuple[str, ...]


def quality(ct: Volume, lungs: Volume, level: HealthyLevel, torso: Torso | None = None) -> Quality:
    """Measure a scan (HU), its lungs (0 outside, 1 right, 2 left; any grid orientation) and its healthy level.

    torso: of this scan; computed if not given.
    """
    torso = torso or Torso.of(ct)
    upright, mask = torso.turn.apply(ct), torso.turn.apply(lungs)
    area, darkest = cross_sections(mask.array)[0], darkest_hu(ct)
    slices = np.flatnonzero(area)
    spectrum = noise_spectrum(upright, int(slices[0]), int(slices[-1])) if len(slices) else None
    coarse = torso.coarse
    inside = Coarse.of(mask, GRID_MM, lambda part: part > 0).hu
    right = Coarse.of(mask, GRID_MM, lambda part: part == 1).hu
    z_mm, y_mm, x_mm = upright.spacing_mm
    whole = inside > 0.99
    dense = (coarse.hu > DENSE_HU[0]) & (coarse.hu < DENSE_HU[1])
    return Quality(
        slice_mm=z_mm,
        pixel_mm=max(y_mm, x_mm),
        height_mm=z_mm * upright.shape[0],
        darkest_hu=darkest,
        noise_hu=spectrum.sd_hu if spectrum else None,
        noise_per_mm=spectrum.centroid if spectrum else None,
        whiteness=spectrum.whiteness if spectrum else None,
        air_hu=air_peak_hu(ct),
        trachea_hu=_trachea_hu(torso, darkest),
        blood_hu=_blood_hu(coarse, inside > 0),
        level_hu=level.level_hu,
        right_hu=_peak_hu(coarse.hu[whole & (right > 0.5)]),
        left_hu=_peak_hu(coarse.hu[whole & (right <= 0.5)]),
        lung_litres=float(area.sum()) * mask.voxel_ml / 1000,
        dense_share=float(dense[whole].mean()) if whole.any() else 0.0,
        cut=tuple(cut_ends(lungs)),
    )


def _trachea_hu(torso: Torso, darkest_hu: float) -> float | None:
    """Median HU in the core of trachea and main bronchi; None if there are none, or values are clipped there."""
    core = shrink(torso.airways, 5.0, torso.coarse.spacing_mm) & (torso.coarse.hu < -900)
    if np.count_nonzero(core) < 20:
        return None
    median = float(np.median(torso.coarse.hu[core]))
    return None if median - darkest_hu < CLIPPED_HU else median


def _blood_hu(coarse: Coarse, lungs: NDArray[np.bool_]) -> float | None:
    """Median density of soft tissue between the lungs, at least 8 mm from them; None if there is hardly any."""
    between = shrink(slice_hulls(lungs) & ~lungs, 8.0, coarse.spacing_mm)
    values = coarse.hu[between & (coarse.hu > -50) & (coarse.hu < 500)]
    return float(np.median(values)) if values.size * coarse.voxel_ml > 20 else None


def _peak_hu(values: NDArray[np.float32]) -> float | None:
    """Most frequent density, smoothed by 12 HU; None for fewer than 500 values."""
    if len(values) < 500:
        return None
    counts, edges = np.histogram(values, bins=np.arange(-1000.0, -399.0, 4.0))
    return float(edges[int(ndimage.gaussian_filter1d(counts.astype(float), 3.0).argmax())] + 2.0)


def warnings(quality: Quality) -> list[str]:
    """A sentence for each value out of range: the finding, and what it makes unreliable. Empty for a good scan."""
    q = quality
    notes = scan_sentences(max(q.slice_mm, q.pixel_mm), q.height_mm, q.darkest_hu, q.air_hu)
    return [*notes, *_about_lungs(q), *_about_scale(q), *_about_noise(q)]


def merged(notes: Sequence[str], quality: Quality) -> list[str]:
    """The notes of the reader and on the lungs, then the `warnings` on other subjects."""
    known = " | ".join(notes)
    covered = [word for subject in SUBJECTS if any(word in known for word in subject) for word in subject]
    return [*notes, *(warning for warning in warnings(quality) if not any(word in warning for word in covered))]


def _about_lungs(q: Quality) -> list[str]:
    notes = []
    if q.cut:
        notes.append(f"the lungs are cut off ({'; '.join(q.cut)}): volumes and percentages cover only a part")
    low, high = VOLUME_LITRES
    if not low <= q.lung_litres <= high:
        notes.append(
            f"the lungs measure {q.lung_litres:.1f} litres, outside {low:g} to {high:g}: the scan or the "
            "mask is incomplete, the spacing is wrong, or the patient is a child; volumes cannot be compared"
        )
    if q.level_hu > EXHALE_HU:
        notes.append(
            f"healthy lung reads {q.level_hu:.0f} HU: expiratory or diffusely dense; "
            "emphysema and GGO fractions are not comparable with inspiratory scans"
        )
    elif q.dense_share > DENSE_SHARE:
        notes.append(
            f"{100 * q.dense_share:.0f} % of the lungs is denser than {DENSE_HU[0]:.0f} HU, more than in any scan used "
            "to choose settings: the healthy level, and so every share, is uncertain"
        )
    if q.right_hu is not None and q.left_hu is not None and abs(q.right_hu - q.left_hu) > IMBALANCE_HU:
        notes.append(
            f"the right lung reads {q.right_hu:.0f} HU and the left {q.left_hu:.0f} HU: emphysema or GGO may be wrong "
            "throughout one of them (run.json records the healthy level of each)"
        )
    return notes


def _about_scale(q: Quality) -> list[str]:
    notes = []
    if q.air_hu is None and q.trachea_hu is not None and not TRACHEA_HU[0] <= q.trachea_hu <= TRACHEA_HU[1]:
        notes.append(
            f"air in the trachea reads {q.trachea_hu:.0f} HU: HU are not calibrated, and emphysema and density "
            "figures are off"
        )
    if q.blood_hu is not None and q.blood_hu > BLOOD_HU[1]:
        notes.append(
            f"tissue between the lungs reads {q.blood_hu:.0f} HU (without contrast: 30 to 60): contrast medium or a "
            "shifted scale; densities are not comparable, and vessels may look like fibrosis or consolidation"
        )
    if q.blood_hu is not None and q.blood_hu < BLOOD_HU[0]:
        notes.append(
            f"tissue between the lungs reads {q.blood_hu:.0f} HU (without contrast: 30 to 60): the scale is shifted, "
            "and emphysema and density figures are off"
        )
    return notes


def _about_noise(q: Quality) -> list[str]:
    notes = []
    if PIXEL_MM < q.pixel_mm <= THICK_MM:
        notes.append(
            f"pixels are {q.pixel_mm:.1f} mm wide (chest CT has 0.5 to 1 mm): the scan was resampled, and fine "
            "texture, and so fibrosis, cannot be recognised reliably"
        )
    if q.noise_hu is None or q.noise_per_mm is None or q.whiteness is None:
        return notes
    if q.noise_hu > NOISE_HU:
        notes.append(
            f"noise is {q.noise_hu:.0f} HU (more than {NOISE_HU:g}): LAA-950 counts noise as emphysema, and mild "
            "emphysema and fine fibrosis cannot be recognised"
        )
    if q.noise_hu < QUIET_HU or (q.noise_per_mm < BLURRED_PER_MM and q.whiteness < BLURRED_SHARE):
        notes.append(
            f"noise is only {q.noise_hu:.1f} HU and its grain {1 / q.noise_per_mm:.1f} mm: the scan was smoothed, and "
            "fibrosis and small lesions are blurred away"
        )
    elif q.noise_per_mm > SHARP_PER_MM or q.whiteness > WHITE_SHARE:
        notes.append(
            f"noise is concentrated at {q.noise_per_mm:.2f} cycles per mm: a sharp kernel; its noise looks like "
            "texture, and emphysema percentages are several points too high; prefer a soft kernel"
        )
    return notes
