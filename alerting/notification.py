"""What the ward is told and how that went: the records of ``alert.notification`` and ``alert.delivery``.

The router decides who is told what and when, and writes one Notification for each decision; ``ward notify`` delivers it
on each of its channels, and writes one Delivery for each of them.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError

from alerting.kinds import Category, Priority

SCHEMA_VERSION = 1

Status = Literal["delivered", "undeliverable", "digested", "unconfigured"]
"""How a notification ended on a channel. ``digested``: told as a part of the digest that the record names;
``unconfigured``: no such channel is in the channels file."""


class NotificationError(ValueError):
    """A record is neither a notification nor a delivery; the text says why."""


@dataclass(frozen=True, slots=True)
class Told:
    """One alert as a notification tells it. Instants are epoch milliseconds; values are in the vocabulary's unit.

    ``since`` is the observed instant at which the alert opened. ``trend`` is rising, falling or steady, from the value
    ``trend_from`` that was seen ``trend_s`` seconds ago.
    """

    alert_id: str
    sequence: int
    rule_id: str
    title: str
    priority: Priority
    category: Category
    state: str
    since: int
    kind: str | None = None
    code: str | None = None
    value: float | None = None
    limit_value: float | None = None
    trend: str | None = None
    trend_from: float | None = None
    trend_s: int | None = None


@dataclass(frozen=True, slots=True)
class Notification:
    """One decision to tell somebody of a patient's alerts, on every one of ``channels``.

    ``reason`` says why (raised, escalated, grouped, ..), ``step`` is the step of the escalation, ``at`` the instant of
    the decision (epoch ms), ``message_received_at`` that of the vital record behind it.
    """

    notification_id: str
    patient_id: str
    reason: str
    step: int
    priority: Priority
    channels: tuple[str, ...]
    at: int
    pack: str
    alerts: tuple[Told, ...]
    location_unit: str | None = None
    location_bed: str | None = None
    message_received_at: int | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """How one notification ended on one channel, after so many attempts, at this instant (epoch ms).

    ``error`` is the last one, without secrets; ``digest_id`` names the message that told a digested one.
    """

    notification_id: str
    patient_id: str
    channel: str
    status: Status
    attempts: int
    at: int
    alert_ids: tuple[str, ...]
    error: str | None = None
    digest_id: str | None = None


_T = TypeVar("_T")
_NOTIFICATION = TypeAdapter(Notification)
_DELIVERY = TypeAdapter(Delivery)


def key(notification: Notification) -> bytes:
    """The record key on ``alert.notification``: what concerns one patient stays in order."""
    return notification.patient_id.encode()


def encode(notification: Notification) -> bytes:
    """The record value on ``alert.notification``."""
    return _encoded(notification)


def decode(value: bytes | None) -> Notification:
    """The notification in a record. Raises NotificationError."""
    return _decoded(_NOTIFICATION, value, "notification")


def delivery_key(delivery: Delivery) -> bytes:
    """The record key on ``alert.delivery``."""
    return delivery.notification_id.encode()


def encode_delivery(delivery: Delivery) -> bytes:
    """The record value on ``alert.delivery``."""
    return _encoded(delivery)


def decode_delivery(value: bytes | None) -> Delivery:
    """The delivery in a record. Raises NotificationError."""
    return _decoded(_DELIVERY, value, "delivery")


def _encoded(record: Notification | Delivery) -> bytes:
    return orjson.dumps({"schema_version": SCHEMA_VERSION, **asdict(record, dict_factory=_given)})


def _given(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in fields if value is not None}


def _decoded(adapter: "TypeAdapter[_T]", value: bytes | None, what: str) -> _T:
    if value is None:
        raise NotificationError(f"not a {what}: a tombstone")
    try:
        record = orjson.loads(value)
        version = record.get("schema_version") if isinstance(record, dict) else None
        if version != SCHEMA_VERSION:
            raise NotificationError(f"not a {what}: schema_version {version}, wanted {SCHEMA_VERSION}")
        return adapter.validate_json(value, strict=True)
    except orjson.JSONDecodeError as error:
        raise NotificationError(f"not a {what}: not JSON: {error}") from error
    except ValidationError as error:
        raise NotificationError(f"not a {what}: {'; '.join(problems(error))}") from error


def problems(error: ValidationError) -> list[str]:
    """Field and fault, without the value: it may be a patient's."""
    return [
        f"{'.'.join(str(step) for step in part['loc'])}: {part['msg']}"
        for part in error.errors(include_url=False, include_input=False)
    ]
