"""What the pages ask of the lakehouse: DataFrames out, read through :mod:`lakehouse.reader`, nothing kept."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from alerting.bands import Arms, band_of
from alerting.lifecycle import OPEN
from lakehouse import reader
from lakehouse.datadir import DataDir

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


def _frame(data: DataDir, sql: str, params: Mapping[str, Any]) -> "pd.DataFrame":
    frame: pd.DataFrame = reader.query(data, sql, params).to_pandas()
    return frame


def latest(data: DataDir, now: datetime, limits: Arms) -> "pd.DataFrame":
    """The last stored value of each patient's signals: patient_id, unit, bed, code, value, band, fault, observed_at.

    As old as the flow that writes gold makes it (up to 90 s); the gateway's live cache has the same within 2 s.
    """
    values = _frame(data, _LATEST, {"since": now - ON_THE_WARD, "now": now})
    places = _frame(data, _PLACES, {"since": now - _PLACES_WITHIN})
    found = values.merge(places, on="patient_id", how="left").astype({"unit": object, "bed": object})
    found = found.where(found.notna(), None)
    measured = zip(found["code"], found["value"], found["unit"], strict=True)
    found["band"] = [band_of(limits, code, value, unit).band for code, value, unit in measured]
    found["fault"] = None
    return found[["patient_id", "unit", "bed", "code", "value", "band", "fault", "observed_at"]]


def open_alerts(data: DataDir, now: datetime) -> "pd.DataFrame":
    """The current state of every open alert, newest transition first."""
    return _frame(data, _OPEN_ALERTS, {"since": now - _ALERTS_WITHIN, "open": sorted(OPEN)})


def patients(data: DataDir, now: datetime) -> "pd.DataFrame":
    """Patients with a value within the last week, or ahead of now (shifted clocks): patient_id, newest."""
    return _frame(data, _PATIENTS, {"since": now - _PATIENTS_WITHIN})


def newest_minute(data: DataDir, patient_id: str) -> datetime | None:
    """The last minute in which the patient has a value."""
    newest: datetime | None = reader.query(data, _NEWEST_MINUTE, {"patient_id": patient_id}).to_pylist()[0]["newest"]
    return newest


def trend(data: DataDir, patient_id: str, start: datetime, stop: datetime) -> "pd.DataFrame":
    """The patient's minutes within a span: code, unit, minute, count, min, mean, max."""
    return _frame(data, _TREND, {"patient_id": patient_id, "start": start, "stop": stop})


def alerts_of(data: DataDir, patient_id: str, start: datetime, stop: datetime) -> "pd.DataFrame":
    """The patient's alerts that were open at some time within a span, with the value and limit that opened them."""
    params = {"patient_id": patient_id, "start": start, "stop": stop, "open": sorted(OPEN)}
    return _frame(data, _ALERTS_OF_PATIENT, params)
