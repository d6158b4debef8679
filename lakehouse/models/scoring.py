"""Risks of patients as rows of gold.risk_score: beside the ward, minute by minute, and over history.

Both take features by the same declaration and risks by the same model, so that they give equal rows where nothing came
late and nothing was corrected. A row says what was said then, and stays when more becomes known.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from lakehouse import reader, spark_functions
from lakehouse.datadir import DataDir
from lakehouse.models.features import DAY, KNOWN_TABLES, STORED_TABLES, Asked, Rows, as_known, as_stored
from lakehouse.models.landmarks import births_of
from lakehouse.models.registry import NAME
from lakehouse.models.serving import Served
from lakehouse.tables import PATIENT, RISK_SCORE

HEARD = timedelta(hours=1)
"""A patient of whom gold has no minute of the last hour has left, or is charted by hand: nothing new is to be said."""

_AT_ONCE = 20_000
"""Rows of history that are scored together."""

_NEWEST = "SELECT patient_id, max(minute) FROM gold.vital_sign_minute WHERE minute > $1 AND minute <= $2 GROUP BY ALL"
_DONE = """
SELECT patient_id, max(landmark_at) FROM gold.risk_score WHERE landmark_at > $1 AND model_version = $2 GROUP BY ALL
"""
_NOT_SCORED = """
WITH step AS (
  SELECT DISTINCT patient_id,
    time_bucket($every, recorded_at, TIMESTAMPTZ '2000-01-01 00:00:00+00') + $every AS landmark_at
  FROM silver.observation WHERE recorded_at >= $since - $every AND recorded_at < $until
)
SELECT patient_id, landmark_at FROM step
ANTI JOIN (FROM gold.risk_score WHERE model_version = $version) USING (patient_id, landmark_at)
WHERE landmark_at >= $since AND landmark_at < $until ORDER BY patient_id, landmark_at
"""

Row = dict[str, Any]
Done = Mapping[str, datetime]
"""By patient, the newest instant that has been scored."""


def scored(asked: Sequence[Asked], x: Rows, served: Served, now: datetime) -> list[Row]:
    """Rows of gold.risk_score, one for each that is asked, from features in the same order."""
    return [
        {
            "patient_id": one.patient_id,
            "landmark_at": one.at,
            "model": NAME,
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

    A patient whose newest minute stands in ``done`` of the model's version is left out. Raises TableMissingError.
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
    return last is None or last < at


def scored_until(data: DataDir, version: int, now: datetime) -> dict[str, datetime]:
    """What has been scored of patients who were heard of, by a version. Raises TableMissingError."""
    since = now - 2 * HEARD
    with reader.asked(data, [RISK_SCORE], {"landmark_at": (since, None)}) as database:
        return dict(database.execute(_DONE, [since, version]).fetchall())


def history(
    data: DataDir, served: Served, since: datetime, until: datetime, every: timedelta, now: datetime
) -> Iterator[list[Row]]:
    """Rows of the instants of history that the version has not scored yet, in parts.

    They are each patient's full steps of ``every`` before which something was recorded in the step. Features are as
    known then. Raises TableMissingError.
    """
    with reader.connect(data, [*KNOWN_TABLES, PATIENT, RISK_SCORE], None, data.spill) as database:
        spark_functions.teach(database)
        births = births_of(database)
        span = {"since": since, "until": until, "every": every, "version": served.version}
        found = database.execute(_NOT_SCORED, span).fetchall()
        for first in range(0, len(found), _AT_ONCE):
            asked = [Asked(patient, at, births.get(patient)) for patient, at in found[first : first + _AT_ONCE]]
            yield scored(asked, as_known(database, asked), served, now)
