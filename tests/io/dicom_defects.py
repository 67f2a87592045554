"""Named ways to damage a good DICOM folder, each with what the reader must make of it.

`DEFECTS` maps a name to a `Defect`: a function that damages the folder, and the outcome: refused with a sentence, or
repaired, so that the scan equals the undamaged one.
"""

from __future__ import annotations

import shutil
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from diffseglung.io.identity import hash_of
from diffseglung.volume import Volume
from tests.io.conftest import set_pixels, write_series_of

Files = list[Path]
SLOPE_Z = 3.0
"""HU that the good series gains from slice to slice."""


@dataclass(frozen=True)
class Defect:
    """damage: changes the folder of files, given in their order along Z.  refused: a pattern of the sentence, or None
    where the defect is repaired.  note: what a note of the repaired scan says.  hu: how far its values may be off."""

    damage: Callable[[Files], object]
    refused: str | None = None
    note: str = ""
    hu: float = 0.0


DEFECTS: dict[str, Defect] = {}


def good_volume() -> Volume:
    """12 x 16 x 16 voxels of 2 x 0.8 x 0.7 mm: lungs in a body in air, each slice 3 HU denser than the one below; one
    corner lies outside what was reconstructed."""
    hu = np.full((16, 16), -1000.0)
    hu[2:14, 1:15] = 40
    hu[4:12, 3:7] = hu[4:12, 9:13] = -860
    hu = np.rint(hu + np.random.default_rng(3).normal(0, 8, hu.shape))
    outside = np.add.outer(np.arange(16), np.arange(16)) < 3
    affine = np.zeros((4, 4))
    affine[[2, 1, 0, 3], [0, 1, 2, 3]] = [2.0, 0.8, 0.7, 1]
    affine[:3, 3] = (-10.0, 20.5, 30.25)
    volume = np.maximum(hu, -1000) + SLOPE_Z * np.arange(12)[:, None, None]
    return Volume(np.where(outside, -1024, volume).astype(np.float32), affine)


def write_good(folder: Path) -> Files:
    """The good series; its files in order along Z."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / name for name, _ in _good_files()]
    for path, (_, content) in zip(files, _good_files(), strict=True):
        path.write_bytes(content)
    return files


@cache
def _good_files() -> list[tuple[str, bytes]]:
    with tempfile.TemporaryDirectory() as folder:
        return [(p.name, p.read_bytes()) for p in write_series_of(Path(folder), good_volume(), edit=_complete)]


def _complete(dataset: Any, k: int) -> None:
    dataset.StudyInstanceUID, dataset.RescaleType, dataset.ConvolutionKernel = "1.2.3.7", "HU", "B30f"


def refused(pattern: str) -> Callable[[Callable[[Files], object]], None]:
    """Register a defect that must be refused."""
    return lambda damage: DEFECTS.update({damage.__name__: Defect(damage, pattern)})


def repaired(note: str = "", hu: float = 0.0) -> Callable[[Callable[[Files], object]], None]:
    """Register a defect that must not matter."""
    return lambda damage: DEFECTS.update({damage.__name__: Defect(damage, None, note, hu)})


def edit(files: Files, change: Callable[[Any, int], object]) -> None:
    """Change data sets in place: change(dataset, k)."""
    for k, path in enumerate(files):
        dataset = pydicom.dcmread(path)
        change(dataset, k)
        dataset.save_as(path)


def put(files: Files, **values: Any) -> None:
    """Set attributes; None removes one."""

    def change(dataset: Any, _: int) -> None:
        for tag, value in values.items():
            if value is None:
                del dataset[tag]
            else:
                setattr(dataset, tag, value)

    edit(files, change)


def pixels(dataset: Any) -> np.ndarray:
    """Stored values (Y, X), to be changed."""
    return np.frombuffer(dataset.PixelData, "<i2").reshape(dataset.Rows, dataset.Columns).copy()


def move(dataset: Any, by: tuple[float, float, float]) -> None:
    """Shift a slice in the patient (mm)."""
    dataset.ImagePositionPatient = [float(v) + d for v, d in zip(dataset.ImagePositionPatient, by, strict=True)]


def raw(path: Path, tag: str, value: bytes) -> None:
    """Put bytes where a number belongs."""
    dataset = pydicom.dcmread(path)
    element = pydicom.dataelem.RawDataElement(
        pydicom.tag.Tag(tag), pydicom.datadict.dictionary_VR(tag), len(value), value, 0, False, True
    )
    dataset._dict[element.tag] = element
    dataset.save_as(path)


# -- slices that are missing, doubled or out of place ---------------------------------------------------------------


@refused(r"lacks 1 of its slices: none at position 40\.2 mm")
def one_slice_missing(files: Files) -> None:
    files[5].unlink()


@refused("lacks 2 of its slices")
def two_gaps(files: Files) -> None:
    files[3].unlink()
    files[8].unlink()


@refused("lacks 3 of its slices")
def three_slices_missing_in_a_row(files: Files) -> None:
    for path in files[4:7]:
        path.unlink()


@refused("lacks .* slices|uneven slice distances")
def every_other_slice_of_one_half_missing(files: Files) -> None:
    for path in files[1:6:2]:
        path.unlink()


@refused("only 5 slices")
def few_slices(files: Files) -> None:
    for path in files[5:]:
        path.unlink()


@refused("only one slice position")
def single_slice(files: Files) -> None:
    for path in files[1:]:
        path.unlink()


@refused("two different images at position")
def another_image_at_one_position(files: Files) -> None:
    dataset = pydicom.dcmread(files[4])
    set_pixels(dataset, pixels(dataset) + 7)
    dataset.SOPInstanceUID = "1.2.77"
    dataset.save_as(files[4].with_name("again.dcm"))


@refused("two different images at position")
def second_time_point_in_the_series(files: Files) -> None:
    for k, path in enumerate(files):
        dataset = pydicom.dcmread(path)
        set_pixels(dataset, pixels(dataset) + 9)
        dataset.SOPInstanceUID, dataset.AcquisitionNumber = f"1.2.78.{k}", 2
        dataset.save_as(path.with_name(f"late-{k}.dcm"))


@refused("only one slice position")
def all_slices_at_one_position(files: Files) -> None:
    put(files, ImagePositionPatient=[0, 0, 0])


@refused("different images with one SOPInstanceUID")
def sop_uid_used_twice(files: Files) -> None:
    put(files[6:8], SOPInstanceUID="1.2.79")


@refused("two different images at position")
def sop_uid_with_other_pixels(files: Files) -> None:
    dataset = pydicom.dcmread(files[4])
    set_pixels(dataset, pixels(dataset) + 1)
    dataset.save_as(files[4].with_name("again.dcm"))


@refused(r"uneven slice distances: 2\.90 mm after slice 6")
def one_long_step(files: Files) -> None:
    edit(files[6:], lambda d, k: move(d, (0, 0, 0.9)))


@refused("uneven slice distances")
def two_reconstructions_of_other_distance(files: Files) -> None:
    edit(files[6:], lambda d, k: move(d, (0, 0, 0.9 * (k + 1))))


@refused("do not form one stack")
def one_slice_beside_the_stack(files: Files) -> None:
    edit(files[6:7], lambda d, k: move(d, (25, 0, 0)))


@refused(r"sheared by 3\d\.\d degrees")
def steep_shear(files: Files) -> None:
    edit(files, lambda d, k: move(d, (0, 1.45 * k, 0)))


@refused("ImageOrientationPatient differs")
def one_slice_turned(files: Files) -> None:
    put(files[7:8], ImageOrientationPatient=[1, 0, 0, 0, 0, -1])


@refused("ImageOrientationPatient differs")
def half_of_the_stack_mirrored(files: Files) -> None:
    put(files[6:], ImageOrientationPatient=[-1, 0, 0, 0, 1, 0])


# -- headers -------------------------------------------------------------------------------------------------------


@refused("no valid ImageOrientationPatient")
def orientation_not_orthogonal(files: Files) -> None:
    put(files, ImageOrientationPatient=[1, 0, 0, 0.3, 0.954, 0])


@refused("no valid ImageOrientationPatient")
def orientation_of_zeros(files: Files) -> None:
    put(files, ImageOrientationPatient=[0, 0, 0, 0, 0, 0])


@refused("no valid ImageOrientationPatient")
def orientation_missing_in_one(files: Files) -> None:
    put(files[3:4], ImageOrientationPatient=None)


@refused("no valid ImagePositionPatient")
def position_missing_in_the_last(files: Files) -> None:
    put(files[-1:], ImagePositionPatient=None)


@refused("no valid ImagePositionPatient")
def position_missing_everywhere(files: Files) -> None:
    put(files, ImagePositionPatient=None)


@refused("no valid ImagePositionPatient")
def position_not_a_number(files: Files) -> None:
    raw(files[5], "ImagePositionPatient", b"1\\2\\nan ")


@refused("damaged: its header cannot be read")
def position_of_letters(files: Files) -> None:
    raw(files[5], "ImagePositionPatient", b"1\\2\\x ")


@refused("no valid PixelSpacing")
def pixel_spacing_missing(files: Files) -> None:
    put(files, PixelSpacing=None)


@refused("no valid PixelSpacing")
def pixel_spacing_zero(files: Files) -> None:
    put(files[2:3], PixelSpacing=[0.8, 0])


@refused("impossible voxel spacing")
def pixel_spacing_in_metres(files: Files) -> None:
    put(files, PixelSpacing=[0.0008, 0.0007])


@refused("PixelSpacing differs")
def pixel_spacing_of_one_differs(files: Files) -> None:
    put(files[9:10], PixelSpacing=[0.9, 0.9])


@refused("matrix size differs")
def matrix_of_one_differs(files: Files) -> None:
    edit(files[4:5], lambda d, k: set_pixels(d, pixels(d)[:10]))


@refused("mixes patients")
def two_patients(files: Files) -> None:
    put(files[6:], PatientID="Another")


@refused("mixes frames of reference")
def two_frames_of_reference(files: Files) -> None:
    put(files[6:], FrameOfReferenceUID="9.9")


@refused("has no SeriesInstanceUID")
def series_uid_lost_at_the_end(files: Files) -> None:
    put(files[-2:], SeriesInstanceUID=None)


@refused("multi-frame")
def many_frames_without_places(files: Files) -> None:
    put(files, NumberOfFrames=4)


# -- what is no CT in HU -------------------------------------------------------------------------------------------


@refused("holds no CT but MR")
def magnetic_resonance(files: Files) -> None:
    put(files, Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4")


@refused("holds no CT but PT")
def positron_emission(files: Files) -> None:
    put(files, Modality="PT", SOPClassUID="1.2.840.10008.5.1.4.1.1.128")


@refused("holds no CT but RTSTRUCT")
def contours_only(files: Files) -> None:
    put(files, Modality="RTSTRUCT", SOPClassUID="1.2.840.10008.5.1.4.1.1.481.3", PixelData=None, Rows=None)


@refused("holds no CT but SEG")
def segmentation_only(files: Files) -> None:
    put(files, Modality="SEG", SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4")


@refused("only localisers")
def localisers_only(files: Files) -> None:
    put(files, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])


@refused("only screenshots")
def screenshots_only(files: Files) -> None:
    put(files, SOPClassUID="1.2.840.10008.5.1.4.1.1.7")


@refused("only colour pictures")
def colour_only(files: Files) -> None:
    def change(dataset: Any, k: int) -> None:
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
        dataset.PixelData = bytes(16 * 16 * 3)

    edit(files, change)


@refused("PALETTE COLOR, not MONOCHROME2")
def palette_colour(files: Files) -> None:
    put(files, PhotometricInterpretation="PALETTE COLOR")


@refused("MONOCHROME1, not MONOCHROME2")
def inverted_grey_levels(files: Files) -> None:
    put(files, PhotometricInterpretation="MONOCHROME1")


@refused("an iodine map")
def iodine_map(files: Files) -> None:
    put(files, ImageType=["DERIVED", "PRIMARY", "AXIAL", "IODINE"])


@refused("a map of atomic numbers")
def effective_atomic_number(files: Files) -> None:
    put(files, ImageType=["DERIVED", "PRIMARY", "AXIAL", "EFF_ATOMIC_NUM"])


@refused("a map of electron density")
def electron_density(files: Files) -> None:
    put(files, ImageType=["DERIVED", "PRIMARY", "AXIAL", "ELECTRON_DENSITY"])


@refused("materials were changed")
def virtual_non_contrast(files: Files) -> None:
    put(files, ImageType=["DERIVED", "PRIMARY", "AXIAL", "MAT_REMOVED"])


@refused("its RescaleType is Z_EFF")
def rescaled_to_atomic_number(files: Files) -> None:
    put(files, RescaleType="Z_EFF")


@refused("its RescaleType is HU_MOD")
def rescaled_to_modified_units_in_one(files: Files) -> None:
    put(files[5:6], RescaleType="HU_MOD")


@refused("a projection or rendering")
def maximum_intensity_projection(files: Files) -> None:
    put(files, ImageType=["DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 MIP"])


@refused("compressed with loss")
def lossy_in_its_history(files: Files) -> None:
    put(files, LossyImageCompression="01")


@refused("compressed with loss")
def lossy_jpeg(files: Files) -> None:
    _fake_syntax(files, JPEGBaseline8Bit)


@refused("compressed with loss")
def lossy_jpeg_2000(files: Files) -> None:
    _fake_syntax(files, JPEG2000)


def _fake_syntax(files: Files, syntax: pydicom.uid.UID) -> None:
    def change(dataset: Any, k: int) -> None:
        dataset.PixelData = pydicom.encaps.encapsulate([dataset.PixelData])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = syntax

    edit(files, change)


# -- numbers that are no HU ----------------------------------------------------------------------------------------


@refused("impossible RescaleSlope")
def slope_of_zero(files: Files) -> None:
    put(files, RescaleSlope="0")


@refused("impossible RescaleSlope")
def intercept_not_a_number(files: Files) -> None:
    raw(files[3], "RescaleIntercept", b"nan ")


@refused("no RescaleSlope and RescaleIntercept, but others of its series do")
def rescale_missing_in_one(files: Files) -> None:
    put(files[3:4], RescaleIntercept=None, RescaleSlope=None)


@refused("stored with an offset")
def rescale_missing_of_stored_values(files: Files) -> None:
    put(files, RescaleIntercept=None, RescaleSlope=None)


@refused("through a table")
def values_through_a_table(files: Files) -> None:
    table = pydicom.Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [4096, 0, 16], "HU"
    put(files, RescaleIntercept=None, RescaleSlope=None, ModalityLUTSequence=[table])


@refused("no tissue|no air|no CT has")
def rescaled_twice(files: Files) -> None:
    put(files, RescaleIntercept="-2048")


@refused("image grey levels|normalised|mask or label map")
def eight_bit_picture(files: Files) -> None:
    def change(dataset: Any, k: int) -> None:
        grey = np.clip((pixels(dataset) - 100) / 6, 0, 255)
        set_pixels(dataset, grey + np.arange(16))
        dataset.RescaleIntercept = "0"

    edit(files, change)


@refused("is constant")
def blank_pixels(files: Files) -> None:
    edit(files, lambda d, k: set_pixels(d, np.zeros((16, 16))))


@refused("no air|no CT has|no tissue")
def bytes_swapped(files: Files) -> None:
    edit(files, lambda d, k: setattr(d, "PixelData", pixels(d).byteswap().tobytes()))


@refused("impossible pixels: 12 bits stored, high bit 7")
def high_bit_too_low(files: Files) -> None:
    put(files, BitsStored=12, HighBit=7)


@refused("do not fit in its 8 stored bits")
def stored_bits_too_few(files: Files) -> None:
    put(files, BitsStored=8, HighBit=7)


# -- damaged files -------------------------------------------------------------------------------------------------


@refused("has no pixels")
def pixels_missing_in_one(files: Files) -> None:
    put(files[2:3], PixelData=None)


@refused("damaged: its pixels cannot be read")
def pixels_cut_short(files: Files) -> None:
    edit(files[2:3], lambda d, k: setattr(d, "PixelData", d.PixelData[:100]))


@refused("damaged: its (header|pixels) cannot be read")
def file_cut_in_its_pixels(files: Files) -> None:
    files[11].write_bytes(files[11].read_bytes()[:-200])


@refused("damaged|no valid|no CT slice|no SeriesInstanceUID|no matrix size|mixes")
def file_cut_in_its_header(files: Files) -> None:
    files[11].write_bytes(files[11].read_bytes()[:600])


@refused("is empty")
def empty_file_at_the_end(files: Files) -> None:
    files[11].write_bytes(b"")


@refused("is named like a slice but is not a DICOM file")
def file_of_zeros(files: Files) -> None:
    files[0].write_bytes(bytes(files[0].stat().st_size))


@refused("is named like a slice but is not a DICOM file")
def web_page_instead_of_a_file(files: Files) -> None:
    files[11].write_text("<html>404 not found</html>" * 20)


@refused("compressed .* cannot be decoded here")
def unknown_compression(files: Files) -> None:
    _fake_syntax(files, HTJ2KLossless)


@refused(r"damaged: its compressed pixels \(JPEG-LS Lossless Image Compression\) cannot be decoded")
def compressed_pixels_cut_short(files: Files) -> None:
    def change(dataset: Any, k: int) -> None:
        dataset.compress(JPEGLSLossless)
        frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
        dataset.PixelData = pydicom.encaps.encapsulate([frame[: len(frame) // 2]])

    edit(files[3:4], change)


# -- what must not matter ------------------------------------------------------------------------------------------


@repaired("exact copies of other slices were left out (1)")
def one_file_copied(files: Files) -> None:
    shutil.copy(files[3], files[3].with_name("copy.dcm"))


@repaired("exact copies of other slices were left out (12)")
def whole_series_copied(files: Files) -> None:
    shutil.copytree(files[0].parent, files[0].parent / "copy")


@repaired()
def spread_over_nested_folders(files: Files) -> None:
    for k, path in enumerate(files):
        folder = path.parent / f"D{k % 3}" / "IMAGES"
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / f"I{k}")


@repaired()
def foreign_files_beside(files: Files) -> None:
    folder = files[0].parent
    (folder / "._001.dcm").write_bytes(bytes(200))
    (folder / "DICOMDIR").write_bytes(bytes(200))
    (folder / "Thumbs.db").write_bytes(bytes(700))
    (folder / "viewer.exe").write_bytes(b"MZ" + bytes(700))
    (folder / "table.bin").write_bytes(struct.pack("<100i", *range(8, 108)))
    (folder / "counts.bin").write_bytes(struct.pack("<100i", 8, *range(99)))


DOSE = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.2", "Modality": "RTDOSE", "SeriesInstanceUID": "1.9.9"}
LEFT_OUT = "damaged files that do not belong to the series were skipped (1)"


def beside(files: Files, name: str = "dose.dcm", **values: Any) -> Path:
    """A file beside the slices, made from one of them; without pixels."""
    path = files[0].with_name(name)
    shutil.copy(files[0], path)
    put([path], SOPInstanceUID="1.9.9.1", PixelData=None, **values)
    return path


@repaired(LEFT_OUT)
def dose_of_an_unknown_type_of_value(files: Files) -> None:
    path = beside(files, **DOSE)
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<HH", 0x28, 0x10) + b"US", struct.pack("<HH", 0x28, 0x10) + b"ZZ"))


@repaired(LEFT_OUT)
def dose_called_as_slices_are(files: Files) -> None:
    raw(beside(files, "012-12.dcm", NumberOfFrames=3, **DOSE), "NumberOfFrames", b"x ")


@repaired(LEFT_OUT)
def damaged_slice_of_another_series(files: Files) -> None:
    raw(beside(files, "012-12.dcm", SeriesInstanceUID="1.9.9"), "ImagePositionPatient", b"1\\2\\x ")


@repaired(LEFT_OUT)
def empty_file_called_otherwise(files: Files) -> None:
    files[0].with_name("dose.dcm").write_bytes(b"")


@repaired(LEFT_OUT)
def web_page_called_otherwise(files: Files) -> None:
    files[0].with_name("report.dcm").write_text("<html>404 not found</html>" * 20)


@repaired(LEFT_OUT)
def preamble_and_rubbish(files: Files) -> None:
    files[0].with_name("dose.dcm").write_bytes(bytes(128) + b"DICM" + bytes(range(256)) * 8)


@repaired(LEFT_OUT)
def damaged_slice_in_another_folder(files: Files) -> None:
    (files[0].parent / "other").mkdir()
    (files[0].parent / "other" / files[0].name).write_bytes(b"")


@repaired(LEFT_OUT)
def image_without_a_series_called_otherwise(files: Files) -> None:
    beside(files, SeriesInstanceUID=None)


@refused("is empty")
def empty_file_called_as_the_next_slice(files: Files) -> None:
    files[0].with_name("012-12.dcm").write_bytes(b"")


@refused("is not a DICOM file")
def last_slice_without_ending_is_zeros(files: Files) -> None:
    for k, path in enumerate(files):
        path.rename(path.with_name(f"IM{k:04d}"))
    last = files[0].with_name("IM0011")
    last.write_bytes(bytes(last.stat().st_size))


@refused("is empty")
def last_slice_among_names_that_do_not_count(files: Files) -> None:
    for path in files:
        path.rename(path.with_name(f"{hash_of(path.name)}.dcm"))
    files[0].with_name(f"{hash_of(files[11].name)}.dcm").write_bytes(b"")


@refused("damaged: its header cannot be read")
def last_slice_of_an_unknown_type_of_value(files: Files) -> None:
    raw(files[11], "ImagePositionPatient", b"1\\2\\x ")


@repaired()
def localiser_in_the_series(files: Files) -> None:
    dataset = pydicom.dcmread(files[0])
    dataset.ImageType, dataset.SOPInstanceUID = ["ORIGINAL", "PRIMARY", "LOCALIZER"], "1.2.80"
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    dataset.save_as(files[0].with_name("scout.dcm"))


@repaired()
def dose_report_in_the_series(files: Files) -> None:
    dataset = pydicom.dcmread(files[0])
    dataset.SOPClassUID, dataset.Modality, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.67", "SR", "1.2.81"
    del dataset.PixelData, dataset.Rows, dataset.ImagePositionPatient
    dataset.save_as(files[0].with_name("dose.dcm"))


@repaired()
def preamble_missing(files: Files) -> None:
    for path in files:
        path.write_bytes(path.read_bytes()[132:])


@repaired()
def file_meta_missing(files: Files) -> None:
    for path in files:
        dataset = pydicom.dcmread(path)
        pydicom.dcmwrite(path, pydicom.Dataset(dataset), implicit_vr=True, little_endian=True)


@repaired()
def implicit_vr(files: Files) -> None:
    edit(files, lambda d, k: setattr(d.file_meta, "TransferSyntaxUID", ImplicitVRLittleEndian))


@repaired()
def deflated(files: Files) -> None:
    edit(files, lambda d, k: setattr(d.file_meta, "TransferSyntaxUID", DeflatedExplicitVRLittleEndian))


@repaired()
def big_endian(files: Files) -> None:
    for path in files:
        dataset = pydicom.dcmread(path)
        dataset.PixelData = pixels(dataset).byteswap().tobytes()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=False)


@repaired()
def run_length_encoded(files: Files) -> None:
    edit(files, lambda d, k: d.compress(RLELossless))


@repaired()
def half_of_the_files_compressed(files: Files) -> None:
    edit(files[::2], lambda d, k: d.compress(JPEGLSLossless))


@repaired()
def slope_and_intercept_of_each_slice(files: Files) -> None:
    def change(dataset: Any, k: int) -> None:
        if k % 2:
            set_pixels(dataset, (pixels(dataset) - 1024.0 + 2000) * 2)
            dataset.RescaleSlope, dataset.RescaleIntercept = "0.5", "-2000"

    edit(files, change)


@repaired("no RescaleIntercept")
def rescale_missing_of_hu(files: Files) -> None:
    edit(files, lambda d, k: set_pixels(d, pixels(d) - 1024))
    put(files, RescaleIntercept=None, RescaleSlope=None, RescaleType=None)


@repaired("gives no unit")
def unit_left_open(files: Files) -> None:
    put(files, RescaleType="US")


@repaired()
def unsigned_pixels(files: Files) -> None:
    put(files, PixelRepresentation=0)


@repaired()
def twelve_bits_in_the_upper_bits(files: Files) -> None:
    def change(dataset: Any, k: int) -> None:
        dataset.PixelData = (pixels(dataset).astype(np.uint16) << 4).tobytes()
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 15, 0

    edit(files, change)


@repaired()
def overlay_in_the_upper_bits(files: Files) -> None:
    def change(dataset: Any, k: int) -> None:
        values = pixels(dataset).astype(np.uint16)
        values[3:9, 3:9] |= 0x1000
        dataset.PixelData = values.tobytes()
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 0
        dataset.add_new(0x60000010, "US", 16)
        dataset.add_new(0x60000102, "US", 12)

    edit(files, change)


@repaired()
def twelve_bits_signed_without_extension(files: Files) -> None:
    def change(dataset: Any, k: int) -> None:
        dataset.PixelData = ((pixels(dataset) - 1024) & 0x0FFF).astype("<u2").tobytes()
        dataset.BitsStored, dataset.HighBit, dataset.RescaleIntercept = 12, 11, "0"

    edit(files, change)


@repaired()
def padding_with_a_range(files: Files) -> None:
    def change(dataset: Any, k: int) -> None:
        dataset.RescaleIntercept = "0"
        hu = pixels(dataset) - 1024
        hu[hu == -1024] = -1800
        set_pixels(dataset, hu)
        dataset.add_new("PixelPaddingValue", "SS", -2000)
        dataset.add_new("PixelPaddingRangeLimit", "SS", -1500)

    edit(files, change)


@repaired()
def padding_left_empty(files: Files) -> None:
    edit(files, lambda d, k: d.add_new("PixelPaddingValue", "SS", None))


@repaired()
def numbers_of_slices_wrong(files: Files) -> None:
    edit(files, lambda d, k: d.update({"InstanceNumber": 5, "SliceLocation": -k}))


@repaired()
def optional_values_missing(files: Files) -> None:
    put(files, SliceThickness=None, ImageType=None, InstanceNumber=None, ConvolutionKernel=None, StudyInstanceUID=None)


@repaired()
def modality_missing(files: Files) -> None:
    put(files, Modality=None)


@repaired()
def frame_of_reference_missing(files: Files) -> None:
    put(files, FrameOfReferenceUID=None)


@repaired()
def names_in_a_strange_alphabet(files: Files) -> None:
    put(files, SpecificCharacterSet="ISO_IR 100")
    for path in files:
        content = path.read_bytes().replace(b"ISO_IR 100", b"NO_SUCHSET")
        path.write_bytes(content.replace(b"Secret^Name", b"\xff\xfe\xc3\x28ecret^N"))


@repaired()
def bytes_after_the_pixels(files: Files) -> None:
    edit(files, lambda d, k: setattr(d, "PixelData", d.PixelData + bytes(64)))


@repaired()
def bytes_after_the_data_set(files: Files) -> None:
    for path in files:
        path.write_bytes(
            path.read_bytes() + struct.pack("<HHHH", 0xFFFC, 0xFFFC, 0x424F, 0) + struct.pack("<I", 4) + bytes(4)
        )


@repaired()
def positions_rounded(files: Files) -> None:
    edit(files, lambda d, k: move(d, (0, 0, (0.04, -0.03, 0)[k % 3] * (0 < k < 11))))


@repaired("slice distances run from 1.75 to 2.25 mm", hu=0.6)
def steps_a_little_uneven(files: Files) -> None:
    def change(dataset: Any, k: int) -> None:
        shift = 0.25 * (k % 2) * (0 < k < 11)
        move(dataset, (0, 0, shift))
        stored = pixels(dataset)
        set_pixels(dataset, np.where(stored > 0, np.rint(stored + SLOPE_Z * shift / 2), 0))

    edit(files, change)
