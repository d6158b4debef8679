"""The alert engine: every patient's alerts and memory, moved by evaluations, commands and the clock. No IO.

The router feeds it from Kafka and the lab from history: both get the same alerts of the same messages. The clock is an
argument: of a message it is when the broker had it, otherwise what ``tick`` and ``command`` are given.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from alerting import lifecycle
from alerting import limits as own_limits
from alerting.bands import Arms, arms, band_of
from alerting.command import Acknowledge, Command, Silences
from alerting.detection import Detector, limits
from alerting.evaluation import Evaluation, EvaluationError, Reading, decode
from alerting.kinds import Category, EscalationStep, LimitRule, Rule
from alerting.lifecycle import OF_PATIENT, OPEN, SHIFTED, Alerts, Definition, Event, Finding, Level, Moved, Origin, Seen
from alerting.limits import LimitError, OwnLimits
from alerting.memory import needs
from alerting.notification import Notification
from alerting.pack import Pack
from alerting.risk import SIGNAL, Risk
from alerting.state import NOTHING, Message, Outbox, Patient, encode, outbox
from alerting.telling import Group, tell

ABANDONED_AFTER = timedelta(hours=24)
"""When nothing was heard of a patient for so long, their open alerts tell of nobody any more."""
FORGOTTEN_AFTER = timedelta(days=7)
"""When nothing was heard of a patient for so long, nothing of them is kept here. Gold has their alerts."""

_ABANDONED_MS = int(ABANDONED_AFTER.total_seconds() * 1000)
_FORGOTTEN_MS = int(FORGOTTEN_AFTER.total_seconds() * 1000)
_DEVICE_GONE_MS = 60_000
"""When nothing was heard of a device for so long, what another one measures speaks for the patient."""
_CORRECTIONS = frozenset({"amended", "corrected"})


@dataclass
class Counts:
    """What came and what became of it.

    ``repeated`` messages were taken account of before, ``late`` and ``stale`` findings are those of lifecycle.Moved,
    ``rejected`` records were not evaluations.
    """

    records: int = 0
    events: int = 0
    notifications: int = 0
    repeated: int = 0
    late: int = 0
    stale: int = 0
    rejected: int = 0


class Changed(NamedTuple):
    """A patient's new state as a record of ``alert.state`` (None: forgotten), and what it gives to tell."""

    patient_id: str
    state: bytes | None
    unsent: Outbox


@dataclass(frozen=True, slots=True)
class _Own:
    """Bands under a patient's own limits; the signals (by code) that have some, and the rules whose limit is own."""

    arms: Arms
    codes: frozenset[str]
    rules: frozenset[str]


class Engine:
    """Alerts of every patient whose records it is given."""

    def __init__(self, pack: Pack) -> None:
        self._patients: dict[str, Patient] = {}
        self._limits: defaultdict[str, dict[str, OwnLimits]] = defaultdict(dict)
        self._own: dict[str, _Own] = {}
        self._silences = Silences()
        self._moved: dict[str, tuple[list[Event], list[Notification]]] = {}
        self._touched: set[str] = set()
        self._definitions: dict[str, dict[str, Definition]] = {}
        self.counts = Counts()
        self.heard_at = 0
        """When the newest message reached the broker of those that were evaluated (epoch ms)."""
        self._use(pack)

    @property
    def pack(self) -> Pack:
        """The pack in force."""
        return self._pack

    @property
    def patients(self) -> Mapping[str, Patient]:
        """Every patient of whom something was heard, by id."""
        return self._patients

    def open_alerts(self, partitions: Collection[int]) -> int:
        """Open alerts of the patients whose records come in these partitions."""
        return sum(patient.open for patient in self._patients.values() if patient.partition in partitions)

    def restore(self, patients: Iterable[Patient]) -> None:
        """Forget every patient's state and take these instead; own limits and silences stay."""
        self._patients = {patient.patient_id: patient for patient in patients}
        self.heard_at = max((patient.message.received_at for patient in self._patients.values()), default=0)
        self._moved.clear()
        self._touched.clear()

    # What is in force

    def use(self, pack: Pack, now: int, partitions: Collection[int]) -> tuple[OwnLimits, ...]:
        """Put another pack in force. Open alerts of rules that it has not are closed, others keep their own rule.

        Own limits that cannot be used with it are returned: its limits are then in force, as long as it is.
        """
        self._use(pack)
        known = {rule.id for rule in pack.rules}
        for patient in self._of(partitions):
            if patient.open:
                self._after(patient, lifecycle.withdraw_rules(patient.alerts, known, self._clock(patient, now)), now)
        return tuple(refused for patient_id in list(self._limits) for refused in self._renew(patient_id))

    def _use(self, pack: Pack) -> None:
        self._pack = pack
        self._arms = arms(pack)
        self._detector = Detector(pack.rules)
        self._needs = needs(pack.rules)
        self._definitions[pack.label] = {rule.id: define(pack, rule) for rule in pack.rules}

    def limit(self, patient_id: str, code: str, limits: OwnLimits | None) -> None:
        """Put a patient's own limits of one signal in force, or take them back.

        Raises LimitError where they cannot be used; the pack's limits are then in force for that signal.
        """
        self._limits[patient_id].pop(code, None)
        try:
            if limits is not None:
                own_limits.with_own(self._pack, [limits])
                self._limits[patient_id][code] = limits
        finally:
            self._renew(patient_id)

    def _renew(self, patient_id: str) -> tuple[OwnLimits, ...]:
        """Put in force what can be used of a patient's own limits; what cannot."""
        kept = tuple(self._limits[patient_id].values())
        if not kept:
            del self._limits[patient_id]
        used = kept if self._can_use(*kept) else tuple(one for one in kept if self._can_use(one))
        if used:
            rules = frozenset(
                rule.id for one in used for rule in self._pack.limit_rules(one.code) if _is_own(rule, one)
            )
            bands = arms(own_limits.with_own(self._pack, used))
            self._own[patient_id] = _Own(bands, frozenset(one.code for one in used), rules)
        else:
            self._own.pop(patient_id, None)
        return tuple(one for one in kept if one not in used)

    def _can_use(self, *limits: OwnLimits) -> bool:
        try:
            own_limits.with_own(self._pack, limits)
        except LimitError:
            return False
        return True

    # What happens

    def command(self, command: Command, now: int, partitions: Collection[int]) -> bool:
        """Apply a command to the patients of these partitions; whether it changed anything. Again changes nothing."""
        before = self.counts.events
        if isinstance(command, Acknowledge):
            patient = self._patients.get(command.patient_id)
            if patient is not None and patient.partition in partitions:
                self._acknowledge(patient, command, now)
        else:
            self._silences = self._silences.after(command, now)
            for patient in self._of(partitions):
                if patient.open:
                    # A router that starts reads old commands: a silence that ended before the last message is over.
                    self._after(patient, Moved(patient.alerts), max(now, patient.message.received_at))
        return self.counts.events > before

    def _acknowledge(self, patient: Patient, command: Acknowledge, now: int) -> None:
        # Not when somebody says it was: their clock must not decide when the next alert is told.
        whence = self._clock(patient, max(now, patient.message.received_at))
        moved = lifecycle.acknowledge(patient.alerts, command.alert_id, whence, actor=command.by, note=command.note)
        if moved.events:
            self._after(patient, moved, whence.now, whence)

    def tick(self, now: int, partitions: Collection[int], *, silences: bool = True) -> None:
        """Let time pass: delays end, what nobody acknowledged escalates, what waited is told, silence is noticed.

        ``silences`` False: nothing can be said of silence now.
        """
        for patient in self._of(partitions):
            self._tick(patient, now, silences)

    def tick_one(self, patient_id: str, now: int, *, silences: bool = True) -> None:
        """The same for one patient, if there is one of this id."""
        patient = self._patients.get(patient_id)
        if patient is not None:
            self._tick(patient, now, silences)

    def patients_of(self, partitions: Collection[int]) -> list[str]:
        """The ids of the patients whose records come in these partitions."""
        return [patient.patient_id for patient in self._of(partitions)]

    def advance(self, patient_id: str, to: int) -> None:
        """Let time pass for one patient, at each instant at which it does something, up to and with ``to``.

        What ``tick`` would do if it came every millisecond: for those who have all of a patient's messages at hand.
        """
        while (at := self.due(patient_id)) is not None and at <= to:
            self.pass_one(patient_id, at)

    def pass_one(self, patient_id: str, at: int) -> None:
        """Let time do for one patient what it does at an instant."""
        self._tick(self._patients[patient_id], at, True)

    def due(self, patient_id: str) -> int | None:
        """When time alone does something for a patient next, None for one of whom nothing was heard."""
        patient = self._patients.get(patient_id)
        if patient is None:
            return None
        opened = _opened(patient.alerts)
        due = [following[0] for alert in opened.values() if (following := alert.due) is not None]
        for group in patient.groups.values():
            if group.waiting:
                due += [group.due_at(alert) for alert in patient.alerts.values() if alert.alert_id in group.waiting]
        if patient.source not in SHIFTED:
            due += self._detector.due(patient.memory, patient.alerts)
        if not opened:
            return min(due) if due else None
        gone_at = patient.message.received_at + _ABANDONED_MS + 1
        # What else falls due of a patient who is gone falls due in vain.
        return min(min(due, default=gone_at), gone_at)

    def _tick(self, patient: Patient, now: int, silences: bool) -> None:
        gone = now - patient.message.received_at > _ABANDONED_MS
        if silences and not gone and patient.source not in SHIFTED:
            silent = self._detector.silent(patient.memory, patient.alerts, now)
            if silent:
                self._found(patient, silent, self._clock(patient, now))
        if not (patient.open or patient.waits):
            return
        if gone:
            self._after(patient, lifecycle.abandon(patient.alerts, self._clock(patient, now)), now)
        else:
            self._after(patient, lifecycle.pass_time(patient.alerts, self._clock(patient, now)), now)

    def apply(self, partition: int, value: bytes | None) -> tuple[Event, ...]:
        """Apply one record of ``alert.evaluations``; the transitions it caused, in order.

        Raises EvaluationError where the record is none; the engine is then as before.
        """
        self.counts.records += 1
        try:
            evaluation = decode(value)
        except EvaluationError:
            self.counts.rejected += 1
            raise
        return self.evaluate(partition, evaluation)

    def evaluate(self, partition: int, evaluation: Evaluation) -> tuple[Event, ...]:
        """The same of an evaluation."""
        patient_id = evaluation.patient_id
        self.heard_at = max(self.heard_at, evaluation.received_at)
        message = Message(evaluation.partition, evaluation.offset, evaluation.received_at)
        patient = self._patients.get(patient_id)
        if patient is None:
            patient = self._patients[patient_id] = Patient(patient_id, partition, message)
        elif message.up_to(patient.message):
            # The stream repeats what it did since its checkpoint, and a killed router's successor reads some again.
            self.counts.repeated += 1
            return ()
        own = self._own.get(patient_id)
        if own is not None:
            unit = evaluation.location_unit
            readings = tuple(_again(reading, own, unit) for reading in evaluation.readings)
            evaluation = evaluation._replace(readings=readings, quiet=False)
        if evaluation.location_unit is None and evaluation.location_bed is None and patient.location_unit is not None:
            # What is charted often does not say where the patient is; that is no move out of the unit.
            unit, bed = patient.location_unit, patient.location_bed
            evaluation = evaluation._replace(location_unit=unit, location_bed=bed)
        patient.partition, patient.message, patient.source = partition, message, evaluation.source
        patient.device_id = evaluation.device_id
        patient.location_unit, patient.location_bed = evaluation.location_unit, evaluation.location_bed
        self._touched.add(patient_id)
        return self._take(patient, evaluation)

    def risk(self, risk: Risk, now: int, partitions: Collection[int]) -> bool:
        """Apply the risk that a model has given of a patient of these partitions; whether it changed anything.

        It is left out where no message came of the patient, and where it is no newer than the last one.
        """
        patient = self._patients.get(risk.patient_id)
        if patient is None or patient.partition not in partitions:
            return False
        code, last = SIGNAL.code, patient.memory.last.get(SIGNAL.code)
        if last is not None and risk.landmark_at <= last.observed_at:
            return False
        before = self.counts.events
        name = f"{risk.given_by}/{risk.landmark_at}"
        patient.memory.last[code] = Seen(code, risk.percent, risk.landmark_at, name)
        self._touched.add(risk.patient_id)
        evaluation = self._of_risk(risk, patient, now, name)
        opened = _opened(patient.alerts)
        found = [*limits(evaluation, opened), *self._detector.of_several(patient.memory, opened)]
        if found:
            self._found(patient, found, lifecycle.origin(evaluation))
        return self.counts.events > before

    def _of_risk(self, risk: Risk, patient: Patient, now: int, name: str) -> Evaluation:
        """A risk held against the rules in force, as a message would be."""
        own = self._own.get(risk.patient_id)
        found = band_of(own.arms if own else self._arms, SIGNAL.code, risk.percent, patient.location_unit)
        own_limit = own is not None and found.rule in own.rules
        return Evaluation(
            pack=self._pack.label,
            message_id=name,
            patient_id=risk.patient_id,
            device_id=risk.given_by,
            source=risk.model,
            status="final",
            partition=patient.message.partition,
            offset=patient.message.offset,
            observed_at=risk.landmark_at,
            received_at=now,
            readings=(Reading(SIGNAL.code, found.band, risk.percent, found.rule, found.limit, own_limit=own_limit),),
            location_unit=patient.location_unit,
            location_bed=patient.location_bed,
        )

    def _take(self, patient: Patient, evaluation: Evaluation) -> tuple[Event, ...]:
        before = self.counts.events
        withdrawn = evaluation.status == "entered-in-error"
        if withdrawn:
            patient.memory.forget(evaluation)
        else:
            patient.memory.take(evaluation, self._needs)
        if patient.alerts and (withdrawn or evaluation.status in _CORRECTIONS):
            # What rests on several signals may hold without the one that is taken back.
            whence = lifecycle.origin(evaluation)
            still = {finding.rule_id for finding in self._detector.of_several(patient.memory, ())}
            self._after(patient, lifecycle.take_back(patient.alerts, evaluation, whence, still), whence.now, whence)
        if not withdrawn:
            self._find(patient, evaluation)
        if self.counts.events == before:
            return ()
        return tuple(self._moved[patient.patient_id][0][before - self.counts.events :])

    def _find(self, patient: Patient, evaluation: Evaluation) -> None:
        opened = _opened(patient.alerts)
        found = limits(evaluation, opened)
        if found and (found := _of_its_device(found, patient, evaluation)):
            self._found(patient, found, lifecycle.origin(evaluation))
            opened = _opened(patient.alerts)
        found = self._detector.findings(evaluation, patient.memory, opened)
        if found and (found := _of_its_device(found, patient, evaluation)):
            self._found(patient, found, lifecycle.origin(evaluation._replace(pack=self._pack.label)))

    # What changed

    def take_told(self) -> dict[str, tuple[list[Event], list[Notification]]]:
        """What there is to tell since the last call of this or of ``take_moved``, by patient."""
        told, self._moved = self._moved, {}
        return told

    def take_moved(self) -> list[Changed]:
        """What changed with something to tell since the last call, as records."""
        found = []
        told = self.take_told()
        for patient_id, (events, notifications) in told.items():
            unsent = outbox(events, notifications)
            found.append(Changed(patient_id, encode(self._patients[patient_id], unsent), unsent))
        # Once it is told, the state is written again without it.
        self._touched.update(told)
        return found

    def take_touched(self) -> Iterator[Changed]:
        """The states that changed since they were last taken here, with nothing left to tell."""
        touched, self._touched = self._touched, set()
        # Each as it is when it is asked for; one that is forgotten meanwhile is not written again.
        return (
            Changed(patient_id, encode(self._patients[patient_id]), NOTHING)
            for patient_id in touched
            if patient_id in self._patients
        )

    def forget(self, now: int, partitions: Collection[int]) -> list[Changed]:
        """Forget patients of whom nothing was heard for long and nothing is open."""
        gone = [
            patient.patient_id
            for patient in self._of(partitions)
            if now - patient.message.received_at > _FORGOTTEN_MS and not patient.open and not patient.waits
        ]
        for patient_id in gone:
            del self._patients[patient_id]
            self._touched.discard(patient_id)
        return [Changed(patient_id, None, NOTHING) for patient_id in gone]

    # How

    def _of(self, partitions: Collection[int]) -> Iterator[Patient]:
        return (patient for patient in self._patients.values() if patient.partition in partitions)

    def _clock(self, patient: Patient, now: int) -> Origin:
        return Origin(
            patient.patient_id,
            now,
            self._pack.label,
            patient.location_unit,
            patient.location_bed,
            patient.device_id,
        )

    def _found(self, patient: Patient, findings: Iterable[Finding], whence: Origin) -> None:
        definitions = self._definitions.get(whence.pack, {})
        moved = lifecycle.take(patient.alerts, findings, whence, lambda rule_id: self._definition(definitions, rule_id))
        self.counts.late += moved.late
        self.counts.stale += moved.stale
        self._after(patient, moved, whence.now, whence)

    def _after(self, patient: Patient, moved: Moved, now: int, whence: Origin | None = None) -> None:
        """Take over what moved, mute and sound what follows from it, and decide what is told."""
        before, events = patient.alerts, moved.events
        whence = whence or self._clock(patient, now)
        alerts = moved.alerts
        if any(alert.open for alert in alerts.values()):
            settled = lifecycle.settle(alerts, lambda rule_id: self._silence(patient, rule_id, now), whence)
            alerts, events = settled.alerts, (*events, *settled.events)
        patient.alerts = alerts
        notifications = self._told(patient, before, whence) if events or patient.waits else ()
        if alerts is not before:
            self._touched.add(patient.patient_id)
        if events or notifications:
            unsent = self._moved.setdefault(patient.patient_id, ([], []))
            unsent[0].extend(events)
            unsent[1].extend(notifications)
            self.counts.events += len(events)
            self.counts.notifications += len(notifications)

    def _told(self, patient: Patient, before: Alerts, whence: Origin) -> tuple[Notification, ...]:
        told: tuple[Notification, ...] = ()
        for category in dict.fromkeys(alert.definition.category for alert in patient.alerts.values()):
            group = patient.groups.get(category, Group())
            of = (_of_category(before, category), _of_category(patient.alerts, category))
            patient.groups[category], made = tell(group, *of, whence, patient.memory.trend)
            told += made
        return told

    def _silence(self, patient: Patient, rule_id: str, now: int) -> str | None:
        return self._silences.holding(patient.patient_id, rule_id, patient.location_unit, now)

    def _definition(self, definitions: Mapping[str, Definition], rule_id: str) -> Definition:
        # The stream may already run a newer pack. An alert of a rule unknown here must not be lost, nor made light of.
        known = definitions.get(rule_id) or self._definitions[self._pack.label].get(rule_id)
        return known or Definition(
            rule_id=rule_id,
            title=rule_id,
            priority="high",
            category="physiological",
            channels=self._pack.notification.high.channels,
            escalation=_levels(self._pack.notification.high.escalation),
        )


def _of_its_device(found: list[Finding], patient: Patient, evaluation: Evaluation) -> list[Finding]:
    """The findings without those by which another device than its own would move an alert towards its end.

    Of two monitors on one patient, one that reads normal must not end what the other one goes on to raise.
    """
    return [
        finding
        for finding in found
        if finding.band == "breach"
        or (alert := patient.alerts.get(finding.rule_id)) is None
        or alert.device_id in (None, evaluation.device_id)
        or alert.definition.kind in OF_PATIENT
        or not patient.memory.was_heard(alert.device_id, evaluation.received_at - _DEVICE_GONE_MS)
    ]


def _opened(alerts: Alerts) -> Alerts:
    return {rule_id: alert for rule_id, alert in alerts.items() if alert.state in OPEN}


def _of_category(alerts: Alerts, category: Category) -> Alerts:
    return {rule_id: alert for rule_id, alert in alerts.items() if alert.definition.category == category}


def define(pack: Pack, rule: Rule) -> Definition:
    """What an alert keeps of a rule of the pack."""
    return Definition(
        rule_id=rule.id,
        title=rule.title,
        priority=rule.priority,
        category=rule.category,
        kind=rule.kind,
        delay_ms=round(rule.delay_s * 1000),
        resolve_after_ms=round(rule.resolve_after_s * 1000),
        latching=rule.latching,
        inhibits=rule.inhibits,
        channels=pack.channels_of(rule),
        escalation=_levels(pack.escalation_of(rule)),
        group_ms=round(pack.notification.of(rule.priority).group_s * 1000),
    )


def _levels(steps: Iterable[EscalationStep]) -> tuple[Level, ...]:
    return tuple(Level(round(step.after_s * 1000), step.channels) for step in steps)


def _again(reading: Reading, own: _Own, location_unit: str | None) -> Reading:
    """The reading under the patient's own limits; one without a usable value stays so."""
    if reading.band == "none" or reading.code not in own.codes:
        return reading
    found = band_of(own.arms, reading.code, reading.value, location_unit)
    own_limit = found.rule in own.rules
    return reading._replace(band=found.band, rule=found.rule, limit=found.limit, own_limit=own_limit)


def _is_own(rule: LimitRule, limits: OwnLimits) -> bool:
    return (limits.high if rule.direction == "above" else limits.low) is not None
