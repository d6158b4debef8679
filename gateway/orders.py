"""What people order about alerts through the gateway, checked against what the router's topics say.

The commands themselves, and what may be ordered, are those of the command line: :mod:`alerting.orders`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from alerting.command import Acknowledge, Command, Silence, Unsilence, encode, sent, silences_at
from alerting.compacted import TopicError, knock, newest, whole
from alerting.in_force import UnknownPackError, in_force_at
from alerting.lifecycle import Alert, State
from alerting.orders import LongSilenceError, OrderError, check_end, fresh_id, now_ms, why_not_acknowledged
from alerting.pack import PackError
from alerting.state import Patient, StateError, readable
from gateway.ingest import Record
from gateway.problem import RETRY_AFTER_S, Problem
from lakehouse.datadir import DataDir
from lakehouse.topics import ALERT_COMMAND, ALERT_RULES, ALERT_STATE, Topic

Found = TypeVar("Found")


def unavailable(error: Exception) -> Problem:
    """No broker. A command never waits on the spool.

    Whoever silences or acknowledges believes that it holds from now on. On the spool it would hold for nobody, and it
    would come into force at some later time that nobody chose.
    """
    detail = f"{error}; nothing was ordered, and a command does not wait on the spool: alerts go on as before"
    return Problem(503, detail, {"Retry-After": str(RETRY_AFTER_S)})


@dataclass(frozen=True)
class Orders:
    """Makes commands of what is ordered. ``names`` are the site's names of topics. All of it blocks for a second or so.

    Each method raises Problem where the order cannot be, or no broker answers.
    """

    bootstrap_servers: str
    names: Mapping[str, str]
    data: DataDir

    def acknowledge(
        self, alert_id: str, by: str, note: str | None, sees: Callable[[str], bool] = lambda _: True
    ) -> Record:
        """The record that acknowledges an alert which is open, by the router's state.

        Of a patient whom ``sees`` denies there is no alert.
        """
        patients, others = self._ask(lambda: readable(newest(self.bootstrap_servers, self._name(ALERT_STATE)).values()))
        patient, alert = _named(patients, alert_id, others, sees)
        if (reason := why_not_acknowledged(alert)) is not None:
            # Pending and acknowledged are states that pass or say no to this alone; an ended alert is gone for good.
            status = 409 if alert.state in (State.ACKNOWLEDGED, State.PENDING) else 404
            raise Problem(status, f"alert {alert_id} {reason}")
        command = Acknowledge(fresh_id(), now_ms(), by, patient.patient_id, alert.alert_id, note)
        return _record(command, patient.patient_id)

    def silence(
        self,
        by: str,
        reason: str,
        until: datetime,
        patient: str | None,
        rule: str | None,
        unit: str | None,
        *,
        long: bool,
    ) -> tuple[Silence, Record]:
        """A silence and the record that makes it."""
        at, ends = now_ms(), round(until.timestamp() * 1000)
        try:
            check_end(at, ends, long=long)
        except LongSilenceError as error:
            raise Problem(422, f'{error}: confirm with "long": true') from error
        except OrderError as error:
            raise Problem(422, str(error)) from error
        if rule is not None:
            self._check_rule(rule)
        made = Silence(fresh_id(), at, by, reason, ends, patient, rule, unit)
        return made, _record(made, made.command_id)

    def unsilence(
        self, silence_id: str, by: str, reason: str | None, concerns: Callable[[Silence], bool] = lambda _: True
    ) -> Record:
        """The record that ends a silence which is in force, and which ``concerns`` who ends it."""
        if silence_id not in {one.command_id for one in self.silences() if concerns(one)}:
            raise Problem(404, f"no silence {silence_id} is in force: GET /api/silences shows those that are")
        # The key of the silence itself: the two stay in order.
        return _record(Unsilence(fresh_id(), now_ms(), by, silence_id, reason), silence_id)

    def silences(self) -> list[Silence]:
        """Those in force, the first to end first."""
        records = self._ask(lambda: whole(self.bootstrap_servers, self._name(ALERT_COMMAND)))
        holding = silences_at(now_ms(), sent((record.value, record.at) for record in records)).of
        return sorted(holding, key=lambda silence: (silence.until, silence.command_id))

    def _check_rule(self, rule: str) -> None:
        try:
            pack = self._ask(lambda: in_force_at(self.bootstrap_servers, self._name(ALERT_RULES), self.data).pack)
        except UnknownPackError:
            return  # a pack of the site's own, which only the router can read
        except PackError as error:
            raise Problem(503, str(error)) from error
        if pack.rule(rule) is None:
            known = ", ".join(one.id for one in pack.rules)
            raise Problem(422, f"rule {rule}: {pack.label} has no such rule; it has {known}")

    def _name(self, topic: Topic) -> str:
        return self.names.get(topic.name, topic.name)

    def _ask(self, read: Callable[[], Found]) -> Found:
        try:
            # A consumer that is made while no broker answers leaves a thread behind each time.
            knock(self.bootstrap_servers)
            return read()
        except (OSError, TopicError) as error:
            raise unavailable(error) from error
        except StateError as error:
            raise Problem(503, f"the router's state cannot be read: {error}") from error


def _record(command: Command, key: str) -> Record:
    return Record(command.command_id, key.encode(), encode(command), ALERT_COMMAND.name)


def _named(patients: list[Patient], alert_id: str, others: int, sees: Callable[[str], bool]) -> tuple[Patient, Alert]:
    for patient in patients:
        for alert in patient.alerts.values():
            if alert.alert_id == alert_id and sees(patient.patient_id):
                return patient, alert
    unread = f"; {others} patients' states are of another version of ward" if others else ""
    raise Problem(
        404, f"no alert {alert_id} in the router's state: GET /api/alerts?state=open shows those that are{unread}"
    )
