"""The last alert of each patient and rule, as an inbox shows it: live from the router's states, or out of gold.

A row has alert_id, patient_id, location_unit, location_bed, rule_id, title, priority, category, state, step (of the
escalation), muted_by (a silence or a rule), acknowledged_by, limit_value and observed_at, the instant of what opened
it (epoch ms).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from alerting.state import Patient
from lakehouse.datadir import DataDir
from lakehouse.reader import query

Row = dict[str, Any]

_PRIORITY = ("high", "medium", "low")

_LAST = """
SELECT alert_id, any_value(patient_id) AS patient_id, max_by(location_unit, sequence) AS location_unit,
  max_by(location_bed, sequence) AS location_bed, any_value(rule_id) AS rule_id, any_value(title) AS title,
  any_value(priority) AS priority, any_value(category) AS category, max_by(state, sequence) AS state,
  coalesce(arg_max_null(escalation_step, sequence), 0) AS step, arg_max_null(muted_by, sequence) AS muted_by,
  arg_max_null(actor, sequence) AS acknowledged_by, min_by(limit_value, sequence) AS limit_value,
  epoch_ms(min_by(observed_at, sequence)) AS observed_at
FROM gold.alert_event GROUP BY alert_id
"""


def from_states(patients: Iterable[Patient], acknowledged_by: Mapping[str, str]) -> list[Row]:
    """The rows of the router's states; ``acknowledged_by`` says who took on which alert."""
    return [
        {
            "alert_id": alert.alert_id,
            "patient_id": patient.patient_id,
            "location_unit": patient.location_unit,
            "location_bed": patient.location_bed,
            "rule_id": alert.definition.rule_id,
            "title": alert.definition.title,
            "priority": alert.definition.priority,
            "category": alert.definition.category,
            "state": alert.state.value,
            "step": alert.step,
            "muted_by": alert.muted_by,
            "acknowledged_by": acknowledged_by.get(alert.alert_id) if alert.state == "acknowledged" else None,
            "limit_value": alert.limit,
            "observed_at": alert.opened_at,
        }
        for patient in patients
        for alert in patient.alerts.values()
    ]


def from_gold(data: DataDir) -> list[Row]:
    """The rows by the events that have landed. Raises TableMissingError."""
    found: list[Row] = query(data, _LAST).to_pylist()
    return found


def urgency(row: Mapping[str, Any]) -> tuple[bool, int, int]:
    """What to sort by: technical alarms last, then the gravest, then those that have waited longest."""
    return row["category"] == "technical", _PRIORITY.index(row["priority"]), row["observed_at"]
