"""The catalogue of evaluation cases: fixed lists of cases with known ground truth, and how they are made.

`test` is for reporting, `dev` for choosing settings, `quick` for smoke tests. A case is fully synthetic
("phantom"), is drawn into a real scan ("drawn"), or is a real scan without drawn lesions ("real"). Backgrounds are only
near normal: LIDC-IDRI-1011 has nodules; A0002 has a tumour in the right lung, so lesions are drawn and scored in the
left lung only; LCTSC 203 has some disease. Existing disease counts as healthy for every method.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffseglung.io.tree import look_below
from diffseglung.phantom.folder import write_case_folder
from diffseglung.phantom.lesions import MODELS
from diffseglung.phantom.record import Phantom
from diffseglung.platform import serialization
from diffseglung.platform.config import CASE_LISTS, PhantomConfig
from diffseglung.platform.errors import InputError
from diffseglung.volume import Volume

VERSION = 1
"""Incremented with every change of a list, a generator, a condition or a severity."""
SHIPPED = Path(__file__).parents[1] / "demo"
"""Backgrounds that come with the repository (not with an installed package)."""


@dataclass(frozen=True, kw_only=True)
class Background:
    """A near-normal scan. File names, the first characters of the files' SHA-256, and where to get it."""

    ct: str
    lungs: str
    ct_sha256: str
    lungs_sha256: str
    source: str


_DEMO = "the folder demo of the repository holds it"
BACKGROUNDS: dict[str, Background] = {
    "lidc_1011": Background(
        ct="lidc_1011.nii.gz",
        lungs="lidc_1011_lungs.nii.gz",
        ct_sha256="e65d7f5c48db7ddb",
        lungs_sha256="5e2e690c474fe68b",
        source=_DEMO,
    ),
    "lungdx_A0002_s2": Background(
        ct="lungdx_A0002_s2.nii.gz",
        lungs="lungdx_A0002_s2_left_lung.nii.gz",
        ct_sha256="3fcaf9214db94fb6",
        lungs_sha256="8971cc4ee2f6e434",
        source=_DEMO,
    ),
    "lungdx_A0002_s3": Background(
        ct="lungdx_A0002_s3.nii.gz",
        lungs="lungdx_A0002_s3_left_lung.nii.gz",
        ct_sha256="5683acd0e97e600c",
        lungs_sha256="56cf9f24bee9bd44",
        source=_DEMO,
    ),
    "lctsc_203": Background(
        ct="lctsc_Test-S1-203.nii.gz",
        lungs="lctsc_Test-S1-203_lung.nii.gz",
        ct_sha256="681fe2c43098f57a",
        lungs_sha256="ea811ff62aee0016",
        source="it is not shipped; a copy of LCTSC-Test-S1-203 goes into the folder of backgrounds",
    ),
}


@dataclass(frozen=True, kw_only=True)
class CaseSpec:
    """One evaluation case.

    name:       of the folder, unique in the list.
    split:      "dev" or "test": the parameter ranges from which lesions and chest are drawn.
    kind:       "phantom", "drawn" (lesions in a real scan), or "real" (unmodified; all lung counts as healthy).
    models:     lesion models; () if nothing is drawn.
    background: short name of the real scan, else None.
    condition:  scan protocol; severity: extent of disease; as in `PhantomConfig`, or "healthy".
    novelty:    "unseen" if every model is kept out of training and development, "seen" if none is, else "mixed";
                "healthy" if there are no models.
    size:       of a phantom.
    """

    name: str
    split: str
    kind: str
    seed: int
    models: tuple[str, ...]
    background: str | None
    condition: str
    severity: str
    novelty: str
    size: str = "full"

    @property
    def strata(self) -> dict[str, str]:
        """Dimensions by which results are stratified."""
        return {
            "kind": self.kind,
            "condition": self.condition,
            "severity": self.severity,
            "novelty": self.novelty,
        }


def make_case(spec: CaseSpec, folder: Path, backgrounds: Path | None) -> None:
    """Write folder/{ct,lungs,truth}.nii.gz and meta.json; does nothing if the case already exists.

    backgrounds: a folder to search, with its sub-folders, for real scans that are not shipped.
    The same spec gives the same bytes. Raises InputError if the background is missing or a different file.
    """
    identity = {"spec": json.loads(json.dumps(dataclasses.asdict(spec))), "catalogue_version": VERSION}
    if _is_made(folder, identity):
        return
    case = _draw(spec, backgrounds)
    write_case_folder(dataclasses.replace(case, meta=case.meta | identity), folder)


def _is_made(folder: Path, identity: dict[str, Any]) -> bool:
    """Whether the folder holds the complete case of this identity."""
    if not all((folder / name).is_file() for name in ("ct.nii.gz", "lungs.nii.gz", "truth.nii.gz", "meta.json")):
        return False
    try:
        meta = serialization.read(folder / "meta.json")
    except ValueError:
        return False
    return isinstance(meta, dict) and all(meta.get(key) == value for key, value in identity.items())


def _draw(spec: CaseSpec, backgrounds: Path | None) -> Phantom:
    """Generate the case of a spec."""
    from diffseglung.phantom.procedural import make_phantom
    from diffseglung.phantom.protocol import rescan
    from diffseglung.phantom.semisynthetic import add_lesions

    if spec.background is None:
        return make_phantom(
            PhantomConfig(
                seed=spec.seed,
                split=spec.split,
                size=spec.size,
                healthy=not spec.models,
                models=spec.models,
                condition=spec.condition,
                severity="any" if spec.severity == "healthy" else spec.severity,
            )
        )
    ct, lungs = _background(spec.background, backgrounds)
    if spec.models:
        case = add_lesions(ct, lungs, spec.seed, split=spec.split, models=spec.models, severity=spec.severity)
    else:
        healthy = lungs.with_array((lungs.array > 0).astype(np.uint8))
        case = Phantom(ct, lungs, healthy, {"generator": "none", "version": 1, "lesions": []})
    made = rescan(case, spec.condition, seed=spec.seed, split=spec.split)
    return dataclasses.replace(made, meta=made.meta | {"background": spec.background})


def _background(name: str, folder: Path | None) -> tuple[Volume, Volume]:
    """HU and lungs (1 right, 2 left) of a real scan."""
    from diffseglung import io
    from diffseglung.lungs.masks import adapt_mask

    entry = BACKGROUNDS[name]
    ct = io.read_volume(_find(entry.ct, entry.ct_sha256, folder, entry.source))
    mask = io.read_mask(_find(entry.lungs, entry.lungs_sha256, folder, entry.source))
    return ct, adapt_mask(mask, ct)


def _find(name: str, sha256: str, folder: Path | None, source: str) -> Path:
    """The file of that name and content, shipped or anywhere below the folder."""
    below = look_below(folder).called(name) if folder is not None else []
    found = [path for path in (SHIPPED / name, *below) if path.is_file()]
    for path in found:
        if hashlib.sha256(path.read_bytes()).hexdigest().startswith(sha256):
            return path
    if found:
        raise InputError(
            f"{found[0]} is not the file that the catalogue was made with (SHA-256 {sha256}...)", remedy=source
        )
    raise InputError(
        f"the background {name} is needed and was not found",
        remedy=f"give the folder that holds it as backgrounds; {source}",
    )


def _novelty(models: tuple[str, ...]) -> str:
    """Whether these models occur in training or development."""
    if not models:
        return "healthy"
    unseen = {m.name for m in MODELS if m.splits == ("test",)}
    count = len(unseen & set(models))
    return "unseen" if count == len(models) else "mixed" if count else "seen"


def _phantom(
    seed: int, condition: str, severity: str, *models: str, split: str = "test", size: str = "full"
) -> CaseSpec:
    """A fully synthetic chest."""
    return CaseSpec(
        name=f"phantom_{seed}_{condition}_{severity}",
        split=split,
        kind="phantom",
        seed=seed,
        models=models,
        background=None,
        condition=condition,
        severity=severity,
        novelty=_novelty(models),
        size=size,
    )


def _drawn(seed: int, background: str, condition: str, severity: str, *models: str) -> CaseSpec:
    """Lesions in a real scan."""
    return CaseSpec(
        name=f"{background}_{seed}_{condition}_{severity}",
        split="dev" if background == "lctsc_203" else "test",
        kind="drawn" if models else "real",
        seed=seed,
        models=models,
        background=background,
        condition=condition,
        severity=severity,
        novelty=_novelty(models),
    )


_UNSEEN = ("ggo_faint_gradient", "consolidation_organising", "emphysema_bullous", "fibrosis_traction")
_FAINT, _ORGANISING, _BULLOUS, _TRACTION = _UNSEEN
_CENTRI, _PAN, _SEPTAL = "emphysema_centrilobular", "emphysema_panlobular", "emphysema_paraseptal"
_GEO, _NODULAR, _PAVING = "ggo_geographic", "ggo_nodular", "ggo_crazy_paving"
_RETI, _SPARSE, _HONEY = "fibrosis_reticulation", "fibrosis_sparse", "fibrosis_honeycomb"
_LOBAR, _PATCHY = "consolidation_lobar", "consolidation_patchy"

_TEST = (
    # entirely healthy; in exhale, healthy lung is as dense as ground glass
    _phantom(2000, "standard", "healthy"),
    _phantom(2001, "low_dose", "healthy"),
    _phantom(2002, "exhale", "healthy"),
    # faint haze crossed by vessels; early mesh on ground glass; small consolidation at the chest wall
    _phantom(2103, "standard", "subtle", *_UNSEEN),
    _phantom(2004, "standard", "moderate", *_UNSEEN),
    _phantom(2005, "standard", "extensive", _FAINT, _ORGANISING, _TRACTION),
    _phantom(2006, "low_dose", "moderate", _FAINT, _BULLOUS, _TRACTION),
    _phantom(2007, "sharp", "extensive", _ORGANISING, _BULLOUS, _TRACTION),
    _phantom(2008, "thick", "subtle", *_UNSEEN),
    _phantom(2109, "exhale", "moderate", *_UNSEEN),
    # mild emphysema beside healthy lung at about -880 HU
    _phantom(2210, "standard", "subtle", _CENTRI, _SEPTAL),
    _phantom(2011, "standard", "subtle", _PAN, _RETI, _GEO),
    # early reticulation beside crazy paving, which is ground glass with lines
    _phantom(2012, "standard", "moderate", _RETI, _PAVING, _PATCHY),
    # honeycomb cysts as dark as emphysema
    _phantom(2013, "standard", "extensive", _HONEY, _CENTRI),
    _phantom(2014, "sharp", "moderate", _HONEY, _SEPTAL, _NODULAR),
    _phantom(2015, "low_dose", "extensive", _GEO, _LOBAR, _CENTRI, _SPARSE),
    # small consolidation at the chest wall, small soft nodules
    _phantom(2016, "standard", "subtle", _PATCHY, _NODULAR, _SPARSE),
    _phantom(2017, "thick", "extensive", _LOBAR, _PAN, _HONEY),
    # models that training draws beside models that it does not
    _phantom(2018, "standard", "moderate", _GEO, _ORGANISING, _SEPTAL, _TRACTION),
    _phantom(2119, "standard", "extensive", _FAINT, _LOBAR, _BULLOUS, _HONEY),
    _phantom(2020, "standard", "subtle", _FAINT, _PATCHY, _CENTRI, _TRACTION),
    _phantom(2221, "low_dose", "subtle", _PAVING, _ORGANISING, _SEPTAL),
    _phantom(2022, "sharp", "moderate", _NODULAR, _LOBAR, _BULLOUS, _RETI),
    _phantom(2023, "exhale", "extensive", _FAINT, _PATCHY, _CENTRI, _HONEY),
    # drawn into real scans
    _drawn(2830, "lidc_1011", "standard", "subtle", *_UNSEEN),
    _drawn(2031, "lidc_1011", "standard", "extensive", *_UNSEEN),
    _drawn(2032, "lidc_1011", "sharp", "moderate", _FAINT, _ORGANISING, _TRACTION),
    _drawn(2033, "lidc_1011", "standard", "moderate", _CENTRI, _NODULAR, _HONEY, _LOBAR),
    _drawn(2034, "lidc_1011", "low_dose", "subtle", _SEPTAL, _GEO, _RETI),
    _drawn(2035, "lidc_1011", "standard", "extensive", _HONEY, _CENTRI, _PAVING),
    _drawn(2036, "lidc_1011", "standard", "moderate", _FAINT, _PATCHY, _SEPTAL, _TRACTION),
    _drawn(2037, "lidc_1011", "thick", "subtle", _PAVING, _ORGANISING, _CENTRI, _SPARSE),
    # thick slices of a real scanner
    _drawn(2338, "lungdx_A0002_s3", "thick", "moderate", *_UNSEEN),
    _drawn(2139, "lungdx_A0002_s3", "thick", "extensive", _NODULAR, _LOBAR, _PAN),
    _drawn(2040, "lungdx_A0002_s2", "thick", "moderate", _GEO, _BULLOUS, _RETI),
    _drawn(2241, "lungdx_A0002_s2", "thick", "extensive", _FAINT, _LOBAR, _TRACTION),
    _drawn(2042, "lidc_1011", "standard", "healthy"),
)
_DEV = (
    _phantom(500, "standard", "healthy", split="dev"),
    _phantom(501, "low_dose", "healthy", split="dev"),
    _phantom(502, "standard", "subtle", _PAVING, _PATCHY, _SEPTAL, _RETI, split="dev"),
    _phantom(703, "standard", "moderate", _GEO, _PATCHY, _PAN, _HONEY, split="dev"),
    _phantom(704, "standard", "extensive", _PAVING, _LOBAR, _CENTRI, _SPARSE, split="dev"),
    _phantom(505, "standard", "subtle", _PAN, _SPARSE, _NODULAR, split="dev"),
    _phantom(506, "low_dose", "moderate", _GEO, _LOBAR, _SEPTAL, _RETI, split="dev"),
    _phantom(507, "sharp", "subtle", _PAVING, _PATCHY, _CENTRI, _SPARSE, split="dev"),
    _phantom(508, "thick", "moderate", _GEO, _PATCHY, _PAN, _HONEY, split="dev"),
    _phantom(609, "exhale", "moderate", _NODULAR, _LOBAR, _SEPTAL, _RETI, split="dev"),
    _phantom(510, "standard", "extensive", _HONEY, _SEPTAL, _GEO, split="dev"),
    _phantom(511, "exhale", "subtle", _PAVING, _PAN, _RETI, split="dev"),
    _drawn(620, "lctsc_203", "standard", "subtle", _PAVING, _PATCHY, _SEPTAL, _RETI),
    _drawn(721, "lctsc_203", "standard", "moderate", _GEO, _LOBAR, _PAN, _HONEY),
    _drawn(722, "lctsc_203", "standard", "extensive", _PAVING, _PATCHY, _CENTRI, _SPARSE),
    _drawn(723, "lctsc_203", "low_dose", "moderate", _NODULAR, _PATCHY, _SEPTAL, _RETI),
    _drawn(524, "lctsc_203", "sharp", "subtle", _GEO, _LOBAR, _PAN, _SPARSE),
    _drawn(725, "lctsc_203", "thick", "extensive", _PAVING, _LOBAR, _CENTRI, _HONEY),
)
_QUICK = (
    _phantom(600, "standard", "moderate", _GEO, _PATCHY, _PAN, _HONEY, split="dev", size="small"),
    _phantom(601, "low_dose", "moderate", _PAVING, _LOBAR, _SEPTAL, _RETI, split="dev", size="small"),
    _phantom(602, "thick", "extensive", _GEO, _PATCHY, _CENTRI, _SPARSE, split="dev", size="small"),
)
LISTS: dict[str, tuple[CaseSpec, ...]] = dict(zip(CASE_LISTS, (_TEST, _DEV, _QUICK), strict=True))
"""The lists by name. Choose settings on dev only."""
