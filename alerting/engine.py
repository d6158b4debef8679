"""The alert engine: every patient's state in memory, moved by evaluation records. No IO, no clock.

The router feeds it from Kafka; anything else that replays evaluations may use it the same way.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from alerting import limits as own_limits
from alerting.bands import Arms, arms, band_of
from alerting.evaluation import QUIET_PREFIX, Evaluation, EvaluationError, Reading, decode
from alerting.lifecycle import Definition, Event, define, step
from alerting.limits import OwnLimits
from alerting.pack import Pack
from alerting.state import Message, PatientState


@dataclass
class Counts:
    """What came and what became of it.

    ``repeated`` messages were taken account of before, ``late`` and ``stale`` readings are those of lifecycle.Step,
    ``rejected`` records were not evaluations.
    """

    records: int = 0
    events: int = 0
    repeated: int = 0
    late: int = 0
    stale: int = 0
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class _Own:
    arms: Arms
    codes: frozenset[str]


class Engine:
    """Alerts of every patient whose records it is given, by the records' key (the patient's id as bytes)."""

    def __init__(self, pack: Pack) -> None:
        self._pack = pack
        self._definitions = {rule.id: define(rule) for rule in pack.rules}
        self._patients: dict[bytes, PatientState] = {}
        self._limits: defaultdict[bytes, dict[str, OwnLimits]] = defaultdict(dict)
        self._own: dict[bytes, _Own] = {}
        # Patients whose quiet records must be read: something is open, or other limits than the pack's are in force.
        self._watched: set[bytes] = set()
        self._moved: dict[bytes, list[Event]] = {}
        self._touched: set[bytes] = set()
        self.counts = Counts()

    @property
    def patients(self) -> Mapping[bytes, PatientState]:
        """Every patient that ever had an alert."""
        return self._patients

    def open_alerts(self, partitions: Collection[int]) -> int:
        """Open alerts of the patients whose records come in these partitions."""
        return sum(state.open for state in self._patients.values() if state.partition in partitions)

    def restore(self, states: Iterable[PatientState]) -> None:
        """Forget every patient's state and take these instead; own limits stay."""
        self._patients = {state.patient_id.encode(): replace(state, outbox=()) for state in states}
        self._watched = {key for key, state in self._patients.items() if state.open} | set(self._own)
        self._moved.clear()
        self._touched.clear()

    def limit(self, patient_id: str, code: str, limits: OwnLimits | None) -> None:
        """Put a patient's own limits of one signal in force, or take them back.

        Raises LimitError where they cannot be used; the pack's limits are then in force for that signal.
        """
        key = patient_id.encode()
        self._limits[key].pop(code, None)
        try:
            if limits is not None:
                own_limits.with_own(self._pack, [limits])
                self._limits[key][code] = limits
        finally:
            self._renew(key)

    def _renew(self, key: bytes) -> None:
        own = self._limits[key]
        if own:
            self._own[key] = _Own(arms(own_limits.with_own(self._pack, own.values())), frozenset(own))
            self._watched.add(key)
            return
        del self._limits[key]
        self._own.pop(key, None)
        self._watch(key)

    def _watch(self, key: bytes) -> None:
        state = self._patients.get(key)
        if (state is not None and state.open) or key in self._own:
            self._watched.add(key)
        else:
            self._watched.discard(key)

    def apply(self, partition: int, offset: int, key: bytes | None, value: bytes | None) -> tuple[Event, ...]:
        """Apply one record of ``alert.evaluations``; the transitions it caused, in order.

        Raises EvaluationError where the record is none; the engine is then as before.
        """
        counts = self.counts
        counts.records += 1
        # Most records of most patients end here: one comparison and one look-up.
        if value is not None and value.startswith(QUIET_PREFIX) and key not in self._watched:
            return ()
        try:
            evaluation = decode(value)
        except EvaluationError:
            counts.rejected += 1
            raise
        return self._apply(partition, offset, evaluation)

    def _apply(self, partition: int, offset: int, evaluation: Evaluation) -> tuple[Event, ...]:
        key = evaluation.patient_id.encode()
        own = self._own.get(key)
        if own is not None:
            evaluation = replace(evaluation, readings=tuple(_again(reading, own) for reading in evaluation.readings))
        before = self._patients.get(key)
        message = Message(evaluation.partition, evaluation.offset, evaluation.received_at)
        # The stream repeats what it did since its checkpoint, and a killed router's successor reads some again.
        if before is not None and message.up_to(before.message):
            self.counts.repeated += 1
            return ()
        alerts = before.alerts if before is not None else {}
        done = step(alerts, evaluation, self._definition)
        self.counts.late += done.late
        self.counts.stale += done.stale
        if done.alerts == alerts:
            return ()
        self._patients[key] = PatientState(evaluation.patient_id, partition, offset, message, done.alerts)
        self._touched.add(key)
        if done.events:
            self._moved.setdefault(key, []).extend(done.events)
            self.counts.events += len(done.events)
            self._watch(key)
        return done.events

    def take_moved(self) -> list[tuple[bytes, PatientState]]:
        """The states of patients with transitions since the last call, each with its transitions as outbox."""
        moved = [(key, replace(self._patients[key], outbox=tuple(events))) for key, events in self._moved.items()]
        self._touched.difference_update(self._moved)
        self._moved.clear()
        return moved

    def take_touched(self) -> list[tuple[bytes, PatientState]]:
        """The states that changed without a transition since they were last taken: an open alert has seen more."""
        touched = [(key, self._patients[key]) for key in self._touched]
        self._touched.clear()
        return touched

    def _definition(self, rule_id: str) -> Definition:
        known = self._definitions.get(rule_id)
        # The stream may already run a newer pack. An alert of a rule unknown here must not be lost, nor made light of.
        return known or Definition(rule_id, rule_id, "high", "physiological")


def _again(reading: Reading, own: _Own) -> Reading:
    """The reading under the patient's own limits; one without a usable value stays so."""
    if reading.band == "none" or reading.code not in own.codes:
        return reading
    found = band_of(own.arms, reading.code, reading.value)
    return Reading(reading.code, found.band, reading.value, found.rule, found.limit, own_limit=True)
