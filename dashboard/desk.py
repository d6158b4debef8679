"""The router's states followed live, and what people do about alerts: what the page Alerts needs of Kafka.

Orders are those of the command line and the gateway (:mod:`alerting.orders`). They never wait for a broker: whoever
acknowledges believes that it holds from now on.
"""

import logging
import threading
import time
from bisect import insort
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import timedelta

from alerting.command import Acknowledge, Command, Sent, Silence, acknowledgers, encode, sent, silences_at
from alerting.compacted import Following, Record, TopicError, knock, put
from alerting.inbox import Row, from_states
from alerting.lifecycle import Alert
from alerting.orders import OrderError, check_end, fresh_id, now_ms, why_not_acknowledged
from alerting.state import Patient, StateError, decode
from lakehouse.topics import ALERT_COMMAND, ALERT_STATE, Topic

_FIRST_S = 5.0
"""How long a page waits for the states to be read the first time: thousands of patients take a second."""
_LOOK_S = 1.0
_AGAIN_S = 2.0


class DeskAwayError(ConnectionError):
    """No broker answers, so that nothing live is known and nothing can be ordered."""


@dataclass(frozen=True)
class Brokers:
    """Where Kafka is, and under which names this site keeps the declared topics."""

    servers: str
    names: Mapping[str, str]

    def topic(self, topic: Topic) -> str:
        """The site's name of a topic."""
        return self.names.get(topic.name, topic.name)


class _Reader(threading.Thread):
    """Follows one topic from its beginning, again and again where the broker goes away."""

    def __init__(self, servers: str, topic: str, forget: Callable[[], None], take: Callable[[Record], None]) -> None:
        super().__init__(name=f"desk-{topic}", daemon=True)
        self._servers, self._topic, self._forget, self._take = servers, topic, forget, take
        self.stopped = threading.Event()
        self.told = threading.Event()
        """Set once it is known whether the broker answers."""
        self.away: str | None = None

    def run(self) -> None:
        while not self.stopped.is_set():
            try:
                knock(self._servers)
                with closing(Following(self._servers, self._topic)) as following:
                    self._follow(following)
            except (OSError, TopicError) as error:
                self.away = str(error)
                self.told.set()
                self.stopped.wait(_AGAIN_S)

    def _follow(self, following: Following) -> None:
        self._forget()
        for record in following.records():
            self._take(record)
        self.away = None
        self.told.set()
        while not self.stopped.is_set():
            for record in following.coming(_LOOK_S):
                self._take(record)
            # A consumer whose broker is gone polls on without a word.
            knock(self._servers)


class Desk:
    """What the router holds, at most about a second old, and orders to it. To be closed."""

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers
        self._lock = threading.Lock()
        self._patients: dict[bytes, Patient] = {}
        self._commands: list[Sent] = []
        servers = brokers.servers
        self._readers = (
            _Reader(servers, brokers.topic(ALERT_STATE), self._forget_states, self._take_state),
            _Reader(servers, brokers.topic(ALERT_COMMAND), self._forget_commands, self._take_command),
        )

    def start(self) -> "Desk":
        """Begin to follow."""
        # The client logs every failed attempt to connect; the page says it in one line.
        logging.getLogger("kafka").setLevel(logging.CRITICAL)
        for reader in self._readers:
            reader.start()
        return self

    def close(self) -> None:
        """Let go of the broker."""
        for reader in self._readers:
            reader.stopped.set()
        for reader in self._readers:
            reader.join()

    def rows(self) -> list[Row]:
        """The last alert of each patient and rule, as :mod:`alerting.inbox` has them. Raises DeskAwayError."""
        self._check()
        with self._lock:
            return from_states(list(self._patients.values()), acknowledgers(self._commands))

    def silences(self) -> dict[str, Silence]:
        """Every silence that was ever made, by its id. Raises DeskAwayError."""
        self._check()
        with self._lock:
            given = list(self._commands)
        return {one.command.command_id: one.command for one in given if isinstance(one.command, Silence)}

    def silences_in_force(self) -> tuple[Silence, ...]:
        """Those that mute something now. Raises DeskAwayError."""
        self._check()
        with self._lock:
            return silences_at(now_ms(), self._commands).of

    def acknowledge(self, alert_id: str, by: str, note: str | None) -> None:
        """Somebody takes an alert on. Raises OrderError where it cannot be, DeskAwayError."""
        self._check()
        patient, alert = self._named(alert_id)
        if (reason := why_not_acknowledged(alert)) is not None:
            raise OrderError(f"{alert.definition.title} of {patient.patient_id} {reason}")
        command = Acknowledge(fresh_id(), now_ms(), by, patient.patient_id, alert_id, note)
        self._send(patient.patient_id, command)

    def silence(self, by: str, reason: str, lasting: timedelta, patient_id: str | None, rule_id: str | None) -> Silence:
        """Tell nobody of a patient's alerts, or of those of one rule, for a time. Raises OrderError, DeskAwayError."""
        self._check()
        at = now_ms()
        ends = at + round(lasting.total_seconds() * 1000)
        check_end(at, ends, long=False)
        made = Silence(fresh_id(), at, by, reason, ends, patient_id, rule_id)
        # The key of the silence itself: what ends it stays in order behind it.
        self._send(made.command_id, made)
        return made

    def is_so(self, alert_id: str, state: str, within_s: float) -> bool:
        """Whether the router's state of an alert becomes this one in time."""
        ends = time.monotonic() + within_s
        while not any(row["alert_id"] == alert_id and row["state"] == state for row in self.rows()):
            if time.monotonic() > ends:
                return False
            time.sleep(0.05)
        return True

    def _send(self, key: str, command: Command) -> None:
        try:
            put(self._brokers.servers, self._brokers.topic(ALERT_COMMAND), {key.encode(): encode(command)})
        except TopicError as error:
            raise DeskAwayError(f"{error}; nothing was ordered") from error

    def _named(self, alert_id: str) -> tuple[Patient, Alert]:
        with self._lock:
            for patient in self._patients.values():
                for alert in patient.alerts.values():
                    if alert.alert_id == alert_id:
                        return patient, alert
        raise OrderError(f"alert {alert_id} is not in the router's state any more: another one has taken its place")

    def _check(self) -> None:
        for reader in self._readers:
            if not reader.told.wait(_FIRST_S):
                raise DeskAwayError(f"Kafka at {self._brokers.servers} takes long to answer")
            if reader.away is not None:
                raise DeskAwayError(reader.away)

    def _forget_states(self) -> None:
        with self._lock:
            self._patients = {}

    def _take_state(self, record: Record) -> None:
        patient = None
        # What another version of ward wrote is left out; the router says so.
        with suppress(StateError):
            patient = decode(record.value).patient if record.value is not None else None
        with self._lock:
            if patient is None:
                self._patients.pop(record.key, None)
            else:
                self._patients[record.key] = patient

    def _forget_commands(self) -> None:
        with self._lock:
            self._commands = []

    def _take_command(self, record: Record) -> None:
        with self._lock:
            for one in sent([(record.value, record.at)]):
                insort(self._commands, one, key=lambda other: other.at)
