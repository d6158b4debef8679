"""Risks of the model in service from gold.risk_score; what a model in the shadow has said is shown to nobody."""

from datetime import UTC, datetime
from typing import Any

from lakehouse import reader
from lakehouse.datadir import DataDir

_SERIES = """
SELECT landmark_at, risk, model, model_version, contributions
FROM gold.risk_score
WHERE patient_id = $patient_id AND role = 'in_service' AND landmark_at >= $start AND landmark_at < $stop
ORDER BY landmark_at, model_version
"""


def series(data: DataDir, patient_id: str, start: datetime, stop: datetime) -> list[dict[str, Any]]:
    """A patient's risks within a span, the oldest first. Raises TableMissingError."""
    span = {"start": start.astimezone(UTC), "stop": stop.astimezone(UTC)}
    bounds = {"patient_id": (patient_id, patient_id), "landmark_at": (span["start"], span["stop"])}
    found: list[dict[str, Any]] = reader.query(data, _SERIES, {"patient_id": patient_id, **span}, bounds).to_pylist()
    return found
