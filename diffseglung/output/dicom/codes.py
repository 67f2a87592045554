"""Coded concepts of the results.

SNOMED CT (SCT) for anatomy and findings, DICOM (DCM, PS3.16 Annex D) for quantities, UCUM for units. GGO also has a
DICOM code (112120); SNOMED CT's is used so that all findings are from one scheme. Densitometric shares have no code in
either; they use the private scheme 99DIFFSEGLUNG, as PS3.3 Section 8.2 allows.
"""

from __future__ import annotations

from highdicom.sr import CodedConcept

from diffseglung.labels import CONSOLIDATION, EMPHYSEMA, FIBROSIS, GGO, HEALTHY, UNASSIGNED

PRIVATE = "99DIFFSEGLUNG"


def _sct(value: str, meaning: str) -> CodedConcept:
    return CodedConcept(value=value, scheme_designator="SCT", meaning=meaning)


def _dcm(value: str, meaning: str) -> CodedConcept:
    return CodedConcept(value=value, scheme_designator="DCM", meaning=meaning)


def _unit(value: str, meaning: str) -> CodedConcept:
    return CodedConcept(value=value, scheme_designator="UCUM", meaning=meaning)


def private(value: str, meaning: str) -> CodedConcept:
    """A concept of the private scheme."""
    return CodedConcept(value=value, scheme_designator=PRIVATE, meaning=meaning)


LUNG = _sct("39607008", "Lung")
RIGHT, LEFT = _sct("24028007", "Right"), _sct("7771000", "Left")
LATERALITY = {"right": RIGHT, "left": LEFT}
ANATOMY = _sct("91723000", "Anatomical Structure")
ABNORMAL = _sct("49755003", "Morphologically Abnormal Structure")

FINDINGS = {
    HEALTHY.id: (ANATOMY, LUNG),
    EMPHYSEMA.id: (ABNORMAL, _sct("87433001", "Pulmonary emphysema")),
    GGO.id: (ABNORMAL, _sct("1217294009", "Ground glass opacity")),
    FIBROSIS.id: (ABNORMAL, _sct("51615001", "Fibrosis of lung")),
    CONSOLIDATION.id: (ABNORMAL, _sct("95436008", "Lung consolidation")),
    UNASSIGNED.id: (ANATOMY, LUNG),
}
"""Label id -> (category, type) of its segment (PS3.3 C.8.20.2; PS3.16 CID 7150 for categories)."""

VOLUME = _sct("118565006", "Volume")
ATTENUATION = _dcm("112031", "Attenuation Coefficient")
MEAN = _sct("373098007", "Mean")
SHARE = private("lung-share", "Share of lung volume")

HAA = private("HAA", "Lung volume from -600 to -250 HU")
PERCENTILE_15 = private("perc15", "15th percentile of lung attenuation")
MILLILITRE, PERCENT, HOUNSFIELD = _unit("mL", "mL"), _unit("%", "percent"), _unit("[hnsf'U]", "Hounsfield unit")

CHEST_CT = _sct("169069000", "CT of thorax")
BY_RULE, BY_LEARNING = _dcm("123101", "Neighborhood Analysis"), _dcm("123110", "Artificial Intelligence")
"""Families of algorithms (PS3.16 CID 7162): a rule on local HU; a method fitted to data."""


def laa(limit_hu: int) -> CodedConcept:
    """Share of the lung below a density."""
    return private(f"LAA{limit_hu}", f"Lung volume below {limit_hu} HU")
