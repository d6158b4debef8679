"""What members of a Kafka consumer group share: clients, news of an assignment, patience with the broker, lag."""

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.errors import (
    CommitFailedError,
    FencedInstanceIdError,
    IllegalGenerationError,
    KafkaError,
    KafkaTimeoutError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from alerting.compacted import from_beginning
from lakehouse import kafka_access
from lakehouse.topics import MAX_RECORD_BYTES, SAFELY

ANSWER_S = 5.0
"""How long the broker may take before somebody is told that it is away."""

_STARTUP_MS = 30_000
_SESSION_MS = 10_000
"""How long the partitions of a member that is gone for good stay without one."""
_LAG_MS = 100
_DELIVERY_TIMEOUT_MS = 3_600_000
"""An hour: what was decided waits for a broker that is away. After it the member ends with an error, and its successor
does what is not recorded."""


Record = tuple[bytes | None, bytes | None]
"""Key and value."""


class UnreachableError(RuntimeError):
    """No broker answers, or a topic is missing; the text says what to do."""


class StoppedError(Exception):
    """Asked to stop while the broker is away: what was not acknowledged is done again at the next start."""


class Assignment(ConsumerRebalanceListener):  # type: ignore[misc]
    """Notes that partitions were assigned. It runs on the client's own thread: the work is done between polls."""

    def __init__(self) -> None:
        self.fresh = threading.Event()

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Nothing to save: what is recorded in Kafka is all that counts."""

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:  # noqa: ARG002
        """Wake whoever restores what belongs to the partitions."""
        self.fresh.set()


class Member:
    """The clients of one member of a group, connected: ``consumer``, subscribed, and ``producer``.

    ``member`` names it among those of its group (Kafka's static membership): the next one of that name takes its
    partitions over at once. Raises UnreachableError.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        client: str,
        group: str,
        member: str | None,
        reads: str,
        topics: Collection[str],
        batch_records: int,
    ) -> None:
        self.common: dict[str, Any] = {
            **kafka_access.client(bootstrap_servers),
            "bootstrap_timeout_ms": _STARTUP_MS,
            "client_id": client,
            "allow_auto_create_topics": False,
            # The default of 30 s would keep it idle long after its broker is back.
            "reconnect_backoff_max_ms": 1_000,
            "metrics_enabled": False,
        }
        self.assignment = Assignment()
        self._reads = reads
        try:
            self.consumer = KafkaConsumer(
                group_id=group,
                group_instance_id=member,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                max_poll_records=batch_records,
                max_partition_fetch_bytes=MAX_RECORD_BYTES,
                session_timeout_ms=_SESSION_MS,
                **self.common,
            )
        except KafkaError as error:
            raise UnreachableError(kafka_access.unanswered(bootstrap_servers)) from error
        missing = [name for name in topics if not self.consumer.partitions_for_topic(name)]
        if missing:
            self.consumer.close()
            raise UnreachableError(f"Kafka at {bootstrap_servers} has no topic {', '.join(missing)}: run 'ward apply'")
        self.consumer.subscribe([reads], listener=self.assignment)
        self.producer = KafkaProducer(
            **SAFELY,
            # Every batch is flushed; the linger only keeps its first record from leaving alone.
            linger_ms=5,
            batch_size=256 * 1024,
            max_request_size=MAX_RECORD_BYTES,
            delivery_timeout_ms=_DELIVERY_TIMEOUT_MS,
            max_block_ms=int(ANSWER_S * 1000),
            **self.common,
        )
        # Asked now, or the first alert waits for it. A broker that goes away meanwhile is no reason to give up: whoever
        # sends has patience with it.
        with suppress(KafkaTimeoutError):
            for name in topics:
                self.producer.partitions_for(name)

    def whole(self, *topics: str) -> KafkaConsumer:
        """A consumer of every partition of some topics from their beginning, outside the group."""
        return from_beginning(self.common, *topics)

    def commit(self, positions: Mapping[int, int], patience: "Patience") -> None:
        """Commit the offset of the next record of each partition, or say that the broker is away."""
        offsets = {TopicPartition(self._reads, part): OffsetAndMetadata(at, "", -1) for part, at in positions.items()}
        if not offsets:
            return
        try:
            self.consumer.commit(offsets, timeout_ms=int(ANSWER_S * 1000))
        except (
            CommitFailedError,
            FencedInstanceIdError,
            IllegalGenerationError,
            RebalanceInProgressError,
            UnknownMemberIdError,
        ):
            # The partitions are about to be assigned anew; whoever gets them starts at the last commit.
            return
        except KafkaError as error:
            patience.is_away(error)
            return
        patience.is_back()

    def close(self) -> None:
        """Leave the group and let go of the connections."""
        self.producer.close(timeout=1.0)
        self.consumer.close()


class Patience:
    """Says once that the broker is away, and once that it is back."""

    def __init__(self, say: Callable[[str], None], stop: threading.Event) -> None:
        self._say = say
        self._stop = stop
        self.away = False

    def is_away(self, error: Exception) -> None:
        """Something failed because no broker answers."""
        if not self.away:
            self.away = True
            self._say(f"no answer from Kafka, trying on; nothing is lost meanwhile ({type(error).__name__})")

    def is_back(self) -> None:
        """Something succeeded."""
        if self.away:
            self.away = False
            self._say("Kafka answers again")

    def send(self, producer: KafkaProducer, topic: str, records: Iterable[Record]) -> None:
        """Send and wait until all is acknowledged, however long that takes. Raises KafkaError and StoppedError."""
        self.wait(producer, self.begin(producer, topic, records))

    def begin(self, producer: KafkaProducer, topic: str, records: Iterable[Record]) -> list[Any]:
        """Send; what is returned is to be waited for. Raises KafkaError and StoppedError.

        The producer's ``max_block_ms`` is ANSWER_S: a topic that it knows nothing of yet would else hold it for longer.
        """
        return [self._sent(producer, topic, key, value) for key, value in records]

    def wait(self, producer: KafkaProducer, futures: list[Any]) -> None:
        """Wait until all of these are acknowledged, however long that takes. Raises KafkaError and StoppedError."""
        while futures:
            try:
                producer.flush(timeout=ANSWER_S)
                for future in futures:
                    future.get(timeout=ANSWER_S)
                self.is_back()
                break
            except KafkaTimeoutError as error:
                if any(future.is_done and future.exception is not None for future in futures):
                    raise
                self._wait_on(error)

    def _sent(self, producer: KafkaProducer, topic: str, key: bytes | None, value: bytes | None) -> Any:
        while True:
            try:
                return producer.send(topic, key=key, value=value)
            except KafkaTimeoutError as error:
                self._wait_on(error)

    def _wait_on(self, error: Exception) -> None:
        self.is_away(error)
        if self._stop.is_set():
            raise StoppedError from error


def lag(consumer: KafkaConsumer) -> int | None:
    """Records of the assigned partitions that were not read yet; None where the broker does not say."""
    places = consumer.assignment()
    ends = {place: consumer.highwater(place) for place in places}
    # The client knows the end of a partition once it begins to hand its records out: a backlog is first that of one.
    unknown = [place for place, end in ends.items() if end is None]
    try:
        if unknown:
            ends |= consumer.end_offsets(unknown, timeout_ms=_LAG_MS)
        read = {place: consumer.position(place, timeout_ms=_LAG_MS) for place in places}
    except KafkaError:
        return None
    return None if None in read.values() else sum(max(end - read[place], 0) for place, end in ends.items())
