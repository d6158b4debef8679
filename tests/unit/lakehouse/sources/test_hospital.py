"""Patients, admissions and stays of both MIMIC editions as FHIR resources."""

from pathlib import Path
from typing import Any

import pytest

from lakehouse.message import encode_resource
from lakehouse.sources.mimic_iii import SOURCE as MIMIC_III
from lakehouse.sources.mimic_iv import SOURCE as MIMIC_IV
from lakehouse.sources.source import Selection, Source, SourceHeaderError, Tally
from tests.fixtures.mimic import write_mimic_iii, write_mimic_iv

ADMISSIONS = (
    "subject_id,hadm_id,admittime,dischtime,deathtime,admission_type,admission_location,discharge_location,"
    "hospital_expire_flag"
)


def write(file: Path, *lines: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def read(source: Source, folder: Path, selection: Selection | None = None) -> tuple[list[dict[str, Any]], Tally]:
    tally = Tally()
    records = [event.message for event in source.resources(folder, selection or Selection(), tally)]
    for record in records:
        encode_resource(record)
    assert tally.accounted == tally.rows_read
    return records, tally


def test_a_patient_of_mimic_iii_is_born_on_a_day_and_one_of_mimic_iv_in_a_year(tmp_path: Path) -> None:
    write(
        tmp_path / "iii" / "PATIENTS.csv",
        "row_id,subject_id,gender,dob,dod",
        "1,10006,F,2094-03-05 00:00:00,2165-08-12 00:00:00",
    )
    write(
        tmp_path / "iv" / "hosp" / "patients.csv",
        "subject_id,gender,anchor_age,anchor_year,dod",
        "10003400,M,72,2134,2137-09-02",
        "10003401,,50,2134,",
    )
    (older,), _ = read(MIMIC_III, tmp_path / "iii")
    assert older == {
        "schema_version": 1,
        "patient_id": "mimic-iii/10006",
        "source": "mimic-iii",
        "resource": {
            "resourceType": "Patient",
            "id": "10006",
            "gender": "female",
            "birthDate": "2094-03-05",
            "deceasedDateTime": "2165-08-12",
        },
    }
    newer, _ = read(MIMIC_IV, tmp_path / "iv")
    assert [record["resource"] for record in newer] == [
        {
            "resourceType": "Patient",
            "id": "10003400",
            "gender": "male",
            "birthDate": "2062",
            "deceasedDateTime": "2137-09-02",
        },
        {"resourceType": "Patient", "id": "10003401", "gender": "unknown", "birthDate": "2084"},
    ]


def test_an_admission_and_a_stay_within_it_are_encounters(tmp_path: Path) -> None:
    write(
        tmp_path / "hosp" / "admissions.csv",
        ADMISSIONS,
        "1,20,2153-09-17 17:08:00,2153-09-25 13:20:00,2153-09-25 13:00:00,URGENT,TRANSFER,DIED,1",
        "1,21,2154-01-01 00:00:00,,,,,,0",
    )
    write(
        tmp_path / "icu" / "icustays.csv",
        "subject_id,hadm_id,stay_id,first_careunit,last_careunit,intime,outtime",
        "1,20,30,MICU,SICU,2153-09-18 01:02:03,2153-09-20 00:00:00",
    )
    (ended, lasting, stay), _ = read(MIMIC_IV, tmp_path)
    assert (ended["recorded_at"], "recorded_at" in lasting) == ("2153-09-25T13:20:00Z", False)
    assert ended["resource"] == {
        "resourceType": "Encounter",
        "id": "20",
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "subject": {"reference": "Patient/1"},
        "period": {"start": "2153-09-17T17:08:00Z", "end": "2153-09-25T13:20:00Z"},
        "type": [{"text": "URGENT"}],
        "hospitalization": {
            "admitSource": {"text": "TRANSFER"},
            "dischargeDisposition": {
                "coding": [
                    {"system": "http://terminology.hl7.org/CodeSystem/discharge-disposition", "code": "exp"},
                ],
                "text": "DIED",
            },
        },
        "extension": [{"url": "urn:wardhouse:deathtime", "valueDateTime": "2153-09-25T13:00:00Z"}],
    }
    assert (lasting["resource"]["status"], lasting["resource"]["period"]) == (
        "in-progress",
        {"start": "2154-01-01T00:00:00Z"},
    )
    assert stay["resource"] | {"status": "", "subject": {}} == {
        "resourceType": "Encounter",
        "id": "30",
        "status": "",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "ACUTE"},
        "subject": {},
        "period": {"start": "2153-09-18T01:02:03Z", "end": "2153-09-20T00:00:00Z"},
        "location": [{"location": {"display": "MICU"}}],
        "partOf": {"reference": "Encounter/20"},
    }


@pytest.mark.parametrize(("source", "writer"), [(MIMIC_III, write_mimic_iii), (MIMIC_IV, write_mimic_iv)])
def test_selected_subjects_come_with_all_that_is_theirs(source: Source, writer: Any, tmp_path: Path) -> None:
    folder = writer(tmp_path, patients=3).folder
    everything, _ = read(source, folder)
    assert len(everything) == 9
    wanted = everything[1]["patient_id"]
    some, tally = read(source, folder, Selection(subjects=frozenset({wanted.partition("/")[2]})))
    assert some == [record for record in everything if record["patient_id"] == wanted]
    assert (len(some), tally.not_selected) == (3, 6)


def test_what_is_missing_or_wrong_is_named_with_its_line(tmp_path: Path) -> None:
    write(tmp_path / "hosp" / "patients.csv", "subject_id,gender,anchor_age,anchor_year,dod", "1,F,x,2134,", "2,F,,,")
    write(
        tmp_path / "hosp" / "admissions.csv",
        ADMISSIONS,
        "2,20,2153-13-17 17:08:00,,,,,,",
        "2,x,2153-09-17 17:08:00,,,,,,",
        "2,22,2153-09-17 17:08:00,,,,,,",
        "3,23,2153-09-17 17:08:00,,,,,,",
    )
    write(tmp_path / "icu" / "icustays.csv", "subject_id,hadm_id,stay_id,intime", "2,20,30,2153-09-18 01:02:03")
    records, tally = read(MIMIC_IV, tmp_path)
    assert [record["resource"]["id"] for record in records] == ["2", "22", "23", "30"]
    assert tally.problems == [
        "patients.csv:2: bad_anchor_age: 'x'",
        "admissions.csv:2: bad_admittime: '2153-13-17 17:08:00'",
        "admissions.csv:3: bad_hadm_id: 'x'",
        "admissions.csv:5: admission_without_patient",
        "icustays.csv:2: stay_without_admission",
    ]


def test_a_folder_without_the_files_gives_what_it_has_and_says_so(tmp_path: Path) -> None:
    write(tmp_path / "icustays.csv", "subject_id,hadm_id,stay_id,intime", "2,20,30,2153-09-18 01:02:03")
    records, tally = read(MIMIC_IV, tmp_path)
    assert (len(records), tally.missing_files, tally.problems) == (1, ["hosp/patients", "hosp/admissions"], [])
    assert read(MIMIC_IV, tmp_path / "icustays.csv")[0] == []


def test_a_header_of_another_file_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "admissions.csv", "subject_id,stay_id", "1,2")
    with pytest.raises(SourceHeaderError, match="the header has no hadm_id, admittime"):
        read(MIMIC_IV, tmp_path)
