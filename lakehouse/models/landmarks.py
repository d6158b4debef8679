"""Rows to train and evaluate on: the landmarks of mart.deterioration_label, each with its features as known there."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from lakehouse import reader
from lakehouse.datadir import DataDir
from lakehouse.models.features import DAY, NAMES, Version, features, vector
from lakehouse.scores import STALE_AFTER
from lakehouse.tables import OBSERVATION, PATIENT
from lakehouse.vocabulary import signal_by_name

TABLES = ("mart.deterioration_label", "mart.icu_stay", OBSERVATION.full_name, PATIENT.full_name)
GROUPS = ("age_group", "gender", "care_unit")
"""By what an evaluation is told apart."""

_LONG = frozenset(signal_by_name()[name].code for name, after in STALE_AFTER.items() if after > DAY)

_LABELS = """
SELECT label.patient_id, label.stay_id, label.landmark_at, label.hours_to_death, label.death_within_24_hours,
  coalesce(stay.age_group, 'unknown') AS age_group, coalesce(stay.gender, 'unknown') AS gender,
  coalesce(stay.care_unit, 'unknown') AS care_unit
FROM mart.deterioration_label AS label
LEFT JOIN mart.icu_stay AS stay USING (stay_id)
WHERE label.death_within_24_hours IS NOT NULL
ORDER BY label.patient_id, label.landmark_at, label.stay_id
"""
_BIRTHS = "SELECT patient_id, arg_max(birth_year, recorded_at) FROM silver.patient GROUP BY patient_id"


class NoLandmarksError(LookupError):
    """There is nothing to learn from; the text says what is missing."""


@dataclass(frozen=True)
class Landmarks:
    """Rows in order of patient and instant; all columns are of one length.

    ``x`` has the features in the order of ``features.NAMES``. ``hours_to_death`` is NaN for who did not die in
    hospital. ``groups`` has a text for each row, by column. ``versions`` are the Delta versions that were read.
    """

    patients: NDArray[np.str_]
    stays: NDArray[np.str_]
    x: NDArray[np.float64]
    died: NDArray[np.bool_]
    hours_to_death: NDArray[np.float64]
    groups: Mapping[str, NDArray[np.str_]]
    versions: Mapping[str, int]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the rows, features and labels: two evaluations can be compared where it is the same."""
        found = sha256(repr(NAMES).encode())
        for column in (self.patients, self.stays, self.x, self.died, self.hours_to_death):
            found.update(np.ascontiguousarray(column).tobytes())
        return found.hexdigest()

    def score(self, name: str) -> NDArray[np.float64]:
        """The least that an early-warning score could be at each landmark: a missing input adds nothing to it."""
        column: NDArray[np.float64] = self.x[:, NAMES.index(f"{name}_total_min")]
        return column


class History:
    """The versions of one patient's observations, from which those that can count at an instant are taken."""

    def __init__(self, versions: Iterable[Version]) -> None:
        ordered = sorted(versions, key=lambda one: one.observed_at)
        self._recent = [one for one in ordered if one.code not in _LONG]
        self._instants = [one.observed_at for one in self._recent]
        self._long = [one for one in ordered if one.code in _LONG]

    def before(self, at: datetime) -> list[Version]:
        """What :func:`features` needs at an instant, and perhaps more."""
        # A value as old as its limit still counts.
        first, end = bisect_left(self._instants, at - DAY), bisect_right(self._instants, at)
        return self._recent[first:end] + self._long


def read(data: DataDir) -> Landmarks:
    """The landmarks whose outcome is known. Raises TableMissingError and NoLandmarksError."""
    tables = [reader.table_named(name) for name in TABLES]
    versions = {table: reader.open_table(data, table).version() for table in tables}
    with reader.connect(data, tables, versions, data.spill) as database:
        labels = database.sql(_LABELS).fetchall()
        births = dict(database.sql(_BIRTHS).fetchall())
    if not labels:
        raise NoLandmarksError(f"mart.deterioration_label in {data.root} has no landmark whose outcome is known")
    at: defaultdict[str, list[datetime]] = defaultdict(list)
    for row in labels:
        at[row[0]].append(row[2])
    of = dict(histories(data, at, versions[OBSERVATION]))
    rows = [
        vector(features(of[patient].before(instant) if patient in of else (), births.get(patient), instant))
        for patient, instants in at.items()
        for instant in instants
    ]
    texts = [np.array([row[place] for row in labels], dtype=np.str_) for place in (0, 1, 5, 6, 7)]
    return Landmarks(
        patients=texts[0],
        stays=texts[1],
        x=np.array(rows, dtype=np.float64),
        died=np.array([row[4] for row in labels], dtype=np.bool_),
        hours_to_death=np.array([np.nan if row[3] is None else row[3] for row in labels], dtype=np.float64),
        groups=dict(zip(GROUPS, texts[2:], strict=True)),
        versions={table.full_name: version for table, version in versions.items()},
    )


def histories(data: DataDir, patients: Iterable[str], version: int | None = None) -> Iterator[tuple[str, History]]:
    """The history of each of these patients who has observations, in order of patient, read as a stream."""
    import pyarrow as pa

    wanted = pa.table({"patient_id": pa.array(list(patients), pa.string())})
    columns = ", ".join(f'"{name}"' for name in Version._fields)
    with reader.connect(data, [OBSERVATION], {} if version is None else {OBSERVATION: version}, data.spill) as database:
        database.register("wanted", wanted)
        database.execute(
            f"SELECT patient_id, {columns} FROM silver.observation SEMI JOIN wanted USING (patient_id)"  # noqa: S608
            " ORDER BY patient_id, observed_at"
        )
        rows = iter(database.fetchone, None)
        for patient, of_patient in groupby(rows, key=lambda row: str(row[0])):
            yield patient, History(Version._make(row[1:]) for row in of_patient)
