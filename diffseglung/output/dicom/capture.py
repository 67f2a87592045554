"""The picture as a Secondary Capture, for archives that show nothing else (PS3.3 A.8.1)."""

from __future__ import annotations

import io

import numpy as np
from highdicom.sc import SCImage
from PIL import Image

from diffseglung.output.dicom.identity import NAME, NOTE, Identity, stamp
from diffseglung.output.dicom.source import Source


def capture(picture: bytes, source: Source, identity: Identity) -> SCImage:
    """picture: PNG; becomes 8-bit RGB, RLE compressed without loss."""
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
    item["PatientOrientation"].value = None  # a page of several planes has none, and the library asks for one
    item.BodyPartExamined = "CHEST"
    item.ImageComments = NOTE
    item.BurnedInAnnotation = "YES"
    return item
