"""MQTT: a client of the hospital's broker that acknowledges each payload once it is safe.

A payload is what ``POST /api/iot`` takes: a device message, a list of them, or one a line. The broker keeps a session
for the client's id, so what is not acknowledged comes again after a restart of either side.
"""

import asyncio
import logging
import ssl
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from prometheus_client import Gauge

from gateway import ingest
from gateway.ingest import BrokerUnavailableError, Record, UnreadableError
from gateway.metrics import Metrics
from gateway.outbox import Outbox
from gateway.refused import Refusals

MAX_PAYLOAD_BYTES = 1024 * 1024
"""The longest payload taken, as over HTTP."""

_AT_LEAST_ONCE = 1
_BATCH_BYTES = MAX_PAYLOAD_BYTES
_CONNECT_S = 5.0
_FINISH_S = 10.0  # what an acknowledgement by Kafka may take when the gateway stops
_KEEPALIVE_S = 30
_LONGEST_PAUSE_S = 30  # between attempts to connect; they begin at one second
_MOST_FAULTS = 20
_MOST_WAITING_BYTES = 16 * 1024 * 1024
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PORT, _TLS_PORT = 1883, 8883
_PAUSE_S = 1.0  # before what Kafka did not take is tried again

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """The broker, and what is read there. With ``ca``, a file in PEM, by TLS; without, in clear.

    No two clients of a broker may have the same ``client_id``: each would end the other's connection.
    """

    host: str
    port: int
    topics: tuple[str, ...]
    client_id: str
    ca: Path | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)


class SourceError(ValueError):
    """What was given for the broker does not serve; the text says what to do."""


def source(
    host: str,
    port: int | None,
    topics: tuple[str, ...],
    client_id: str,
    *,
    ca: Path | None = None,
    user: str | None = None,
    password_file: Path | None = None,
) -> Source:
    """The broker of these options, its port 8883 or 1883 unless it is given. Raises SourceError."""
    for topic in topics:
        if not _is_filter(topic):
            raise SourceError(f"--mqtt-topic {topic} is no topic: # stands last and + alone between slashes")
    if not client_id:
        raise SourceError("--mqtt-client-id is empty: the broker would keep nothing for this gateway")
    if ca is not None:
        try:
            ssl.create_default_context(cafile=ca)
        except (OSError, ssl.SSLError) as error:
            raise SourceError(f"--mqtt-ca {ca} holds no certificates: {error}") from error
    password = None
    if password_file is not None:
        if user is None:
            raise SourceError("--mqtt-password-file wants --mqtt-user")
        if ca is None and host not in _LOOPBACK:
            raise SourceError(f"will not send a password to {host} in clear: give --mqtt-ca")
        try:
            password = password_file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(f"--mqtt-password-file {password_file} cannot be read: {error}") from error
    return Source(host, port or (_PORT if ca is None else _TLS_PORT), topics, client_id, ca, user, password)


def _is_filter(topic: str) -> bool:
    levels = topic.split("/")
    return bool(topic) and all(
        level == "+" or (level == "#" and at == len(levels) - 1) or not set(level) & {"+", "#", "\0"}
        for at, level in enumerate(levels)
    )


@dataclass(frozen=True)
class Payload:
    """What came by one PUBLISH; ``connection`` counts those of this client, since ``mid`` names it on that one only."""

    topic: str
    content: bytes
    mid: int
    qos: int
    connection: int


def read(content: bytes) -> tuple[list[Record], list[str]]:
    """The messages of a payload that keep the contract, ready to send, and what is wrong with the rest."""
    if len(content) > MAX_PAYLOAD_BYTES:
        return [], [f"the payload is larger than {MAX_PAYLOAD_BYTES} bytes"]
    try:
        messages = _messages(content)
    except UnreadableError as error:
        return [], [str(error)]
    records, faults = ingest.check(messages)
    return records, [f"message {fault.index}: {fault.detail}" for fault in faults[:_MOST_FAULTS]]


def _messages(content: bytes) -> list[Any]:
    try:
        return ingest.parse(content)
    except UnreadableError:
        if b"\n" not in content.strip():
            raise
    return ingest.parse_lines(content)


class Intake:
    """Takes payloads, and says which of them may be acknowledged."""

    def __init__(self, outbox: Outbox, refusals: Refusals, clock: Callable[[], datetime], metrics: Metrics) -> None:
        self._outbox, self._refusals, self._clock, self._metrics = outbox, refusals, clock, metrics

    async def take(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Those that are safe: in Kafka or its spool, or among the refused. Raises BrokerUnavailableError.

        Of a payload that is wrong in part the rest is sent: nobody could be told to mend it and send it again.
        """
        found = [(payload, *read(payload.content)) for payload in payloads]
        if records := [record for _, good, _ in found for record in good]:
            await self._outbox.take(records)
        return [payload for payload, _, faults in found if not faults or await self._keep(payload, faults)]

    async def _keep(self, payload: Payload, faults: list[str]) -> bool:
        self._metrics.messages.labels("refused").inc()
        log.warning("MQTT: a payload of topic %r is refused: %s", payload.topic, faults[0])
        try:
            await asyncio.to_thread(self._refusals.keep, payload.topic, payload.content, faults, self._clock())
        except OSError as error:
            # Others must not wait for this one: the broker keeps it, and sends it again on the next connection.
            log.error("MQTT: it cannot be kept, and is not acknowledged: %s", error.strerror)
            return False
        return True


class Waiting:
    """Payloads between the client's thread and the event loop. The thread waits while there are too many.

    Then nothing is read from the broker, which has to hold what comes.
    """

    def __init__(self, most_bytes: int = _MOST_WAITING_BYTES) -> None:
        self._most_bytes = most_bytes
        self._changed = threading.Condition()
        self._payloads: deque[Payload] = deque()
        self._bytes = 0
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._filled = asyncio.Event()

    def put(self, payload: Payload) -> None:
        """Add one, from the client's thread; after the end it is left to the broker."""
        with self._changed:
            self._changed.wait_for(lambda: self._bytes < self._most_bytes or self._closed)
            if self._closed:
                return
            self._payloads.append(payload)
            self._bytes += len(payload.content)
            self._loop.call_soon_threadsafe(self._filled.set)

    @property
    def closed(self) -> bool:
        """Whether nothing more is taken."""
        return self._closed

    async def batch(self) -> list[Payload]:
        """The oldest, as many as go together; none once it is closed."""
        await self._filled.wait()
        with self._changed:
            batch: list[Payload] = []
            size = 0
            while self._payloads and not self._closed:
                size += len(self._payloads[0].content)
                if batch and size > _BATCH_BYTES:
                    break
                batch.append(self._payloads.popleft())
            self._bytes -= sum(len(payload.content) for payload in batch)
            if not self._payloads and not self._closed:
                self._filled.clear()
            self._changed.notify_all()
            return batch

    def close(self) -> None:
        """Let nobody wait any more; what is left is the broker's to send again."""
        with self._changed:
            self._closed = True
            self._filled.set()
            self._changed.notify_all()


class Bridge:
    """The client's connection. What it says of itself may be read from any thread."""

    def __init__(self, source: Source, metrics: Metrics) -> None:
        self._source = source
        self.fault: str | None = "not connected yet"
        """Why nothing comes; None: what is published comes."""
        self._connection = 0
        self._acknowledging = threading.Lock()
        connected = Gauge(
            "ward_gateway_mqtt_connected", "Whether payloads come from the MQTT broker", registry=metrics.registry
        )
        connected.set_function(lambda: float(self.fault is None))

    @asynccontextmanager
    async def run(self, intake: Intake) -> AsyncIterator[None]:
        """Take what is published, until the end; what is under way then is finished first."""
        waiting = Waiting()
        client = self._client(waiting)
        worker = asyncio.create_task(self._work(client, waiting, intake))
        worker.add_done_callback(lambda done: self._ended(client, done))
        client.connect_async(self._source.host, self._source.port, _KEEPALIVE_S)
        client.loop_start()
        try:
            yield
        finally:
            waiting.close()
            _, late = await asyncio.wait([worker], timeout=_FINISH_S)
            for task in late:
                task.cancel()
            client.disconnect()
            await asyncio.to_thread(client.loop_stop)

    async def _work(self, client: Client, waiting: Waiting, intake: Intake) -> None:
        while batch := await waiting.batch():
            self._acknowledge(client, await _taken(batch, waiting, intake))

    def _ended(self, client: Client, worker: "asyncio.Task[None]") -> None:
        if worker.cancelled() or (error := worker.exception()) is None:
            return
        # Nothing is taken any more: the broker is left, so that it and whoever watches know.
        client.disconnect()
        self.fault = f"the bridge has failed, restart the gateway: {error!r}"
        log.error("MQTT: %s", self.fault, exc_info=error)

    def _acknowledge(self, client: Client, safe: Sequence[Payload]) -> None:
        # On another connection the number may be that of another payload, which would be lost by it.
        with self._acknowledging:
            for payload in safe:
                if payload.connection == self._connection:
                    client.ack(payload.mid, payload.qos)

    def _client(self, waiting: Waiting) -> Client:
        source = self._source
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=source.client_id,
            clean_session=False,
            protocol=MQTTv311,
            manual_ack=True,
        )
        client.connect_timeout = _CONNECT_S
        client.reconnect_delay_set(1, _LONGEST_PAUSE_S)
        if source.user is not None:
            client.username_pw_set(source.user, source.password)
        if source.ca is not None:
            client.tls_set(ca_certs=str(source.ca))
        client.on_connect, client.on_connect_fail = self._on_connect, self._on_connect_fail
        client.on_subscribe, client.on_disconnect = self._on_subscribe, self._on_disconnect
        client.on_message = lambda _, __, message: waiting.put(self._payload(message))
        return client

    def _payload(self, message: MQTTMessage) -> Payload:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = "(not UTF-8)"
        return Payload(topic, bytes(message.payload), message.mid, message.qos, self._connection)

    def _on_connect(
        self, client: Client, _: Any, __: ConnectFlags, reason: ReasonCode, ___: Properties | None = None
    ) -> None:
        if reason.is_failure:
            self._is(f"the broker refuses the connection: {reason}")
        else:
            client.subscribe([(topic, _AT_LEAST_ONCE) for topic in self._source.topics])

    def _on_connect_fail(self, _: Client, __: Any) -> None:
        # The client calls this while it handles what went wrong, and does not hand it over.
        self._is(f"the broker cannot be reached: {sys.exception() or 'no connection'}")

    def _on_subscribe(
        self, _: Client, __: Any, ___: int, reasons: list[ReasonCode], ____: Properties | None = None
    ) -> None:
        refused = [topic for topic, reason in zip(self._source.topics, reasons, strict=True) if reason.is_failure]
        self._is(f"the broker refuses the topic {', '.join(refused)}" if refused else None)

    def _on_disconnect(
        self, _: Client, __: Any, ___: DisconnectFlags, reason: ReasonCode, ____: Properties | None = None
    ) -> None:
        with self._acknowledging:
            self._connection += 1
        if self.fault is None:
            self.fault = f"the connection has ended: {reason}"
            if reason.is_failure:
                log.warning("MQTT: %s", self.fault)

    def _is(self, fault: str | None) -> None:
        if fault != self.fault:
            level = logging.INFO if fault is None else logging.WARNING
            log.log(level, "MQTT: %s", fault or f"reading {', '.join(self._source.topics)}")
        self.fault = fault


async def _taken(batch: Sequence[Payload], waiting: Waiting, intake: Intake) -> list[Payload]:
    """What of a batch is safe, as soon as Kafka takes it; none where the end comes first."""
    told = False
    while True:
        try:
            return await intake.take(batch)
        except BrokerUnavailableError as error:
            if not told:
                log.warning("MQTT: what comes waits until Kafka takes it: %s", error)
            told = True
        if waiting.closed:
            return []
        await asyncio.sleep(_PAUSE_S)


@asynccontextmanager
async def serve(bridge: Bridge | None, intake: Intake) -> AsyncIterator[None]:
    """Run the bridge, if there is one."""
    if bridge is None:
        yield
        return
    async with bridge.run(intake):
        yield
