"""The job's rules: limits by LOINC code, and the breaches of a message. Plain Python, for every environment.

The limits are made for many alerts, a few in a hundred messages, so that a tail can be told; no ward would have them.
"""

import csv
from pathlib import Path
from typing import Any, NamedTuple

VITALS = "vitals"
ALERTS = "peer.alerts"
LAND_EVERY_S = 10


class Limit(NamedTuple):
    """What a value must not be below or above, in the signal's unit; None where there is no such limit."""

    signal: str
    low: float | None
    high: float | None


def limits() -> dict[str, Limit]:
    """The limits table, by code."""
    with Path(__file__).with_name("limits.csv").open(encoding="utf-8", newline="") as file:
        return {
            row["code"]: Limit(row["signal"], *(float(row[side]) if row[side] else None for side in ("low", "high")))
            for row in csv.DictReader(file)
        }


def breaches(message: dict[str, Any], table: dict[str, Limit]) -> list[dict[str, Any]]:
    """One record for each value of a message that is beyond its limit."""
    found = []
    for observation in message["observations"]:
        code, value = observation["code"], observation.get("value")
        limit = table.get(code)
        if limit is None or value is None:
            continue
        beyond = limit.low if limit.low is not None and value < limit.low else None
        if limit.high is not None and value > limit.high:
            beyond = limit.high
        if beyond is not None:
            found.append(
                {
                    "message_id": message["message_id"],
                    "patient_id": message["patient_id"],
                    "code": code,
                    "value": value,
                    "limit": beyond,
                }
            )
    return found
