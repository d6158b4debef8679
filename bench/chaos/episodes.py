"""The episodes that the simulator played against the alerts that were told."""

from datetime import UTC, datetime
from math import inf
from typing import Any

from alerting.lab import AFTERMATH_MS, SUSTAINED_MS
from lakehouse import progress, reader
from lakehouse.datadir import DataDir


def sustained(data: DataDir, until: datetime) -> list[dict[str, Any]]:
    """Episodes whose height had lasted for a minute before an instant, and before the end of their run."""
    found = []
    for path in sorted(data.truth.glob("*.jsonl")):
        lines = list(progress.read(path))
        begun, last = lines[0], lines[-1]
        # Where it was stopped; a run that was killed has no such line.
        ended_ms = _ms(begun["start"]) + 1000 * last["ended_s"] if last["type"] == "summary" else inf
        known_ms = min(until.timestamp() * 1000, ended_ms)
        found += [one for one in lines if one["type"] == "episode" and _lasted(one, known_ms)]
    return found


def _lasted(episode: dict[str, Any], known_ms: float) -> bool:
    return min(_ms(episode["plateau_to"]), known_ms) - _ms(episode["plateau_from"]) >= SUSTAINED_MS


def unheard(data: DataDir, until: datetime) -> list[dict[str, Any]]:
    """Those of them during which no alert of a rule that they break was told, or sounded already."""
    rows = reader.query(data, _SOUNDED).to_pylist()
    return [one for one in sustained(data, until) if not any(_about(row, one) for row in rows)]


_SOUNDED = """
SELECT e.patient_id, e.rule_id, coalesce(e.message_received_at, e.observed_at) AS told_at, a.ended_at
FROM gold.alert_event AS e JOIN gold.alert AS a USING (alert_id) WHERE e.state = 'active'
"""


def _about(row: dict[str, Any], episode: dict[str, Any]) -> bool:
    told, ended = (at and at.astimezone(UTC).timestamp() * 1000 for at in (row["told_at"], row["ended_at"]))
    return (
        row["patient_id"] == episode["patient_id"]
        and row["rule_id"] in episode["expected_rules"]
        and told <= _ms(episode["to"]) + AFTERMATH_MS
        and (ended is None or ended >= _ms(episode["from"]))
    )


def _ms(instant: str) -> float:
    return datetime.fromisoformat(instant).timestamp() * 1000
