"""History of one patient from gold.vital_sign_minute."""

from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from lakehouse import reader
from lakehouse.datadir import DataDir

LONGEST = timedelta(days=31)
"""The longest span of one answer: 45,000 minutes a signal."""

_SERIES = """
SELECT code, unit, minute, count, min, mean, max, first, last
FROM gold.vital_sign_minute
WHERE patient_id = $patient_id AND minute >= $start AND minute < $stop AND ($code IS NULL OR code = $code)
ORDER BY code, minute
"""


def series(data: DataDir, patient_id: str, code: str | None, start: datetime, stop: datetime) -> list[dict[str, Any]]:
    """One entry a signal with its points by minute; a minute without values has none. Raises TableMissingError."""
    rows = reader.query(
        data, _SERIES, {"patient_id": patient_id, "code": code, "start": _utc(start), "stop": _utc(stop)}
    ).to_pylist()
    return [
        {
            "code": signal,
            "unit": unit,
            "points": [{k: v for k, v in row.items() if k not in ("code", "unit")} for row in points],
        }
        for (signal, unit), points in groupby(rows, key=lambda row: (row["code"], row["unit"]))
    ]


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)
