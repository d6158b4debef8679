"""Limits held against values on the ward itself, while nothing reaches upstream; in memory.

Of the pack the limit rules alone, with the functions of stream and router. What is not known here: limits of one
patient, silences, orders of people, and packs that were applied upstream. Nobody but who looks here is told.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson

from alerting.bands import arms
from alerting.engine import Engine
from alerting.lifecycle import SOUNDING, Alert, Event, State
from alerting.offline import evaluate
from alerting.pack import Pack
from alerting.words import aware
from gateway.ingest import Record
from lakehouse.topics import VITALS

LOOK_BACK = timedelta(seconds=30)
"""How far back values count when the link has gone: longer than it takes to notice, so that none falls between."""

_PARTITION = 0
_LOOK_BACK_MS = int(LOOK_BACK.total_seconds() * 1000)
_SHOWN = frozenset(State) - {State.PENDING, State.RESOLVED, State.SUPERSEDED}

log = logging.getLogger(__name__)


def local_pack(pack: Pack) -> Pack:
    """The pack's limit rules, without steps of escalation: there is nobody here whom a step would tell."""
    rules = tuple(rule.model_copy(update={"escalation": ()}) for rule in pack.limits)
    return pack.model_copy(update={"rules": rules})


@dataclass(frozen=True)
class Raised:
    """What was raised on the ward from one loss of the link to its return; instants are epoch ms."""

    began: int
    ended: int
    alerts: tuple[dict[str, Any], ...]


class LocalAlerts:
    """Takes messages as they are taken, and evaluates them from :meth:`begin` to :meth:`end`.

    ``tell`` is given each transition. Belongs to one thread; instants are epoch ms.
    """

    def __init__(self, pack: Pack, tell: Callable[[Event], None]) -> None:
        self._pack, self._tell = local_pack(pack), tell
        self._arms = arms(self._pack)
        self._recent: deque[tuple[int, Record]] = deque()
        self._engine: Engine | None = None
        self._raised: dict[str, dict[str, Any]] = {}
        self._count = 0
        self.since: int | None = None
        """When it began to evaluate; None while it does not."""
        self.last: Raised | None = None
        """What the last time without the link had raised."""
        self.unusable = 0
        """Messages that could not be evaluated; upstream gets them all the same."""

    @property
    def pack(self) -> str:
        """Name and version of the pack."""
        return self._pack.label

    def heard(self, records: Sequence[Record], at: int) -> None:
        """Take account of messages."""
        if self._engine is not None:
            self._evaluate(self._engine, ((at, record) for record in records))
            return
        self._recent.extend((at, record) for record in records)
        while self._recent and self._recent[0][0] < at - _LOOK_BACK_MS:
            self._recent.popleft()

    def begin(self, now: int) -> None:
        """Evaluate from now on, and what came within LOOK_BACK."""
        if self._engine is None:
            self._engine, self.since, self._raised = Engine(self._pack), now, {}
            self._evaluate(self._engine, [one for one in self._recent if one[0] >= now - _LOOK_BACK_MS])
            self._recent.clear()

    def tick(self, now: int) -> None:
        """Let time pass: delays end."""
        if self._engine is not None:
            self._engine.tick(now, {_PARTITION}, silences=False)
            self._take_told(self._engine)

    def end(self, now: int) -> Raised | None:
        """Evaluate no longer; what was raised. None where it did not evaluate."""
        if self._engine is None or self.since is None:
            return None
        self.last = Raised(self.since, now, tuple(self._raised.values()))
        self._engine, self.since = None, None
        return self.last

    def open(self) -> list[dict[str, Any]]:
        """The alerts that are open, the newest first."""
        if self._engine is None:
            return []
        found = [
            _shown(alert, patient.patient_id, patient.location_unit, patient.location_bed)
            for patient in self._engine.patients.values()
            for alert in patient.alerts.values()
            if alert.state in _SHOWN
        ]
        return sorted(found, key=lambda one: (one["opened_at"], one["alert_id"]), reverse=True)

    def _evaluate(self, engine: Engine, heard: Iterable[tuple[int, Record]]) -> None:
        for evaluation in self._evaluations(heard):
            engine.evaluate(_PARTITION, evaluation)
        self._take_told(engine)

    def _evaluations(self, heard: Iterable[tuple[int, Record]]) -> Iterator[Any]:
        for at, record in heard:
            if record.topic != VITALS.name:
                continue
            self._count += 1
            try:
                yield evaluate(orjson.loads(record.value), at, self._arms, self._pack.label, self._count)
            except (ValueError, OverflowError) as error:
                # An instant that no calendar has keeps the contract. Its message is spooled; others must be evaluated.
                self.unusable += 1
                log.warning("a message cannot be evaluated: %s", type(error).__name__)

    def _take_told(self, engine: Engine) -> None:
        for events, _ in engine.take_told().values():
            for event in events:
                if event["state"] in SOUNDING:
                    self._raised.setdefault(event["alert_id"], _raised(event))
                self._tell(event)


def _shown(alert: Alert, patient_id: str, unit: str | None, bed: str | None) -> dict[str, Any]:
    return {
        "alert_id": alert.alert_id,
        "patient_id": patient_id,
        "location": {"unit": unit, "bed": bed},
        "device_id": alert.device_id,
        "rule_id": alert.definition.rule_id,
        "title": alert.definition.title,
        "priority": alert.definition.priority,
        "state": alert.state,
        "code": alert.code,
        "value": alert.value,
        "limit": alert.limit,
        "opened_at": aware(alert.opened_at),
    }


def _raised(event: Event) -> dict[str, Any]:
    return {
        "alert_id": event["alert_id"],
        "patient_id": event["patient_id"],
        "location": {"unit": event.get("location_unit"), "bed": event.get("location_bed")},
        "rule_id": event["rule_id"],
        "title": event["title"],
        "priority": event["priority"],
        "code": event.get("code"),
        "value": event.get("value"),
        "limit": event.get("limit_value"),
        "raised_at": aware(event["observed_at"]),
    }
