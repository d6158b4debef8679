"""What members of a Kafka consumer group share: news of an assignment, patience while the broker is away, lag."""

import threading
from collections.abc import Callable, Iterable
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaTimeoutError

ANSWER_S = 5.0
"""How long the broker may take before somebody is told that it is away."""


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

    def send(self, producer: KafkaProducer, topic: str, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Send and wait until all is acknowledged, however long that takes. Raises KafkaError and StoppedError.

        The producer's ``max_block_ms`` is ANSWER_S: a topic that it knows nothing of yet would else hold it for longer.
        """
        futures = [self._sent(producer, topic, key, value) for key, value in records]
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

    def _sent(self, producer: KafkaProducer, topic: str, key: bytes, value: bytes) -> Any:
        while True:
            try:
                return producer.send(topic, key=key, value=value)
            except KafkaTimeoutError as error:
                self._wait_on(error)

    def _wait_on(self, error: Exception) -> None:
        self.is_away(error)
        if self._stop.is_set():
            raise StoppedError from error


def lag(consumer: KafkaConsumer, place: TopicPartition) -> int:
    """Records of a partition that were not read yet."""
    end = consumer.highwater(place)
    position = consumer.position(place, timeout_ms=100)
    return 0 if end is None or position is None else max(end - position, 0)
