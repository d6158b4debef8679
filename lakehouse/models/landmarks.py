"""Rows to train and evaluate on: the landmarks of mart.deterioration_label, each with its features as known there."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lakehouse import reader, spark_functions
from lakehouse.datadir import DataDir
from lakehouse.models.features import NAMES, Asked, as_known
from lakehouse.tables import OBSERVATION, PATIENT

if TYPE_CHECKING:
    import duckdb

TABLES = ("mart.deterioration_label", "mart.icu_stay", OBSERVATION.full_name, PATIENT.full_name)
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

    ``x`` has features and courses in the order of ``features.COLUMNS``. ``hours_to_death`` is NaN for who did not die
    in hospital. ``groups`` has a text for each row, by column. ``versions`` are the Delta versions that were read.
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
        # Courses are of the same minutes as features: whatever a model takes, the rows are the same.
        for column in (self.patients, self.stays, self.x[:, : len(NAMES)], self.died, self.hours_to_death):
            found.update(np.ascontiguousarray(column).tobytes())
        return found.hexdigest()

    def score(self, name: str) -> NDArray[np.float64]:
        """The least that an early-warning score could be at each landmark: a missing input adds nothing to it."""
        column: NDArray[np.float64] = self.x[:, NAMES.index(f"{name}_total_min")]
        return column


def read(data: DataDir) -> Landmarks:
    """The landmarks whose outcome is known. Raises TableMissingError and NoLandmarksError."""
    tables = [reader.table_named(name) for name in TABLES]
    versions = {table: reader.open_table(data, table).version() for table in tables}
    with reader.connect(data, tables, versions, data.spill) as database:
        labels = database.sql(_LABELS).fetchall()
        births = births_of(database)
        if not labels:
            raise NoLandmarksError(f"mart.deterioration_label in {data.root} has no landmark whose outcome is known")
        spark_functions.teach(database)
        x = as_known(database, [Asked(row[0], row[2], births.get(row[0])) for row in labels])
    texts = [np.array([row[place] for row in labels], dtype=np.str_) for place in (0, 1, 5, 6, 7)]
    return Landmarks(
        patients=texts[0],
        stays=texts[1],
        x=x,
        died=np.array([row[4] for row in labels], dtype=np.bool_),
        hours_to_death=np.array([np.nan if row[3] is None else row[3] for row in labels], dtype=np.float64),
        groups=dict(zip(GROUPS, texts[2:], strict=True)),
        versions={table.full_name: version for table, version in versions.items()},
    )


def births_of(database: "duckdb.DuckDBPyConnection") -> dict[str, int | None]:
    """The year of birth of each patient of silver.patient, as it was recorded last."""
    return dict(database.sql(_BIRTHS).fetchall())
