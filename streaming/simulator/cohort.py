"""Who is simulated: identities, units and beds, what is normal for each, and their FHIR resources."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SIGNALS = ("heart_rate", "respiratory_rate", "spo2", "systolic_bp", "diastolic_bp", "temperature")
"""The six signals of a message, in the order of every array here; names of lakehouse.vocabulary."""

DEFAULT_UNITS: Mapping[str, int] = {"ICU": 2, "STEP": 3, "MED": 9, "SURG": 6}
"""Beds in a hospital of twenty; a larger cohort keeps the proportions."""

# Lowest and highest of what is normal for a patient at rest. Chosen so that rest, day and night, activity and noise
# together (physiology.py) break no limit of the default adult pack: an alert means an episode.
_NORMAL = {
    "heart_rate": (60.0, 90.0),
    "respiratory_rate": (14.0, 18.0),
    "spo2": (96.0, 99.0),
    "systolic_bp": (118.0, 142.0),
    "temperature": (36.6, 37.1),
}
_ADULT_YEARS = (18, 95)


@dataclass(frozen=True)
class Patient:
    """One patient of a cohort: what every message of theirs repeats."""

    id: str
    encounter_id: str
    device_id: str
    unit: str
    bed: str
    gender: str
    birth_date: date
    admitted_at: datetime

    @property
    def patient_id(self) -> str:
        """``system/value``, as messages name a patient."""
        return f"sim/{self.id}"


@dataclass(frozen=True)
class Cohort:
    """Patients, and what is normal for each: ``resting`` has a row per patient and a column per signal."""

    patients: tuple[Patient, ...]
    resting: Floats


def cohort(seed: int, size: int, start: datetime, beds: Mapping[str, int] | None = None) -> Cohort:
    """The patients of one seed. Patient 7 is the same person however many there are; each run is a stay of its own.

    ``beds`` gives the beds of each unit, filled in that order; ValueError where they are fewer than the patients.
    """
    places = _places(size, beds)
    # A row of numbers per patient, drawn row by row: more patients do not change the first ones.
    draws = np.random.default_rng((seed, 1)).random((size, 8))
    patients = tuple(_patient(seed, index, place, draws[index], start) for index, place in enumerate(places))
    return Cohort(patients, _resting(draws))


def resources(patient: Patient) -> tuple[dict[str, Any], dict[str, Any]]:
    """The patient's FHIR R4 Patient and Encounter."""
    return _fhir_patient(patient), _fhir_encounter(patient)


def _places(size: int, beds: Mapping[str, int] | None) -> Sequence[tuple[str, str]]:
    if beds is None:
        total = sum(DEFAULT_UNITS.values())
        beds = {unit: -(-size * count // total) for unit, count in DEFAULT_UNITS.items()}
    elif sum(beds.values()) < size:
        raise ValueError(f"{size} patients do not fit into {sum(beds.values())} beds")
    # Dealt out one unit after another, a bed each, so that a small cohort is not all in one unit.
    order = sorted((number / count, unit, number) for unit, count in beds.items() for number in range(1, count + 1))
    return [(unit, f"{unit}-{number:02d}") for _, unit, number in order[:size]]


def _patient(seed: int, index: int, place: tuple[str, str], draw: Floats, start: datetime) -> Patient:
    unit, bed = place
    identity = f"{seed}-{index + 1:05d}"
    youngest, oldest = _ADULT_YEARS
    age = timedelta(days=int((youngest + draw[6] * (oldest - youngest)) * 365.25))
    return Patient(
        id=identity,
        encounter_id=f"sim/{identity}-{start.astimezone(UTC):%Y%m%dT%H%M%S}",
        device_id=f"sim-monitor-{identity}",
        unit=unit,
        bed=bed,
        gender="female" if draw[5] < 0.5 else "male",
        # Counted from a fixed day: a person's birthday does not move with the start of the run.
        birth_date=date(2025, 1, 1) - age,
        admitted_at=start - timedelta(minutes=int(draw[7] * 7 * 24 * 60)),
    )


def _resting(draws: Floats) -> Floats:
    resting = np.empty((len(draws), len(SIGNALS)))
    for column, (name, (low, high)) in enumerate(_NORMAL.items()):
        resting[:, SIGNALS.index(name)] = low + draws[:, column] * (high - low)
    resting[:, 4] = 4 + 0.55 * resting[:, 3]
    return resting


def _fhir_patient(patient: Patient) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": patient.id,
        "active": True,
        "identifier": [{"system": "urn:wardhouse:sim", "value": patient.id}],
        "name": [{"text": f"Simulated patient {patient.id}"}],
        "gender": patient.gender,
        "birthDate": patient.birth_date.isoformat(),
    }


def _fhir_encounter(patient: Patient) -> dict[str, Any]:
    return {
        "resourceType": "Encounter",
        "id": patient.encounter_id.removeprefix("sim/"),
        "status": "in-progress",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "subject": {"reference": f"Patient/{patient.id}"},
        "period": {"start": patient.admitted_at.astimezone(UTC).isoformat(timespec="seconds")},
        "location": [{"location": {"display": f"{patient.unit} {patient.bed}"}, "status": "active"}],
    }
