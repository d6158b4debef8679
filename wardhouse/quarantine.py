"""Quarantined values sent again, mended or as they were: chosen, judged, recorded, and landed as history is."""

import hashlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from lakehouse import record
from lakehouse.correction import Change, Correction, CorrectionError, Row, correction, judged_row
from lakehouse.datadir import DataDir
from lakehouse.message import ContractError, Message, encode
from lakehouse.quarantine import Filters, landed, occupied, open_values, recorded
from lakehouse.spool import Spool, tables
from lakehouse.tables import OBSERVATION, QUARANTINE_FIX
from lakehouse.verdict import broken
from wardhouse import __version__
from wardhouse.component import component
from wardhouse.landing import COMPONENT, application, fresh_run, land
from wardhouse.settings import Settings
from wardhouse.status import utc_now


@dataclass(frozen=True)
class Request:
    """Which open values are sent again, how they are changed (not at all: a replay), who wants it and why."""

    filters: Filters
    change: Change
    actor: str
    reason: str
    limit: int


@dataclass(frozen=True)
class Plan:
    """What can be sent again, and what cannot: the quarantined row and why."""

    corrections: tuple[Correction, ...] = ()
    refused: tuple[tuple[Row, str], ...] = ()

    @property
    def messages(self) -> tuple[Message, ...]:
        """Every message to send, in order."""
        return tuple(message for one in self.corrections for message in one.messages)


@dataclass(frozen=True)
class Sent:
    """What a run has sent, under which topic, and how many of its values are what now.

    ``quarantined`` are in quarantine again, without being withdrawn.
    """

    plan: Plan
    topic: str | None = None
    valid: int = 0
    withdrawn: int = 0
    quarantined: int = 0


def plan(data: DataDir, request: Request, now: datetime) -> Plan:
    """What would be sent for a request, judged by the declared constraints. Raises TableMissingError."""
    made: list[Correction] = []
    refused: list[tuple[Row, str]] = []
    for versions in open_values(data, request.filters, request.limit):
        try:
            made.append(_checked(correction(versions, request.change, now)))
        except (CorrectionError, ContractError) as error:
            refused.append((versions[0], str(error)))
    judged = list(zip(made, _faults(data, made, request.change, now), strict=True))
    refused += [(one.row, fault) for one, fault in judged if fault is not None]
    return Plan(tuple(one for one, fault in judged if fault is None), tuple(refused))


def _checked(one: Correction) -> Correction:
    for message in one.messages:
        encode(message)
    return one


def _faults(data: DataDir, made: Sequence[Correction], change: Change, now: datetime) -> Iterator[str | None]:
    """Why each correction would not be valid; None for one that would be, or that withdraws."""
    verdicts = broken(OBSERVATION, [judged_row(one.message, now) for one in made])
    taken = set(occupied(data, [_place(one) for one in made if one.another]))
    for one, names in zip(made, verdicts, strict=True):
        place = tuple(_place(one).values())
        if change.entered_in_error:
            yield None
        elif names:
            yield f"it would still break {', '.join(names)}"
        elif one.another and place in taken:
            yield f"its device gives {one.after['code']} at that instant already: it can only be entered in error"
        else:
            taken |= {place} if one.another else set()
            yield None


def _place(one: Correction) -> dict[str, Any]:
    """The identity of a value without record_id and source_code, as lakehouse.quarantine.occupied takes it."""
    names = ("source", "patient_id", "device_id", "observed_at")
    return {**{name: one.row[name] for name in names}, "code": one.after.get("code")}


def send(request: Request, settings: Settings, data: DataDir, stop: threading.Event, waiting: dict[str, int]) -> Sent:
    """Record and land what can be sent; ``waiting`` says meanwhile how much of what has not.

    Where nothing can be sent, nothing is started. Raises as wardhouse.landing.land, and TableMissingError.
    """
    before = plan(data, request, utc_now())
    if not before.corrections and not Spool(data).files():
        return Sent(before)
    with component(data, COMPONENT), application(settings, data) as lakehouse:
        # What a run that was killed has left is settled before it is asked what is open.
        land(data, lakehouse, stop, waiting)
        now, run_id = utc_now(), fresh_run()
        planned = plan(data, request, now)
        if not planned.corrections:
            return Sent(planned)
        topic = f"file:quarantine/{run_id}@{_fingerprint(planned)}"
        # First the record: a run that is killed between the two is repeated, and its messages have the same ids.
        _record(data, request, planned, run_id, topic, now)
        Spool(data).put(run_id, tables((topic, line, message) for line, message in enumerate(planned.messages, 1)))
        land(data, lakehouse, stop, waiting)
    return Sent(planned, topic, **landed(data, topic, now))


def _fingerprint(planned: Plan) -> str:
    ids = "\n".join(message["message_id"] for message in planned.messages)
    return hashlib.sha256(ids.encode()).hexdigest()[:16]


def _record(data: DataDir, request: Request, planned: Plan, run_id: str, topic: str, now: datetime) -> None:
    known = recorded(data, (one.message["message_id"] for one in planned.corrections))
    lines = {message["message_id"]: line for line, message in enumerate(planned.messages, 1)}
    rows = [
        {
            "message_id": message_id,
            "run_id": run_id,
            "action": "fix" if request.change.given else "replay",
            "recorded_at": now,
            "actor": request.actor,
            "reason": request.reason,
            "changes": _json(request.change.given),
            "before": _json(one.before),
            "after": _json(one.after),
            **{name: one.row[name] for name in _MENDED},
            "sent_topic": topic,
            "sent_offset": lines[message_id],
            "code_version": __version__,
        }
        for one in planned.corrections
        if (message_id := one.message["message_id"]) not in known
    ]
    if rows:
        record.add(data, QUARANTINE_FIX, rows)


_MENDED = ("observation_id", "version", "failed_constraints", "topic", "partition", "offset")


def _json(value: dict[str, Any]) -> str:
    return orjson.dumps(value).decode()
