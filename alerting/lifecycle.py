"""The life cycle of alerts as a pure state machine: a patient's alerts and what was found in, alerts and events out.

Nothing here reads a clock: instants come with what is found, so that a replay gives the same events. One patient has at
most one open alert per rule. Rules:

- A breach opens. With a delay it opens as ``pending`` and becomes ``active`` when a breach is seen that much later.
- The last value seen stands until there is another: a breach that nothing follows becomes active after its delay too,
  and one that is followed by values in the margin waits for a breach or its end.
- Only a seen end of the breach resolves, and where the rule says so only when it has lasted. Silence, an unusable value
  and a value in the margin do not. A latching alert then waits, ``latched``, until somebody acknowledges it.
- A finding moves an alert only when it is later than every finding that the alert has taken account of. So late data
  neither reopens nor resolves, and a message that is sent twice changes nothing.
- A message that came much later than it was observed (STALE_AFTER, ROUND_AFTER) opens nothing that counts by the
  device's clock: it tells of the past. What a device says of itself counts by the broker's, and its clock may be what
  is wrong.
- An alert whose only breach was entered in error, or is corrected to a value that is none, is ``superseded``.

Two values of one signal at the same instant: the first one moves the alert, and the next instant decides. A score and a
combination rest on several signals, whose values may come one by one, all of one instant: of these the last decides.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import orjson

from alerting.evaluation import Evaluation
from alerting.kinds import Category, Priority
from lakehouse.scores import Value
from lakehouse.vocabulary import sources

SCHEMA_VERSION = 1
STALE_AFTER = timedelta(minutes=10)
"""How old a live message may be and still open an alert. Devices buffer through a network fault of some minutes, and
what happened before is for the record; the clock skew that silver allows (5 minutes) must fit in."""

ROUND_AFTER = timedelta(hours=1)
"""The same of a score or a combination: a round at the bedside is charted some minutes after it was made, and its
values stand for longer than those of a monitor."""

_STALE_AFTER_MS = int(STALE_AFTER.total_seconds() * 1000)
_ROUND_AFTER_MS = int(ROUND_AFTER.total_seconds() * 1000)
SHIFTED = frozenset(source.name for source in sources() if source.shifted)
"""Sources whose clock is moved per patient: their instants cannot be compared with ours."""


class State(StrEnum):
    """Where an alert stands."""

    PENDING = "pending"
    ACTIVE = "active"
    ESCALATED = "escalated"
    ACKNOWLEDGED = "acknowledged"
    SILENCED = "silenced"
    LATCHED = "latched"
    RESOLVED = "resolved"
    SUPERSEDED = "superseded"


class Trigger(StrEnum):
    """What happens to an alert; the reason of its event."""

    SUSTAINED = "sustained"
    """The breach has lasted as long as the rule's delay."""
    CLEARED = "cleared"
    """The end of the breach was seen."""
    CLEARED_UNSEEN = "cleared_unacknowledged"
    """The same, of a latching alert that nobody has acknowledged."""
    BREACHED_AGAIN = "breached_again"
    """A breach while the alert is latched."""
    ACKNOWLEDGED = "acknowledged"
    """Somebody has taken it on."""
    UNANSWERED = "unanswered"
    """Nobody has acknowledged it in time: the next step is told."""
    SILENCED = "silenced"
    """A silence of its patient, rule or unit is in force."""
    INHIBITED = "inhibited"
    """An alert that explains it is open."""
    UNMUTED = "unmuted"
    """Neither silence nor inhibition holds any longer."""
    ENTERED_IN_ERROR = "entered_in_error"
    """The reading it rests on was taken back."""
    CORRECTED = "corrected"
    """The reading it rests on has another value, which is no breach."""
    RULE_WITHDRAWN = "rule_withdrawn"
    """The pack in force has no such rule any longer."""
    ABANDONED = "abandoned"
    """Nothing was heard of the patient for a day: it tells of nobody any more."""


OPENED = "breach"
"""The reason of an alert's first event; later ones carry the trigger."""
OPENED_OWN = "own_limit_breach"
"""The same where the limit was the patient's own."""

_TAKEN_BACK = {Trigger.ENTERED_IN_ERROR: State.SUPERSEDED, Trigger.CORRECTED: State.SUPERSEDED}
_NO_LONGER = {Trigger.RULE_WITHDRAWN: State.RESOLVED, Trigger.ABANDONED: State.RESOLVED}
_ENDS = {Trigger.CLEARED: State.RESOLVED, **_NO_LONGER, **_TAKEN_BACK}
_SOUNDING = {
    **_ENDS,
    Trigger.CLEARED_UNSEEN: State.LATCHED,
    Trigger.ACKNOWLEDGED: State.ACKNOWLEDGED,
    Trigger.UNANSWERED: State.ESCALATED,
    Trigger.SILENCED: State.SILENCED,
    Trigger.INHIBITED: State.SILENCED,
}
_WAYS: Mapping[State, Mapping[Trigger, State]] = {
    State.PENDING: {**_ENDS, Trigger.SUSTAINED: State.ACTIVE},
    State.ACTIVE: _SOUNDING,
    State.ESCALATED: _SOUNDING,
    State.ACKNOWLEDGED: _ENDS,
    State.SILENCED: {
        **_ENDS,
        Trigger.CLEARED_UNSEEN: State.LATCHED,
        Trigger.ACKNOWLEDGED: State.ACKNOWLEDGED,
        Trigger.UNMUTED: State.ACTIVE,
    },
    State.LATCHED: {
        **_TAKEN_BACK,
        **_NO_LONGER,
        Trigger.BREACHED_AGAIN: State.ACTIVE,
        Trigger.ACKNOWLEDGED: State.RESOLVED,
    },
    State.RESOLVED: _TAKEN_BACK,
}
NEXT: Mapping[tuple[State, Trigger], State] = MappingProxyType(
    {(state, trigger): after for state, ways in _WAYS.items() for trigger, after in ways.items()}
)
"""Every transition of an alert that exists. What is not here does not happen."""

OPEN = frozenset(State) - {State.RESOLVED, State.SUPERSEDED}
SOUNDING = frozenset({State.ACTIVE, State.ESCALATED})
"""Active and neither muted nor taken on by anybody."""
_CLEARABLE = OPEN - {State.LATCHED}
_INHIBITING = _CLEARABLE - {State.PENDING}
_LATCH_FROM = frozenset({State.ACTIVE, State.ESCALATED, State.SILENCED})

_BY_DEVICE_CLOCK = frozenset({"limit", "rate", "score", "combination"})
"""Kinds whose instants are the device's: see alerting.kinds."""
_OF_SEVERAL = frozenset({"score", "combination"})
"""Kinds that rest on several signals."""
OF_PATIENT = _OF_SEVERAL | {"silence"}
"""Kinds that tell of a patient by all devices together."""

Band = Literal["breach", "margin", "clear"]


class Seen(NamedTuple):
    """A reading that an alert rests on; the instant is the device's, in epoch milliseconds."""

    code: str
    value: Value
    observed_at: int
    message_id: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule says at one instant (epoch ms, on the rule's own time axis: see alerting.kinds).

    ``readings`` are what it rests on; ``own_limit`` says that the limit is the patient's own.
    """

    rule_id: str
    band: Band
    at: int
    value: float | None = None
    limit: float | None = None
    code: str | None = None
    readings: tuple[Seen, ...] = ()
    own_limit: bool = False


class Level(NamedTuple):
    """One step of escalation: how long after the alert became active (ms), and who is told."""

    after_ms: int
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Definition:
    """What an alert keeps of its rule from the opening on: a later pack does not rewrite an open alert."""

    rule_id: str
    title: str
    priority: Priority
    category: Category
    kind: str = "limit"
    delay_ms: int = 0
    resolve_after_ms: int = 0
    latching: bool = False
    inhibits: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    escalation: tuple[Level, ...] = ()
    group_ms: int = 0


@dataclass(frozen=True, slots=True)
class Alert:
    """The last alert of one rule and patient.

    ``opened_at``, ``seen_at``, ``breached_at`` and ``clear_since`` are instants of findings: of the one that opened it,
    of the latest that it has taken account of, of the latest breach, and of the first one since then that was clear.
    ``active_at`` is when we saw it open or, later, become active: delay and escalation count from it; ``clear_at`` when
    we saw it clear. All are epoch milliseconds.
    ``step`` is how often it was escalated, ``muted_by`` the silence (its id) or the rule that keeps it silenced.
    """

    alert_id: str
    state: State
    sequence: int
    definition: Definition
    pack: str
    code: str | None
    limit: float | None
    value: float | None
    readings: tuple[Seen, ...]
    device_id: str | None
    opened_at: int
    seen_at: int
    breached_at: int
    active_at: int
    clear_since: int | None = None
    clear_at: int | None = None
    step: int = 0
    muted_by: str | None = None

    @property
    def open(self) -> bool:
        """Whether it is neither resolved nor superseded."""
        return self.state in OPEN

    @property
    def due(self) -> tuple[int, "Trigger"] | None:
        """What time alone does to it next, and when: the last value seen stands until there is another."""
        if self.clear_at is not None and self.state in _CLEARABLE:
            return self.clear_at + self.definition.resolve_after_ms, _end(self)
        if self.state is State.PENDING and self.seen_at == self.breached_at:
            return self.active_at + self.definition.delay_ms, Trigger.SUSTAINED
        if self.state in SOUNDING and self.step < len(self.definition.escalation):
            return self.active_at + self.definition.escalation[self.step].after_ms, Trigger.UNANSWERED
        return None


Alerts = Mapping[str, Alert]
"""The last alert of each rule that ever fired for one patient, by rule id."""

Event = dict[str, Any]
"""One transition as it goes to topic ``alerts``: the columns of gold.alert_event but emitted_at, nulls left out."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a transition comes from: a message, or for ``message_id`` None a command or the clock.

    ``now`` is when we saw it (epoch ms): the broker's instant of the message or command, or the router's clock.
    """

    patient_id: str
    now: int
    pack: str
    location_unit: str | None = None
    location_bed: str | None = None
    device_id: str | None = None
    message_id: str | None = None
    received_at: int | None = None
    age_ms: int = 0
    """How much later than it was observed the message came; 0 where the device's clock cannot be compared with ours."""

    def is_stale(self, kind: str) -> bool:
        """Whether the message is too old to open an alert of this kind."""
        if kind not in _BY_DEVICE_CLOCK:
            return False
        return self.age_ms > (_ROUND_AFTER_MS if kind in _OF_SEVERAL else _STALE_AFTER_MS)


@dataclass(frozen=True, slots=True)
class Moved:
    """The patient's alerts after something happened, and the transitions in order.

    ``late`` and ``stale`` count findings that were held back: earlier than what the alert has already seen, and too old
    to open one.
    """

    alerts: Alerts
    events: tuple[Event, ...] = ()
    late: int = 0
    stale: int = 0


def origin(evaluation: Evaluation) -> Origin:
    """A message as the origin of transitions."""
    return Origin(
        evaluation.patient_id,
        evaluation.received_at,
        evaluation.pack,
        evaluation.location_unit,
        evaluation.location_bed,
        evaluation.device_id,
        evaluation.message_id,
        evaluation.received_at,
        0 if evaluation.source in SHIFTED else evaluation.received_at - evaluation.observed_at,
    )


def alert_id(patient_id: str, rule_id: str, message_id: str | None, at: int) -> str:
    """32 hexadecimal digits that name the alert which this finding opens: the same one names it the same again.

    The instant counts too: a device that reuses a message id must not have its next alarm taken for a repeat.
    """
    return blake2b(orjson.dumps([patient_id, rule_id, message_id, at]), digest_size=16).hexdigest()


def take(
    alerts: Alerts, findings: Iterable[Finding], whence: Origin, definition_of: Callable[[str], Definition]
) -> Moved:
    """Apply what one message, or a tick of the clock, shows. Pure: ``alerts`` stays as it is.

    ``definition_of`` answers for any rule id that a finding names.
    """
    after = dict(alerts)
    events: list[Event] = []
    late = stale = 0
    for finding in findings:
        last = after.get(finding.rule_id)
        if last is not None and _is_late(last, finding) and (last.open or finding.band == "breach"):
            late += 1
        elif last is not None and last.open:
            after[finding.rule_id] = _move(last, finding, whence, events)
        elif finding.band == "breach":
            definition = definition_of(finding.rule_id)
            if whence.is_stale(definition.kind):
                stale += 1
            else:
                after[finding.rule_id] = _open(definition, finding, whence, events)
    return Moved(after, tuple(events), late, stale)


def _is_late(last: Alert, finding: Finding) -> bool:
    return finding.at < last.seen_at or (finding.at == last.seen_at and last.definition.kind not in _OF_SEVERAL)


def take_back(alerts: Alerts, evaluation: Evaluation, whence: Origin, still: Collection[str] = ()) -> Moved:
    """Supersede the alerts whose only breach is a reading that this message corrects or takes back.

    ``still`` names rules of several signals that are broken without that reading, or by what it is corrected to.
    """
    after = dict(alerts)
    events: list[Event] = []
    bands = {reading.code: reading for reading in evaluation.readings}
    withdrawn = evaluation.status == "entered-in-error"
    for rule_id, alert in alerts.items():
        rests_on = [
            seen for seen in alert.readings if seen.code in bands and seen.observed_at == evaluation.observed_at
        ]
        # A breach seen since then stands for itself.
        if (
            not rests_on
            or rule_id in still
            or alert.device_id != evaluation.device_id
            or alert.breached_at > alert.opened_at
        ):
            continue
        reading = bands[rests_on[0].code]
        if not withdrawn and reading.band == "breach" and reading.rule == rule_id:
            continue
        trigger = Trigger.ENTERED_IN_ERROR if withdrawn else Trigger.CORRECTED
        after[rule_id] = _transition(alert, trigger, whence, events, at=evaluation.observed_at, value=reading.value)
    return Moved(after, tuple(events))


def acknowledge(alerts: Alerts, alert_id: str, whence: Origin, *, actor: str, note: str | None) -> Moved:
    """Somebody takes an alert on; of one that is not open, or that somebody has taken on, nothing changes."""
    return _each(
        alerts,
        whence,
        lambda alert: Trigger.ACKNOWLEDGED if alert.alert_id == alert_id else None,
        actor=actor,
        note=note,
    )


def pass_time(alerts: Alerts, whence: Origin) -> Moved:
    """What time alone does: a delay is over, a value was clear for long enough, nobody has acknowledged in time."""

    def trigger(alert: Alert) -> Trigger | None:
        due = alert.due
        return due[1] if due is not None and due[0] <= whence.now else None

    return _each(alerts, whence, trigger)


def withdraw_rules(alerts: Alerts, known: Collection[str], whence: Origin) -> Moved:
    """Close the open alerts of rules that the pack in force does not have."""
    return _each(
        alerts,
        whence,
        lambda alert: Trigger.RULE_WITHDRAWN if alert.open and alert.definition.rule_id not in known else None,
    )


def abandon(alerts: Alerts, whence: Origin) -> Moved:
    """Close every open alert of a patient of whom nothing is heard any more."""
    return _each(alerts, whence, lambda alert: Trigger.ABANDONED if alert.open else None)


def settle(alerts: Alerts, silence_of: Callable[[str], str | None], whence: Origin) -> Moved:
    """Mute what a silence or another alert now mutes, and sound again what none mutes any longer.

    ``silence_of`` gives the id of a silence that is in force for a rule of this patient, or None. An alert inhibits
    while it is active, acknowledged or silenced itself, and its condition holds.
    """
    inhibitors = {
        rule_id: alert.definition.rule_id
        for alert in alerts.values()
        if alert.state in _INHIBITING
        for rule_id in alert.definition.inhibits
    }
    after = dict(alerts)
    events: list[Event] = []
    for rule_id, alert in alerts.items():
        if alert.state is not State.SILENCED and alert.state not in SOUNDING:
            continue
        silence, inhibitor = silence_of(rule_id), inhibitors.get(rule_id)
        if alert.state is State.SILENCED and silence is None and inhibitor is None:
            # What is about to end anyway need not sound once more.
            if alert.clear_since is not None:
                continue
            after[rule_id] = _transition(alert, Trigger.UNMUTED, whence, events)
        elif alert.state in SOUNDING and (silence or inhibitor):
            trigger = Trigger.SILENCED if silence else Trigger.INHIBITED
            after[rule_id] = _transition(replace(alert, muted_by=silence or inhibitor), trigger, whence, events)
    return Moved(after, tuple(events)) if events else Moved(alerts)


def _each(
    alerts: Alerts,
    whence: Origin,
    trigger_of: Callable[[Alert], Trigger | None],
    *,
    actor: str | None = None,
    note: str | None = None,
) -> Moved:
    after = dict(alerts)
    events: list[Event] = []
    for rule_id, alert in alerts.items():
        trigger = trigger_of(alert)
        if trigger is not None:
            after[rule_id] = _transition(alert, trigger, whence, events, actor=actor, note=note)
    return Moved(after, tuple(events)) if events else Moved(alerts)


def _move(alert: Alert, finding: Finding, whence: Origin, events: list[Event]) -> Alert:
    """The open alert after a finding that is later than all it has seen."""
    breach = finding.band == "breach"
    seen = replace(
        alert,
        seen_at=finding.at,
        breached_at=finding.at if breach else alert.breached_at,
        value=finding.value if breach else alert.value,
        clear_since=None if breach else alert.clear_since or (finding.at if finding.band == "clear" else None),
        clear_at=None if breach else alert.clear_at or (whence.now if finding.band == "clear" else None),
    )
    trigger = _trigger(seen, finding)
    if trigger is None:
        return seen
    return _transition(seen, trigger, whence, events, at=finding.at, value=finding.value, limit=finding.limit)


def _trigger(alert: Alert, finding: Finding) -> Trigger | None:
    definition = alert.definition
    if finding.band == "breach":
        if alert.state is State.LATCHED:
            return Trigger.BREACHED_AGAIN
        sustained = finding.at - alert.opened_at >= definition.delay_ms
        return Trigger.SUSTAINED if alert.state is State.PENDING and sustained else None
    if finding.band == "margin" or alert.clear_since is None or alert.state not in _CLEARABLE:
        return None
    if alert.state is not State.PENDING and finding.at - alert.clear_since < definition.resolve_after_ms:
        return None
    return _end(alert)


def _end(alert: Alert) -> Trigger:
    unseen = alert.definition.latching and alert.state in _LATCH_FROM
    return Trigger.CLEARED_UNSEEN if unseen else Trigger.CLEARED


def _open(definition: Definition, finding: Finding, whence: Origin, events: list[Event]) -> Alert:
    state = State.PENDING if definition.delay_ms else State.ACTIVE
    opened = Alert(
        alert_id=alert_id(whence.patient_id, definition.rule_id, whence.message_id, finding.at),
        state=state,
        sequence=0,
        definition=definition,
        pack=whence.pack,
        code=finding.code,
        limit=finding.limit,
        value=finding.value,
        readings=finding.readings,
        device_id=whence.device_id,
        opened_at=finding.at,
        seen_at=finding.at,
        breached_at=finding.at,
        active_at=whence.now,
    )
    reason = OPENED_OWN if finding.own_limit else OPENED
    events.append(_event(opened, reason, whence, finding.at, finding.value, finding.limit, readings=finding.readings))
    return opened


def _transition(
    alert: Alert,
    trigger: Trigger,
    whence: Origin,
    events: list[Event],
    *,
    at: int | None = None,
    value: float | None = None,
    limit: float | None = None,
    actor: str | None = None,
    note: str | None = None,
) -> Alert:
    """The alert after a trigger; unchanged where its state knows no such transition."""
    state = NEXT.get((alert.state, trigger))
    if state is None:
        return alert
    becomes_active = state is State.ACTIVE
    moved = replace(
        alert,
        state=state,
        sequence=alert.sequence + 1,
        active_at=whence.now if becomes_active else alert.active_at,
        step=0 if becomes_active else alert.step + (trigger is Trigger.UNANSWERED),
        muted_by=alert.muted_by if state is State.SILENCED else None,
    )
    at = whence.now if at is None else at
    events.append(
        _event(moved, trigger, whence, at, value, alert.limit if limit is None else limit, actor=actor, note=note)
    )
    return moved


def _event(
    alert: Alert,
    reason: str,
    whence: Origin,
    at: int,
    value: float | None,
    limit: float | None,
    *,
    readings: tuple[Seen, ...] = (),
    actor: str | None = None,
    note: str | None = None,
) -> Event:
    columns = {
        "schema_version": SCHEMA_VERSION,
        "alert_id": alert.alert_id,
        "sequence": alert.sequence,
        "state": alert.state.value,
        "reason": str(reason),
        "rule_id": alert.definition.rule_id,
        "title": alert.definition.title,
        "kind": alert.definition.kind,
        "pack": alert.pack,
        "priority": alert.definition.priority,
        "category": alert.definition.category,
        "patient_id": whence.patient_id,
        "location_unit": whence.location_unit,
        "location_bed": whence.location_bed,
        "device_id": whence.device_id or alert.device_id,
        "code": alert.code,
        "value": value,
        "limit_value": limit,
        "readings": [_reading(seen) for seen in readings] or None,
        "observed_at": at,
        "message_id": whence.message_id,
        "message_received_at": whence.received_at,
        "escalation_step": alert.step or None,
        "muted_by": alert.muted_by,
        "actor": actor,
        "note": note,
    }
    return {name: value for name, value in columns.items() if value is not None}


def _reading(seen: Seen) -> dict[str, Any]:
    value = "value_code" if isinstance(seen.value, str) else "value"
    record = {"code": seen.code, value: seen.value, "observed_at": seen.observed_at, "message_id": seen.message_id}
    return {name: given for name, given in record.items() if given is not None}
