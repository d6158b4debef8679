"""Alerts as they stand, from their transitions; grain: one alert."""

from typing import TYPE_CHECKING

from lakehouse.tables import ALERT

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_FIRST = ("rule_id", "title", "kind", "pack", "priority", "category", "patient_id", "code", "value", "limit_value")
_LAST = ("location_unit", "location_bed", "state", "reason")
_ENDED = "state IN ('resolved', 'superseded')"


def alert(events: "DataFrame") -> "DataFrame":
    """Rows of gold.alert from every row of gold.alert_event of the same alerts."""
    from pyspark.sql import functions as F  # noqa: N812

    last = "max_by({}, sequence)"
    told = {
        **{name: f"min_by({name}, sequence)" for name in _FIRST},
        **{name: last.format(name) for name in _LAST},
        "sequence": "max(sequence)",
        "opened_at": "min_by(observed_at, sequence)",
        "active_at": "min(CASE WHEN state = 'active' THEN emitted_at END)",
        "acknowledged_at": "min(CASE WHEN actor IS NOT NULL THEN emitted_at END)",
        "acknowledged_by": "min_by(actor, CASE WHEN actor IS NOT NULL THEN sequence END)",
        "escalations": "CAST(count_if(state = 'escalated') AS INT)",
        "ended_at": f"CASE WHEN {last.format(_ENDED)} THEN {last.format('emitted_at')} END",
        "changed_at": last.format("emitted_at"),
    }
    found = events.groupBy("alert_id").agg(*(F.expr(sql).alias(name) for name, sql in told.items()))
    return found.select(*(column.name for column in ALERT.columns))
