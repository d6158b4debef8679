"""Reading a compacted topic whole: the last record of each key."""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

_POLL_MS = 500


class TopicError(RuntimeError):
    """The topic cannot be read or written; the text says what to do."""


def from_beginning(topics: Iterable[str], config: Mapping[str, Any]) -> KafkaConsumer:
    """A consumer of every partition of some topics from their beginning, outside any group. Raises KafkaError."""
    consumer = KafkaConsumer(auto_offset_reset="earliest", enable_auto_commit=False, **config)
    consumer.assign(
        [TopicPartition(topic, number) for topic in topics for number in consumer.partitions_for_topic(topic)]
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


def newest(bootstrap_servers: str, topic: str, *, timeout_s: float = 5.0) -> dict[bytes, bytes]:
    """The last value of each key that was not taken back. Raises TopicError."""
    config = {
        "bootstrap_servers": bootstrap_servers.split(","),
        "bootstrap_timeout_ms": int(timeout_s * 1000),
        "allow_auto_create_topics": False,
        "metrics_enabled": False,
    }
    found: dict[bytes, bytes] = {}
    try:
        with closing(from_beginning([topic], config)) as consumer:
            for record in until_end(consumer, threading.Event()):
                if record.value is None:
                    found.pop(record.key, None)
                else:
                    found[record.key] = record.value
    except KafkaError as error:
        raise TopicError(
            f"no Kafka broker answers at {bootstrap_servers}:"
            " start one with 'ward broker', or correct KAFKA_BOOTSTRAP_SERVERS"
        ) from error
    return found


def put(bootstrap_servers: str, topic: str, records: Mapping[bytes, bytes | None], *, timeout_s: float = 10.0) -> None:
    """Write the records and wait until they are acknowledged; None takes a key back. Raises TopicError."""
    try:
        producer = KafkaProducer(
            bootstrap_servers=bootstrap_servers.split(","),
            bootstrap_timeout_ms=int(timeout_s * 1000),
            max_block_ms=int(timeout_s * 1000),
            acks="all",
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )
        with closing(producer):
            for future in [producer.send(topic, key=key, value=value) for key, value in records.items()]:
                future.get(timeout=timeout_s)
    except KafkaError as error:
        raise TopicError(f"Kafka at {bootstrap_servers} did not take the records for {topic}: {error}") from error
