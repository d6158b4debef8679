"""The router: ``alert.evaluations`` in; ``alerts``, ``alert.notification`` and ``alert.state`` out; a group shares it.

For each batch of records, each command and each tick of the clock: the patients' new states are written and
acknowledged, then what they give to tell. Every some seconds the states of all that were heard of are written, and then
the offsets committed. A state carries what it gives to tell (alerting/state.py), so a router that is killed at any
point leaves a successor that sends the same bytes again or nothing: readers of ``alerts`` drop repeats by alert_id and
sequence. Kafka transactions would do without the repeats, but cost some five round trips for each batch with a
transition, and every reader would have to ask for read_committed.

Commands, own limits, packs and risks concern every router: each reads their topics whole and follows them.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any

import orjson
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import FencedInstanceIdError, KafkaError

from alerting import command as commands
from alerting import limits, rules_in_force
from alerting import risk as risks
from alerting.command import Acknowledge, CommandError
from alerting.compacted import until_end
from alerting.engine import Changed, Engine
from alerting.evaluation import EvaluationError
from alerting.latencies import Latencies
from alerting.lifecycle import Event
from alerting.limits import LimitError
from alerting.member import Member, Patience, StoppedError, UnreachableError, lag
from alerting.pack import Pack, PackError
from alerting.risk import RiskError
from alerting.state import OtherVersionError, StateError, Stored, decode
from lakehouse import progress, topics

GROUP = "ward-router"

_BATCH_RECORDS = 2_000
"""Records a poll returns at most: two seconds of the usual load, so that a backlog is taken in large steps."""
_PACE_S = 0.006
"""Time from one poll to the next, at least. What arrives meanwhile comes in one fetch: it bounds the router to some 150
polls a second, and costs an alert 3 ms at the median."""
_POLL_MS = 500
_TICK_S = 1.0
"""How often time passes for each patient: escalation and silence are matters of minutes."""
_TICK_AT_ONCE_S = 0.001
"""Of a round of all patients, what is done between two polls: a thousand at once would hold an alert up for 20 ms."""
_REPORT_EVERY_S = 5.0
_COMMIT_EVERY_S = 15.0
"""Each commit writes the state of every patient heard of since the last one. A successor reads again what came since:
some ten thousand records, handled in a second."""
_WRITTEN_AT_ONCE = 20
"""States written between two polls: a few milliseconds."""
_BEHIND_AFTER_MS = 10_000
"""After so long without any evaluation it is looked whether messages wait for the alert flow."""
_BEHIND_AT_MOST_MS = 300_000
"""For so long a silence is laid to an alert flow that is behind. Then it is told: whatever the reason, there are no
alerts of those patients."""


class RouterError(RuntimeError):
    """The router cannot go on; the text says what to do."""


@dataclass(frozen=True)
class Topics:
    """What the site calls the topics that the router uses."""

    vitals: str = topics.VITALS.name
    evaluations: str = topics.ALERT_EVALUATIONS.name
    rules: str = topics.ALERT_RULES.name
    commands: str = topics.ALERT_COMMAND.name
    limits: str = topics.ALERT_LIMIT.name
    risk: str = topics.RISK.name
    state: str = topics.ALERT_STATE.name
    alerts: str = topics.ALERTS.name
    notifications: str = topics.ALERT_NOTIFICATION.name

    @classmethod
    def of(cls, names: Mapping[str, str]) -> "Topics":
        """From the site's names by declared name."""
        declared = asdict(cls())
        return cls(**{field: names.get(name, name) for field, name in declared.items()})


def run(
    *,
    bootstrap_servers: str,
    topics: Topics,
    pack: Pack,
    progress_file: Path,
    stop: threading.Event,
    on_ready: Callable[[], None],
    show: Callable[[Event], None] | None = None,
    say: Callable[[str], None],
    group: str = GROUP,
    member: str | None = None,
) -> None:
    """Route alerts until ``stop`` is set.

    ``on_ready`` is called once, when partitions are assigned and their patients' states restored. ``show`` gets every
    transition once it is acknowledged, ``say`` a line for a person now and then. Raises RouterError where no broker
    answers at the start, or where a decided alert could not be delivered in the end.

    ``member`` names this router among those of its group (Kafka's static membership): the next one of that name takes
    its partitions over at once, and not only when Kafka has noticed that it is gone.
    """
    try:
        with closing(_member(bootstrap_servers, topics, group, member)) as kafka:
            _Router(kafka, topics, pack, progress_file, stop, on_ready, show, say).run()
    except UnreachableError as error:
        raise RouterError(str(error)) from error
    except StoppedError:
        say("stopped while Kafka was away: what was not sent is decided again at the next start")
    except KafkaError as error:
        raise RouterError(f"Kafka at {bootstrap_servers}: {error}") from error


def _member(bootstrap_servers: str, topics: Topics, group: str, member: str | None) -> Member:
    return Member(
        bootstrap_servers,
        client="ward-router",
        group=group,
        member=member,
        reads=topics.evaluations,
        topics=asdict(topics).values(),
        batch_records=_BATCH_RECORDS,
    )


class _Follower(threading.Thread):
    """Reads some topics whole and then follows them. What it finds waits in ``found`` for the router."""

    def __init__(self, consumer: KafkaConsumer, stop: threading.Event) -> None:
        super().__init__(name="alert-follower", daemon=True)
        self._consumer = consumer
        self._stop_asked = stop
        self._ended = threading.Event()
        self.found: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def read_whole(self) -> None:
        """Read what there is now."""
        for record in until_end(self._consumer, self._stop_asked):
            self.found.put(record)

    def run(self) -> None:
        while not (self._stop_asked.is_set() or self._ended.is_set()):
            try:
                for records in self._consumer.poll(timeout_ms=_POLL_MS).values():
                    for record in records:
                        self.found.put(record)
            except KafkaError:
                # The main loop says that the broker is away; here it is only waited for.
                self._ended.wait(1.0)

    def close(self) -> None:
        self._ended.set()
        if self.is_alive():
            self.join()
        self._consumer.close()


@dataclass(frozen=True)
class _Writing:
    """States that are being written, and what may be committed and counts as told when they are.

    ``sent`` is on its way: nobody waits for it before the last one. What a patient's state becomes meanwhile is sent
    after it, by the same producer to the same partition.
    """

    states: Iterator[Changed]
    sent: list[Any]
    positions: Mapping[int, int]
    told: frozenset[str]


class _Router:
    def __init__(
        self,
        kafka: Member,
        topics: Topics,
        pack: Pack,
        progress_file: Path,
        stop: threading.Event,
        on_ready: Callable[[], None],
        show: Callable[[Event], None] | None,
        say: Callable[[str], None],
    ) -> None:
        self._kafka = kafka
        self._topics = topics
        self._default_pack = pack
        self._progress_file = progress_file
        self._stop = stop
        self._on_ready: Callable[[], None] | None = on_ready
        self._show = show
        self._say = say
        self._engine = Engine(pack)
        self._acknowledgements: dict[str, tuple[Acknowledge, int]] = {}
        self._commands = self._rejected_commands = 0
        self._positions: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._restored_at = 0
        self._silences = False
        self._round: list[str] = []
        """Patients for whom time has not passed yet in this round."""
        self._told: set[str] = set()
        """Patients whose outbox this router has told since their state was last written without it."""
        self._patience = Patience(say, stop)
        self._ticked = self._reported = self._begun_at = time.monotonic()
        self._writing: _Writing | None = None
        self._records_before = 0
        self._latencies = Latencies()

    def run(self) -> None:
        followed = (self._topics.rules, self._topics.limits, self._topics.commands, self._topics.risk)
        with closing(_Follower(self._kafka.whole(*followed), self._stop)) as follower:
            follower.read_whole()
            follower.start()
            while not self._stop.is_set():
                batch = self._poll()
                polled = time.monotonic()
                if self._kafka.assignment.fresh.is_set():
                    self._restore()
                self._take_followed(follower)
                self._handle(batch)
                self._look_at_the_clock(busy=bool(batch))
                if sum(map(len, batch.values())) < _BATCH_RECORDS:
                    self._stop.wait(max(polled + _PACE_S - time.monotonic(), 0.0))
            if not self._patience.away:
                self._write_some(None)
                self._begin_writing()
                while self._writing is not None:
                    self._write_some(None)
            self._report()

    def _poll(self) -> dict[TopicPartition, list[Any]]:
        try:
            return dict(self._kafka.consumer.poll(timeout_ms=_POLL_MS))
        except FencedInstanceIdError as error:
            raise RouterError("another router of the same member name has taken over: stop one of them") from error
        except KafkaError as error:
            self._patience.is_away(error)
            self._stop.wait(0.5)
            return {}

    def _take_followed(self, follower: _Follower) -> None:
        while not follower.found.empty():
            record = follower.found.get()
            if record.topic == self._topics.limits:
                self._take_limits(record)
            elif record.topic == self._topics.commands:
                self._take_command(record)
            elif record.topic == self._topics.risk:
                self._take_risk(record)
            else:
                self._take_pack(record)
        self._send_moved()

    def _take_limits(self, record: Any) -> None:
        try:
            self._engine.limit(*limits.decode(record.key, record.value))
        except LimitError as error:
            self._say(f"a patient's own limits are not in force: {error}")

    def _take_risk(self, record: Any) -> None:
        try:
            self._engine.risk(risks.decode(record.value), _now_ms(), self._positions)
        except RiskError as error:
            self._say(f"a risk is left out: {record.topic} {record.partition} {record.offset}: {error}")

    def _take_command(self, record: Any) -> None:
        try:
            command = commands.decode(record.value)
        except CommandError as error:
            self._rejected_commands += 1
            self._say(f"a command is left out: {record.topic} {record.partition} {record.offset}: {error}")
            return
        self._commands += 1
        if isinstance(command, Acknowledge):
            self._acknowledgements[command.alert_id] = command, record.timestamp
        self._engine.command(command, record.timestamp, self._positions)

    def _take_pack(self, record: Any) -> None:
        try:
            applied = rules_in_force.decode(record.value)
        except PackError as error:
            self._say(f"a pack that was applied cannot be used, {self._engine.pack.label} stays in force: {error}")
            return
        pack = applied or self._default_pack
        if pack != self._engine.pack:
            self._say(f"pack {pack.label} is in force")
            for refused in self._engine.use(pack, record.timestamp, self._positions):
                self._say(f"own limits of {refused.patient_id} cannot be used with {pack.label}, and are not in force")

    def _handle(self, batch: Mapping[TopicPartition, list[Any]]) -> None:
        engine = self._engine
        for place, records in batch.items():
            for record in records:
                try:
                    engine.apply(place.partition, record.value)
                except EvaluationError as error:
                    if engine.counts.rejected == 1:
                        where = f"{place.topic} {place.partition} {record.offset}"
                        self._say(f"not an evaluation, left out: {where}: {error} (said once, counted as rejected)")
            self._positions[place.partition] = records[-1].offset + 1
        self._send_moved()

    def _look_at_the_clock(self, busy: bool) -> None:
        now = time.monotonic()
        self._tick(now, _TICK_AT_ONCE_S if busy else _TICK_S)
        if now - self._reported >= _REPORT_EVERY_S:
            self._report()
        if self._writing is None and now - self._begun_at >= (_TICK_S if self._patience.away else _COMMIT_EVERY_S):
            self._begin_writing()
        self._write_some()

    def _tick(self, began: float, at_most_s: float) -> None:
        """Let time pass, but not while what happened meanwhile still waits to be read: it may have answered."""
        if self._patience.away or any(self._positions.get(part, 0) < end for part, end in self._ends.items()):
            return
        self._ends.clear()
        if not self._round and began - self._ticked >= _TICK_S:
            self._ticked = began
            self._silences = not self._flow_is_behind(_now_ms())
            self._round = self._engine.patients_of(self._positions)
        while self._round and time.monotonic() - began < at_most_s:
            self._engine.tick_one(self._round.pop(), _now_ms(), silences=self._silences)
        self._send_moved()

    def _flow_is_behind(self, at: int) -> bool:
        """Whether messages wait for the alert flow: then it is silent, and not the devices."""
        heard_at = self._engine.heard_at
        waited = at - max(heard_at, self._restored_at)
        if at - heard_at < _BEHIND_AFTER_MS or waited > _BEHIND_AT_MOST_MS:
            return False
        # A patient's messages and evaluations have the same partition: same key, as many partitions.
        wanted = {TopicPartition(self._topics.vitals, place.partition): heard_at + 1 for place in self._places()}
        try:
            later = self._kafka.consumer.offsets_for_times(wanted)
        except KafkaError as error:
            self._patience.is_away(error)
            return True
        return any(found is not None for found in later.values())

    def _send_moved(self) -> None:
        moved = self._engine.take_moved()
        if moved:
            self._write(moved)

    def _write(self, moved: list[Changed]) -> None:
        self._send(self._topics.state, [(one.patient_id, one.state) for one in moved])
        self._tell(moved)
        self._told.update(one.patient_id for one in moved)
        events: list[Event] = [orjson.loads(event) for one in moved for event in one.unsent.events]
        self._latencies.told(events, _now_ms())
        if self._show is not None:
            for event in events:
                self._show(event)

    def _tell(self, changed: Iterable[Changed]) -> None:
        self._send(self._topics.alerts, [(one.patient_id, event) for one in changed for event in one.unsent.events])
        told = [(one.patient_id, notification) for one in changed for notification in one.unsent.notifications]
        if told:
            self._send(self._topics.notifications, told)

    def _send(self, topic: str, records: Iterable[tuple[str, bytes | None]]) -> None:
        """Send and wait until all is acknowledged, however long that takes. Raises KafkaError and StoppedError."""
        by_key = ((patient_id.encode(), value) for patient_id, value in records)
        self._patience.send(self._kafka.producer, topic, by_key)

    def _restore(self) -> None:
        """Take the state of every patient from Kafka, and send again what a predecessor may not have sent."""
        self._kafka.assignment.fresh.clear()
        while not self._stop.is_set():
            try:
                stored = list(self._stored())
                committed = self._committed()
                self._ends = self._end_offsets()
                break
            except KafkaError as error:
                self._patience.is_away(error)
                self._stop.wait(0.5)
        else:
            return
        self._restored_at = _now_ms()
        self._positions = committed
        self._round = []
        self._writing = None
        self._engine.restore(one.patient for one in stored)
        mine = (one for one in stored if one.patient.partition in committed)
        unsure = (one for one in mine if one.patient.patient_id not in self._told)
        self._tell([Changed(one.patient.patient_id, None, one.unsent) for one in unsure])
        # A predecessor may have died before it took them.
        for command, at in self._acknowledgements.values():
            self._engine.command(command, at, self._positions)
        self._send_moved()
        if self._on_ready is not None:
            on_ready, self._on_ready = self._on_ready, None
            on_ready()

    def _stored(self) -> Iterator[Stored]:
        newest: dict[bytes, bytes | None] = {}
        with closing(self._kafka.whole(self._topics.state)) as consumer:
            for record in until_end(consumer, self._stop):
                newest[record.key] = record.value
        of_others = 0
        for value in newest.values():
            if value is not None:
                try:
                    yield decode(value)
                except OtherVersionError:
                    of_others += 1
                except StateError as error:
                    raise RouterError(f"topic {self._topics.state}: {error}") from error
        if of_others:
            self._say(f"left out: states of {of_others} patients by another version of ward; their alerts begin anew")

    def _places(self) -> list[TopicPartition]:
        return [place for place in self._kafka.consumer.assignment() if place.topic == self._topics.evaluations]

    def _committed(self) -> dict[int, int]:
        return {place.partition: self._kafka.consumer.committed(place) or 0 for place in self._places()}

    def _end_offsets(self) -> dict[int, int]:
        return {place.partition: end for place, end in self._kafka.consumer.end_offsets(self._places()).items()}

    def _begin_writing(self) -> None:
        """Take what is to be written before the offsets up to here are committed."""
        forgotten = self._engine.forget(_now_ms(), self._positions)
        states = chain(forgotten, self._engine.take_touched())
        self._writing = _Writing(states, [], dict(self._positions), frozenset(self._told))
        self._begun_at = time.monotonic()

    def _write_some(self, most: int | None = _WRITTEN_AT_ONCE) -> None:
        """Write some of it, and commit when all is written: a thousand states at once would hold an alert up."""
        writing = self._writing
        if writing is None:
            return
        some = [(one.patient_id.encode(), one.state) for one in islice(writing.states, most)]
        if some:
            writing.sent.extend(self._patience.begin(self._kafka.producer, self._topics.state, some))
            return
        self._patience.wait(self._kafka.producer, writing.sent)
        self._writing = None
        self._told -= writing.told
        self._kafka.commit(writing.positions, self._patience)

    def _report(self) -> None:
        now, counts = time.monotonic(), self._engine.counts
        places = self._places()
        progress.append(
            self._progress_file,
            {
                "at": datetime.now(UTC).isoformat(),
                "rate": round((counts.records - self._records_before) / max(now - self._reported, 0.001), 1),
                "lag": lag(self._kafka.consumer),
                "open": self._engine.open_alerts({place.partition for place in places}),
                "pack": self._engine.pack.label,
                **asdict(counts),
                "commands": self._commands,
                "commands_rejected": self._rejected_commands,
                "latency": self._latencies.as_dict(),
                "cpu_s": round(time.process_time(), 2),
            },
        )
        self._reported, self._records_before = now, counts.records


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
