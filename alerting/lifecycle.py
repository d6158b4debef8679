"""The life cycle of alerts as a pure state machine: a patient's state and an evaluation in, a state and events out.

Nothing here reads a clock: time is what messages say, so that a replay gives the same events. One patient has at most
one open alert per rule. Rules:

- A breach opens. With a delay it opens as ``pending`` and becomes ``active`` when a breach is seen that much later.
- Only a seen value on the good side of the clear margin resolves. Silence, an unusable value and the margin do not.
- A message moves an alert only when it was observed after every message that the alert has taken account of. So late
  data neither reopens nor resolves, and a message that is sent twice changes nothing.
- A message that came much later than it was observed (STALE_AFTER) opens nothing: it tells of the past.

Two values of one signal at the same instant: the first one moves the alert, and the next instant decides.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from hashlib import blake2b
from types import MappingProxyType
from typing import Any

import orjson

from alerting.evaluation import Evaluation, Reading
from alerting.pack import Category, Priority, Rule
from lakehouse.vocabulary import sources

SCHEMA_VERSION = 1
STALE_AFTER = timedelta(minutes=10)
"""How old a live message may be and still open an alert. Devices buffer through a network fault of some minutes, and
what happened before is for the record; the clock skew that silver allows (5 minutes) must fit in."""

_STALE_AFTER_MS = int(STALE_AFTER.total_seconds() * 1000)
_SHIFTED = frozenset(source.name for source in sources() if source.shifted)


class State(StrEnum):
    """Where an alert stands."""

    PENDING = "pending"
    ACTIVE = "active"
    RESOLVED = "resolved"


class Trigger(StrEnum):
    """What happens to an open alert."""

    SUSTAINED = "sustained"
    """The breach has lasted as long as the rule's delay."""
    CLEARED = "cleared"
    """A value on the good side of the clear margin was seen."""


OPENED = "breach"
"""The reason of an alert's first event; later ones carry the trigger."""
OPENED_OWN = "own_limit_breach"
"""The same where the limit was the patient's own."""

OPEN = frozenset({State.PENDING, State.ACTIVE})

NEXT: Mapping[tuple[State, Trigger], State] = MappingProxyType(
    {
        (State.PENDING, Trigger.SUSTAINED): State.ACTIVE,
        (State.PENDING, Trigger.CLEARED): State.RESOLVED,
        (State.ACTIVE, Trigger.CLEARED): State.RESOLVED,
    }
)
"""Every transition of an alert that exists. What is not here does not happen."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What an event says of its rule, kept from the opening on: a later pack does not rewrite an open alert."""

    rule_id: str
    title: str
    priority: Priority
    category: Category
    delay_ms: int = 0


@dataclass(frozen=True, slots=True)
class Alert:
    """The last alert of one rule and patient. Instants are epoch milliseconds of observed time.

    ``opened_at`` and ``opened_by`` are instant and id of the message that opened it, ``seen_at`` the latest instant
    that it has taken account of.
    """

    alert_id: str
    state: State
    sequence: int
    definition: Definition
    pack: str
    code: str
    limit: float | None
    opened_at: int
    opened_by: str
    seen_at: int

    @property
    def open(self) -> bool:
        """Whether it is neither resolved nor otherwise over."""
        return self.state in OPEN


Alerts = Mapping[str, Alert]
"""The last alert of each rule that ever fired for one patient, by rule id."""

Event = dict[str, Any]
"""One transition as it goes to topic ``alerts``: the columns of gold.alert_event but emitted_at, nulls left out."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one evaluation did: the patient's alerts after it, and the transitions in order.

    ``late`` and ``stale`` count readings that were held back: observed before what the alert has already seen, and
    too old to open one.
    """

    alerts: Alerts
    events: tuple[Event, ...] = ()
    late: int = 0
    stale: int = 0


def define(rule: Rule) -> Definition:
    """What events say of a rule of the pack."""
    return Definition(rule.id, rule.title, rule.priority, rule.category, round(rule.delay_s * 1000))


def alert_id(patient_id: str, rule_id: str, message_id: str, observed_at: int) -> str:
    """32 hexadecimal digits that name the alert which this message opens: the same message names it the same again.

    The instant counts too: a device that reuses a message id must not have its next alarm taken for a repeat.
    """
    return blake2b(orjson.dumps([patient_id, rule_id, message_id, observed_at]), digest_size=16).hexdigest()


def step(alerts: Alerts, evaluation: Evaluation, definition_of: Callable[[str], Definition]) -> Step:
    """Apply one evaluation to the alerts of its patient. Pure: ``alerts`` stays as it is.

    ``definition_of`` answers for any rule id that the evaluation names.
    """
    if evaluation.status == "entered-in-error":
        # What it takes back is no reading. Superseding the alert that the wrong value opened belongs here.
        return Step(alerts)
    after = dict(alerts)
    events: list[Event] = []
    late = stale = 0
    for reading in evaluation.readings:
        if reading.band == "none":
            continue
        for alert in tuple(after.values()):
            if alert.open and alert.code == reading.code:
                if evaluation.observed_at <= alert.seen_at:
                    late += 1
                else:
                    after[alert.definition.rule_id] = _take(alert, reading, evaluation, events)
        if reading.band != "breach" or reading.rule is None:
            continue
        last = after.get(reading.rule)
        if last is None or not last.open:
            if last is not None and evaluation.observed_at <= last.seen_at:
                late += 1
            elif is_stale(evaluation):
                stale += 1
            else:
                after[reading.rule] = _open(definition_of(reading.rule), reading, evaluation, events)
    return Step(after, tuple(events), late, stale)


def is_stale(evaluation: Evaluation) -> bool:
    """Whether a message is too old to open an alert. De-identified sources, whose clock is shifted, never are."""
    return evaluation.received_at - evaluation.observed_at > _STALE_AFTER_MS and evaluation.source not in _SHIFTED


def _take(alert: Alert, reading: Reading, evaluation: Evaluation, events: list[Event]) -> Alert:
    """The open alert after a reading of its signal that is later than all it has seen."""
    trigger = _trigger(alert, reading, evaluation.observed_at)
    state = NEXT.get((alert.state, trigger)) if trigger else None
    if trigger is None or state is None:
        return replace(alert, seen_at=evaluation.observed_at)
    moved = replace(alert, seen_at=evaluation.observed_at, state=state, sequence=alert.sequence + 1)
    events.append(_event(moved, trigger, reading, evaluation))
    return moved


def _trigger(alert: Alert, reading: Reading, observed_at: int) -> Trigger | None:
    # A band that names another rule of the signal lies on this rule's good side: a pack keeps its rules apart.
    if reading.rule != alert.definition.rule_id:
        return Trigger.CLEARED
    if reading.band == "breach" and observed_at - alert.opened_at >= alert.definition.delay_ms:
        return Trigger.SUSTAINED
    return None


def _open(definition: Definition, reading: Reading, evaluation: Evaluation, events: list[Event]) -> Alert:
    opened = Alert(
        alert_id=alert_id(evaluation.patient_id, definition.rule_id, evaluation.message_id, evaluation.observed_at),
        state=State.PENDING if definition.delay_ms else State.ACTIVE,
        sequence=0,
        definition=definition,
        pack=evaluation.pack,
        code=reading.code,
        limit=reading.limit,
        opened_at=evaluation.observed_at,
        opened_by=evaluation.message_id,
        seen_at=evaluation.observed_at,
    )
    events.append(_event(opened, OPENED_OWN if reading.own_limit else OPENED, reading, evaluation))
    return opened


def _event(alert: Alert, reason: str, reading: Reading, evaluation: Evaluation) -> Event:
    columns = {
        "schema_version": SCHEMA_VERSION,
        "alert_id": alert.alert_id,
        "sequence": alert.sequence,
        "state": alert.state.value,
        "reason": str(reason),
        "rule_id": alert.definition.rule_id,
        "title": alert.definition.title,
        "pack": alert.pack,
        "priority": alert.definition.priority,
        "category": alert.definition.category,
        "patient_id": evaluation.patient_id,
        "location_unit": evaluation.location_unit,
        "location_bed": evaluation.location_bed,
        "device_id": evaluation.device_id,
        "code": alert.code,
        "value": reading.value,
        "limit_value": reading.limit if reading.rule == alert.definition.rule_id else alert.limit,
        "observed_at": evaluation.observed_at,
        "message_id": evaluation.message_id,
        "message_received_at": evaluation.received_at,
    }
    return {name: value for name, value in columns.items() if value is not None}
