"""Early warning scores from gold.early_warning_score: over time, and as they stand."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from lakehouse import reader
from lakehouse.datadir import DataDir
from lakehouse.scores import RESTATED_AFTER, SCORES, Score

LONGEST = timedelta(days=366)
"""The longest span of one answer."""

STANDS = RESTATED_AFTER + timedelta(minutes=15)
"""How old the newest row of a patient who is still heard of may be: it is restated by then, and the flow that does so
runs every five minutes."""

_SERIES = """
SELECT patient_id, observed_at, total, total_min, total_max, risk, parts
FROM gold.early_warning_score
WHERE patient_id = $patient_id AND score = $score AND observed_at >= $since AND observed_at < $stop
ORDER BY observed_at
"""
_CURRENT = """
SELECT patient_id, observed_at, total, total_min, total_max, risk, parts
FROM gold.early_warning_score
WHERE score = $score AND observed_at > $since AND observed_at <= $now
    AND ($patient_id IS NULL OR patient_id = $patient_id)
QUALIFY row_number() OVER (PARTITION BY patient_id ORDER BY observed_at DESC) = 1
ORDER BY patient_id
"""


def series(data: DataDir, patient_id: str, score: Score, start: datetime, stop: datetime) -> list[dict[str, Any]]:
    """Each change of a score within a span, and before them what stood at its start. Raises TableMissingError."""
    params: dict[str, Any] = {"patient_id": patient_id, "score": score.value, "stop": stop.astimezone(UTC)}
    since = start.astimezone(UTC) - STANDS
    bounds = {"patient_id": (patient_id, patient_id), "observed_at": (since, params["stop"])}
    rows = reader.query(data, _SERIES, {**params, "since": since}, bounds).to_pylist()
    before = [row for row in rows if row["observed_at"] < start]
    return [_described(row, score) for row in (*before[-1:], *rows[len(before) :])]


def current(data: DataDir, score: Score, now: datetime, patient_id: str | None = None) -> dict[str, dict[str, Any]]:
    """What stands now, by patient, or of one alone: ``observed_at`` is since when. Raises TableMissingError.

    A patient without a row for longer than one takes to be restated has none: nothing is heard any more.
    """
    at = now.astimezone(UTC)
    params: dict[str, Any] = {"score": score.value, "since": at - STANDS, "now": at, "patient_id": patient_id}
    bounds = {"patient_id": (patient_id, patient_id), "observed_at": (params["since"], at)}
    rows = reader.query(data, _CURRENT, params, bounds).to_pylist()
    return {row["patient_id"]: _described(row, score) for row in rows}


def _described(row: Mapping[str, Any], score: Score) -> dict[str, Any]:
    names = [part.name for part in SCORES[score].parts]
    parts = row["parts"] or {}
    shown = {name: value for name, value in row.items() if name not in ("patient_id", "parts")}
    return {**shown, "parts": {name: parts.get(name) for name in names}}
