"""What the engine holds of one patient, as the compacted topic ``alert.state`` keeps it.

The record carries what its last change gives to tell as well (the outbox). It is written before that is told, and
written again without it afterwards; so a router that dies in between leaves what the next one sends again, byte for
byte. Nothing is decided twice.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, NamedTuple

import orjson
from pydantic import TypeAdapter, ValidationError

from alerting.kinds import Category
from alerting.lifecycle import Alert, Alerts, Definition, Event
from alerting.memory import Memory, MemoryRecord, restored
from alerting.notification import Notification, problems
from alerting.notification import encode as encode_notification
from alerting.telling import Group

SCHEMA_VERSION = 5


class StateError(ValueError):
    """A record is not a state; the text says why."""


class OtherVersionError(StateError):
    """A state that another version wrote, and this one cannot read."""


class Message(NamedTuple):
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


class Outbox(NamedTuple):
    """What is to be told: records of ``alerts`` and of ``alert.notification``, as bytes."""

    events: tuple[bytes, ...] = ()
    notifications: tuple[bytes, ...] = ()


@dataclass(slots=True)
class Patient:
    """A patient's alerts and memory after their last message, and where it came from. Changed in place by the engine.

    ``partition`` is that of ``alert.evaluations``, ``message`` the place on ``vitals`` of the last message.
    """

    patient_id: str
    partition: int
    message: Message
    source: str = ""
    alerts: Alerts = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)
    groups: dict[Category, Group] = field(default_factory=dict)
    location_unit: str | None = None
    location_bed: str | None = None
    device_id: str | None = None

    @property
    def waits(self) -> bool:
        """Whether an alert waits to be told."""
        return any(group.waiting for group in self.groups.values())

    @property
    def open(self) -> int:
        """How many alerts are open."""
        return sum(alert.open for alert in self.alerts.values())


def encode_event(event: Event) -> bytes:
    """An event as it goes to topic ``alerts``."""
    return orjson.dumps(event)


def outbox(events: list[Event], notifications: list[Notification]) -> Outbox:
    """The records of events and notifications."""
    return Outbox(tuple(map(encode_event, events)), tuple(map(encode_notification, notifications)))


NOTHING = Outbox()


def encode(patient: Patient, unsent: Outbox = NOTHING) -> bytes:
    """The record value of topic ``alert.state``."""
    return orjson.dumps(
        {
            "schema_version": SCHEMA_VERSION,
            "patient_id": patient.patient_id,
            "partition": patient.partition,
            "message": patient.message,
            "source": patient.source,
            "location_unit": patient.location_unit,
            "location_bed": patient.location_bed,
            "device_id": patient.device_id,
            "alerts": list(patient.alerts.values()),
            "memory": patient.memory.record(),
            "groups": patient.groups,
            "events": [orjson.Fragment(event) for event in unsent.events],
            "notifications": [orjson.Fragment(notification) for notification in unsent.notifications],
        },
        # It leaves named tuples to us.
        default=list,
    )


@dataclass(slots=True)
class _Record:
    """A record as JSON has it, each field with the types that it must have."""

    patient_id: str
    partition: int
    message: Message
    source: str
    location_unit: str | None
    location_bed: str | None
    device_id: str | None
    alerts: list[Alert]
    memory: MemoryRecord
    groups: dict[Category, Group]
    events: list[dict[str, Any]]
    notifications: list[dict[str, Any]]


_RECORD = TypeAdapter(_Record)


class Stored(NamedTuple):
    """A patient as read from the topic, and what may not have been told."""

    patient: Patient
    unsent: Outbox


def decode(value: bytes) -> Stored:
    """The state in a record. Raises StateError."""
    try:
        record = orjson.loads(value)
        if isinstance(record, dict) and (version := record.get("schema_version", SCHEMA_VERSION)) != SCHEMA_VERSION:
            raise OtherVersionError(f"schema_version {version}, wanted {SCHEMA_VERSION}")
        # Written again, an integer of more than 64 bits is a float, which no field takes for an integer.
        return _stored(_RECORD.validate_json(orjson.dumps(record), strict=True))
    except orjson.JSONDecodeError as error:
        raise StateError(f"not a state record: {error}") from error
    except ValidationError as error:
        raise StateError(f"not a state record: {'; '.join(problems(error))}") from error


def _stored(record: _Record) -> Stored:
    # One definition for all alerts of a rule: there are many alerts and few rules.
    alerts = (replace(alert, definition=_shared(alert.definition)) for alert in record.alerts)
    patient = Patient(
        patient_id=record.patient_id,
        partition=record.partition,
        message=record.message,
        source=record.source,
        alerts={alert.definition.rule_id: alert for alert in alerts},
        memory=restored(record.memory),
        groups=record.groups,
        location_unit=record.location_unit,
        location_bed=record.location_bed,
        device_id=record.device_id,
    )
    unsent = Outbox(*(tuple(map(orjson.dumps, told)) for told in (record.events, record.notifications)))
    return Stored(patient, unsent)


@cache
def _shared(definition: Definition) -> Definition:
    return definition


def readable(values: Iterable[bytes]) -> tuple[list[Patient], int]:
    """The patients in records, and how many states another version wrote, which are left out. Raises StateError."""
    found, others = [], 0
    for value in values:
        try:
            found.append(decode(value).patient)
        except OtherVersionError:
            others += 1
    return found, others
