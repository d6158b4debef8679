"""``ward notify``: notifications in, messages out by every channel, and how that went on ``alert.delivery``.

Each destination (a channel, or a channel in one care unit) has a queue and a thread of its own, so none waits for
another. What has ended is recorded on ``alert.delivery``, and offsets are committed only behind what is recorded.
So a notifier that is killed leaves a successor that tells what was not recorded, perhaps a second time, and leaves out
what was.
"""

import queue
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kafka import TopicPartition
from kafka.errors import FencedInstanceIdError, KafkaError

from alerting import apprise_sender, message_text
from alerting.apprise_sender import Send, Text
from alerting.channel_queue import ChannelQueue, Message
from alerting.channels import Destination, Destinations, find
from alerting.compacted import until_end
from alerting.member import Member, Patience, StoppedError, UnreachableError, lag
from alerting.notification import (
    Delivery,
    Notification,
    NotificationError,
    decode,
    decode_delivery,
    delivery_key,
    encode_delivery,
)
from alerting.outstanding import Outstanding
from lakehouse import progress, topics

GROUP = "ward-notify"

_BATCH_RECORDS = 500
_POLL_MS = 500
_POLL_BUSY_MS = 50
"""While something is on its way: what has ended is recorded that soon, and a kill repeats no more than that."""
_COMMIT_EVERY_S = 5.0
_AHEAD_RECORDS = 20_000
"""Records of a partition that may be read ahead of the first one that is not done with. A channel that is down holds
that one for as long as it tries (15 minutes): this is 22 notifications a second for so long."""
_RECORDED_READ = 200_000
"""Last deliveries of each partition that a start reads: those of every record that may be read again, on five channels
each, at a second and a half of processor time for each 100,000."""
_RECORDED_KEPT = 2 * _RECORDED_READ
_STOP_S = 8.0
"""How long a stop waits for messages that are being sent. What is not answered by then is sent again by the next."""

Key = tuple[str, str]
"""Notification and channel: what is told once."""


class NotifierError(RuntimeError):
    """The notifier cannot go on; the text says what to do."""


@dataclass(frozen=True)
class Topics:
    """What the site calls the topics that the notifier uses."""

    notifications: str = topics.ALERT_NOTIFICATION.name
    deliveries: str = topics.ALERT_DELIVERY.name

    @classmethod
    def of(cls, names: Mapping[str, str]) -> "Topics":
        """From the site's names by declared name."""
        declared = asdict(cls())
        return cls(**{field: names.get(name, name) for field, name in declared.items()})


@dataclass
class Counts:
    """What the notifier did since it started: records read, and notifications by channel."""

    records: int = 0
    rejected: int = 0
    repeats: int = 0
    delivered: int = 0
    digested: int = 0
    undeliverable: int = 0
    unconfigured: int = 0


def run(
    *,
    bootstrap_servers: str,
    topics: Topics,
    destinations: Destinations,
    progress_file: Path,
    stop: threading.Event,
    on_ready: Callable[[], None],
    say: Callable[[str], None],
    group: str = GROUP,
    member: str | None = None,
) -> None:
    """Deliver notifications until ``stop`` is set.

    ``on_ready`` is called once, when partitions are assigned and what was recorded is read. ``say`` gets a line for a
    person now and then. Raises NotifierError where no broker answers at the start, or where it does not take what is to
    be recorded for an hour. ``member`` names this notifier in its group: the next one of that name takes over at once.
    """
    try:
        with closing(_member(bootstrap_servers, topics, group, member)) as kafka:
            _Notifier(kafka, topics, destinations, progress_file, stop, on_ready, say).run()
    except UnreachableError as error:
        raise NotifierError(str(error)) from error
    except StoppedError:
        say("stopped while Kafka was away: what was not recorded is told again at the next start")
    except KafkaError as error:
        raise NotifierError(f"Kafka at {bootstrap_servers}: {error}") from error


def text_of(message: Message, destination: Destination) -> Text:
    """What a message says."""
    first = min(message.notifications, key=lambda notification: message_text.RANK[notification.priority])
    if message.digest_id is None:
        return Text(message_text.title(first), message_text.body(first), first.priority, message_text.fields(first))
    why = (
        "These could not be told in time and are told together now."
        if message.late
        else f"More than {destination.per_minute} messages within a minute: these are told together."
    )
    return Text(
        message_text.digest_title(message.notifications),
        message_text.digest_body(message.notifications, why),
        first.priority,
        message_text.digest_fields(message.digest_id, message.notifications),
    )


def _member(bootstrap_servers: str, topics: Topics, group: str, member: str | None) -> Member:
    return Member(
        bootstrap_servers,
        client="ward-notify",
        group=group,
        member=member,
        reads=topics.notifications,
        topics=asdict(topics).values(),
        batch_records=_BATCH_RECORDS,
    )


def _newest(kafka: Member, topic: str, records: int, stop: threading.Event) -> Iterable[Any]:
    """The last records of each partition of a topic, as many as there are up to ``records``."""
    with closing(kafka.whole(topic)) as consumer:
        places = list(consumer.assignment())
        starts, ends = consumer.beginning_offsets(places), consumer.end_offsets(places)
        for place in places:
            consumer.seek(place, max(starts[place], ends[place] - records))
        yield from until_end(consumer, stop)


class _Worker(threading.Thread):
    """Sends what one destination's queue gives it. What has ended goes into ``ended`` for the notifier."""

    def __init__(self, destination: Destination, send: Send, ended: "queue.SimpleQueue[_Ended]") -> None:
        # A daemon: a service that never answers must not keep the process from ending.
        super().__init__(name=f"notify {destination.name}", daemon=True)
        self._destination = destination
        self._send = send
        self._ended = ended
        self._closed = False
        self._changed = threading.Condition()
        self._queue = ChannelQueue(
            destination.channel,
            len(destination.urls),
            per_minute=destination.per_minute,
            digest_s=destination.digest_s,
            give_up_s=destination.give_up_s,
            jitter=random.random,
        )
        self._sending: Message | None = None
        self.failure: Exception | None = None

    def add(self, notification: Notification, age_s: float) -> None:
        """Take a notification that was decided so long ago."""
        with self._changed:
            self._queue.add(notification, time.monotonic(), late=age_s > self._destination.give_up_s)
            self._changed.notify()

    def waiting(self) -> int:
        """Notifications that have not ended."""
        with self._changed:
            return len(self._queue) + (len(self._sending.notifications) if self._sending else 0)

    def forget(self) -> set[Key]:
        """Drop what waits, and name what is being sent."""
        with self._changed:
            self._queue.clear()
            sending = self._sending.notifications if self._sending else ()
            return {(one.notification_id, self._destination.channel) for one in sending}

    def close(self) -> None:
        """Begin nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def run(self) -> None:
        try:
            while (message := self._next()) is not None:
                failed = self._send(text_of(message, self._destination), message.urls)
                self._answer(message, failed)
        except Exception as error:  # noqa: BLE001 - kept for the notifier, which ends with it: a channel must not be mute
            self.failure = error

    def _next(self) -> Message | None:
        """The next message, when it is due; None when the worker is closed."""
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                self._put(self._queue.given_up(now, _now_ms()))
                self._sending = self._queue.take(now)
                if self._sending is not None:
                    return self._sending
                self._changed.wait(self._queue.wait_s(now))
            return None

    def _answer(self, message: Message, failed: Mapping[int, str]) -> None:
        with self._changed:
            self._sending = None
            if not failed:
                self._put(self._queue.sent(message, _now_ms()))
                return
            error = _error(failed, len(self._destination.urls))
            deliveries = self._queue.failed(message, tuple(failed), error, time.monotonic(), _now_ms())
            self._put(deliveries)

    def _put(self, deliveries: list[Delivery]) -> None:
        if deliveries:
            self._ended.put(_Ended(self._destination, tuple(deliveries)))


@dataclass(frozen=True)
class _Ended:
    """Notifications that have ended together on a destination; none where the channel is not configured."""

    destination: Destination | None
    deliveries: tuple[Delivery, ...]


class _Notifier:
    def __init__(
        self,
        kafka: Member,
        topics: Topics,
        destinations: Destinations,
        progress_file: Path,
        stop: threading.Event,
        on_ready: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        self._kafka = kafka
        self._topics = topics
        self._destinations = destinations
        self._progress_file = progress_file
        self._stop = stop
        self._on_ready: Callable[[], None] | None = on_ready
        self._say = say
        self._patience = Patience(say, stop)
        self._ended: queue.SimpleQueue[_Ended] = queue.SimpleQueue()
        self._workers = {
            name: _Worker(destination, apprise_sender.sender(destination), self._ended)
            for name, destination in destinations.items()
        }
        self._outstanding: Outstanding[Key] = Outstanding()
        self._recorded: dict[Key, None] = {}
        self._unrecorded: set[Key] = set()
        self._unknown_channels: set[str] = set()
        self._counts = Counts()
        self._since = time.monotonic()
        self._records_before = 0

    def run(self) -> None:
        for worker in self._workers.values():
            worker.start()
        try:
            while not self._stop.is_set():
                batch = self._poll()
                if self._kafka.assignment.fresh.is_set():
                    # What was polled meanwhile is read again, from the last commit.
                    self._restore()
                else:
                    self._take(batch)
                self._record()
                self._check_workers()
                if time.monotonic() - self._since >= _COMMIT_EVERY_S:
                    self._commit()
                    self._report()
        finally:
            self._close_workers()
        self._record()
        if not self._patience.away:
            self._commit()
        self._report()

    def _poll(self) -> dict[TopicPartition, list[Any]]:
        try:
            self._hold_back()
            busy = bool(self._unrecorded)
            return dict(self._kafka.consumer.poll(timeout_ms=_POLL_BUSY_MS if busy else _POLL_MS))
        except FencedInstanceIdError as error:
            raise NotifierError("another notifier of the same member name has taken over: stop one of them") from error
        except KafkaError as error:
            self._patience.is_away(error)
            self._stop.wait(0.5)
            return {}

    def _hold_back(self) -> None:
        """Read no further ahead of what is not done with than a successor can read again."""
        consumer = self._kafka.consumer
        paused = consumer.paused()
        for place in consumer.assignment():
            far = self._outstanding.ahead(place.partition) >= _AHEAD_RECORDS
            if far and place not in paused:
                consumer.pause(place)
            elif not far and place in paused:
                consumer.resume(place)

    def _take(self, batch: Mapping[TopicPartition, list[Any]]) -> None:
        for place, records in batch.items():
            for record in records:
                self._counts.records += 1
                try:
                    notification = decode(record.value)
                except NotificationError as error:
                    self._reject(f"{place.topic} {place.partition} {record.offset}: {error}")
                    self._outstanding.add(place.partition, record.offset, ())
                    continue
                self._tell(notification, place.partition, record)

    def _reject(self, what: str) -> None:
        self._counts.rejected += 1
        if self._counts.rejected == 1:
            self._say(f"not a notification, left out: {what} (said once, counted as rejected)")

    def _tell(self, notification: Notification, partition: int, record: Any) -> None:
        """Hand a notification to each channel that has not had it."""
        keys = [(notification.notification_id, channel) for channel in dict.fromkeys(notification.channels)]
        open_ = [key for key in keys if key not in self._recorded]
        fresh = [key for key in open_ if key not in self._unrecorded]
        self._counts.repeats += len(keys) - len(fresh)
        self._outstanding.add(partition, record.offset, open_)
        for key in fresh:
            self._unrecorded.add(key)
            destination = find(self._destinations, key[1], notification.location_unit)
            if destination is None:
                self._no_channel(notification, key[1])
            else:
                # The broker's instant: the decision's own may be that of a replay.
                age_s = time.time() - record.timestamp / 1000
                self._workers[destination.channel, destination.unit].add(notification, age_s)

    def _no_channel(self, notification: Notification, channel: str) -> None:
        if channel not in self._unknown_channels:
            self._unknown_channels.add(channel)
            self._say(
                f"no channel {message_text.clean(channel)} in the channels file: nobody is told by it (said once)"
            )
        delivery = Delivery(
            notification_id=notification.notification_id,
            patient_id=notification.patient_id,
            channel=channel,
            status="unconfigured",
            attempts=0,
            at=_now_ms(),
            alert_ids=tuple(told.alert_id for told in notification.alerts),
        )
        self._ended.put(_Ended(None, (delivery,)))

    def _record(self) -> None:
        """Write down what has ended, and wait until the broker has it. Raises KafkaError and StoppedError."""
        ended: list[_Ended] = []
        while not self._ended.empty():
            ended.append(self._ended.get())
        deliveries = [delivery for one in ended for delivery in one.deliveries]
        if not deliveries:
            return
        records = [(delivery_key(delivery), encode_delivery(delivery)) for delivery in deliveries]
        self._patience.send(self._kafka.producer, self._topics.deliveries, records)
        for delivery in deliveries:
            key = (delivery.notification_id, delivery.channel)
            self._recorded[key] = None
            self._unrecorded.discard(key)
            self._outstanding.settle(key)
            setattr(self._counts, delivery.status, getattr(self._counts, delivery.status) + 1)
        while len(self._recorded) > _RECORDED_KEPT:
            del self._recorded[next(iter(self._recorded))]
        for one in ended:
            if one.destination is not None and one.deliveries[0].status == "undeliverable":
                self._say(_given_up(one.destination, one.deliveries))

    def _restore(self) -> None:
        """Begin at the last commit, knowing what is recorded behind it."""
        self._kafka.assignment.fresh.clear()
        while not self._stop.is_set():
            try:
                self._record()
                recorded = self._read_recorded()
                begins = self._rewind()
                break
            except KafkaError as error:
                self._patience.is_away(error)
                self._stop.wait(0.5)
        else:
            return
        self._recorded = recorded
        self._outstanding.clear()
        for partition, offset in begins.items():
            self._outstanding.begin(partition, offset)
        # What a worker has in hand goes on, and is recorded when it ends; the rest is read again.
        self._unrecorded = {key for worker in self._workers.values() for key in worker.forget()}
        ended = []
        while not self._ended.empty():
            ended.append(self._ended.get())
        for one in ended:
            self._unrecorded |= {(delivery.notification_id, delivery.channel) for delivery in one.deliveries}
            self._ended.put(one)
        if self._on_ready is not None:
            on_ready, self._on_ready = self._on_ready, None
            on_ready()

    def _read_recorded(self) -> dict[Key, None]:
        found: dict[Key, None] = {}
        for record in _newest(self._kafka, self._topics.deliveries, _RECORDED_READ, self._stop):
            try:
                delivery = decode_delivery(record.value)
            except NotificationError as error:
                where = f"{record.topic} {record.partition} {record.offset}"
                self._say(f"not a delivery, left out: {where}: {error}")
                continue
            found[delivery.notification_id, delivery.channel] = None
        return found

    def _rewind(self) -> dict[int, int]:
        """Go back to what is committed of each partition, or to its beginning: where that is."""
        consumer = self._kafka.consumer
        places = list(consumer.assignment())
        first = consumer.beginning_offsets(places) if places else {}
        begins = {}
        for place in places:
            begins[place.partition] = max(consumer.committed(place) or 0, first[place])
            consumer.seek(place, begins[place.partition])
        return begins

    def _commit(self) -> None:
        mine = {place.partition for place in self._kafka.consumer.assignment()}
        done = self._outstanding.committable()
        self._kafka.commit({part: offset for part, offset in done.items() if part in mine}, self._patience)

    def _check_workers(self) -> None:
        for worker in self._workers.values():
            if worker.failure is not None:
                raise NotifierError(
                    f"the thread of {worker.name} ended by an error: {worker.failure!r}"
                ) from worker.failure

    def _close_workers(self) -> None:
        for worker in self._workers.values():
            worker.close()
        deadline = time.monotonic() + _STOP_S
        for worker in self._workers.values():
            worker.join(max(deadline - time.monotonic(), 0.0))

    def _report(self) -> None:
        now, counts = time.monotonic(), self._counts
        progress.append(
            self._progress_file,
            {
                "at": datetime.now(UTC).isoformat(),
                "rate": round((counts.records - self._records_before) / max(now - self._since, 0.001), 1),
                "lag": lag(self._kafka.consumer),
                **asdict(counts),
                "waiting": {
                    worker.name.removeprefix("notify "): waiting
                    for worker in self._workers.values()
                    if (waiting := worker.waiting())
                },
                "cpu_s": round(time.process_time(), 2),
            },
        )
        self._since, self._records_before = now, counts.records


def _error(failed: Mapping[int, str], urls: int) -> str:
    """What went wrong at which URL, by its place in the channels file."""
    if urls == 1:
        return next(iter(failed.values()))
    return "; ".join(f"url {number + 1} of {urls}: {error}" for number, error in failed.items())


def _given_up(destination: Destination, deliveries: tuple[Delivery, ...]) -> str:
    first, more = deliveries[0], len(deliveries) - 1
    others = f" and {more} more" if more else ""
    return (
        f"not delivered on channel {destination.name} within {destination.give_up_s:g} s:"
        f" notification {first.notification_id} of {message_text.clean(first.patient_id)}{others}: {first.error}"
    )


def _now_ms() -> int:
    return int(time.time() * 1000)
