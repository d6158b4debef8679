"""From a seed to records: the pure core of the simulator. It reads no clock and sends nothing.

The same options give the same records, byte for byte, with the same numpy. Time is the number of seconds after the
start; records come in the order in which they are due.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import count, islice
from random import Random
from typing import NamedTuple

import numpy as np

from lakehouse.message import SCHEMA_VERSION, Message, encode_resource, key
from lakehouse.topics import CLINICAL_RESOURCE, VITALS
from lakehouse.vocabulary import signal_by_name
from streaming.simulator import lines
from streaming.simulator.cohort import SIGNALS, Cohort, Floats, Patient, cohort, resources
from streaming.simulator.episodes import Episode
from streaming.simulator.faults import FAULTS, Context, Fault, Sending, clean
from streaming.simulator.instants import rfc3339
from streaming.simulator.lines import Line
from streaming.simulator.physiology import Physiology
from streaming.simulator.transients import Transient, Transients

SOURCE = "simulator"

_CHECK_EVERY = 64
"""One clean message in this many is held against the contract, and the first one, and every correction. Checking each
costs more than making it (bench/bench_simulator.py), and all clean messages are made by the same few lines."""


@dataclass(frozen=True)
class Options:
    """What is simulated. ``cadence`` is the seconds between a patient's messages: the rate is patients / cadence.

    ``episodes_per_hour`` and ``transients_per_hour`` are per patient; ``fault_rates`` shares of all messages by fault
    name (faults.rates).
    """

    start: datetime
    patients: int = 100
    cadence: float = 1.0
    seed: int = 1
    episodes_per_hour: float = 0.5
    fault_rates: Mapping[str, float] = field(default_factory=dict)
    beds: Mapping[str, int] | None = None
    transients_per_hour: float = 0.0

    @property
    def rate(self) -> float:
        """Messages a second, before faults add or take away any."""
        return self.patients / self.cadence

    @property
    def run(self) -> str:
        """Name of the run. It enters every message_id, so that two runs never share one."""
        return f"{self.start.astimezone(UTC):%Y%m%dT%H%M%S.%f}Z-seed{self.seed}"


class Record(NamedTuple):
    """A record to send when ``due``, and its line of the truth. ``topic`` is the declared name."""

    due: float
    topic: str
    key: bytes
    value: bytes | None
    line: Line


class Note(NamedTuple):
    """A line of the truth without a record: an episode or a transient that begins, a message that is not sent."""

    due: float
    line: Line


class Cycle(NamedTuple):
    """What all monitors read, each once: instants in seconds after the start, a row of readings a patient."""

    number: int
    at: Floats
    values: Floats
    begun: Sequence[Episode | Transient]
    """What begins in this cycle, at its patient's instant; in the order of patients."""


class Sent(NamedTuple):
    """A message of vital signs on its way: as it was made where nothing goes wrong, else what its fault makes of it."""

    due: float
    patient: int
    fault: str | None
    content: Message | Sending


class NotSent(NamedTuple):
    """A message that dropped out."""

    due: float
    fault: Fault
    message: Message


class Begun(NamedTuple):
    """An episode or transient, when the patient's first message in it is due."""

    due: float
    what: Episode | Transient


Happening = Sent | NotSent | Begun


class Simulation:
    """Makes records one after another and holds back what is sent later than its time."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.cohort: Cohort = cohort(options.seed, options.patients, options.start, options.beds)
        # A generator for each: none of them moves what another draws.
        readings, faults, transients = map(
            np.random.default_rng, np.random.SeedSequence((options.seed, options.patients)).spawn(3)
        )
        self._physiology = Physiology(self.cohort, options.start, options.cadence, options.episodes_per_hour, readings)
        self._transients = Transients(options.patients, options.transients_per_hour, transients)
        self._chance = _Chance(options, faults)
        self._onset: dict[int, tuple[float, ...]] = {}
        self._held: list[tuple[float, int, Sent]] = []
        self._held_count = 0
        self._static = [_static(patient, options.run) for patient in self.cohort.patients]
        self._phase: Floats = np.arange(options.patients, dtype=np.float64) * (options.cadence / options.patients)
        self._clean_count = 0

    def records(self, duration: float | None = None, messages: int | None = None) -> Iterator[Record | Note]:
        """Every record and note in the order in which they are due, patients and encounters first.

        Ends before what is due at ``duration`` seconds, or after ``messages`` records on the topic of vital signs. What
        is held back by then follows at once, as far as the count allows. Without either it does not end.
        """
        yield from self._resources()
        for happening in self.happenings(duration, messages):
            yield self.written(happening)

    def happenings(self, duration: float | None = None, messages: int | None = None) -> Iterator[Happening]:
        """What ``records`` gives but for patients and encounters, one for one, before it is made into bytes."""
        sent = 0
        ended = 0.0
        for slot in self._slots():
            if duration is not None and slot.due >= duration:
                ended = duration
                break
            for item in self._released(slot.due):
                yield item
                sent += 1
            if messages is not None and sent + len(self._held) >= messages:
                break
            for begun in slot.begun:
                yield Begun(slot.due, begun)
            if slot.drawn is None:
                yield Sent(slot.due, slot.patient, None, slot.message)
                sent += 1
            else:
                for made in self._faulty(slot, slot.drawn):
                    yield made
                    sent += isinstance(made, Sent)
            ended = slot.due
        for item in islice(self.held_back(), None if messages is None else messages - sent):
            yield item._replace(due=min(item.due, ended))

    def cycles(self) -> Iterator[Cycle]:
        """What the monitors read, cycle after cycle, without end; faults are not in it."""
        for number in count():
            at: Floats = self._phase + number * self.options.cadence
            values, episodes = self._physiology.read(at)
            transients = self._transients.disturb(values, at, self._physiology.schedule)
            yield Cycle(number, at, values, sorted((*episodes, *transients), key=lambda begun: begun.patient))

    def held(self) -> Iterator[Record]:
        """What was held back to be sent later than its time, in order; it is held no longer then."""
        return map(self._record, self.held_back())

    def held_back(self) -> Iterator[Sent]:
        """The same, before it is made into bytes."""
        while self._held:
            yield heapq.heappop(self._held)[2]

    def written(self, happening: Happening) -> Record | Note:
        """The record or note, with its line of the truth, of one of ``happenings``. Raises ContractError."""
        if isinstance(happening, Sent):
            return self._record(happening)
        if isinstance(happening, NotSent):
            return Note(happening.due, lines.not_sent(happening.message, happening.fault))
        patient = self.cohort.patients[happening.what.patient]
        if isinstance(happening.what, Episode):
            return Note(happening.due, lines.episode(patient, happening.what, self.options.start))
        return Note(happening.due, lines.transient(patient, happening.what, self.options.start))

    def _record(self, sent: Sent) -> Record:
        sending = sent.content
        if not isinstance(sending, Sending):
            self._clean_count += 1
            sending = clean(sending, checked=self._clean_count % _CHECK_EVERY == 1)
        static = self._static[sent.patient]
        line = lines.sent(static.patient_id, sending, sent.fault)
        return Record(sent.due, VITALS.name, static.key, sending.value, line)

    def _released(self, due: float) -> Iterator[Sent]:
        while self._held and self._held[0][0] <= due:
            yield heapq.heappop(self._held)[2]

    def _slots(self) -> Iterator["_Slot"]:
        """Every patient's messages as they would be if nothing went wrong, cycle after cycle."""
        for cycle in self.cycles():
            whole = cycle.values[:, :5].astype(np.int64).tolist()
            tenths = cycle.values[:, 5].tolist()
            observed = rfc3339(self.options.start, cycle.at)
            faults = self._chance.draw()
            begun: dict[int, list[Episode | Transient]] = {}
            for what in cycle.begun:
                begun.setdefault(what.patient, []).append(what)
            for index, due in enumerate(cycle.at.tolist()):
                message = self._message(index, cycle.number, due, observed[index], whole[index], tenths[index])
                yield _Slot(due, index, cycle.number, message, faults.get(index), begun.get(index, ()))

    def _message(
        self, index: int, cycle: int, due: float, observed_at: str, whole: list[int], temperature: float
    ) -> Message:
        static = self._static[index]
        heart_rate, breathing, spo2, systolic, diastolic = whole
        return {
            "schema_version": SCHEMA_VERSION,
            "message_id": self._message_id(index, str(cycle)),
            "patient_id": static.patient_id,
            "encounter_id": static.encounter_id,
            "device_id": static.device_id,
            "source": SOURCE,
            "location": static.location,
            "observed_at": observed_at,
            "status": "final",
            "device_status": {"battery": max(20, static.battery - int(due / 360))},
            "observations": [
                {"code": _HEART_RATE, "value": heart_rate, "unit": "/min"},
                {"code": _RESPIRATORY_RATE, "value": breathing, "unit": "/min"},
                {"code": _SPO2, "value": spo2, "unit": "%"},
                {"code": _SYSTOLIC, "value": systolic, "unit": "mm[Hg]"},
                {"code": _DIASTOLIC, "value": diastolic, "unit": "mm[Hg]"},
                {"code": _TEMPERATURE, "value": temperature, "unit": "Cel"},
            ],
        }

    def _message_id(self, index: int, sequence: str) -> str:
        identity = f"{self._static[index].identity}/{sequence}"
        return blake2b(identity.encode(), digest_size=16).hexdigest()

    def _faulty(self, slot: "_Slot", drawn: "_Drawn") -> Iterator[Happening]:
        """What becomes of a message with a fault; what is sent later than its time is held back."""
        fault = drawn.fault
        context = Context(
            # From the message's own identity: a fault switched off elsewhere leaves this one as it was.
            Random(f"{slot.message['message_id']}/{fault.name}"),
            self.options.cadence,
            lambda suffix: self._message_id(slot.patient, f"{slot.cycle}/{suffix}"),
            self._at_onset(slot, drawn),
        )
        sendings = fault.apply(slot.message, context)
        if not sendings:
            yield NotSent(slot.due, fault, slot.message)
        for sending in sendings:
            sent = Sent(slot.due + sending.delay, slot.patient, fault.name, sending)
            if sending.delay:
                self._hold(sent)
            else:
                yield sent

    def _at_onset(self, slot: "_Slot", drawn: "_Drawn") -> tuple[float, ...]:
        if drawn.begins:
            self._onset[slot.patient] = tuple(observation["value"] for observation in slot.message["observations"])
        return self._onset[slot.patient]

    def _hold(self, sent: Sent) -> None:
        # The running number keeps the order of two that are due at one instant.
        self._held_count += 1
        heapq.heappush(self._held, (sent.due, self._held_count, sent))

    def _resources(self) -> Iterator[Record]:
        recorded_at = rfc3339(self.options.start, np.zeros(1))[0]
        for patient in self.cohort.patients:
            for resource in resources(patient):
                value = {
                    "schema_version": SCHEMA_VERSION,
                    "patient_id": patient.patient_id,
                    "source": SOURCE,
                    "recorded_at": recorded_at,
                    "resource": resource,
                }
                line = lines.resource(patient, resource)
                yield Record(0.0, CLINICAL_RESOURCE.name, key(value), encode_resource(value), line)


_HEART_RATE, _RESPIRATORY_RATE, _SPO2, _SYSTOLIC, _DIASTOLIC, _TEMPERATURE = (
    signal_by_name()[name].code for name in SIGNALS
)


class _Slot(NamedTuple):
    """One message of one patient, with what is to happen to it."""

    due: float
    patient: int
    cycle: int
    message: Message
    drawn: "_Drawn | None"
    begun: Sequence[Episode | Transient]


class _Drawn(NamedTuple):
    """The fault of one message; ``begins`` unless it lasts from an earlier one."""

    fault: Fault
    begins: bool


class _Static(NamedTuple):
    """What every message of a patient repeats, made once."""

    patient_id: str
    key: bytes
    encounter_id: str
    device_id: str
    location: dict[str, str]
    battery: int
    identity: str
    """Run and patient: what every message_id is made from."""


def _static(patient: Patient, run: str) -> _Static:
    battery = 60 + blake2b(patient.id.encode(), digest_size=1).digest()[0] % 41
    return _Static(
        patient.patient_id,
        patient.patient_id.encode(),
        patient.encounter_id,
        patient.device_id,
        {"unit": patient.unit, "bed": patient.bed},
        battery,
        f"{run}/{patient.id}",
    )


class _Chance:
    """Which of a cycle's messages have a fault, by each fault's share of all messages."""

    def __init__(self, options: Options, rng: np.random.Generator) -> None:
        self._rng = rng
        self._size = options.patients
        rates = [options.fault_rates.get(fault.name, 0.0) for fault in FAULTS]
        self._limits = np.cumsum([_beginning(rate, fault.lasts) for rate, fault in zip(rates, FAULTS, strict=True)])
        self._lasting: dict[int, tuple[Fault, int]] = {}

    def draw(self) -> dict[int, _Drawn]:
        """The fault of each patient's next message; most have none."""
        chance = self._rng.random(self._size)
        begin = np.flatnonzero(chance < self._limits[-1])
        drawn = {int(index): _Drawn(self._which(float(chance[index])), begins=True) for index in begin}
        drawn |= {index: _Drawn(fault, begins=False) for index, (fault, _) in self._lasting.items()}
        lasting = {index: (fault, left - 1) for index, (fault, left) in self._lasting.items() if left > 1}
        for index, (fault, begins) in drawn.items():
            if fault.lasts > 1 and begins:
                lasting[index] = (fault, fault.lasts - 1)
        self._lasting = lasting
        return drawn

    def _which(self, chance: float) -> Fault:
        return FAULTS[int(np.searchsorted(self._limits, chance, side="right"))]


def _beginning(rate: float, lasts: int) -> float:
    """The chance that a fault begins at a message, so that it holds for ``rate`` of them if each lasts ``lasts``."""
    return rate / (rate + lasts * (1 - rate)) if lasts > 1 else rate
