"""`Series`: the images of one DICOM series, and what tells it from others of the same examination."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from diffseglung.io.dicom.checks import check, in_order, require_ct, require_long, unique
from diffseglung.io.dicom.grid import normal_of
from diffseglung.io.dicom.slices import Slice
from diffseglung.platform.errors import InputError

THIN_MM = 2.5
"""Thickness and distance up to which fine texture of the lung is shown."""
_AXIAL_COSINE = 0.8
"""Slices across the body, tilted by less than 37 degrees: beyond, the nearest plane may be another one."""
_SHARP = re.compile(
    r"^(B[6-9]\d[a-z]?|[BQH][rlvf]?[6-9]\d[a-z]?|Bl5\d[a-z]?|U[6-9]\d[a-z]?|LUNG|BONE|BONEPLUS|EDGE|DETAIL|ULTRA|L|D"
    r"|Y[A-E]|FC30|FC5\d|FC8\d)$",
    re.IGNORECASE,
)
"""Convolution kernels that vendors recommend for lung or bone display: Siemens, GE, Philips, Canon."""
_NAME = "the series"


@dataclass(frozen=True, eq=False)
class Series:
    """All images of one SeriesInstanceUID that are of one kind: CT slices, or something else."""

    slices: tuple[Slice, ...]

    @property
    def first(self) -> Slice:
        """Stands for all where they agree."""
        return self.slices[0]

    @property
    def label(self) -> str:
        """Its number, else its UID."""
        uid = self.first.series_uid
        return self.first.series_number or (uid if re.fullmatch(r"[0-9.]{1,64}", uid) else "without a number")

    @property
    def title(self) -> str:
        """For messages: number, description, slices."""
        return f"{self.label} ({self.first.description or 'no description'}, {self.count} slices)"

    @cached_property
    def _ordered(self) -> tuple[Slice, ...]:
        """Sorted and without doubles; as they came where they have no place."""
        try:
            return tuple(unique(in_order(self.slices)))
        except (InputError, ValueError):
            return ()

    @property
    def count(self) -> int:
        """Slices at places of their own; images, where they have no place."""
        return len(self._ordered) or len(self.slices)

    @cached_property
    def spacing_mm(self) -> float | None:
        """Usual distance between slices."""
        if len(self._ordered) < 2:
            return None
        normal = normal_of(self._ordered[0].cosines, "")
        return round(float(np.median(np.diff([s.position @ normal for s in self._ordered]))), 4)

    @property
    def coverage_mm(self) -> float:
        """Length along the slice normal."""
        return self.count * (self.spacing_mm or 0.0)

    @property
    def is_axial(self) -> bool:
        """Whether the slices lie across the body."""
        try:
            return bool(abs(normal_of(self.first.cosines, "")[2]) > _AXIAL_COSINE)
        except (InputError, ValueError):
            return False

    @property
    def is_original(self) -> bool:
        """Reconstructed from the measurement, not from other images (ImageType ORIGINAL, PRIMARY; or not told)."""
        kind = [word for word in self.first.image_type if word]
        return kind[:2] == ["ORIGINAL", "PRIMARY"] or not kind

    @property
    def is_thin(self) -> bool:
        """Slices thin and near each other."""
        return max(self.first.thickness_mm or 0.0, self.spacing_mm or np.inf) <= THIN_MM

    @property
    def is_sharp(self) -> bool:
        """Whether the kernel is one for lung or bone display."""
        return is_sharp(self.first.kernel)

    @cached_property
    def foreign(self) -> str:
        """What it is instead of a CT in HU; empty for a CT."""
        if self.first.foreign:
            return f"no CT but {self.first.foreign}"
        try:
            require_ct(self.slices, _NAME)
        except InputError as error:
            return error.problem
        return ""

    @cached_property
    def defect(self) -> InputError | None:
        """Why it cannot be read, as far as headers tell; None where nothing is against it."""
        if self.first.foreign:
            return InputError(f"{_NAME} is {self.foreign}", remedy="pass a CT series of the chest")
        try:
            check(self.slices, _NAME)
            require_long(self.count, _NAME)
        except InputError as error:
            return error
        return None


def is_sharp(kernel: str) -> bool:
    """Whether a convolution kernel is for lung or bone display; strengths behind a slash do not count."""
    return bool(_SHARP.match(kernel.split("/")[0].strip()))


def group(images: Iterable[Slice]) -> list[Series]:
    """Images by series and kind, in the order of series numbers."""
    found: dict[tuple[str, str], list[Slice]] = defaultdict(list)
    for item in images:
        found[item.series_uid, item.foreign].append(item)
    return sorted((Series(tuple(slices)) for slices in found.values()), key=_order)


def _order(series: Series) -> tuple[int, str, str]:
    number = series.first.series_number
    return int(number) if number.isdecimal() else 10**9, number, series.first.series_uid
