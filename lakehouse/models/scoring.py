"""Risks of patients as rows of gold.risk_score: beside the ward, minute by minute, and over history.

Both take features by the same declaration and risks by the same model, so that they give equal rows where nothing came
late and nothing was corrected. A row says what was said then, and stays when more becomes known.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from lakehouse import reader, spark_functions
from lakehouse.datadir import DataDir
from lakehouse.models.features import DAY, KNOWN_TABLES, STORED_TABLES, Asked, Rows, as_known, as_stored
from lakehouse.models.landmarks import births_of
from lakehouse.models.outcome import Outcome
from lakehouse.models.serving import Served
from lakehouse.table import Table
from lakehouse.tables import PATIENT, RISK_SCORE

if TYPE_CHECKING:
    import duckdb

HEARD = timedelta(hours=1)
"""A patient of whom gold has no minute of the last hour has left, or is charted by hand: nothing new is to be said."""

_AT_ONCE = 20_000
"""Rows of history that are scored together."""

_NEWEST = "SELECT patient_id, max(minute) FROM gold.vital_sign_minute WHERE minute > $1 AND minute <= $2 GROUP BY ALL"
_DONE = """
SELECT patient_id, max(landmark_at) FROM gold.risk_score WHERE landmark_at > $1 AND model_version = $2 GROUP BY ALL
"""
_STEPS = """
SELECT DISTINCT patient_id,
  time_bucket($every, recorded_at, TIMESTAMPTZ '2000-01-01 00:00:00+00') + $every AS landmark_at
FROM silver.observation
WHERE recorded_at >= $since - $every AND recorded_at < $until AND landmark_at >= $since AND landmark_at < $until
ORDER BY patient_id, landmark_at
"""
_SCORED = "SELECT patient_id, landmark_at FROM gold.risk_score WHERE model_version = $1 AND landmark_at >= $2"

Row = dict[str, Any]
Done = Mapping[str, datetime]
"""By patient, the newest instant that has been scored."""


def scored(asked: Sequence[Asked], x: Rows, served: Served, now: datetime) -> list[Row]:
    """Rows of gold.risk_score, one for each that is asked, from features in the same order."""
    return [
        {
            "patient_id": one.patient_id,
            "landmark_at": one.at,
            "model": served.outcome.name,
            "model_version": served.version,
            "role": served.role.value,
            "risk": found.risk,
            "contributions": [
                {"feature": each.feature, "value": each.value, "log_odds": each.log_odds}
                for each in found.contributions
            ],
            "scored_at": now,
        }
        for one, found in zip(asked, served.model.explained(x), strict=True)
    ]


def beside_the_ward(data: DataDir, served: Sequence[Served], done: Mapping[int, Done], now: datetime) -> list[Row]:
    """Rows by each model: of each patient who was heard of, at the start of the newest minute that gold has of them.

    A patient whose newest minute stands in ``done`` of the model's version is left out, and one of whom the model may
    not speak. Raises TableMissingError.
    """
    with reader.asked(data, [*STORED_TABLES, PATIENT], {"minute": (now - HEARD - DAY, None)}) as database:
        newest = dict(database.execute(_NEWEST, [now - HEARD, now]).fetchall())
        due = {patient: any(_is_due(done, one, patient, at) for one in served) for patient, at in newest.items()}
        patients = sorted(patient for patient in newest if due[patient])
        if not patients:
            return []
        births = births_of(database)
        asked = [Asked(patient, newest[patient], births.get(patient)) for patient in patients]
        x = as_stored(database, asked)
    made: list[Row] = []
    for one in served:
        places = [place for place, its in enumerate(asked) if _is_due(done, one, its.patient_id, its.at)]
        made += scored([asked[place] for place in places], x[places], one, now)
    return made


def _is_due(done: Mapping[int, Done], served: Served, patient_id: str, at: datetime) -> bool:
    last = done[served.version].get(patient_id)
    return served.outcome.concerns(patient_id) and (last is None or last < at)


def scored_until(data: DataDir, version: int, now: datetime) -> dict[str, datetime]:
    """What has been scored of patients who were heard of, by a version. Raises TableMissingError."""
    since = now - 2 * HEARD
    with reader.asked(data, [RISK_SCORE], {"landmark_at": (since, None)}) as database:
        return dict(database.execute(_DONE, [since, version]).fetchall())


def history(
    data: DataDir, served: Served, since: datetime, until: datetime, every: timedelta, now: datetime
) -> Iterator[list[Row]]:
    """Rows of the instants of history (see :func:`stood`) that the version has not scored yet, in parts.

    Raises TableMissingError.
    """
    with _as_known(data, [RISK_SCORE]) as database:
        there = set(database.execute(_SCORED, [served.version, since]).fetchall())
        wanted = [
            one
            for one in _asked(database, since, until, every)
            if served.outcome.concerns(one.patient_id) and (one.patient_id, one.at) not in there
        ]
        for first in range(0, len(wanted), _AT_ONCE):
            part = wanted[first : first + _AT_ONCE]
            yield scored(part, as_known(database, part), served, now)


def stood(data: DataDir, since: datetime, until: datetime, outcome: Outcome) -> tuple[list[Asked], Rows]:
    """Each patient's full steps in which something was recorded, with features as known at their ends.

    Steps are those of an outcome's landmarks, patients those that it concerns.

    Raises TableMissingError.
    """
    with _as_known(data, []) as database:
        asked = [one for one in _asked(database, since, until, outcome.step) if outcome.concerns(one.patient_id)]
        return asked, as_known(database, asked)


@contextmanager
def _as_known(data: DataDir, others: Sequence[Table]) -> "Iterator[duckdb.DuckDBPyConnection]":
    with reader.connect(data, [*KNOWN_TABLES, PATIENT, *others], None, data.spill) as database:
        spark_functions.teach(database)
        yield database


def _asked(database: "duckdb.DuckDBPyConnection", since: datetime, until: datetime, every: timedelta) -> list[Asked]:
    births = births_of(database)
    found = database.execute(_STEPS, {"since": since, "until": until, "every": every}).fetchall()
    return [Asked(patient, at, births.get(patient)) for patient, at in found]
