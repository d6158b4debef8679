"""From a seed to records: the pure core of the simulator. It reads no clock and sends nothing.

The same options give the same records, byte for byte, with the same numpy. Time is the number of seconds after the
start; records come in the order in which they are due.
"""

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import count, islice
from random import Random
from typing import Any, NamedTuple

import numpy as np
import orjson

from lakehouse.message import SCHEMA_VERSION, Message
from lakehouse.topics import CLINICAL_RESOURCE, VITALS
from lakehouse.vocabulary import signal_by_name
from streaming.simulator.cohort import SIGNALS, Cohort, Floats, Patient, cohort, resources
from streaming.simulator.episodes import Episode
from streaming.simulator.faults import FAULTS, Context, Fault, Sending, clean
from streaming.simulator.physiology import Physiology

SOURCE = "simulator"

_CHECK_EVERY = 64
"""One clean message in this many is held against the contract, and the first one, and every correction. Checking each
costs more than making it (bench/bench_simulator.py), and all clean messages are made by the same few lines."""

Line = dict[str, Any]
"""One line of the truth, as a dictionary."""


@dataclass(frozen=True)
class Options:
    """What is simulated. ``cadence`` is the seconds between a patient's messages: the rate is patients / cadence.

    ``episodes_per_hour`` is per patient; ``fault_rates`` shares of all messages by fault name (faults.rates).
    """

    start: datetime
    patients: int = 100
    cadence: float = 1.0
    seed: int = 1
    episodes_per_hour: float = 0.5
    fault_rates: Mapping[str, float] = field(default_factory=dict)
    beds: Mapping[str, int] | None = None

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
    """A line of the truth without a record: an episode that begins, a message that is not sent."""

    due: float
    line: Line


class Simulation:
    """Makes records one after another and holds back what is sent later than its time."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.cohort: Cohort = cohort(options.seed, options.patients, options.start, options.beds)
        seeds = np.random.SeedSequence((options.seed, options.patients)).spawn(2)
        self._physiology = Physiology(
            self.cohort, options.start, options.cadence, options.episodes_per_hour, np.random.default_rng(seeds[0])
        )
        self._chance = _Chance(options, np.random.default_rng(seeds[1]))
        self._held: list[tuple[float, int, Record]] = []
        self._held_count = 0
        self._static = [_static(patient) for patient in self.cohort.patients]
        self._phase: Floats = np.arange(options.patients, dtype=np.float64) * (options.cadence / options.patients)
        self._clean_count = 0

    def records(self, duration: float | None = None, messages: int | None = None) -> Iterator[Record | Note]:
        """Every record and note in the order in which they are due.

        Ends before what is due at ``duration`` seconds, or after ``messages`` records on the topic of vital signs. What
        is held back by then follows at once, as far as the count allows. Without either it does not end.
        """
        yield from self._resources()
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
            for made in self._made(slot):
                yield made
                sent += isinstance(made, Record)
            ended = slot.due
        for record in islice(self.held(), None if messages is None else messages - sent):
            yield record._replace(due=min(record.due, ended))

    def held(self) -> Iterator[Record]:
        """What was held back to be sent later than its time, in order; it is held no longer then."""
        while self._held:
            yield heapq.heappop(self._held)[2]

    def _released(self, due: float) -> Iterator[Record]:
        while self._held and self._held[0][0] <= due:
            yield heapq.heappop(self._held)[2]

    def _slots(self) -> Iterator["_Slot"]:
        """Every patient's messages as they would be if nothing went wrong, cycle after cycle."""
        for cycle in count():
            at: Floats = self._phase + cycle * self.options.cadence
            values, begun = self._physiology.read(at)
            whole = values[:, :5].astype(np.int64).tolist()
            tenths = values[:, 5].tolist()
            observed = _rfc3339(self.options.start, at)
            faults = self._chance.draw()
            episodes = {episode.patient: episode for episode in begun}
            for index, due in enumerate(at.tolist()):
                message = self._message(index, cycle, due, observed[index], whole[index], tenths[index])
                yield _Slot(due, index, cycle, message, faults.get(index), episodes.get(index))

    def _made(self, slot: "_Slot") -> Iterator[Record | Note]:
        """What becomes of one message: itself, or what its fault makes of it; what is sent later is held back."""
        if slot.episode is not None:
            yield self._episode(slot.episode, slot.due)
        if slot.fault is None:
            self._clean_count += 1
            checked = self._clean_count % _CHECK_EVERY == 1
            yield self._record(slot.due, slot.patient, clean(slot.message, checked), None)
        else:
            yield from self._faulty(slot, slot.fault)

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
        identity = f"{self.options.run}/{self.cohort.patients[index].id}/{sequence}"
        return blake2b(identity.encode(), digest_size=16).hexdigest()

    def _faulty(self, slot: "_Slot", fault: Fault) -> Iterator[Record | Note]:
        context = Context(
            # From the message's own identity: a fault switched off elsewhere leaves this one as it was.
            Random(f"{slot.message['message_id']}/{fault.name}"),
            self.options.cadence,
            lambda suffix: self._message_id(slot.patient, f"{slot.cycle}/{suffix}"),
        )
        sendings = fault.apply(slot.message, context)
        if not sendings:
            yield Note(slot.due, self._not_sent(slot.message, fault))
        for sending in sendings:
            record = self._record(slot.due + sending.delay, slot.patient, sending, fault.name)
            if sending.delay:
                self._hold(record)
            else:
                yield record

    def _hold(self, record: Record) -> None:
        # The running number keeps the order of two that are due at one instant.
        self._held_count += 1
        heapq.heappush(self._held, (record.due, self._held_count, record))

    def _record(self, due: float, index: int, sending: Sending, fault: str | None) -> Record:
        static = self._static[index]
        line: Line = {
            "type": "message",
            "message_id": sending.message_id,
            "topic": VITALS.name,
            "patient_id": static.patient_id,
            "observed_at": sending.observed_at,
            "fault": fault,
            "expect": sending.expect,
            "observations": sending.observations,
        }
        if sending.quarantined:
            line["quarantined"] = sending.quarantined
        if sending.refers_to:
            line["refers_to"] = sending.refers_to
        return Record(due, VITALS.name, static.key, sending.value, line)

    def _not_sent(self, message: Message, fault: Fault) -> Line:
        return {
            "type": "not_sent",
            "message_id": message["message_id"],
            "topic": VITALS.name,
            "patient_id": message["patient_id"],
            "observed_at": message["observed_at"],
            "fault": fault.name,
        }

    def _episode(self, episode: Episode, due: float) -> Note:
        instants = np.array([episode.start, episode.plateau, episode.recovery, episode.end])
        start, plateau, recovery, end = _rfc3339(self.options.start, instants)
        patient = self.cohort.patients[episode.patient]
        line = {
            "type": "episode",
            "patient_id": patient.patient_id,
            "location_unit": patient.unit,
            "kind": episode.kind.name,
            "severity": round(episode.severity, 3),
            "from": start,
            "plateau_from": plateau,
            "plateau_to": recovery,
            "to": end,
            "expected_rules": list(episode.kind.expected_rules),
        }
        return Note(due, line)

    def _resources(self) -> Iterator[Record]:
        recorded_at = _rfc3339(self.options.start, np.zeros(1))[0]
        for patient in self.cohort.patients:
            for resource in resources(patient):
                value = {"schema_version": 1, "resource": resource, "source": SOURCE, "recorded_at": recorded_at}
                line = {
                    "type": "resource",
                    "resource": f"{resource['resourceType']}/{resource['id']}",
                    "topic": CLINICAL_RESOURCE.name,
                    "patient_id": patient.patient_id,
                }
                key = patient.patient_id.encode()
                yield Record(0.0, CLINICAL_RESOURCE.name, key, orjson.dumps(value), line)


_HEART_RATE, _RESPIRATORY_RATE, _SPO2, _SYSTOLIC, _DIASTOLIC, _TEMPERATURE = (
    signal_by_name()[name].code for name in SIGNALS
)


class _Slot(NamedTuple):
    """One message of one patient, with what is to happen to it."""

    due: float
    patient: int
    cycle: int
    message: Message
    fault: Fault | None
    episode: Episode | None


class _Static(NamedTuple):
    """What every message of a patient repeats, made once."""

    patient_id: str
    key: bytes
    encounter_id: str
    device_id: str
    location: dict[str, str]
    battery: int


def _static(patient: Patient) -> _Static:
    battery = 60 + blake2b(patient.id.encode(), digest_size=1).digest()[0] % 41
    return _Static(
        patient.patient_id,
        patient.patient_id.encode(),
        patient.encounter_id,
        patient.device_id,
        {"unit": patient.unit, "bed": patient.bed},
        battery,
    )


class _Chance:
    """Which of a cycle's messages have a fault, by each fault's share of all messages."""

    def __init__(self, options: Options, rng: np.random.Generator) -> None:
        self._rng = rng
        self._size = options.patients
        rates = [options.fault_rates.get(fault.name, 0.0) for fault in FAULTS]
        self._limits = np.cumsum([_beginning(rate, fault.lasts) for rate, fault in zip(rates, FAULTS, strict=True)])
        self._lasting: dict[int, tuple[Fault, int]] = {}

    def draw(self) -> dict[int, Fault]:
        """The fault of each patient's next message; most have none."""
        chance = self._rng.random(self._size)
        drawn = {int(i): self._which(float(chance[i])) for i in np.flatnonzero(chance < self._limits[-1])}
        drawn |= {index: fault for index, (fault, _) in self._lasting.items()}
        lasting = {index: (fault, left - 1) for index, (fault, left) in self._lasting.items() if left > 1}
        for index, fault in drawn.items():
            if fault.lasts > 1 and index not in self._lasting:
                lasting[index] = (fault, fault.lasts - 1)
        self._lasting = lasting
        return drawn

    def _which(self, chance: float) -> Fault:
        return FAULTS[int(np.searchsorted(self._limits, chance, side="right"))]


def _beginning(rate: float, lasts: int) -> float:
    """The chance that a fault begins at a message, so that it holds for ``rate`` of them if each lasts ``lasts``."""
    return rate / (rate + lasts * (1 - rate)) if lasts > 1 else rate


def _rfc3339(start: datetime, at: Floats) -> list[str]:
    """Instants to the millisecond, ``2026-01-31T12:00:00.250Z``."""
    start_us = np.datetime64(start.astimezone(UTC).replace(tzinfo=None), "us")
    instants = (start_us + np.rint(at * 1e6).astype("timedelta64[us]")).astype("datetime64[ms]")
    texts: list[str] = np.datetime_as_string(instants, unit="ms", timezone="UTC").tolist()
    return texts
