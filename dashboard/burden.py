"""How many alarms there were, where, and of which rule: what the page Alarm burden asks. DataFrames out.

An alarm is an alert that became active (gold.alert), counted by the broker's clock. A bed is watched from one minute
with a value to the next; who had none for longer than ``AWAY`` was not in it. Beds and alarms are of one clock only
where nothing is replayed: patients with shifted dates have alarms and no bed-days.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from dashboard.trends import AWAY, UNKNOWN
from lakehouse import reader
from lakehouse.datadir import DataDir

if TYPE_CHECKING:
    import pandas as pd

PUBLISHED = 187
"""Audible alarms per bed and day in 77 adult intensive care beds."""
SOURCE = "Drew et al., PLoS ONE 9(10): e110274, 2014"
SOURCE_URL = "https://doi.org/10.1371/journal.pone.0110274"

_ALARMS = """
SELECT alert_id, coalesce(location_unit, $unknown) AS unit, coalesce(location_bed, $unknown) AS bed, rule_id, title,
    priority, category, active_at
FROM gold.alert
WHERE active_at >= $start AND active_at < $stop
ORDER BY active_at, alert_id
"""

_WATCHED = """
WITH seen AS (
    SELECT DISTINCT patient_id, minute FROM gold.vital_sign_minute WHERE minute >= $start AND minute < $stop
), step AS (
    SELECT minute, date_diff('minute', lag(minute) OVER (PARTITION BY patient_id ORDER BY minute), minute) AS since
    FROM seen
)
SELECT date_trunc('hour', minute) AS hour, sum(CASE WHEN since <= $away THEN since ELSE 1 END) / 1440.0 AS bed_days
FROM step GROUP BY ALL ORDER BY hour
"""


@dataclass(frozen=True)
class Burden:
    """Alarms (alert_id, unit, bed, rule_id, title, priority, category, active_at) and bed-days by ``hour``."""

    alarms: "pd.DataFrame"
    watched: "pd.DataFrame"

    @property
    def bed_days(self) -> float:
        """How long beds were watched, all together."""
        return float(self.watched["bed_days"].sum())

    @property
    def per_bed_day(self) -> float | None:
        """Alarms per bed and day; None where nobody was watched."""
        return len(self.alarms) / self.bed_days if self.bed_days else None


def burden(data: DataDir, start: datetime, stop: datetime) -> Burden:
    """Alarms and bed-days of a period. Raises TableMissingError."""
    span = {"start": start, "stop": stop}
    alarms = reader.query(data, _ALARMS, {**span, "unknown": UNKNOWN}).to_pandas()
    watched = reader.query(data, _WATCHED, {**span, "away": AWAY.total_seconds() / 60}).to_pandas()
    return Burden(alarms, watched)


def by(alarms: "pd.DataFrame", *columns: str) -> "pd.DataFrame":
    """Alarms counted by these columns, most first: those columns, ``alarms`` and ``share``."""
    found = alarms.groupby(list(columns), observed=True).size().rename("alarms").reset_index()
    found = found.assign(share=found["alarms"] / max(len(alarms), 1))
    return found.sort_values(["alarms", *columns], ascending=[False, *(True for _ in columns)]).reset_index(drop=True)


def of_units(alarms: "pd.DataFrame", units: Collection[str]) -> "pd.DataFrame":
    """The alarms of these units; none: of all."""
    return alarms[alarms["unit"].isin(list(units))] if units else alarms


def by_day(alarms: "pd.DataFrame", zone: ZoneInfo) -> "pd.DataFrame":
    """Alarms by ``day`` (by the wall clock of the zone) and ``priority``."""
    days = [instant.astimezone(zone).date().isoformat() for instant in alarms["active_at"]]
    return by(alarms.assign(day=days), "day", "priority").sort_values(["day", "priority"]).reset_index(drop=True)
