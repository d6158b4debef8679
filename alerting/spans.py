"""What became of an alert, as spans of a trace: from the message at the broker to each delivery. Pure.

A trace is one alert: its first span is of the transition that opened it, and all that follows hangs below that. Ids are
digests of what a span is of, so nothing is carried along, records are left as they are, and what is told twice is the
same span. No patient is named; ``message_id`` is what log lines have as ``trace_id``.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import orjson

from alerting.notification import Delivery, Notification

_KEPT = 10_000
"""Notifications that wait for their deliveries: some hours of a hospital."""

Attributes = Mapping[str, str | int | float | Sequence[str]]


@dataclass(frozen=True)
class Span:
    """One step. ``alert_id`` is its trace, ``key`` tells it from others there; instants are epoch ms.

    ``failed`` says why the step did not do what it was for.
    """

    alert_id: str
    key: str
    parent: str | None
    service: str
    name: str
    begin: int
    end: int
    attributes: Attributes = field(default_factory=dict)
    failed: str | None = None

    @property
    def trace_id(self) -> int:
        """128 bits."""
        return _digest(self.alert_id, 16)

    @property
    def span_id(self) -> int:
        """64 bits."""
        return _digest(self.key, 8)

    @property
    def parent_id(self) -> int | None:
        """64 bits."""
        return None if self.parent is None else _digest(self.parent, 8)


class SpanError(ValueError):
    """A record is no event; the text says why."""


def of_event(value: bytes, at: int) -> Span:
    """The span of a transition on ``alerts`` that the broker had at ``at``. Raises SpanError."""
    try:
        event = orjson.loads(value)
        alert_id, sequence, begin = event["alert_id"], int(event["sequence"]), event.get("message_received_at", at)
        return Span(
            alert_id=alert_id,
            key=_transition(alert_id, sequence),
            parent=_transition(alert_id, 0) if sequence else None,
            service="ward-router",
            name=f"alert {event['state']}",
            # Clocks of two brokers may differ by more than an alert takes.
            begin=min(int(begin), at),
            end=at,
            attributes={name: event[name] for name in _TOLD if name in event},
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise SpanError(f"not an event: {error!r}") from error


_TOLD = ("alert_id", "sequence", "state", "reason", "rule_id", "kind", "pack", "priority", "category", "message_id")


class Told:
    """Spans of notifications and deliveries. A delivery begins where its notification was decided, if that is known."""

    def __init__(self) -> None:
        self._decided: OrderedDict[str, int] = OrderedDict()

    def of_notification(self, notification: Notification, at: int) -> list[Span]:
        """One span, in the trace of its first alert; none where it tells no alert."""
        if not notification.alerts:
            return []
        self._decided[notification.notification_id] = notification.at
        if len(self._decided) > _KEPT:
            self._decided.popitem(last=False)
        first = notification.alerts[0]
        span = Span(
            alert_id=first.alert_id,
            key=notification.notification_id,
            parent=_transition(first.alert_id, first.sequence),
            service="ward-router",
            name=f"notification {notification.reason}",
            begin=min(notification.at, at),
            end=at,
            attributes={
                "notification_id": notification.notification_id,
                "priority": notification.priority,
                "step": notification.step,
                "channels": notification.channels,
                "alert_ids": tuple(one.alert_id for one in notification.alerts),
            },
        )
        return [span]

    def of_delivery(self, delivery: Delivery) -> list[Span]:
        """One span, in the trace of the notification's first alert; none where it told no alert."""
        if not delivery.alert_ids:
            return []
        span = Span(
            alert_id=delivery.alert_ids[0],
            key=f"{delivery.notification_id}/{delivery.channel}",
            parent=delivery.notification_id,
            service="ward-notify",
            name=f"delivery by {delivery.channel}",
            begin=min(self._decided.get(delivery.notification_id, delivery.at), delivery.at),
            end=delivery.at,
            attributes={
                "notification_id": delivery.notification_id,
                "channel": delivery.channel,
                "status": delivery.status,
                "attempts": delivery.attempts,
            },
            failed=delivery.error or delivery.status if delivery.status in _FAILED else None,
        )
        return [span]


_FAILED = ("undeliverable", "unconfigured")


def _transition(alert_id: str, sequence: int) -> str:
    return f"{alert_id}/{sequence}"


def _digest(text: str, size: int) -> int:
    # An id of nothing but zeros is none, by the specification.
    return int.from_bytes(sha256(text.encode()).digest()[:size]) or 1


def attributes(span: Span) -> dict[str, Any]:
    """The span's attributes under names of our own, as OpenTelemetry advises."""
    return {f"wardhouse.{name}": value for name, value in span.attributes.items()}
