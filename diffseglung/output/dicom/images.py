"""The label map as a DICOM Segmentation (PS3.3 A.51), and the picture as a Secondary Capture (A.8.1).

The Segmentation has one binary segment per class, numbered as in the label map. Its frames lie on the CT's own grid and
refer to its images; empty frames are omitted.
"""

from __future__ import annotations

import io

import numpy as np
from highdicom.color import CIELabColor
from highdicom.sc import SCImage
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentationTypeValues, SegmentDescription
from highdicom.seg import Segmentation as DicomSegmentation
from PIL import Image

from diffseglung import __version__
from diffseglung.labels import TISSUES, UNASSIGNED, Label
from diffseglung.output.dicom.codes import FINDINGS, LUNG
from diffseglung.output.dicom.identity import NAME, NOTE, Identity, stamp
from diffseglung.output.dicom.source import Source
from diffseglung.segmentation import Segmentation


def segments(segmentation: Segmentation, source: Source, identity: Identity) -> DicomSegmentation:
    """Every class of `labels.TISSUES` is a segment, even if empty; `unassigned` only if it occurs."""
    labels = source.in_frames(np.asarray(segmentation.label_map.array, np.uint8))
    shown = [*TISSUES, *([UNASSIGNED] if (labels == UNASSIGNED.id).any() else [])]
    item = DicomSegmentation(
        source_images=source.images,
        pixel_array=labels,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[_describe(label, identity) for label in shown],
        **identity.series("seg"),
        manufacturer_model_name=NAME,
        software_versions=__version__,
        device_serial_number=__version__,
        content_label="LUNG_PATHOLOGY",
        content_description=NOTE,
    )
    stamp(item, identity, source, f"{NAME} lung pathology (research use only)")
    return item


def _describe(label: Label, identity: Identity) -> SegmentDescription:
    category, kind = FINDINGS[label.id]
    item = SegmentDescription(
        segment_number=label.id,
        segment_label=label.title,
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=identity.algorithm,
        tracking_uid=identity.uid(f"segment {label.id}"),
        tracking_id=f"{NAME} {label.name}",
        anatomic_regions=None if kind is LUNG else [LUNG],
        display_color=CIELabColor.from_rgb(*label.colour),
    )
    item.SegmentDescription = NOTE
    return item


def capture(picture: bytes, source: Source, identity: Identity) -> SCImage:
    """A PNG as 8-bit RGB with lossless RLE compression, for archives that show nothing else."""
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
    item = SCImage.from_ref_dataset(
        ref_dataset=source.first,
        pixel_array=pixels,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "P"),
        transfer_syntax_uid="1.2.840.10008.1.2.5",
        **identity.series("sc"),
    )
    stamp(item, identity, source, f"{NAME} picture (research use only)")
    item["PatientOrientation"].value = None  # several planes have no single orientation, but the library requires one
    item.BodyPartExamined = "CHEST"
    item.ImageComments = NOTE
    item.BurnedInAnnotation = "YES"
    return item
