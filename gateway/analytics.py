"""What adds up over time: averages of signals by patient, and how much a unit's alerts ask of it."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

from lakehouse import reader
from lakehouse.datadir import DataDir

LONGEST = timedelta(days=31)
"""The longest span of one answer."""

# Means weigh by their counts; fsum keeps what a plain sum of doubles loses, whatever the order of rows.
_AVERAGES = """
SELECT patient_id, code, unit, sum(count)::BIGINT AS count, min(min) AS min, fsum(mean * count) / sum(count) AS mean,
    max(max) AS max
FROM gold.vital_sign_minute
WHERE minute >= $start AND minute < $stop AND ($patient IS NULL OR patient_id = $patient)
    AND ($among IS NULL OR list_contains($among, patient_id))
GROUP BY patient_id, code, unit
ORDER BY patient_id, code, unit
"""

# As the mart alert_burden counts: alerts that told somebody, on the day on which they did.
_BURDEN = """
SELECT coalesce(location_unit, 'unknown') AS unit, active_at::DATE AS day, count(*) AS alerts,
    count(DISTINCT patient_id) AS patients, count(*) FILTER (priority = 'high') AS high_priority,
    count(*) FILTER (category = 'technical') AS technical, count(acknowledged_at) AS acknowledged,
    median(epoch_us(acknowledged_at) - epoch_us(active_at)) / 1e6 AS median_seconds_to_acknowledge,
    count(*) FILTER (ended_at IS NULL) AS still_open
FROM gold.alert
WHERE active_at >= $start AND active_at < $stop AND ($patient IS NULL OR patient_id = $patient)
    AND ($among IS NULL OR list_contains($among, patient_id))
    AND ($unit IS NULL OR coalesce(location_unit, 'unknown') = $unit)
GROUP BY ALL
ORDER BY unit, day
"""


def averages(
    data: DataDir, start: datetime, stop: datetime, patient: str | None, among: Collection[str] | None = None
) -> list[dict[str, Any]]:
    """Count, least, mean and most of each patient's signals within a span. Raises TableMissingError.

    ``among`` are the patients who may be told of; None: all.
    """
    params = {"start": start.astimezone(UTC), "stop": stop.astimezone(UTC), "patient": patient, "among": _listed(among)}
    found: list[dict[str, Any]] = reader.query(data, _AVERAGES, params).to_pylist()
    return found


def burden(
    data: DataDir,
    start: datetime,
    stop: datetime,
    patient: str | None,
    unit: str | None,
    among: Collection[str] | None = None,
) -> list[dict[str, Any]]:
    """The alerts of each unit and day (UTC) that told somebody within a span. Raises TableMissingError.

    ``among`` are the patients whose alerts count; None: all.
    """
    span = {"start": start.astimezone(UTC), "stop": stop.astimezone(UTC)}
    params = {**span, "patient": patient, "unit": unit, "among": _listed(among)}
    found: list[dict[str, Any]] = reader.query(data, _BURDEN, params).to_pylist()
    return found


def _listed(among: Collection[str] | None) -> list[str] | None:
    return None if among is None else sorted(among)
