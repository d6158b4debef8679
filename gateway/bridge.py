"""``ward bridge``: a topic of Kafka whose records have schemas of a registry in, device messages on ``vitals`` out.

A record is written as JSON and sent on; offsets are committed once Kafka has acknowledged. So what a bridge that is
killed has sent its successor may send again, which changes nothing, since messages have ids. What cannot be decoded is
sent on as it came: bronze keeps it, and it is a dead letter like all else that is no device message. What is larger
than ``vitals`` takes is among the refused.
"""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from kafka import TopicPartition
from kafka.errors import FencedInstanceIdError, KafkaError

from alerting.member import Member, Patience, StoppedError, UnreachableError, lag
from gateway.refused import Refusals
from gateway.registered import Decoder, UndecodableError
from gateway.schema_registry import RegistryAwayError, UnknownSchemaError
from lakehouse.topics import MAX_RECORD_BYTES

GROUP = "ward-bridge-{topic}"

_BATCH_RECORDS = 500
_POLL_MS = 500
_PAUSE_S = 1.0
_TOLD_EVERY_S = 60.0
_OVERHEAD_BYTES = 1024
"""More than Kafka writes around a record."""
_UNKNOWN_S = 30.0
"""How long a schema that the registry does not have is waited for: it may be one that follows another."""

Sent = tuple[bytes | None, bytes]
"""Key and value of a record."""


class BridgeError(RuntimeError):
    """The bridge cannot go on; the text says what to do."""


@dataclass
class Counts:
    """What came since the last telling: records sent on, and those of them that could not be decoded."""

    sent: int = 0
    undecodable: int = 0


def message(decoder: Decoder, key: bytes | None, value: bytes | None) -> Sent:
    """A record as it goes to ``vitals``: JSON under its patient's id. Raises what Decoder raises."""
    record = decoder.decode(value)
    try:
        content = orjson.dumps(record, option=orjson.OPT_UTC_Z, default=_written)
    except TypeError as error:
        raise UndecodableError(f"holds what JSON cannot: {error}") from error
    patient = record.get("patient_id")
    found = (patient.encode() if isinstance(patient, str) else key), content
    if not fits(found):
        raise UndecodableError(f"larger than {MAX_RECORD_BYTES} bytes as JSON")
    return found


def fits(record: Sent) -> bool:
    """Whether the broker takes a record."""
    return sum(len(part or b"") for part in record) <= MAX_RECORD_BYTES - _OVERHEAD_BYTES


def _written(value: Any) -> Any:
    from decimal import Decimal

    if isinstance(value, Decimal):
        return float(value)
    raise TypeError


def run(
    *,
    bootstrap_servers: str,
    reads: str,
    writes: str,
    decoder: Decoder,
    refusals: Refusals,
    stop: threading.Event,
    on_ready: Callable[[], None],
    say: Callable[[str], None],
    member: str | None = None,
) -> None:
    """Send on what comes until ``stop`` is set.

    ``on_ready`` is called once, when partitions are assigned. Raises BridgeError where no broker answers at the start.
    ``member`` names this bridge in its group: the next one of that name takes over at once.
    """
    try:
        with closing(
            Member(
                bootstrap_servers,
                client="ward-bridge",
                group=GROUP.format(topic=reads),
                member=member,
                reads=reads,
                topics=(reads, writes),
                batch_records=_BATCH_RECORDS,
            )
        ) as kafka:
            _Bridge(kafka, writes, decoder, refusals, stop, on_ready, say).run()
    except UnreachableError as error:
        raise BridgeError(str(error)) from error
    except StoppedError:
        say("stopped while Kafka or the registry was away: the next start goes on with what was not sent")
    except FencedInstanceIdError as error:
        raise BridgeError("another bridge of the same member name has taken over: stop one of them") from error
    except KafkaError as error:
        raise BridgeError(f"Kafka at {bootstrap_servers}: {error}") from error


class _Bridge:
    def __init__(
        self,
        kafka: Member,
        writes: str,
        decoder: Decoder,
        refusals: Refusals,
        stop: threading.Event,
        on_ready: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        self._kafka, self._writes, self._decoder, self._refusals = kafka, writes, decoder, refusals
        self._stop, self._say = stop, say
        self._on_ready: Callable[[], None] | None = on_ready
        self._patience = Patience(say, stop)
        self._waiting_for: str | None = None
        self._unknown: dict[str, float] = {}
        self._counts = Counts()
        self._told = time.monotonic()

    def run(self) -> None:
        while not self._stop.is_set():
            batch = self._poll()
            self._tell_ready()
            if batch:
                self._take(batch)
            self._tell_counts()

    def _poll(self) -> Mapping[TopicPartition, list[Any]]:
        try:
            found: Mapping[TopicPartition, list[Any]] = self._kafka.consumer.poll(timeout_ms=_POLL_MS)
        except FencedInstanceIdError:
            raise
        except KafkaError as error:
            self._patience.is_away(error)
            self._stop.wait(_PAUSE_S)
            return {}
        return found

    def _take(self, batch: Mapping[TopicPartition, list[Any]]) -> None:
        found = (self._message(record) for records in batch.values() for record in records)
        messages = [one for one in found if one is not None]
        self._counts.sent += len(messages)
        self._patience.send(self._kafka.producer, self._writes, messages)
        self._kafka.commit(
            {place.partition: records[-1].offset + 1 for place, records in batch.items()}, self._patience
        )

    def _message(self, record: Any) -> Sent | None:
        """What goes on, once the registry answers; None where nothing does. Raises StoppedError."""
        while not self._stop.is_set():
            try:
                found = message(self._decoder, record.key, record.value)
            except RegistryAwayError as error:
                self._waits(str(error))
            except UnknownSchemaError as error:
                since = self._unknown.setdefault(str(error), time.monotonic())
                if time.monotonic() - since >= _UNKNOWN_S:
                    return self._as_it_came(record, str(error))
                self._waits(str(error))
            except UndecodableError as error:
                return self._as_it_came(record, str(error))
            else:
                if self._waiting_for is not None:
                    self._say("the registry answers again")
                    self._waiting_for = None
                return found
        raise StoppedError

    def _waits(self, why: str) -> None:
        if self._waiting_for != why:
            self._waiting_for = why
            self._say(f"what comes waits: {why}")
        self._stop.wait(_PAUSE_S)

    def _as_it_came(self, record: Any, why: str) -> Sent | None:
        sent = record.key, record.value or b""
        taken = fits(sent)
        if not taken:
            self._refusals.keep(record.topic, record.value, [why], datetime.now(UTC))
        self._counts.undecodable += 1
        if self._counts.undecodable == 1:
            where = f"{record.topic} {record.partition} {record.offset}"
            place = "sent on as it came, a dead letter" if taken else "too large to be sent on, kept among the refused"
            self._say(f"{place}: {where}: {why} (said once a minute)")
        return sent if taken else None

    def _tell_ready(self) -> None:
        if self._kafka.assignment.fresh.is_set():
            self._kafka.assignment.fresh.clear()
            if self._on_ready is not None:
                on_ready, self._on_ready = self._on_ready, None
                on_ready()

    def _tell_counts(self) -> None:
        now = time.monotonic()
        if now - self._told < _TOLD_EVERY_S:
            return
        self._told = now
        if self._counts.sent:
            behind = lag(self._kafka.consumer)
            waiting = "" if behind is None else f", {behind:,} wait"
            self._say(f"{self._counts.sent:,} sent on, {self._counts.undecodable:,} of them undecodable{waiting}")
        self._counts = Counts()
