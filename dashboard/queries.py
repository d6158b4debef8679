"""What the pages ask of the lakehouse: DataFrames out, read through :mod:`lakehouse.reader`, nothing kept."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from alerting.bands import Arms, band_of
from alerting.lifecycle import OPEN
from dashboard.news2 import COMPARED_WITH, News2, standing
from dashboard.records import Record, record
from lakehouse import reader, stored_scores
from lakehouse.datadir import DataDir
from lakehouse.files import Bounds
from lakehouse.places import under_way
from lakehouse.scores import Score
from lakehouse.stored_minutes import OF_AN_HOUR, resolution

if TYPE_CHECKING:
    import pandas as pd

ON_THE_WARD = timedelta(minutes=15)
"""A patient without a value for so long is no longer shown as being monitored."""

_PLACES_WITHIN = timedelta(minutes=3)  # monitors send every few seconds; silver is too large to look further back
_ALERTS_WITHIN = timedelta(days=30)  # an alert that is open for longer has long been dealt with by other means
_PATIENTS_WITHIN = timedelta(days=7)

_LATEST = """
SELECT patient_id, code, arg_max("last", minute) AS value, max(minute) AS observed_at
FROM gold.vital_sign_minute
WHERE minute >= $since AND minute <= $now
GROUP BY patient_id, code
"""

_PLACES = """
SELECT patient_id, arg_max(location_unit, observed_at) AS unit, arg_max(location_bed, observed_at) AS bed
FROM silver.observation
WHERE observed_at >= $since AND location_unit IS NOT NULL
GROUP BY patient_id
"""

_OPEN_ALERTS = """
SELECT * EXCLUDE (newest) FROM (
    SELECT alert_id, state, rule_id, title, priority, category, patient_id, location_unit AS unit, location_bed AS bed,
        code, value, limit_value, emitted_at,
        min(emitted_at) OVER same AS opened_at, sequence = max(sequence) OVER same AS newest
    FROM gold.alert_event
    WHERE emitted_at >= $since
    WINDOW same AS (PARTITION BY alert_id)
) WHERE newest AND list_contains($open, state)
ORDER BY emitted_at DESC
"""

_PATIENTS = """
SELECT patient_id, max(minute) AS newest
FROM gold.vital_sign_minute
WHERE minute >= $since
GROUP BY patient_id
ORDER BY patient_id
"""

_NEWEST_MINUTE = "SELECT max(minute) AS newest FROM gold.vital_sign_minute WHERE patient_id = $patient_id"

_TREND = """
SELECT code, unit, minute, count, min, mean, max
FROM gold.vital_sign_minute
WHERE patient_id = $patient_id AND minute >= $start AND minute < $stop
ORDER BY code, minute
"""
_TREND_BY_HOUR = f"""
SELECT code, unit, date_trunc('hour', minute) AS minute, {OF_AN_HOUR}
FROM gold.vital_sign_minute
WHERE patient_id = $patient_id AND minute >= $start AND minute < $stop
GROUP BY code, unit, date_trunc('hour', minute)
ORDER BY code, minute
"""  # noqa: S608 - our own text

_ALERTS_OF_PATIENT = """
SELECT alert_id, code, title, priority, arg_min(observed_at, sequence) AS started_at,
    max(observed_at) FILTER (NOT list_contains($open, state)) AS resolved_at, arg_min(value, sequence) AS value,
    arg_min(limit_value, sequence) AS limit_value, arg_max(location_unit, sequence) AS unit
FROM gold.alert_event
WHERE patient_id = $patient_id
GROUP BY alert_id, code, title, priority
HAVING started_at < $stop AND coalesce(resolved_at, $stop) >= $start
ORDER BY started_at
"""


_RECORDS = """
SELECT resource_type, resource FROM (
    SELECT * FROM silver.clinical_resource WHERE patient_id = $patient_id
    QUALIFY row_number() OVER (
        PARTITION BY resource_type, resource_id
        ORDER BY recorded_at DESC, topic DESC, "partition" DESC, "offset" DESC, version DESC
    ) = 1
)
ORDER BY resource_type, recorded_at DESC, resource_id
"""


def _frame(data: DataDir, sql: str, params: Mapping[str, Any], bounds: Bounds) -> "pd.DataFrame":
    frame: pd.DataFrame = reader.query(data, sql, params, bounds).to_pandas()
    return frame


def latest(data: DataDir, now: datetime, limits: Arms) -> "pd.DataFrame":
    """The last stored value of each patient's signals: patient_id, unit, bed, code, value, band, fault, observed_at.

    As old as the flow that writes gold makes it (up to 90 s); the gateway's live cache has the same within 2 s.
    """
    since, near = now - ON_THE_WARD, now - _PLACES_WITHIN
    values = _frame(data, _LATEST, {"since": since, "now": now}, {"minute": (since, now)})
    places = _frame(data, _PLACES, {"since": near}, {"observed_at": (near, None)})
    found = values.merge(places, on="patient_id", how="left").astype({"unit": object, "bed": object})
    found = found.where(found.notna(), None)
    measured = zip(found["code"], found["value"], found["unit"], strict=True)
    found["band"] = [band_of(limits, code, value, unit).band for code, value, unit in measured]
    found["fault"] = None
    return found[["patient_id", "unit", "bed", "code", "value", "band", "fault", "observed_at"]]


def places(data: DataDir, now: datetime) -> dict[str, str]:
    """The care unit of each patient: where a monitor last said, else that of the stay under way."""
    near = now - _PLACES_WITHIN
    seen = reader.query(data, _PLACES, {"since": near}, {"observed_at": (near, None)}).to_pylist()
    return {**under_way(data), **{row["patient_id"]: row["unit"] for row in seen}}


def open_alerts(data: DataDir, now: datetime) -> "pd.DataFrame":
    """The current state of every open alert, newest transition first."""
    since = now - _ALERTS_WITHIN
    return _frame(data, _OPEN_ALERTS, {"since": since, "open": sorted(OPEN)}, {"emitted_at": (since, None)})


def news2(data: DataDir, now: datetime) -> dict[str, News2]:
    """NEWS2 of each patient of whom it is known, as gold has it (up to five minutes old)."""
    stands = stored_scores.current(data, Score.NEWS2, now)
    before = stored_scores.current(data, Score.NEWS2, now - COMPARED_WITH)
    return {patient_id: standing(row, before.get(patient_id)) for patient_id, row in stands.items()}


def patients(data: DataDir, now: datetime) -> "pd.DataFrame":
    """Patients with a value within the last week, or ahead of now (shifted clocks): patient_id, newest."""
    since = now - _PATIENTS_WITHIN
    return _frame(data, _PATIENTS, {"since": since}, {"minute": (since, None)})


def newest_minute(data: DataDir, patient_id: str) -> datetime | None:
    """The last minute in which the patient has a value."""
    of_patient = {"patient_id": (patient_id, patient_id)}
    (row,) = reader.query(data, _NEWEST_MINUTE, {"patient_id": patient_id}, of_patient).to_pylist()
    newest: datetime | None = row["newest"]
    return newest


def trend(data: DataDir, patient_id: str, start: datetime, stop: datetime) -> "pd.DataFrame":
    """The patient's minutes within a span, or hours of a long one: code, unit, minute, count, min, mean, max."""
    params = {"patient_id": patient_id, "start": start, "stop": stop}
    sql = _TREND_BY_HOUR if resolution(stop - start) == "hour" else _TREND
    return _frame(data, sql, params, {"patient_id": (patient_id, patient_id), "minute": (start, stop)})


def alerts_of(data: DataDir, patient_id: str, start: datetime, stop: datetime) -> "pd.DataFrame":
    """The patient's alerts that were open at some time within a span, with the value and limit that opened them."""
    params = {"patient_id": patient_id, "start": start, "stop": stop, "open": sorted(OPEN)}
    return _frame(data, _ALERTS_OF_PATIENT, params, {"patient_id": (patient_id, patient_id)})


def records_of(data: DataDir, patient_id: str) -> "list[Record]":
    """What else is known of the patient, by kind, the newest first: conditions, appointments, prescriptions."""
    of_patient = {"patient_id": (patient_id, patient_id)}
    rows = reader.query(data, _RECORDS, {"patient_id": patient_id}, of_patient).to_pylist()
    return [record(json.loads(row["resource"])) for row in rows]
