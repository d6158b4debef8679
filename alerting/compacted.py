"""Reading a topic whole, following it, and writing to it: what the commands of people need of Kafka."""

import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from lakehouse import kafka_access
from lakehouse.topics import SAFELY

_POLL_MS = 500
_KNOCK_S = 2.0  # a broker that takes longer counts as away


class TopicError(RuntimeError):
    """The topic cannot be read or written; the text says what to do."""


def from_beginning(config: Mapping[str, Any], *topics: str) -> KafkaConsumer:
    """A consumer of every partition of some topics from their beginning, outside any group. Raises KafkaError."""
    consumer = KafkaConsumer(auto_offset_reset="earliest", enable_auto_commit=False, **config)
    consumer.assign(
        [TopicPartition(topic, number) for topic in topics for number in consumer.partitions_for_topic(topic) or ()]
    )
    consumer.seek_to_beginning()
    return consumer


def until_end(consumer: KafkaConsumer, stop: threading.Event) -> Iterator[Any]:
    """The records up to where the consumer's partitions end now. Raises KafkaError."""
    places = consumer.assignment()
    ends = consumer.end_offsets(list(places))
    while not stop.is_set() and any((consumer.position(place) or 0) < ends[place] for place in places):
        for records in consumer.poll(timeout_ms=_POLL_MS).values():
            yield from records


def knock(bootstrap_servers: str) -> None:
    """Return once one of the servers takes a connection. Raises OSError where none does.

    A consumer that is made while no broker answers leaves a thread behind each time: ask here first.
    """
    refusals: list[str] = []
    for server in bootstrap_servers.split(","):
        host, _, port = server.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()
        except OSError as error:
            refusals.append(f"{server.strip()}: {error}")
        else:
            return
    raise ConnectionError(f"no broker answers ({'; '.join(refusals)})")


class Record(NamedTuple):
    """A record of a topic; ``at`` is when the broker had it (epoch ms)."""

    key: bytes
    value: bytes | None
    at: int


class Following:
    """A topic read from its beginning (or end) on, outside any group. All of it raises TopicError."""

    def __init__(self, bootstrap_servers: str, topic: str, *, from_end: bool = False, timeout_s: float = 5.0) -> None:
        self._servers = bootstrap_servers
        config = {
            **kafka_access.client(bootstrap_servers),
            "bootstrap_timeout_ms": int(timeout_s * 1000),
            "allow_auto_create_topics": False,
            "metrics_enabled": False,
        }
        with self._answering():
            self._consumer = from_beginning(config, topic)
            if from_end:
                self._consumer.seek_to_end()

    def records(self) -> Iterator[Record]:
        """The records up to where the topic ends now."""
        with self._answering():
            for record in until_end(self._consumer, threading.Event()):
                yield Record(record.key, record.value, record.timestamp)

    def coming(self, within_s: float) -> Iterator[Record]:
        """The records that come from then on, for so long."""
        ends = time.monotonic() + within_s
        with self._answering():
            while (left := ends - time.monotonic()) > 0:
                for records in self._consumer.poll(timeout_ms=min(_POLL_MS, max(1, int(left * 1000)))).values():
                    yield from (Record(record.key, record.value, record.timestamp) for record in records)

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except KafkaError as error:
            raise TopicError(kafka_access.unanswered(self._servers)) from error


def whole(bootstrap_servers: str, topic: str) -> list[Record]:
    """Every record of a topic in the order in which the broker had them. Raises TopicError."""
    with closing(Following(bootstrap_servers, topic)) as following:
        return sorted(following.records(), key=lambda record: record.at)


def newest(bootstrap_servers: str, topic: str) -> dict[bytes, bytes]:
    """The last value of each key that was not taken back. Raises TopicError."""
    with closing(Following(bootstrap_servers, topic)) as following:
        return last_values(following.records())


def last_values(records: Iterable[Record]) -> dict[bytes, bytes]:
    """The last value of each key that was not taken back."""
    found: dict[bytes, bytes] = {}
    for record in records:
        if record.value is None:
            found.pop(record.key, None)
        else:
            found[record.key] = record.value
    return found


def put(bootstrap_servers: str, topic: str, records: Mapping[bytes, bytes | None], *, timeout_s: float = 10.0) -> None:
    """Write the records and wait until they are acknowledged; None takes a key back. Raises TopicError."""
    try:
        producer = KafkaProducer(
            **kafka_access.client(bootstrap_servers),
            bootstrap_timeout_ms=int(timeout_s * 1000),
            max_block_ms=int(timeout_s * 1000),
            **SAFELY,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )
        with closing(producer):
            for future in [producer.send(topic, key=key, value=value) for key, value in records.items()]:
                future.get(timeout=timeout_s)
    except KafkaError as error:
        raise TopicError(f"Kafka at {bootstrap_servers} did not take the records for {topic}: {error}") from error
