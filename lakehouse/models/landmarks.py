"""Rows to train and evaluate on: landmarks with an outcome, each with its features as known there.

Deaths are those of mart.deterioration_label; episodes of the simulator are in lakehouse/models/episodes.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lakehouse import reader, spark_functions
from lakehouse.datadir import DataDir
from lakehouse.models.features import NAMES, Asked, as_known
from lakehouse.models.outcome import DEATH, Outcome
from lakehouse.table import Table
from lakehouse.tables import OBSERVATION, PATIENT

if TYPE_CHECKING:
    import duckdb

TABLES = ("mart.deterioration_label", "mart.icu_stay", OBSERVATION.full_name, PATIENT.full_name)
"""Of landmarks of deaths."""
GROUPS = ("age_group", "gender", "care_unit")
"""By what an evaluation is told apart."""

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

    ``x`` has features and courses in the order of ``features.COLUMNS``. ``hours_to_event`` is NaN where none was seen
    to come. None of the ``stays`` has two events. ``groups`` has a text for each row, by column. ``versions`` are the
    Delta versions that were read.
    """

    patients: NDArray[np.str_]
    stays: NDArray[np.str_]
    x: NDArray[np.float64]
    event: NDArray[np.bool_]
    hours_to_event: NDArray[np.float64]
    groups: Mapping[str, NDArray[np.str_]]
    outcome: Outcome
    versions: Mapping[str, int]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the rows, features and labels: two evaluations can be compared where it is the same."""
        found = sha256(repr(NAMES).encode())
        # Courses are of the same minutes as features: whatever a model takes, the rows are the same.
        for column in (self.patients, self.stays, self.x[:, : len(NAMES)], self.event, self.hours_to_event):
            found.update(np.ascontiguousarray(column).tobytes())
        return found.hexdigest()

    def score(self, name: str) -> NDArray[np.float64]:
        """The least that an early-warning score could be at each landmark: a missing input adds nothing to it."""
        column: NDArray[np.float64] = self.x[:, NAMES.index(f"{name}_total_min")]
        return column


class Label(NamedTuple):
    """What came after one landmark. ``hours_to_event`` is None where none was seen to come."""

    patient_id: str
    stay_id: str
    at: datetime
    hours_to_event: float | None
    event: bool
    groups: Mapping[str, str]


def read(data: DataDir) -> Landmarks:
    """The landmarks of deaths whose outcome is known. Raises TableMissingError and NoLandmarksError."""
    tables = [reader.table_named(name) for name in TABLES]
    versions = versions_of(data, tables)
    with reader.connect(data, tables, versions, data.spill) as database:
        found = database.sql(_LABELS).fetchall()
        if not found:
            raise NoLandmarksError(f"mart.deterioration_label in {data.root} has no landmark whose outcome is known")
        labels = [
            Label(patient_id, stay_id, at, hours, event, dict(zip(GROUPS, groups, strict=True)))
            for patient_id, stay_id, at, hours, event, *groups in found
        ]
        return rows_of(database, labels, DEATH, versions)


def versions_of(data: DataDir, tables: Sequence[Table]) -> dict[Table, int]:
    """The newest version of each. Raises TableMissingError."""
    return {table: reader.open_table(data, table).version() for table in tables}


def rows_of(
    database: "duckdb.DuckDBPyConnection", labels: Sequence[Label], outcome: Outcome, versions: Mapping[Table, int]
) -> Landmarks:
    """Labels with features, in their order; all have the same groups. The connection shows silver."""
    births = births_of(database)
    spark_functions.teach(database)
    hours = [np.nan if one.hours_to_event is None else one.hours_to_event for one in labels]
    return Landmarks(
        patients=np.array([one.patient_id for one in labels], dtype=np.str_),
        stays=np.array([one.stay_id for one in labels], dtype=np.str_),
        x=as_known(database, [Asked(one.patient_id, one.at, births.get(one.patient_id)) for one in labels]),
        event=np.array([one.event for one in labels], dtype=np.bool_),
        hours_to_event=np.array(hours, dtype=np.float64),
        groups={name: np.array([one.groups[name] for one in labels], dtype=np.str_) for name in labels[0].groups},
        outcome=outcome,
        versions={table.full_name: version for table, version in versions.items()},
    )


def births_of(database: "duckdb.DuckDBPyConnection") -> dict[str, int | None]:
    """The year of birth of each patient of silver.patient, as it was recorded last."""
    return dict(database.sql(_BIRTHS).fetchall())
