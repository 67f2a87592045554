"""What each column of the cohort's table is called, its unit and its range: for the page and for REDCap."""

from __future__ import annotations

from dataclasses import dataclass

from diffseglung.cohort.table import COLUMNS, TEXTS
from diffseglung.labels import TISSUES


@dataclass(frozen=True)
class Column:
    """One column.  digits: after the point, where it is shown;  low, high: what the value cannot be beyond."""

    name: str
    title: str
    unit: str = ""
    note: str = ""
    digits: int = 0
    low: int | None = None
    high: int | None = None

    @property
    def is_text(self) -> bool:
        """Whether its values are words."""
        return self.name in TEXTS


def _tissue(name: str, title: str) -> tuple[Column, Column]:
    return (
        Column(f"{name}_ml", title, "mL", "volume in both lungs", 0, 0),
        Column(f"{name}_percent", title, "%", "share of both lungs", 1, 0, 100),
    )


_KNOWN = (
    Column("scan", "Scan", note="folder of the scan's results"),
    Column("input", "Input", note="file or DICOM folder that was read"),
    Column("status", "Status"),
    Column("error", "Reason of failure"),
    Column("seconds", "Time", "s", "computing time of this scan", 1, 0),
    Column("slice_mm", "Slice distance", "mm", "between neighbouring slices", 2, 0),
    Column("pixel_mm", "Pixel width", "mm", "the larger of rows and columns", 2, 0),
    Column("noise_hu", "Noise", "HU", "standard deviation inside the body", 0, 0),
    Column("healthy_level_hu", "Healthy level", "HU", "density of this scan's healthy lung", 0),
    Column(
        "lung_score", "Lung score", "", "whether the lung mask can be right, 0 to 1; look at it below 0.75", 2, 0, 1
    ),
    Column("lung_ml", "Lung volume", "mL", "both lungs", 0, 0),
    Column("mean_lung_density_hu", "Mean lung density", "HU", "both lungs", 0),
    Column("laa950_percent", "LAA-950", "%", "share of both lungs below -950 HU", 1, 0, 100),
    Column("haa_percent", "HAA", "%", "share of both lungs from -600 to -250 HU", 1, 0, 100),
    Column("perc15_hu", "15th percentile", "HU", "of lung density", 0),
    *(column for label in TISSUES for column in _tissue(label.name, label.title)),
    *_tissue("lesions", "All lesions"),
    Column("warnings", "Warnings", note="why not to trust some of it"),
    Column("method", "Method"),
    Column("model_sha256", "Model", note="SHA-256 of the weights file"),
    Column("version", "Version", note="of DiffSegLung"),
)
BY_NAME = {column.name: column for column in _KNOWN}
ALL = tuple(BY_NAME[name] for name in COLUMNS)
"""The table's columns in its order."""
