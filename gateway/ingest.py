"""The way in: device messages checked, sent to Kafka, and acknowledged only once every replica in sync has them."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from kafka import KafkaProducer
from kafka.errors import KafkaError

from lakehouse import kafka_access, message
from lakehouse.topics import CLINICAL_RESOURCE, MAX_RECORD_BYTES, SAFELY, VITALS

KAFKA_API_VERSION = (4, 0)
"""The protocol spoken. Naming it lets a gateway start while the broker is away; the broker and its peers are 4.x."""

RECONNECT_MS = 1_000
"""Longest pause between attempts to connect: a broker that is back is found within a second, not within thirty."""

ANSWER_WITHIN_S = 8.0
"""How long a request waits for the broker: less than the 10 s after which most callers give up on an answer."""

_LINGER_MS = 5  # gathers the single posts of one instant into one batch
_METADATA_WAIT_S = 2.0
_GRACE_S = 1.0  # by then the client itself has given up, as it is told to
_MOST_WAITING = 20_000  # messages; 20 s at the full rate, some 20 MB, is what a caller may make the gateway hold


class BrokerUnavailableError(ConnectionError):
    """Kafka did not acknowledge. Whether it has the records is unknown: the caller repeats them under the same ids."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with one message of a request: its place in the list, its id where it has one, and the reason."""

    index: int
    message_id: str | None
    detail: str


@dataclass(frozen=True)
class Record:
    """One message as it is sent; ``topic`` is the declared name."""

    message_id: str
    key: bytes
    value: bytes
    topic: str = VITALS.name


@dataclass(frozen=True)
class Receipt:
    """Where Kafka put one message; no place where the spool holds it until the broker is back."""

    message_id: str
    partition: int | None
    offset: int | None


def of_message(content: message.Message) -> Record:
    """A device message, ready to send. Raises ContractError."""
    return Record(content["message_id"], message.key(content), message.encode(content))


def of_resource(content: message.Message) -> Record:
    """A record of ``clinical.resource``, ready to send. Raises ContractError."""
    value = message.encode_resource(content)
    name = f"{content['resource']['resourceType']}/{content['resource']['id']}"
    return Record(name, message.key(content), value, CLINICAL_RESOURCE.name)


class UnreadableError(ValueError):
    """A request's body is not JSON, or neither a message nor a list of messages."""


def parse(body: bytes) -> list[Any]:
    """The messages of a request's body, which is one message or a list. NaN and infinite numbers are not JSON."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UnreadableError(f"the body is not JSON: {error}") from error
    if isinstance(content, dict):
        return [content]
    if isinstance(content, list) and content:
        return content
    raise UnreadableError("the body is neither a message nor a list of messages")


def parse_lines(body: bytes) -> list[Any]:
    """The messages of a body that has one a line (NDJSON); empty lines are left out."""
    found = []
    for number, line in enumerate(body.split(b"\n"), start=1):
        if line.strip():
            try:
                found.append(orjson.loads(line))
            except orjson.JSONDecodeError as error:
                raise UnreadableError(f"line {number} of the body is not JSON: {error}") from error
    if not found:
        raise UnreadableError("the body holds no message")
    return found


def check(messages: Iterable[Any]) -> tuple[list[Record], list[Fault]]:
    """The messages that keep the contract, ready to send, and what is wrong with the others."""
    records: list[Record] = []
    faults: list[Fault] = []
    for index, content in enumerate(messages):
        try:
            value = message.encode(content)
        except message.ContractError as error:
            name = content.get("message_id") if isinstance(content, dict) else None
            faults.append(Fault(index, name if isinstance(name, str) else None, str(error)))
        else:
            records.append(Record(content["message_id"], message.key(content), value))
    return records, faults


class Sender:
    """Sends records to their topics. One Kafka producer and its thread; :meth:`close` ends both.

    ``names`` are the site's names of topics by declared name, where they differ.
    """

    def __init__(
        self, bootstrap_servers: str, names: Mapping[str, str], answer_within_s: float = ANSWER_WITHIN_S
    ) -> None:
        self._names = names
        self._answer_within_s = answer_within_s
        self._waiting = 0
        self._producer = KafkaProducer(
            **kafka_access.client(bootstrap_servers),
            api_version=KAFKA_API_VERSION,
            client_id="gateway",
            **SAFELY,
            reconnect_backoff_max_ms=RECONNECT_MS,
            linger_ms=_LINGER_MS,
            max_block_ms=int(min(_METADATA_WAIT_S, answer_within_s) * 1000),
            request_timeout_ms=int(answer_within_s * 500),
            delivery_timeout_ms=int(answer_within_s * 1000),
            max_request_size=MAX_RECORD_BYTES,
            allow_auto_create_topics=False,
        )

    async def send(self, records: Sequence[Record]) -> list[Receipt]:
        """Send and wait for the acknowledgement of all. Raises BrokerUnavailableError where any is missing."""
        if self._waiting + len(records) > _MOST_WAITING:
            raise BrokerUnavailableError("too many messages wait for the broker")
        self._waiting += len(records)
        try:
            # Without metadata of the topic the client blocks: not on the event loop's thread.
            sent = await asyncio.to_thread(self._enqueue, records)
            written = await settled(sent, self._answer_within_s + _GRACE_S)
        except KafkaError as error:
            raise BrokerUnavailableError(f"the broker did not acknowledge: {error}") from error
        finally:
            self._waiting -= len(records)
        return [
            Receipt(record.message_id, place.partition, place.offset)
            for record, place in zip(records, written, strict=True)
        ]

    def _enqueue(self, records: Sequence[Record]) -> list[Any]:
        return [
            self._producer.send(self._names.get(record.topic, record.topic), key=record.key, value=record.value)
            for record in records
        ]

    def close(self) -> None:
        """Send what waits, for as long as a delivery may take, and stop."""
        self._producer.close(timeout=self._answer_within_s)


async def settled(sent: Sequence[Any], within_s: float) -> list[Any]:
    """What each of the client's futures became; raises the first failure, once all are settled.

    Raises BrokerUnavailableError where the client has not said what became of them ``within_s``.
    """
    loop = asyncio.get_running_loop()
    all_settled = asyncio.Event()
    open_count = len(sent)

    def count_down() -> None:
        nonlocal open_count
        open_count -= 1
        if not open_count:
            all_settled.set()

    for future in sent:
        future.add_both(lambda _: loop.call_soon_threadsafe(count_down))
    try:
        await asyncio.wait_for(all_settled.wait(), within_s)
    except TimeoutError as error:
        raise BrokerUnavailableError(f"nothing is known of the records after {within_s:g} s") from error
    for future in sent:
        if future.exception is not None:
            raise future.exception
    return [future.value for future in sent]
