"""Sending to Kafka so that nothing is lost in silence: every record is acknowledged, or counted as failed and raised.

A thin wrapper over kafka-python's producer, which has no bound on what it buffers and reports a delivery only to
whoever keeps its future. Used by one thread at a time.
"""

import time
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from types import TracebackType
from typing import Any, NamedTuple, Self

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError
from kafka.partitioner import DefaultPartitioner
from kafka.partitioner.default import murmur2

from lakehouse import kafka_access
from lakehouse.topics import MAX_RECORD_BYTES

BUFFER_BYTES = 96 * 1024 * 1024
"""Unacknowledged bytes after which ``send`` waits: a broker away for a minute at 1,000 messages/s of 1 kB."""

LINGER_MS = 10
"""Measured: 10 ms of waiting halves what broker and producer spend on requests; an alert is allowed a hundred."""

_BATCH_BYTES = 128 * 1024
"""Some hundred messages: a backlog goes out in few requests, and linger, not size, ends a batch at ordinary rates."""

_DELIVERY_TIMEOUT_MS = 600_000
"""How long a record may wait for a broker that is away before it counts as failed."""

_ABORT_S = 5.0

_OVERHEAD_BYTES = 700
"""What the client keeps for a record beside its bytes (future, lock, lists), as measured on a full buffer."""


class ProducerError(RuntimeError):
    """Something could not be sent; the text says what and what to do."""


class BrokerUnavailableError(ProducerError):
    """No broker answers at the address given, or it does not have the topic."""


class BufferFullError(ProducerError):
    """The broker was away for so long that the buffer is full."""


class RecordTooLargeError(ProducerError):
    """One record is larger than the broker takes."""


class DeliveryError(ProducerError):
    """Records that ``send`` took were not acknowledged. ``failed`` says how many so far."""

    def __init__(self, text: str, failed: int) -> None:
        super().__init__(text)
        self.failed = failed


class Counts(NamedTuple):
    """Records taken by ``send``, and how many of them were acknowledged or given up; the rest is on its way."""

    sent: int
    acknowledged: int
    failed: int


class Delivery(NamedTuple):
    """What became of one record: its token and coordinates, or its token and the error (offset -1)."""

    token: Any
    partition: int
    offset: int
    error: Exception | None


class _KeyHash(DefaultPartitioner):  # type: ignore[misc]
    """The partition that Kafka's own clients choose for a key, remembered: hashing in Python is slow."""

    def partition(
        self, topic: str, key: bytes | None, serialized_key: bytes | None, value: object, data: object, cluster: Any
    ) -> int:
        if serialized_key is None:
            return int(super().partition(topic, key, serialized_key, value, data, cluster))
        return _positive_hash(serialized_key) % len(cluster.partitions_for_topic(topic))


@lru_cache(maxsize=100_000)
def _positive_hash(key: bytes) -> int:
    return int(murmur2(key)) & 0x7FFFFFFF


class Producer:
    """Sends bytes to topics with acks=all and idempotence, in order per key.

    ``on_delivery`` is called in the sending thread, from ``send``, ``settle``, ``flush`` and ``close``, once for each
    record in the order of sending; without it deliveries are only counted. A broker that goes away is waited for: up to
    ``buffer_bytes`` are kept, then ``send`` waits for room for ``block_s`` seconds and raises BufferFullError.

    Raises BrokerUnavailableError where no broker answers within ``connect_s`` seconds.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        client_id: str = "wardhouse",
        on_delivery: Callable[[Delivery], None] | None = None,
        linger_ms: int = LINGER_MS,
        buffer_bytes: int = BUFFER_BYTES,
        block_s: float = 120.0,
        connect_s: float = 10.0,
    ) -> None:
        self._servers = bootstrap_servers
        self.on_delivery = on_delivery
        self._buffer_bytes = buffer_bytes
        self._block_s = block_s
        self._pending: deque[tuple[Any, int, Any]] = deque()
        self._pending_bytes = 0
        self._sent = self._acknowledged = self._failed = 0
        self._first_error: Exception | None = None
        try:
            self._kafka = KafkaProducer(
                **kafka_access.client(bootstrap_servers),
                client_id=client_id,
                acks="all",
                # What a source sends is counted record by record. A flush of it ends, whatever the client does.
                enable_idempotence=True,
                linger_ms=linger_ms,
                batch_size=_BATCH_BYTES,
                max_request_size=MAX_RECORD_BYTES,
                delivery_timeout_ms=_DELIVERY_TIMEOUT_MS,
                # A topic that the declarations do not create is a mistake, not a wish.
                allow_auto_create_topics=False,
                # The default of 30 s would keep a producer idle long after its broker is back.
                reconnect_backoff_max_ms=1_000,
                max_block_ms=int(connect_s * 1000),
                bootstrap_timeout_ms=int(connect_s * 1000),
                partitioner=_KeyHash(),
                metrics_enabled=False,
            )
        except (KafkaError, OSError) as error:
            raise BrokerUnavailableError(kafka_access.unanswered(bootstrap_servers)) from error

    @property
    def counts(self) -> Counts:
        """Sent, acknowledged and failed as of the last call of ``settle`` (which ``send`` makes when it must wait)."""
        return Counts(self._sent, self._acknowledged, self._failed)

    @property
    def pending(self) -> int:
        """Records whose fate is not known yet."""
        return len(self._pending)

    def send(self, topic: str, key: bytes, value: bytes | None, token: Any = None) -> None:
        """Hand one record over; it goes out within ``linger_ms``, or when a batch is full.

        ``value`` None is a tombstone. ``token`` comes back in this record's Delivery. Raises RecordTooLargeError,
        BufferFullError, or BrokerUnavailableError where the topic is not there; failed deliveries are raised by
        ``flush`` and ``close``.
        """
        size = len(key) + (len(value) if value is not None else 0) + _OVERHEAD_BYTES
        if self._pending_bytes + size > self._buffer_bytes:
            self._wait_for_room(size)
        try:
            future = self._kafka.send(topic, value=value, key=key)
        except MessageSizeTooLargeError as error:
            raise RecordTooLargeError(f"a record of {size} bytes for topic {topic}: {error}") from error
        except KafkaError as error:
            text = f"{kafka_access.unanswered(self._servers)} (topic {topic}: {error})"
            raise BrokerUnavailableError(text) from error
        self._sent += 1
        self._pending_bytes += size
        self._pending.append((future, size, token))

    @property
    def has_room(self) -> bool:
        """Whether ``send`` will not have to wait for the broker; a sender that must stay responsive asks first."""
        return self._pending_bytes + MAX_RECORD_BYTES <= self._buffer_bytes

    def settle(self) -> Counts:
        """Account for every delivery that is known by now, without waiting."""
        pending, on_delivery = self._pending, self.on_delivery
        while pending and pending[0][0].is_done:
            future, size, token = pending.popleft()
            self._pending_bytes -= size
            error = future.exception
            if error is None:
                self._acknowledged += 1
            else:
                self._failed += 1
                self._first_error = self._first_error or error
            if on_delivery is not None:
                if error is None:
                    on_delivery(Delivery(token, future.value.partition, future.value.offset, None))
                else:
                    on_delivery(Delivery(token, -1, -1, error))
        return self.counts

    def flush(self, timeout_s: float = 60.0) -> Counts:
        """Wait until all that was sent is acknowledged. Raises DeliveryError where something was not (in time)."""
        try:
            self._kafka.flush(timeout=timeout_s)
        except KafkaTimeoutError as error:
            self.settle()
            if self._pending:
                text = f"{len(self._pending)} records not acknowledged by {self._servers} within {timeout_s:g} s"
                raise DeliveryError(text, self._failed) from error
        # The client wakes the flush when a batch is settled, shortly before the futures of its records are.
        deadline = time.monotonic() + 5.0
        self.settle()
        while self._pending and time.monotonic() < deadline:
            time.sleep(0.001)
            self.settle()
        if self._failed or self._pending:
            text = f"{self._failed + len(self._pending)} of {self._sent} records were not delivered to {self._servers}"
            raise DeliveryError(f"{text}: {self._first_error}", self._failed) from self._first_error
        return self.counts

    def close(self, timeout_s: float = 60.0) -> Counts:
        """Flush, then let go of the connection. Raises DeliveryError as ``flush`` does; the connection is gone anyway.

        What a time limit cut off counts as failed from then on.
        """
        try:
            counts = self.flush(timeout_s)
        except BaseException:
            self.abort()
            raise
        self._kafka.close(timeout=_ABORT_S)
        return counts

    def abort(self) -> None:
        """Let go of the connection without waiting; what was on its way counts as failed."""
        # close() flushes first, and gives up before it closes anything when that takes too long.
        sender = self._kafka._sender
        sender.force_close()
        sender.join(_ABORT_S)
        self.settle()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _wait_for_room(self, size: int) -> None:
        deadline = time.monotonic() + self._block_s
        self.settle()
        while self._pending and self._pending_bytes + size > self._buffer_bytes:
            if time.monotonic() > deadline:
                raise BufferFullError(
                    f"{self._servers} took nothing for {self._block_s:g} s and {len(self._pending)} records are waiting"
                )
            time.sleep(0.01)
            self.settle()
