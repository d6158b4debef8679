"""Alerts as gold has them: as they stand, and how they came to it."""

from collections.abc import Collection, Mapping
from typing import Any

from alerting.lifecycle import OPEN
from lakehouse import reader
from lakehouse.datadir import DataDir
from lakehouse.tables import ALERT, ALERT_EVENT

IS_OPEN = "open"
"""What stands for every state in which an alert is open."""

# Of a few columns many rows are looked through; the others are read for one page.
_LIST = """
SELECT alert_id, count(*) OVER () AS total
FROM gold.alert
WHERE ($patient IS NULL OR patient_id = $patient) AND ($unit IS NULL OR location_unit = $unit)
    AND ($among IS NULL OR list_contains($among, patient_id))
    AND (len($states) = 0 OR list_contains($states, state))
    AND (len($priorities) = 0 OR list_contains($priorities, priority))
ORDER BY changed_at DESC, alert_id
LIMIT $limit OFFSET $offset
"""
_COUNT = _LIST.replace("alert_id, count(*) OVER () AS total", "count(*) AS total").split("ORDER BY")[0]
_THESE = "SELECT * FROM gold.alert WHERE list_contains($ids, alert_id) ORDER BY changed_at DESC, alert_id"
_TRANSITIONS = "SELECT * FROM gold.alert_event WHERE alert_id = $alert_id ORDER BY sequence"


def listed(
    data: DataDir,
    *,
    states: Collection[str],
    unit: str | None,
    patient: str | None,
    priorities: Collection[str],
    limit: int,
    offset: int,
    among: Collection[str] | None = None,
) -> tuple[list[dict[str, Any]], int]:
    """A page of alerts, those that changed last first, and how many there are in all. Raises TableMissingError.

    No states or priorities are all of them; ``open`` among the states stands for those in which an alert is open.
    ``among`` are the patients who may be told of; None: all.
    """
    wanted = {one for state in states for one in (OPEN if state == IS_OPEN else (state,))}
    matching: dict[str, Any] = {
        "states": sorted(wanted),
        "unit": unit,
        "patient": patient,
        "priorities": sorted(priorities),
    }
    matching["among"] = None if among is None else sorted(among)
    with reader.asked(data, (ALERT,), {}) as database:
        found = database.sql(_LIST, params={**matching, "limit": limit, "offset": offset}).fetchall()
        if not found:
            ((total,),) = database.sql(_COUNT, params=matching).fetchall()
            return [], total
        ids = [alert_id for alert_id, _ in found]
        rows = database.sql(_THESE, params={"ids": ids}).to_arrow_table().to_pylist()
    return rows, found[0][1]


def alert(data: DataDir, alert_id: str) -> dict[str, Any] | None:
    """One alert with its transitions, or None. Raises TableMissingError."""
    with reader.asked(data, (ALERT, ALERT_EVENT), {"alert_id": (alert_id, alert_id)}) as database:
        found = database.sql(_THESE, params={"ids": [alert_id]}).to_arrow_table().to_pylist()
        if not found:
            return None
        events = database.sql(_TRANSITIONS, params={"alert_id": alert_id}).to_arrow_table().to_pylist()
    return {**found[0], "transitions": [_transition(event) for event in events]}


_OF_THE_ALERT = frozenset(column.name for column in ALERT.columns) - {"sequence", "state", "reason", "value"}


def _transition(event: Mapping[str, Any]) -> dict[str, Any]:
    """What a transition says beyond its alert; what is not told is left out."""
    return {name: value for name, value in event.items() if name not in _OF_THE_ALERT and value is not None}
