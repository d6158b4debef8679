"""The router's state of one patient, as the compacted topic ``alert.state`` keeps it.

The record carries the events of its last transitions as well (the outbox). It is written before they are, so a router
that dies in between leaves what the next one sends again, byte for byte; nothing is decided twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from alerting.lifecycle import Alert, Alerts, Definition, Event, State

SCHEMA_VERSION = 1


class StateError(ValueError):
    """A record is not a state that this version can read; the text says why."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message's place on ``vitals``, and when the broker had it (epoch ms)."""

    partition: int
    offset: int
    received_at: int

    def up_to(self, other: "Message") -> bool:
        """Whether this message came no later than the other.

        The instant tells a repeat from a message in a topic that was made anew and counts from 0 again.
        """
        return (
            self.partition == other.partition and self.offset <= other.offset and self.received_at <= other.received_at
        )


@dataclass(frozen=True, slots=True)
class PatientState:
    """A patient's alerts after one message, and the transitions that this message caused (the outbox).

    ``partition`` and ``offset`` are those of its record on ``alert.evaluations``, ``message`` is its place on
    ``vitals``. Messages after it that changed nothing are not counted.
    """

    patient_id: str
    partition: int
    offset: int
    message: Message
    alerts: Alerts
    outbox: tuple[Event, ...] = ()

    @property
    def open(self) -> int:
        """How many alerts are open."""
        return sum(alert.open for alert in self.alerts.values())


def encode_event(event: Event) -> bytes:
    """An event as it goes to topic ``alerts``."""
    return orjson.dumps(event)


def encode(state: PatientState) -> bytes:
    """The record value of topic ``alert.state``."""
    return orjson.dumps(
        {
            "schema_version": SCHEMA_VERSION,
            "patient_id": state.patient_id,
            "partition": state.partition,
            "offset": state.offset,
            "message": [state.message.partition, state.message.offset, state.message.received_at],
            "alerts": [_alert_record(alert) for alert in state.alerts.values()],
            "outbox": list(state.outbox),
        }
    )


def decode(value: bytes) -> PatientState:
    """The state in a record. Raises StateError."""
    try:
        record = orjson.loads(value)
        if record["schema_version"] != SCHEMA_VERSION:
            raise StateError(f"schema_version {record['schema_version']}, wanted {SCHEMA_VERSION}")
        alerts = [_alert(alert) for alert in record["alerts"]]
        return PatientState(
            patient_id=record["patient_id"],
            partition=record["partition"],
            offset=record["offset"],
            message=Message(*record["message"]),
            alerts={alert.definition.rule_id: alert for alert in alerts},
            outbox=tuple(record["outbox"]),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise StateError(f"not a state record: {error!r}") from error


def _alert_record(alert: Alert) -> dict[str, Any]:
    return {
        "alert_id": alert.alert_id,
        "state": alert.state.value,
        "sequence": alert.sequence,
        "rule_id": alert.definition.rule_id,
        "title": alert.definition.title,
        "priority": alert.definition.priority,
        "category": alert.definition.category,
        "delay_ms": alert.definition.delay_ms,
        "pack": alert.pack,
        "code": alert.code,
        "limit": alert.limit,
        "opened_at": alert.opened_at,
        "opened_by": alert.opened_by,
        "seen_at": alert.seen_at,
    }


def _alert(record: Mapping[str, Any]) -> Alert:
    return Alert(
        alert_id=record["alert_id"],
        state=State(record["state"]),
        sequence=record["sequence"],
        definition=Definition(
            rule_id=record["rule_id"],
            title=record["title"],
            priority=record["priority"],
            category=record["category"],
            delay_ms=record["delay_ms"],
        ),
        pack=record["pack"],
        code=record["code"],
        limit=record["limit"],
        opened_at=record["opened_at"],
        opened_by=record["opened_by"],
        seen_at=record["seen_at"],
    )
