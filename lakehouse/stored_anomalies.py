"""What was unusual for a patient, and what an artefact, in the minutes that gold has."""

from datetime import UTC, datetime

from lakehouse import reader
from lakehouse.datadir import DataDir
from lakehouse.models.anomaly import MINUTE, Finding, Settings, findings

_MINUTES = """
SELECT code, minute, mean, min, max, first, last FROM gold.vital_sign_minute
WHERE patient_id = $patient_id AND minute >= $start AND minute < $stop ORDER BY minute, code
"""


def series(data: DataDir, patient_id: str, start: datetime, stop: datetime) -> list[Finding]:
    """A patient's findings that reach into a span, the oldest first. Raises TableMissingError.

    Minutes before it say what is usual where it begins.
    """
    begin = start.astimezone(UTC) - Settings().baseline * MINUTE
    span = {"start": begin, "stop": stop.astimezone(UTC)}
    bounds = {"patient_id": (patient_id, patient_id), "minute": (span["start"], span["stop"])}
    rows = reader.query(data, _MINUTES, {"patient_id": patient_id, **span}, bounds).to_pylist()
    return [one for one in findings(rows) if one.end > start]
