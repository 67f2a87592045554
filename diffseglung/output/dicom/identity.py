"""Manufacturer, time and UIDs of the objects; UIDs are derived from the content."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from highdicom import UID, AlgorithmIdentificationSequence
from pydicom import Dataset

from diffseglung import __version__
from diffseglung.output.dicom.codes import BY_LEARNING, BY_RULE, PRIVATE
from diffseglung.output.dicom.source import PATIENT_STUDY, Source
from diffseglung.platform.out_of_core import slabs
from diffseglung.segmentation import Segmentation
from diffseglung.tissue.methods import WITHOUT_MODEL

NAME = "DiffSegLung"
NOTE = "Research use only. Not for diagnosis or treatment."
"""At most 64 characters, the length of an LO."""
SERIES_NUMBERS = {"seg": 9501, "sr": 9502, "sc": 9503}


@dataclass(frozen=True, eq=False)
class Identity:
    """root: hash of all that determines the result.  parameters: of the algorithm, as text.  learned: by a model.

    when: the run's time, or that of SOURCE_DATE_EPOCH (https://reproducible-builds.org/specs/source-date-epoch).
    """

    root: str
    method: str
    learned: bool
    parameters: dict[str, str]
    when: datetime = field(default_factory=lambda: _now())

    def uid(self, role: str) -> UID:
        """A UID for a role (`seg`, `seg series`, ...), the same whenever the result is the same (PS3.5 Annex B.2)."""
        digest = hashlib.sha256(f"{self.root} {role}".encode()).digest()
        return UID(f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}")

    def series(self, role: str) -> dict[str, Any]:
        """Attributes of series, instance and manufacturer, as arguments of highdicom."""
        return {
            "series_instance_uid": self.uid(f"{role} series"),
            "series_number": SERIES_NUMBERS[role],
            "sop_instance_uid": self.uid(role),
            "instance_number": 1,
            "manufacturer": NAME,
        }

    @property
    def algorithm(self) -> AlgorithmIdentificationSequence:
        """Name, family, version and settings (PS3.3 10.16)."""
        family = BY_LEARNING if self.learned else BY_RULE
        return AlgorithmIdentificationSequence(
            name=f"{NAME} {self.method}", family=family, version=__version__, source=NAME, parameters=self.parameters
        )


def identify(source: Source, segmentation: Segmentation) -> Identity:
    """The identity of a result of these images."""
    settings = segmentation.run.get("settings", {})
    model = (segmentation.run.get("model") or {}).get("sha256")
    digest = hashlib.sha256()
    for image in source.images:
        digest.update(str(image.SOPInstanceUID).encode() + b"\0")
    digest.update(json.dumps([settings, model, __version__], sort_keys=True).encode())
    for planes in slabs(segmentation.label_map.array):
        digest.update(segmentation.label_map.array[planes].tobytes())
    method = str(settings.get("method", "unknown"))
    parameters = {key: json.dumps(value) for key, value in sorted(settings.items()) if key != "method"}
    if model:
        parameters["model_sha256"] = str(model)
    return Identity(digest.hexdigest(), method, method not in WITHOUT_MODEL, parameters)


def stamp(item: Any, identity: Identity, source: Source, description: str) -> None:
    """Set what the library leaves open or draws at random: one time for all, UIDs, description, private scheme."""
    date, time = identity.when.strftime("%Y%m%d"), identity.when.strftime("%H%M%S")
    for name in ("InstanceCreation", "Content", "Series"):
        setattr(item, f"{name}Date", date)
        setattr(item, f"{name}Time", time)
    if "DateOfSecondaryCapture" in item:
        item.DateOfSecondaryCapture, item.TimeOfSecondaryCapture = date, time
    for equipment in item.get("ContributingEquipmentSequence", []):
        equipment.ContributionDateTime = f"{date}{time}"
    for part in (*item.get("DimensionOrganizationSequence", []), *item.get("DimensionIndexSequence", [])):
        part.DimensionOrganizationUID = identity.uid("dimensions")
    item.TimezoneOffsetFromUTC = "+0000"
    item.SeriesDescription = description
    item.ManufacturerModelName = NAME
    item.SoftwareVersions = __version__
    item.DeviceSerialNumber = __version__
    for name in PATIENT_STUDY:
        if name in source.first and name not in item:
            setattr(item, name, getattr(source.first, name))
    scheme = Dataset()
    scheme.CodingSchemeDesignator = PRIVATE
    scheme.CodingSchemeName = f"{NAME} densitometry"
    scheme.CodingSchemeResponsibleOrganization = NAME
    item.CodingSchemeIdentificationSequence = [scheme]


def _now() -> datetime:
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    return datetime.fromtimestamp(int(epoch), UTC) if epoch.isdigit() else datetime.now(UTC)
