"""Latest vitals of every patient, in memory, fed from topic ``alert.evaluations``.

That topic rather than ``vitals``: its values are already parsed, converted and held against the constraints and limits
by the functions silver uses, so the ward sees the same numbers as the tables, milliseconds after they arrived.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from alerting.compacted import knock
from gateway.ingest import RECONNECT_MS
from lakehouse import kafka_access
from lakehouse.vocabulary import signal_by_code

log = logging.getLogger(__name__)

REWIND = timedelta(minutes=2)
"""How far back a starting gateway reads: enough to show every monitored patient, little enough to have it read within
seconds at 1,000 messages/s."""

KEEP = timedelta(hours=24)
"""How long a patient stays in the cache after the last message: what the topic itself retains."""

_SILENT_S = 10.0  # without contact for so long the cache calls itself out of touch
_LOOK_AROUND_S = 2.0  # how often lag and partitions are looked up: two requests to the broker
_POLL_MS = 500
_RETRY_S = 2.0
_ANSWER_MS = 2_000  # a broker that takes longer counts as away; also how long stopping may take


@dataclass(frozen=True)
class Reading:
    """The latest valid value of one signal; ``fault`` names what is wrong with a newer one that was not valid.

    ``band`` is "none" where no valid value came yet.
    """

    code: str
    observed_at: int
    band: str
    value: float | None = None
    value_code: str | None = None
    fault: str | None = None


@dataclass(frozen=True)
class Patient:
    """What is known of one patient now. Instants are epoch milliseconds."""

    patient_id: str
    observed_at: int
    received_at: int
    device_id: str
    unit: str | None = None
    bed: str | None = None
    encounter_id: str | None = None
    lead_off: bool = False
    battery: float | None = None
    readings: Mapping[str, Reading] = field(default_factory=dict)


def apply(patient: Patient | None, evaluation: Mapping[str, Any]) -> Patient:
    """The patient after one evaluation record.

    Late records fill in what is missing and never hide a newer value; a value entered in error disappears.
    """
    observed_at: int = evaluation["observed_at"]
    readings = dict(patient.readings) if patient else {}
    for observation in evaluation["observations"]:
        code: str = observation["code"]
        shown = readings.get(code)
        if shown is not None and shown.band != "none" and shown.observed_at > observed_at:
            continue
        if evaluation["status"] == "entered-in-error":
            if shown is not None and shown.observed_at == observed_at:
                del readings[code]
        elif observation["band"] != "none":
            readings[code] = Reading(
                code, observed_at, observation["band"], observation.get("value"), observation.get("value_code")
            )
        else:
            shown = shown or Reading(code, observed_at, "none")
            readings[code] = replace(shown, fault=observation.get("fault"))
    if patient is not None and patient.observed_at > observed_at:
        return replace(patient, readings=readings)
    return Patient(
        patient_id=evaluation["patient_id"],
        observed_at=observed_at,
        received_at=evaluation["received_at"],
        device_id=evaluation["device_id"],
        unit=evaluation.get("location_unit") or (patient.unit if patient else None),
        bed=evaluation.get("location_bed") or (patient.bed if patient else None),
        encounter_id=evaluation.get("encounter_id") or (patient.encounter_id if patient else None),
        lead_off=evaluation.get("lead_off") is True,
        battery=evaluation.get("battery"),
        readings=readings,
    )


class LatestVitals:
    """The cache: written by one thread, read by any. A patient is one immutable value, replaced as a whole."""

    def __init__(self) -> None:
        self._patients: dict[str, Patient] = {}
        self.lag: int | None = None
        """Records of the topic not yet applied; None before the first contact with the broker."""
        self.unreadable = 0
        """Records that were not evaluations: anything but 0 means that something else writes to the topic."""

    def __len__(self) -> int:
        return len(self._patients)

    def patient(self, patient_id: str) -> Patient | None:
        """What is known of one patient, or None."""
        return self._patients.get(patient_id)

    def patients(self, unit: str | None = None) -> list[Patient]:
        """Every patient, or those of one unit, by unit, bed and id."""
        found = [patient for patient in list(self._patients.values()) if unit is None or patient.unit == unit]
        return sorted(found, key=lambda p: (p.unit or "", p.bed or "", p.patient_id))

    def take(self, record: bytes | None) -> None:
        """Apply one evaluation record as it stands on the topic; one that is not an evaluation is counted and left."""
        try:
            evaluation = orjson.loads(record or b"")
            patient_id: str = evaluation["patient_id"]
            self._patients[patient_id] = apply(self._patients.get(patient_id), evaluation)
        except (ValueError, KeyError, TypeError) as error:
            self.unreadable += 1
            log.warning("live feed: not an evaluation record: %r", error)

    def forget(self, before: datetime) -> None:
        """Drop the patients of whom nothing was received since."""
        limit = before.timestamp() * 1000
        for patient_id in [p.patient_id for p in self._patients.values() if p.received_at < limit]:
            del self._patients[patient_id]


class Feed:
    """Keeps a cache at the end of the topic, on a thread of its own, through any outage of the broker."""

    def __init__(self, cache: LatestVitals, bootstrap_servers: str, topic: str, clock: Callable[[], datetime]) -> None:
        self._cache = cache
        self._bootstrap_servers = bootstrap_servers
        self._topic = topic
        self._clock = clock
        self._contact: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live-feed", daemon=True)

    def start(self) -> None:
        """Begin to follow the topic."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._stop.set()
        self._thread.join(timeout=10)

    @property
    def in_touch(self) -> bool:
        """Whether the broker has answered within the last seconds."""
        return self._contact is not None and time.monotonic() - self._contact < _SILENT_S

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                # A consumer that is made while no broker answers leaves a thread behind each time.
                knock(self._bootstrap_servers)
                self._follow()
            except (KafkaError, OSError) as error:
                log.warning("live feed: %s; trying again in %.0f s", error, _RETRY_S)
                self._stop.wait(_RETRY_S)

    def _follow(self) -> None:
        consumer = KafkaConsumer(
            **kafka_access.client(self._bootstrap_servers),
            client_id="gateway-live",
            bootstrap_timeout_ms=_ANSWER_MS,
            reconnect_backoff_max_ms=RECONNECT_MS,
            enable_auto_commit=False,
            auto_offset_reset="latest",
            allow_auto_create_topics=False,
            # Half a second of records in one answer: the cache may be two seconds old, and few large polls cost least.
            fetch_max_wait_ms=_POLL_MS,
            fetch_min_bytes=256 * 1024,
            max_poll_records=10_000,
        )
        try:
            looked = 0.0
            while not self._stop.is_set():
                if time.monotonic() - looked > _LOOK_AROUND_S:
                    self._look_around(consumer)
                    looked = time.monotonic()
                if not consumer.assignment():
                    self._stop.wait(_RETRY_S)
                    continue
                for records in consumer.poll(_POLL_MS).values():
                    for record in records:
                        self._cache.take(record.value)
        finally:
            consumer.close()

    def _look_around(self, consumer: KafkaConsumer) -> None:
        """Take up partitions that are new, and note the lag and the contact."""
        found = {TopicPartition(self._topic, number) for number in consumer.partitions_for_topic(self._topic) or ()}
        if fresh := found - consumer.assignment():
            since = int((self._clock() - REWIND).timestamp() * 1000)
            starts = consumer.offsets_for_times(dict.fromkeys(fresh, since), timeout_ms=_ANSWER_MS)
            consumer.assign(sorted(found))
            for partition in fresh:
                if starts[partition] is None:
                    consumer.seek_to_end(partition)
                else:
                    consumer.seek(partition, starts[partition].offset)
        ends = consumer.end_offsets(sorted(found), timeout_ms=_ANSWER_MS)
        self._cache.lag = sum(
            end - consumer.position(partition, timeout_ms=_ANSWER_MS) for partition, end in ends.items()
        )
        self._contact = time.monotonic()
        self._cache.forget(self._clock() - KEEP)


def describe(patient: Patient) -> dict[str, Any]:
    """A patient as the API shows it: codes named and with their unit, instants in RFC 3339."""
    return {
        "patient_id": patient.patient_id,
        "encounter_id": patient.encounter_id,
        "location": {"unit": patient.unit, "bed": patient.bed},
        "device": {"device_id": patient.device_id, "lead_off": patient.lead_off, "battery": patient.battery},
        "observed_at": instant(patient.observed_at),
        "received_at": instant(patient.received_at),
        "readings": [_describe_reading(reading) for _, reading in sorted(patient.readings.items())],
    }


def _describe_reading(reading: Reading) -> dict[str, Any]:
    signal = signal_by_code().get(reading.code)
    return {
        "code": reading.code,
        "name": signal.display if signal else None,
        "value": reading.value if reading.value_code is None else reading.value_code,
        "unit": signal.unit if signal else None,
        "band": reading.band,
        "fault": reading.fault,
        "observed_at": instant(reading.observed_at),
    }


def instant(milliseconds: int) -> str:
    """Epoch milliseconds as RFC 3339 in UTC, ``2026-03-01T12:00:00.250Z``."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
