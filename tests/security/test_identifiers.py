"""No output tells who a scan is of unless that was asked for: every identifying attribute carries a canary.

The attributes are those of the Basic Application Level Confidentiality Profile (DICOM PS3.15 Annex E, Table E.1-1) that
a CT image can hold, and private ones.
"""

from __future__ import annotations

import gzip
import io
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.datadict import dictionary_VR

from diffseglung.cli import main
from diffseglung.volume import Volume
from tests.io.conftest import write_series_of
from tests.kept_formats import small_chest

pytestmark = pytest.mark.filterwarnings("ignore")  # Dask's

KEYWORDS = [
    "AccessionNumber",
    "AcquisitionComments",
    "AcquisitionDate",
    "AcquisitionDateTime",
    "AcquisitionProtocolDescription",
    "AcquisitionTime",
    "AdditionalPatientHistory",
    "AdmissionID",
    "AdmittingDate",
    "AdmittingDiagnosesDescription",
    "Allergies",
    "BranchOfService",
    "CommentsOnThePerformedProcedureStep",
    "ContentDate",
    "ContentTime",
    "CountryOfResidence",
    "CurrentPatientLocation",
    "DerivationDescription",
    "DetectorID",
    "DeviceDescription",
    "DeviceSerialNumber",
    "DeviceUID",
    "EthnicGroup",
    "FrameComments",
    "FrameOfReferenceUID",
    "GantryID",
    "GeneratorID",
    "ImageComments",
    "InstanceCreationDate",
    "InstanceCreationTime",
    "InstanceCreatorUID",
    "InstitutionAddress",
    "InstitutionName",
    "InstitutionalDepartmentName",
    "InsurancePlanIdentification",
    "IssuerOfPatientID",
    "MedicalAlerts",
    "MedicalRecordLocator",
    "MilitaryRank",
    "NameOfPhysiciansReadingStudy",
    "Occupation",
    "OperatorsName",
    "OtherPatientIDs",
    "OtherPatientNames",
    "PatientAddress",
    "PatientAge",
    "PatientBirthDate",
    "PatientBirthName",
    "PatientBirthTime",
    "PatientComments",
    "PatientID",
    "PatientInstitutionResidence",
    "PatientMotherBirthName",
    "PatientName",
    "PatientReligiousPreference",
    "PatientState",
    "PatientTelephoneNumbers",
    "PerformedLocation",
    "PerformedProcedureStepDescription",
    "PerformedProcedureStepEndDate",
    "PerformedProcedureStepID",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    "PerformedStationAETitle",
    "PerformedStationName",
    "PerformingPhysicianName",
    "PhysiciansOfRecord",
    "PregnancyStatus",
    "PreMedication",
    "ProtocolName",
    "ReasonForStudy",
    "ReferringPhysicianAddress",
    "ReferringPhysicianName",
    "ReferringPhysicianTelephoneNumbers",
    "RegionOfResidence",
    "RequestedContrastAgent",
    "RequestedProcedureComments",
    "RequestedProcedureDescription",
    "RequestedProcedureID",
    "RequestingPhysician",
    "RequestingService",
    "ResponsibleOrganization",
    "ResponsiblePerson",
    "ReviewerName",
    "ScheduledProcedureStepDescription",
    "SeriesDate",
    "SeriesDescription",
    "SeriesTime",
    "SmokingStatus",
    "SpecialNeeds",
    "StationName",
    "StudyComments",
    "StudyDate",
    "StudyDescription",
    "StudyID",
    "StudyIDIssuer",
    "StudyInstanceUID",
    "StudyTime",
    "TimezoneOffsetFromUTC",
    "VisitComments",
]
NUMBERS = {"PregnancyStatus": 4}
PRIVATE = "CANARY_PRIVATE"
FOLDER = "CANARYSURNAME_CANARYFORENAME_19330317"


def canary(place: int, keyword: str) -> Any:
    """A value that no output would hold by chance."""
    kind = dictionary_VR(keyword)
    values = {
        "DA": f"1933{1 + place % 12:02d}{1 + place % 28:02d}", "TM": f"0317{place % 60:02d}.{700000 + place}",
        "DT": f"19330317031733.{800000 + place}", "AS": "077Y", "UI": f"1.2.826.0.1.3680043.8.498.99.{place}",
        "PN": "CANARYSURNAME^CANARYFORENAME" if keyword == "PatientName" else f"CANARYPERSON{place}",
        "CS": f"CANARY{place}", "AE": f"CANARY{place}",
    }  # fmt: skip
    return NUMBERS.get(keyword, values.get(kind, f"CANARY_{place}"))


def identify(dataset: Any, k: int) -> None:
    for place, keyword in enumerate(KEYWORDS):
        setattr(dataset, keyword, canary(place, keyword))
    dataset.private_block(0x0011, "CANARY MAKER", create=True).add_new(1, "LO", PRIVATE)


WORDS = sorted(
    {str(canary(i, k)) for i, k in enumerate(KEYWORDS) if k not in NUMBERS} | {"CANARY", FOLDER, "1933-03-17"}
)
"""What must not be found. Ages, which digits of a table may hold by chance, count with their letter."""


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder, its name and its bytes, unpacked where it is packed."""
    for path in sorted(folder.rglob("*")):
        name, data = str(path.relative_to(folder)), path.read_bytes() if path.is_file() else b""
        yield name, name.encode() + b"\n" + data
        if data[:2] == b"\x1f\x8b":
            yield name, gzip.decompress(data)
        if data[:2] == b"PK":
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                for member in archive.namelist():
                    yield f"{name}/{member}", archive.read(member)
        if path.suffix == ".parquet":
            import pyarrow.parquet as parquet

            yield name, repr(parquet.read_table(path).to_pydict()).encode()


def found(folder: Path) -> list[str]:
    """Where which canary sings."""
    return [
        f"{word} in {name}" for name, data in contents(folder) for word in WORDS
        if word.encode() in data or word.encode("utf-16-le") in data or word.lower().encode() in data
    ]  # fmt: skip


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A series in a folder that is named after its patient."""
    folder = tmp_path_factory.mktemp("in") / FOLDER
    chest, _ = small_chest()
    write_series_of(folder, Volume(chest.array.astype(np.float32), chest.affine), edit=identify)
    return folder


def test_the_canaries_are_in_the_series(named: Path) -> None:
    """Else the tests below could not fail."""
    data = next(iter(named.iterdir())).read_bytes()
    missing = [keyword for place, keyword in enumerate(KEYWORDS) if str(canary(place, keyword)).encode() not in data]
    assert missing == []


def test_results_and_what_is_said_of_them(named: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["segment", "-i", str(named), "-o", str(tmp_path / "out"), "--method", "rule", "--save-probabilities"]
    assert main(words) == 0
    assert found(tmp_path / "out") == []
    assert main([*words, "--json", "-v"]) == 0
    said = capfd.readouterr()
    assert [word for word in WORDS if word in said.out + said.err] == []
    assert main([*words, "--keep-identifiers"]) == 0
    assert any("CANARYSURNAME" in line for line in found(tmp_path / "out"))


def test_a_cohort_s_tables_pages_and_folders(named: Path, tmp_path: Path) -> None:
    words = ["cohort", "-i", str(named.parent), "-o", str(tmp_path / "out"), "--method", "rule", "--workers", "1", "-q"]
    assert main(words) == 0
    assert found(tmp_path / "out") == []
    assert main([*words, "--keep-identifiers"]) == 0
    assert (tmp_path / "out" / f"{FOLDER}--s3" / "run.json").is_file()


def test_a_scan_that_fails_is_told_without_its_patient(
    named: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(named, tmp_path / "in" / FOLDER)
    for path in (tmp_path / "in" / FOLDER).iterdir():
        path.write_bytes(path.read_bytes()[:-2000])
    words = ["-i", str(tmp_path / "in"), "-q"]
    assert main(["cohort", *words, "-o", str(tmp_path / "out"), "--method", "rule", "--workers", "1"]) == 1
    assert main(["convert", *words, "-o", str(tmp_path / "cases")]) == 2
    said = capfd.readouterr()
    assert "damaged" in said.err
    assert [word for word in WORDS if word in said.out + said.err] == []
    assert found(tmp_path / "out") == []


@pytest.mark.parametrize("more", [[], ["--series", "1.2.826.0.1.3680043.8.498.1"]], ids=["all", "series"])
def test_cases_for_training(named: Path, tmp_path: Path, more: list[str]) -> None:
    assert main(["convert", "-i", str(named), "-o", str(tmp_path / "cases"), "-q", *more]) == 0
    assert found(tmp_path / "cases") == []


def test_an_archive_that_is_named_after_its_patient(named: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "in" / FOLDER), "zip", named))
    words = ["segment", "-i", str(archive), "-o", str(tmp_path / "out"), "--method", "rule", "--no-preview", "-q"]
    assert main(words) == 0
    assert found(tmp_path / "out") == []
    assert main(["convert", "-i", str(archive.parent), "-o", str(tmp_path / "cases"), "-q"]) == 0
    assert found(tmp_path / "cases") == []
    assert main(["convert", "-i", str(archive.parent), "-o", str(tmp_path / "known"), "-q", "--keep-identifiers"]) == 0
    assert [path.name for path in (tmp_path / "known").iterdir()] == [f"local__{FOLDER}.zip.npz"]
