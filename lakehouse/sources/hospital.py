"""Patients, admissions and stays: the reader of both MIMIC editions, which differ in names of files and columns.

One row becomes one FHIR R4 resource, as a record of ``clinical.resource``: ``patients`` a Patient, ``admissions`` an
Encounter of class IMP, ``icustays`` an Encounter of class ACUTE that is part of its admission.

- A Patient of MIMIC-III is born on ``dob``, which lies 300 years back for those above 89. MIMIC-IV gives the age in one
  year, so only the year of birth is known.
- A Patient dies on ``dod``. Of an admission ``hospital_expire_flag`` becomes the discharge disposition, ``exp`` or
  ``oth``, with the words of ``discharge_location``.
- What is said of an encounter was known when it ended: that is its ``recorded_at``. Of a patient nothing says when.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lakehouse.message import SCHEMA_VERSION, Message
from lakehouse.sources.instants import instant, rfc3339
from lakehouse.sources.rows import LINE, Columns, as_text, find, read
from lakehouse.sources.source import Event, Selection, SourceNotFoundError, Tally

Cells = Mapping[str, str]
Resource = dict[str, Any]

_ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
_DISPOSITION = "http://terminology.hl7.org/CodeSystem/discharge-disposition"
_GENDER = {"M": "male", "F": "female"}
_PATIENT_COLUMNS = ("gender", "dob", "anchor_age", "anchor_year", "dod")
_ADMISSION_COLUMNS = (
    *("dischtime", "deathtime", "admission_type", "admission_location", "discharge_location"),
    "hospital_expire_flag",
)


_LONGEST_ID = 64
"""As the contract and FHIR have it; MIMIC's have ten digits at most."""


class _BadCellError(ValueError):
    """A row that cannot be a resource: the reason, and the cell."""


@dataclass
class _Known:
    """Ids that were read. Where a file was not there, nobody is missed in it."""

    patients: set[str] = field(default_factory=set)
    admissions: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _File:
    """One file: where it may be, its columns, and how a row becomes a resource with the instant it became known."""

    stems: tuple[str, ...]
    columns: Columns
    resource: Callable[[Cells], tuple[Resource, str]]
    lacks: Callable[[Cells, _Known], str | None]


@dataclass(frozen=True)
class HospitalSource:
    """Patients, admissions and stays of one edition. ``stay`` is the column that identifies a stay."""

    name: str
    stay: str

    def events(self, path: Path, selection: Selection, tally: Tally) -> Iterator[Event]:
        """Every row of the selected subjects as a record of ``clinical.resource``; instants select nothing.

        Patients come first, then admissions, then stays. A folder that lacks a file gives what the others have.
        Raises SourceError.
        """
        known = _Known()
        for file in self._files():
            try:
                found = find(path, *file.stems)
            except SourceNotFoundError:
                tally.missing_files.append(file.stems[0])
                continue
            for line, cells in _rows(found, file.columns, tally):
                if selection.subjects is not None and cells["subject_id"] not in selection.subjects:
                    tally.not_selected += 1
                    continue
                try:
                    resource, recorded_at = file.resource(cells)
                except _BadCellError as error:
                    reason, cell = error.args
                    tally.reject(reason, found, line, cell)
                    continue
                if reason := file.lacks(cells, known):
                    tally.flaw(reason, found, line)
                record = self._record(cells["subject_id"], resource, recorded_at)
                tally.sent(record)
                yield Event(found, line, record)

    def _files(self) -> tuple[_File, ...]:
        return (
            _File(
                ("hosp/patients", "patients"),
                Columns(("subject_id",), _PATIENT_COLUMNS),
                _patient,
                _noted_patient,
            ),
            _File(
                ("hosp/admissions", "admissions"),
                Columns(("subject_id", "hadm_id", "admittime"), _ADMISSION_COLUMNS),
                _admission,
                _noted_admission,
            ),
            _File(
                ("icu/icustays", "icustays"),
                Columns(("subject_id", self.stay, "intime"), ("hadm_id", "first_careunit", "outtime")),
                lambda cells: _stay(cells, cells[self.stay]),
                lambda cells, known: _missed(cells["hadm_id"], known.admissions, "stay_without_admission"),
            ),
        )

    def _record(self, subject: str, resource: Resource, recorded_at: str) -> Message:
        record: Message = {
            "schema_version": SCHEMA_VERSION,
            "patient_id": f"{self.name}/{subject}",
            "source": self.name,
        }
        if recorded_at:
            record["recorded_at"] = recorded_at
        return record | {"resource": resource}


def _rows(file: Path, columns: Columns, tally: Tally) -> Iterator[tuple[int, Cells]]:
    for batch in read(file, columns, tally):
        cells = [as_text(batch.column(name)).to_pylist() for name in columns.all]
        for line, *row in zip(batch.column(LINE).to_pylist(), *cells, strict=True):
            yield line, dict(zip(columns.all, row, strict=True))


def _patient(cells: Cells) -> tuple[Resource, str]:
    resource: Resource = {
        "resourceType": "Patient",
        "id": _id(cells, "subject_id"),
        "gender": _GENDER.get(cells["gender"], "unknown"),
    }
    if cells["dob"]:
        resource["birthDate"] = _instant(cells, "dob")[:10]
    elif cells["anchor_year"]:
        resource["birthDate"] = f"{_number(cells, 'anchor_year') - _number(cells, 'anchor_age'):04}"
    if cells["dod"]:
        resource["deceasedDateTime"] = _day(cells, "dod")
    return resource, ""


def _admission(cells: Cells) -> tuple[Resource, str]:
    resource = _encounter(cells, _id(cells, "hadm_id"), "IMP", "admittime", "dischtime")
    if cells["admission_type"]:
        resource["type"] = [{"text": cells["admission_type"]}]
    hospitalization: Resource = {}
    if cells["admission_location"]:
        hospitalization["admitSource"] = {"text": cells["admission_location"]}
    disposition: Resource = {}
    if cells["hospital_expire_flag"]:
        code = "exp" if cells["hospital_expire_flag"] == "1" else "oth"
        disposition["coding"] = [{"system": _DISPOSITION, "code": code}]
    if cells["discharge_location"]:
        disposition["text"] = cells["discharge_location"]
    if disposition:
        hospitalization["dischargeDisposition"] = disposition
    if hospitalization:
        resource["hospitalization"] = hospitalization
    if cells["deathtime"]:
        resource["extension"] = [{"url": "urn:wardhouse:deathtime", "valueDateTime": _instant(cells, "deathtime")}]
    return resource, resource["period"].get("end", "")


def _stay(cells: Cells, stay: str) -> tuple[Resource, str]:
    resource = _encounter(cells, _id({"stay_id": stay}, "stay_id"), "ACUTE", "intime", "outtime")
    if cells["first_careunit"]:
        resource["location"] = [{"location": {"display": cells["first_careunit"]}}]
    if cells["hadm_id"]:
        resource["partOf"] = {"reference": f"Encounter/{cells['hadm_id']}"}
    return resource, resource["period"].get("end", "")


def _encounter(cells: Cells, identity: str, kind: str, start: str, end: str) -> Resource:
    period = {"start": _instant(cells, start)}
    if cells[end]:
        period["end"] = _instant(cells, end)
    return {
        "resourceType": "Encounter",
        "id": identity,
        "status": "finished" if cells[end] else "in-progress",
        "class": {"system": _ACT_CODE, "code": kind},
        "subject": {"reference": f"Patient/{_id(cells, 'subject_id')}"},
        "period": period,
    }


def _noted_patient(cells: Cells, known: _Known) -> None:
    known.patients.add(cells["subject_id"])


def _noted_admission(cells: Cells, known: _Known) -> str | None:
    known.admissions.add(cells["hadm_id"])
    return _missed(cells["subject_id"], known.patients, "admission_without_patient")


def _missed(identity: str, known: set[str], reason: str) -> str | None:
    return reason if known and identity not in known else None


def _id(cells: Cells, column: str) -> str:
    if not cells[column].isdigit() or len(cells[column]) > _LONGEST_ID:
        raise _BadCellError(f"bad_{column}", cells[column])
    return cells[column]


def _number(cells: Cells, column: str) -> int:
    return int(_id(cells, column))


def _instant(cells: Cells, column: str) -> str:
    moment = instant(cells[column])
    if moment is None:
        raise _BadCellError(f"bad_{column}", cells[column])
    return rfc3339(moment)


def _day(cells: Cells, column: str) -> str:
    """MIMIC-III writes midnight behind a day, MIMIC-IV the day alone."""
    text = cells[column]
    return _instant({column: text if len(text) > len("2180-07-23") else f"{text} 00:00:00"}, column)[:10]
