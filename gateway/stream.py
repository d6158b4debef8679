"""Live vitals and alerts for whoever listens: one reader of Kafka for all, a bounded queue for each.

An event's id names, for every partition that is read, the offset behind it. Whoever comes back with an id gets what
came since from Kafka, and goes on with the others from there: nothing twice, and nothing left out that Kafka keeps.
"""

import asyncio
import logging
import re
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from alerting.compacted import knock
from gateway.live import LatestVitals, apply, describe, instant
from lakehouse import kafka_access
from lakehouse.topics import ALERT_EVALUATIONS, ALERTS

log = logging.getLogger(__name__)

MOST_WAITING = 5_000
"""Events that may wait for one listener: five seconds of a hospital at 1,000 messages/s, some twenty megabytes, which
all share who wait for the same."""

MOST_LISTENERS = 200
HEARTBEAT_S = 15.0
_ANSWER_MS = 2_000
_GATHER_MS = 100  # records come in batches of a tenth of a second, which costs a tenth of the polls
_AWAY_S = 30.0  # of a replay: a broker that gives nothing for so long is away

Place = tuple[str, int]
"""A topic's letter and a partition."""
Positions = Mapping[Place, int]
"""By place, the offset of the next record."""

VITALS, ALERT = "v", "a"
_KINDS = {VITALS: "vitals", ALERT: "alert"}
_ID = re.compile(r"[va]\d{1,4}\.\d{1,18}(-[va]\d{1,4}\.\d{1,18})*")


class StreamUnavailableError(ConnectionError):
    """There is no stream now; the text says why."""


class EventIdError(ValueError):
    """A text is no id of an event."""


def id_of(positions: Positions) -> str:
    """Positions as the id of an event: ``a0.17-a1.4-v0.1205-v1.998``."""
    return "-".join(f"{letter}{partition}.{offset}" for (letter, partition), offset in sorted(positions.items()))


def positions_of(text: str) -> dict[Place, int]:
    """The positions in an id. Raises EventIdError."""
    if not _ID.fullmatch(text):
        raise EventIdError(f"{text[:100]!r} is no id of an event: give one as it came with an event")
    parts = (part.split(".") for part in text.split("-"))
    return {(place[0], int(place[1:])): int(offset) for place, offset in parts}


def further(one: Positions, other: Positions) -> dict[Place, int]:
    """The further of two positions at each place."""
    return {place: max(one.get(place, 0), other.get(place, 0)) for place in one.keys() | other.keys()}


@dataclass(frozen=True)
class Wanted:
    """What a listener wants: of one patient, of one care unit, or all; and of which units it may hear, None: of all."""

    patient: str | None = None
    unit: str | None = None
    units: frozenset[str] | None = None

    def takes(self, event: "Event") -> bool:
        """Whether an event is wanted."""
        wanted = self.patient in (None, event.patient_id) and self.unit in (None, event.unit)
        return wanted and (self.units is None or event.unit in self.units)


@dataclass(frozen=True)
class Event:
    """One evaluated message or one transition of an alert; ``behind`` are the positions behind it."""

    place: Place
    offset: int
    patient_id: str
    unit: str | None
    record: Mapping[str, Any]
    behind: Positions

    @cached_property
    def data(self) -> bytes:
        """What is told of it, as JSON; made once for all listeners, and only where one wants it."""
        made = _vitals(self.record) if self.place[0] == VITALS else _alert(self.record)
        return orjson.dumps(made)


def _vitals(record: Mapping[str, Any]) -> dict[str, Any]:
    named = {"message_id": record.get("message_id"), "status": record["status"]}
    return {**named, **describe(apply(None, record))}


def _alert(record: Mapping[str, Any]) -> dict[str, Any]:
    at = {name: instant(record[name]) for name in ("observed_at", "message_received_at") if record.get(name)}
    readings = [{**one, "observed_at": instant(one["observed_at"])} for one in record.get("readings") or ()]
    return {**record, **at, **({"readings": readings} if readings else {})}


@dataclass(frozen=True)
class Told:
    """What a listener is told next; ``data`` is JSON, and the id is that of what it has had so far."""

    kind: str
    id: str
    data: bytes = b"{}"


class Source:
    """The two topics on the broker, and how their records are read."""

    def __init__(self, bootstrap_servers: str, names: Mapping[str, str], cache: LatestVitals) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._letters = {
            names.get(ALERT_EVALUATIONS.name, ALERT_EVALUATIONS.name): VITALS,
            names.get(ALERTS.name, ALERTS.name): ALERT,
        }
        self._cache = cache

    def consumer(self) -> KafkaConsumer:
        """A consumer of every partition, outside any group. Raises StreamUnavailableError."""
        try:
            # A consumer that is made while no broker answers leaves a thread behind each time.
            knock(self._bootstrap_servers)
            consumer = KafkaConsumer(
                **kafka_access.client(self._bootstrap_servers),
                client_id="gateway-stream",
                bootstrap_timeout_ms=_ANSWER_MS,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                allow_auto_create_topics=False,
                fetch_max_wait_ms=_GATHER_MS,
                fetch_min_bytes=64 * 1024,
                max_poll_records=1_000,
                metrics_enabled=False,
            )
            found = {topic: consumer.partitions_for_topic(topic) for topic in self._letters}
        except (KafkaError, OSError) as error:
            raise StreamUnavailableError(f"no broker answers: {error}") from error
        if missing := [topic for topic, partitions in found.items() if not partitions]:
            consumer.close()
            raise StreamUnavailableError(f"topic {', '.join(missing)} has not been made yet")
        consumer.assign([TopicPartition(topic, number) for topic, numbers in found.items() for number in numbers or ()])
        return consumer

    def place(self, partition: TopicPartition) -> Place:
        """Where a partition's records belong."""
        return self._letters[partition.topic], partition.partition

    def event(self, place: Place, offset: int, value: bytes | None, behind: Positions) -> Event | None:
        """The event in a record, or None where it is not one: the live cache counts those."""
        try:
            record = orjson.loads(value or b"")
            patient_id: str = record["patient_id"]
            unit = record.get("location_unit") or self._unit_of(patient_id)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("live stream: not a record of %s: %r", _KINDS[place[0]], error)
            return None
        return Event(place, offset, patient_id, unit, record, behind)

    def _unit_of(self, patient_id: str) -> str | None:
        patient = self._cache.patient(patient_id)
        return patient.unit if patient else None


def poll(consumer: KafkaConsumer, source: Source, positions: dict[Place, int]) -> list[Event]:
    """The next events, moving the positions behind every record that was read. Raises KafkaError."""
    events = []
    for partition, records in consumer.poll(timeout_ms=_GATHER_MS).items():
        place = source.place(partition)
        for record in records:
            positions[place] = record.offset + 1
            if (event := source.event(place, record.offset, record.value, dict(positions))) is not None:
                events.append(event)
    return events


class Subscription:
    """One listener: what waits for it, between the hub's thread and the listener's loop."""

    def __init__(self, wanted: Wanted, loop: asyncio.AbstractEventLoop, most: int = MOST_WAITING) -> None:
        self.start: Positions = {}
        """The hub's positions when it began to offer."""
        self.begun = threading.Event()
        self._wanted = wanted
        self._loop = loop
        self._most = most
        self._lock = threading.Lock()
        self._queue: deque[Event] = deque()
        self._seen: Positions = {}
        self._reason: str | None = None
        self._wake = asyncio.Event()

    def offer(self, events: Iterable[Event], seen: Positions) -> None:
        """Events in their order, and how far the hub has read. Too many at a time: it is dropped."""
        wanted = [event for event in events if self._wanted.takes(event)]
        with self._lock:
            if self._reason is not None:
                return
            self._queue.extend(wanted)
            self._seen = seen
        if len(self._queue) > self._most:
            self.drop(f"too slow: more than {self._most} events waited")
        elif wanted:
            self._notify()

    def drop(self, reason: str) -> None:
        """Tell it nothing more than why."""
        with self._lock:
            self._reason = self._reason or reason
            self._queue.clear()
        self.begun.set()
        self._notify()

    @property
    def listens(self) -> bool:
        """Whether it was not dropped."""
        return self._reason is None

    def _notify(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._wake.set)
        except RuntimeError:
            log.debug("a listener's loop is closed")

    async def take(self, within_s: float) -> tuple[list[Event], Positions, str | None]:
        """What waits, as soon as something does; how far that reaches; and why nothing more comes, or None."""
        try:
            await asyncio.wait_for(self._wake.wait(), within_s)
        except TimeoutError:
            log.debug("nothing for a listener")
        self._wake.clear()
        with self._lock:
            events = list(self._queue)
            self._queue.clear()
            return events, self._seen, self._reason


class Hub:
    """Reads the topics' ends on one thread while anybody listens, and offers each event to all who do."""

    def __init__(self, source: Source, most: int = MOST_WAITING, heartbeat_s: float = HEARTBEAT_S) -> None:
        self.source = source
        self.most = most
        self.heartbeat_s = heartbeat_s
        self._changed = threading.Condition()
        self._new: list[Subscription] = []
        self._listeners: list[Subscription] = []
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def listeners(self) -> int:
        """How many listen, without those that were dropped."""
        return sum(one.listens for one in self._listeners)

    @property
    def reads(self) -> bool:
        """Whether it reads the topics now."""
        return self._thread is not None

    def subscribe(self, wanted: Wanted, loop: asyncio.AbstractEventLoop) -> Subscription:
        """Begin to listen; blocks until the reader is where the topics end. Raises StreamUnavailableError."""
        made = Subscription(wanted, loop, self.most)
        with self._changed:
            if self._closed:
                raise StreamUnavailableError("the gateway stops")
            if len(self._new) + len(self._listeners) >= MOST_LISTENERS:
                raise StreamUnavailableError(f"{MOST_LISTENERS} listen already")
            self._new.append(made)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="live-stream", daemon=True)
                self._thread.start()
        if not made.begun.wait(4 * _ANSWER_MS / 1000) or not made.start:
            self.unsubscribe(made)
            raise StreamUnavailableError("no broker answers, or a topic has not been made yet")
        return made

    def unsubscribe(self, one: Subscription) -> None:
        """Let go of a listener."""
        with self._changed:
            self._new = [other for other in self._new if other is not one]
            self._listeners = [other for other in self._listeners if other is not one]

    def close(self) -> None:
        """End every stream with a reason, and the reader. May be called from any thread, more than once."""
        with self._changed:
            self._closed = True
            thread = self._thread
            everybody = [*self._new, *self._listeners]
        for one in everybody:
            one.drop("the gateway stops")
        if thread is not None:
            thread.join(timeout=10)

    def _run(self) -> None:
        try:
            consumer = self.source.consumer()
            try:
                self._follow(consumer)
            finally:
                consumer.close()
        except (StreamUnavailableError, KafkaError, OSError) as error:
            log.warning("live stream: %s", error)
            with self._changed:
                rest, self._new, self._listeners, self._thread = [*self._new, *self._listeners], [], [], None
            for one in rest:
                one.drop(str(error))

    def _follow(self, consumer: KafkaConsumer) -> None:
        consumer.seek_to_end()
        parts = consumer.assignment()
        positions = {self.source.place(part): consumer.position(part, timeout_ms=_ANSWER_MS) for part in parts}
        if None in positions.values():
            raise StreamUnavailableError("the broker does not say where the topics end")
        while True:
            with self._changed:
                fresh, self._new = self._new, []
                self._listeners += fresh
                listeners = tuple(self._listeners)
                if self._closed or not listeners:
                    # Under the lock: whoever comes next starts another reader.
                    self._thread = None
                    return
            for one in fresh:
                one.start = dict(positions)
                one.begun.set()
            events = poll(consumer, self.source, positions)
            seen = dict(positions)
            for one in listeners:
                one.offer(events, seen)


@dataclass
class Replay:
    """What came since some positions, read by a consumer of its own until the hub's are reached."""

    source: Source
    at: dict[Place, int]
    lost: dict[str, int | None] = field(default_factory=dict)
    """By place, records that Kafka no longer keeps; None where the topic was made anew since."""

    def __post_init__(self) -> None:
        self._consumer = self.source.consumer()
        try:
            self._seek()
        except KafkaError as error:
            self.close()
            raise StreamUnavailableError(f"the broker does not answer: {error}") from error

    def _seek(self) -> None:
        parts = list(self._consumer.assignment())
        first, ends = self._consumer.beginning_offsets(parts), self._consumer.end_offsets(parts)
        wanted, self.at = self.at, {}
        for part in parts:
            place = self.source.place(part)
            # A partition that the id does not know is younger than the id: all of it is new.
            asked = wanted.get(place, first[part])
            start = first[part] if asked < first[part] or asked > ends[part] else asked
            if start != asked:
                self.lost["{}{}".format(*place)] = start - asked if asked < start else None
            self._consumer.seek(part, start)
            self.at[place] = start

    def ends(self) -> dict[Place, int]:
        """Where the topics end now. Raises KafkaError."""
        found = self._consumer.end_offsets(list(self._consumer.assignment()))
        return {self.source.place(part): end for part, end in found.items()}

    def reached(self, ends: Positions) -> bool:
        """Whether all before these positions was read. Offsets need not be dense: the consumer's position counts."""
        for part in self._consumer.assignment():
            place = self.source.place(part)
            self.at[place] = max(self.at[place], self._consumer.position(part) or 0)
        return all(self.at[place] >= end for place, end in ends.items())

    def more(self) -> list[Event]:
        """The next events. Raises KafkaError."""
        return poll(self._consumer, self.source, self.at)

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()


class Stream:
    """What one listener is told, from its coming to its end; :meth:`begin`, :meth:`told`, :meth:`end` in this order."""

    def __init__(self, hub: Hub, wanted: Wanted, resume: Positions | None) -> None:
        self._hub = hub
        self._wanted = wanted
        self._resume = resume
        self._at: Positions = {}
        self._replay: Replay | None = None
        self._subscription: Subscription | None = None

    async def begin(self) -> None:
        """Find the place to go on from. Raises StreamUnavailableError."""
        if self._resume is None:
            await self._subscribe()
        else:
            self._replay = await asyncio.to_thread(Replay, self._hub.source, dict(self._resume))
            self._at = dict(self._replay.at)

    async def end(self) -> None:
        """Let go of everything."""
        if self._subscription is not None:
            self._hub.unsubscribe(self._subscription)
        if self._replay is not None:
            await asyncio.to_thread(self._replay.close)
            self._replay = None

    async def told(self) -> AsyncGenerator[Told, None]:
        """Everything in its order, ``ready`` first; the last one, ``dropped``, says why nothing more comes."""
        yield Told("ready", id_of(self._at))
        try:
            if self._replay is not None:
                async for one in self._caught_up(self._replay):
                    yield one
        except (KafkaError, StreamUnavailableError) as error:
            yield self._dropped(str(error))
            return
        async for one in self._live():
            yield one

    async def _subscribe(self) -> None:
        loop = asyncio.get_running_loop()
        self._subscription = await asyncio.to_thread(self._hub.subscribe, self._wanted, loop)
        self._at = further(self._at, self._subscription.start)

    async def _caught_up(self, replay: Replay) -> AsyncGenerator[Told, None]:
        if replay.lost:
            yield Told("lost", id_of(self._at), orjson.dumps({"records": replay.lost}))
        # Nearly up to now first, so that little waits in the queue while the rest is read.
        async for one in self._replayed(replay, await asyncio.to_thread(replay.ends)):
            yield one
        await self._subscribe()
        assert self._subscription is not None  # noqa: S101 - subscribed just now
        async for one in self._replayed(replay, self._subscription.start):
            yield one
        self._replay = None
        await asyncio.to_thread(replay.close)

    async def _replayed(self, replay: Replay, ends: Positions) -> AsyncGenerator[Told, None]:
        heard = told = time.monotonic()
        while not await asyncio.to_thread(replay.reached, ends):
            events = await asyncio.to_thread(replay.more)
            heard = time.monotonic() if events else heard
            for event in events:
                self._at = further(self._at, event.behind)
                if self._wanted.takes(event):
                    told = time.monotonic()
                    yield Told(_KINDS[event.place[0]], id_of(self._at), event.data)
            if time.monotonic() - heard > _AWAY_S:
                raise StreamUnavailableError("the broker is away")
            if time.monotonic() - told > self._hub.heartbeat_s:
                told = time.monotonic()
                yield Told("heartbeat", id_of(replay.at))
        self._at = further(self._at, replay.at)

    async def _live(self) -> AsyncGenerator[Told, None]:
        assert self._subscription is not None  # noqa: S101 - told comes after begin
        while True:
            events, seen, reason = await self._subscription.take(self._hub.heartbeat_s)
            for event in events:
                # What the replay has told already comes by the hub a second time.
                if event.offset >= self._at.get(event.place, 0):
                    self._at = further(self._at, event.behind)
                    yield Told(_KINDS[event.place[0]], id_of(self._at), event.data)
            if reason is not None:
                # What waited is not told: the id must not pass over it.
                yield self._dropped(reason)
                return
            self._at = further(self._at, seen)
            if not events:
                yield Told("heartbeat", id_of(self._at))

    def _dropped(self, reason: str) -> Told:
        return Told("dropped", id_of(self._at), orjson.dumps({"reason": reason}))
