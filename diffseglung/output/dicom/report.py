"""The measurements as a DICOM Structured Report: Comprehensive 3D SR after TID 1500 (PS3.16).

One group per class, which refers to its segment: volume, share of the lung and mean HU, of both lungs and of each; one
group for the lungs: volume and densitometry. Unknown values are omitted.
"""

from __future__ import annotations

from typing import Any

import highdicom
from highdicom.sr import (
    AlgorithmIdentification,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    ReferencedSegment,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.sr.codedict import codes

from diffseglung import __version__
from diffseglung.labels import TISSUES, Label
from diffseglung.output.dicom import codes as own
from diffseglung.output.dicom.identity import NAME, Identity, stamp
from diffseglung.output.dicom.source import Source
from diffseglung.output.statistics import LAA_HU
from diffseglung.segmentation import Segmentation

Group = MeasurementsAndQualitativeEvaluations | VolumetricROIMeasurementsAndQualitativeEvaluations


def report(
    segmentation: Segmentation, source: Source, identity: Identity, labels: highdicom.seg.Segmentation | None
) -> Comprehensive3DSR:
    """The measurements as a report.  labels: the Segmentation that they refer to, None if there is none."""
    statistics = segmentation.statistics
    device = DeviceObserverIdentifyingAttributes(
        uid=identity.uid("device"), name=NAME, manufacturer_name=NAME, model_name=identity.method,
        serial_number=__version__,
    )  # fmt: skip
    context = ObservationContext(observer_device_context=ObserverContext(codes.DCM.Device, device))
    present = [label for label in TISSUES if labels is not None and _has_frames(labels, label)]
    groups = [
        _class_group(label, statistics[label.name], identity, labels if label in present else None) for label in TISSUES
    ]
    content = MeasurementReport(
        observation_context=context,
        procedure_reported=own.CHEST_CT,
        imaging_measurements=[*groups, _lung_group(statistics["lung"], identity)],
        title=codes.DCM.ImagingMeasurementReport,
        referenced_images=None if "NumberOfFrames" in source.first else source.images,  # for slices only (TID 1600)
    )
    evidence = [*source.images, *([] if labels is None else [labels])]
    item = Comprehensive3DSR(
        evidence=evidence, content=content, **identity.series("sr"), is_complete=True, is_final=False, is_verified=False
    )
    stamp(item, identity, source, f"{NAME} measurements (research use only)")
    return item


def _has_frames(labels: Any, label: Label) -> bool:
    return any(
        int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber) == label.id
        for frame in labels.PerFrameFunctionalGroupsSequence
    )


def _class_group(label: Label, entry: dict[str, Any], identity: Identity, labels: Any) -> Group:
    """The group of a class: with a reference to its segment (TID 1411), or without one (TID 1501)."""
    shared: dict[str, Any] = {
        "tracking_identifier": TrackingIdentifier(
            uid=identity.uid(f"segment {label.id}"), identifier=f"{NAME} {label.name}"
        ),
        "finding_type": own.FINDINGS[label.id][1],
        "finding_category": own.FINDINGS[label.id][0],
        "finding_sites": [FindingSite(anatomic_location=own.LUNG)],
        "algorithm_id": _algorithm(identity),
        "measurements": [
            *_amounts(entry, None),
            *(m for side, site in own.LATERALITY.items() for m in _amounts(entry[side], site)),
        ],
    }
    if labels is None:
        return MeasurementsAndQualitativeEvaluations(**shared)
    segment = ReferencedSegment.from_segmentation(labels, segment_number=label.id)
    return VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=segment, **shared)


def _lung_group(lung: dict[str, Any], identity: Identity) -> Group:
    """The group of the lungs: volume and densitometry of both and of each."""
    parts = [(lung, None), *((lung[side], site) for side, site in own.LATERALITY.items())]
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=identity.uid("lungs"), identifier=f"{NAME} lungs"),
        finding_type=own.LUNG,
        finding_category=own.ANATOMY,
        algorithm_id=_algorithm(identity),
        measurements=[m for part, site in parts for m in _densities(part, site)],
    )


def _algorithm(identity: Identity) -> AlgorithmIdentification:
    parameters = [f"{key} = {value}" for key, value in identity.parameters.items()]
    return AlgorithmIdentification(name=f"{NAME} {identity.method}", version=__version__, parameters=parameters)


def _amounts(entry: dict[str, Any], site: Any) -> list[Measurement]:
    return [
        *_measured(own.VOLUME, entry["volume_ml"], own.MILLILITRE, site),
        *_measured(own.SHARE, _percent(entry["fraction_of_lung"]), own.PERCENT, site),
        *_measured(own.ATTENUATION, entry["mean_hu"], own.HOUNSFIELD, site, own.MEAN),
    ]


def _densities(part: dict[str, Any], site: Any) -> list[Measurement]:
    shares = [(own.laa(limit), part[f"LAA{limit}"]) for limit in LAA_HU] + [(own.HAA, part["HAA"])]
    return [
        *_measured(own.VOLUME, part["volume_ml"], own.MILLILITRE, site),
        *_measured(own.ATTENUATION, part["mean_lung_density_hu"], own.HOUNSFIELD, site, own.MEAN),
        *_measured(own.PERCENTILE_15, part["percentiles_hu"]["15"], own.HOUNSFIELD, site),
        *(m for name, value in shares for m in _measured(name, _percent(value), own.PERCENT, site)),
    ]


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction


def _measured(name: Any, value: float | None, unit: Any, site: Any, derivation: Any = None) -> list[Measurement]:
    """One measurement (TID 300); none if the value is unknown."""
    if value is None:
        return []
    where = None if site is None else [FindingSite(anatomic_location=own.LUNG, laterality=site)]
    number = float(f"{value:.6g}")
    return [Measurement(name=name, value=number, unit=unit, derivation=derivation, finding_sites=where)]
