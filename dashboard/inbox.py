"""The inbox of alerts as a table. Pure: rows of :mod:`alerting.inbox` in, a frame out."""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from alerting.inbox import Row, urgency
from alerting.lifecycle import OPEN, State
from alerting.words import aware
from dashboard.clock import ago, moment
from dashboard.palette import PRIORITIES

if TYPE_CHECKING:
    import pandas as pd

NO_UNIT = "unknown"
TOLD = OPEN - {State.PENDING}
"""What is outstanding unless states are chosen: of a pending alert nobody was told yet."""


def outstanding(
    rows: Iterable[Row], units: Collection[str] = (), priorities: Collection[str] = (), states: Collection[str] = ()
) -> list[Row]:
    """Open alerts of these units, priorities and states (none: all that were told), the most urgent first."""
    wanted = frozenset(states) or TOLD
    found = [
        row
        for row in rows
        if row["state"] in wanted & OPEN
        and (not units or (row["location_unit"] or NO_UNIT) in units)
        and (not priorities or row["priority"] in priorities)
    ]
    return sorted(found, key=urgency)


def named(row: Row) -> str:
    """One alert in a line: ``!! Heart rate high, ICU bed 3, hospital/7``."""
    return f"{PRIORITIES[row['priority']].mark} {row['title']}, {place(row)}, {row['patient_id']}"


def place(row: Row) -> str:
    """Unit and bed in words."""
    bed = f" bed {row['location_bed']}" if row["location_bed"] else ""
    return f"{row['location_unit'] or 'no unit known'}{bed}"


def table(rows: Iterable[Row], now: datetime, zone: ZoneInfo) -> "pd.DataFrame":
    """What the inbox shows, a line an alert."""
    import pandas as pd

    columns = ("Priority", "Alert", "Unit", "Bed", "Patient", "Since", "State", "By", "Rule")
    return pd.DataFrame([_line(row, now, zone) for row in rows], columns=list(columns))


def _line(row: Row, now: datetime, zone: ZoneInfo) -> tuple[str | None, ...]:
    since = aware(row["observed_at"])
    step = f", step {row['step']}" if row["step"] else ""
    return (
        f"{PRIORITIES[row['priority']].mark} {row['priority']}",
        row["title"],
        row["location_unit"],
        row["location_bed"],
        row["patient_id"],
        f"{moment(since, zone, now)}, {ago(since, now)}",
        f"{row['state']}{step}",
        row["acknowledged_by"] or row["muted_by"],
        row["rule_id"],
    )
