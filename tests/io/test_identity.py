"""A path that tells who the patient is, is recognised; an ordinary one is not."""

from __future__ import annotations

import pytest
from pydicom import Dataset

from diffseglung.io.identity import identity_of, names_patient

DOE = {
    "PatientName": "Doe^Jane^M.", "PatientID": "MRN-0042-17", "PatientBirthDate": "19500607",
    "StudyInstanceUID": "1.2.826.0.1.77", "StudyID": "1",
}  # fmt: skip


def test_identity_holds_what_the_header_holds_and_no_more() -> None:
    dataset = Dataset()
    dataset.PatientName, dataset.PatientID, dataset.PatientSex = "Doe^Jane", "", "F"
    dataset.OtherPatientIDs = ["A1", "B2"]
    dataset.Modality = "CT"
    assert identity_of(dataset) == {"PatientName": "Doe^Jane", "PatientSex": "F", "OtherPatientIDs": "A1\\B2"}
    assert identity_of(Dataset()) == {}


NAMING = (
    *("/data/DOE_JANE/ct", "/data/jane.nii", "/data/Doe, Jane (2)/1.dcm", "/data/ct-Doe"),
    *("/data/mrn-0042-17/series", "/x/mrn004217.zip", "/data/19500607/ct", "/data/1.2.826.0.1.77/4"),
)


@pytest.mark.parametrize("path", NAMING)
def test_a_path_that_holds_a_name_an_id_a_date_or_a_uid_names_the_patient(path: str) -> None:
    assert names_patient(path, DOE)


@pytest.mark.parametrize(
    ("stated", "path"),
    [
        ("Müller^Eva", "/data/Mu\u0308ller/ct"),
        ("Wang^Wei=王^伟", "/data/王伟/ct"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "/data/山田ct/1"),
        ("Hong^Gildong=홍^길동", "/data/CT홍길동/1"),
        ("Doe^Jane", "/data/xDoeJane2/1"),
        ("Doe^Jane", "/data/M\udcfcller/1"),
    ],
)
def test_names_in_any_script_and_those_that_cannot_be_read(stated: str, path: str) -> None:
    assert names_patient(path, {"PatientName": stated})
    assert not names_patient(path, {})


@pytest.mark.parametrize("path", ["/data/case-0017/ct.nii.gz", "/data/doerte/1/ct", "/home/dojo/m/F", "/42/17", ""])
def test_an_ordinary_path_does_not(path: str) -> None:
    assert not names_patient(path, DOE)
    assert not names_patient("/data/DOE_JANE", {})
