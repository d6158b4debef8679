"""What a notification says: title, body, and the fields that a webhook gets beside them. Pure.

Beds, units, patient ids and titles come from devices and files: every such text is made one line without control
characters, so that none can add a header to a mail or a line to a message. What a service makes of ``<`` or ``*`` is
for apprise to escape, which is told that the text is plain.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from alerting.kinds import Priority
from alerting.notification import Notification, Told
from alerting.words import quantity
from lakehouse.vocabulary import signal_by_code

RANK: dict[Priority, int] = {"high": 0, "medium": 1, "low": 2}
"""What comes first."""

_LONGEST = 80
"""Characters of one text that came from outside; a longer one is cut."""
_DIGEST_LINES = 50
"""Notifications that a digest spells out: more would not be read, and some services refuse long messages."""


def clean(text: str, longest: int = _LONGEST) -> str:
    """The text on one line, without control, format or unassigned characters, cut where it is too long."""
    kept = "".join(" " if character.isspace() or _is_control(character) else character for character in text)
    line = " ".join(kept.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def _is_control(character: str) -> bool:
    return unicodedata.category(character)[0] in "C" or unicodedata.category(character) in ("Zl", "Zp")


def title(notification: Notification) -> str:
    """``HIGH SpO2 low and 1 more, ICU ICU-03, hospital/4711``."""
    told = in_order(notification.alerts)
    what = clean(told[0].title) if told else clean(notification.reason)
    more = f" and {len(told) - 1} more" if len(told) > 1 else ""
    parts = [f"{notification.priority.upper()} {what}{more}", _place(notification), clean(notification.patient_id)]
    return ", ".join(part for part in parts if part)


def body(notification: Notification) -> str:
    """Each alert, the most urgent first, then why and when it is told."""
    alerts = [_alert(told) for told in in_order(notification.alerts)]
    said = (
        f"{clean(notification.reason).capitalize()} at {instant(notification.at)}, escalation step {notification.step},"
        f" rules {clean(notification.pack)}."
    )
    return "\n\n".join([*alerts, said])


def digest_title(notifications: Sequence[Notification]) -> str:
    """``HIGH 12 notifications on 5 patients``: the highest priority among them."""
    patients = len({notification.patient_id for notification in notifications})
    highest = min((notification.priority for notification in notifications), key=RANK.__getitem__)
    return f"{highest.upper()} {_count(len(notifications), 'notification')} on {_count(patients, 'patient')}"


def digest_body(notifications: Sequence[Notification], why: str) -> str:
    """One line for each notification, the most urgent first, and how many are not spelled out."""
    ordered = sorted(notifications, key=lambda one: (RANK[one.priority], one.at))
    lines = [f"{instant(one.at)}  {title(one)}{_first_value(one)}" for one in ordered[:_DIGEST_LINES]]
    if len(ordered) > _DIGEST_LINES:
        lines.append(f"and {len(ordered) - _DIGEST_LINES} more; all open alerts: ward alerts list")
    return "\n".join([why, "", *lines, "", "Acknowledge: ward alerts ack ALERT_ID; ids: ward alerts list"])


def fields(notification: Notification) -> dict[str, Any]:
    """What a webhook gets beside title and message; texts are as they came, for JSON can hold any."""
    return {
        "notification_id": notification.notification_id,
        "patient_id": notification.patient_id,
        "priority": notification.priority,
        "reason": notification.reason,
        "step": notification.step,
        "at": notification.at,
        "location_unit": notification.location_unit,
        "location_bed": notification.location_bed,
        "message_received_at": notification.message_received_at,
        "alert_ids": [told.alert_id for told in notification.alerts],
        "alerts": [asdict(told) for told in notification.alerts],
    }


def digest_fields(digest_id: str, notifications: Sequence[Notification]) -> dict[str, Any]:
    """The same for a digest: every notification in it, also those that its text leaves out."""
    return {"digest_id": digest_id, "notifications": [fields(notification) for notification in notifications]}


def in_order(alerts: Sequence[Told]) -> list[Told]:
    """The most urgent first, then the oldest."""
    return sorted(alerts, key=lambda told: (RANK[told.priority], told.since))


def instant(at: int) -> str:
    """Epoch milliseconds as a person reads them; an instant that no calendar has stays a number."""
    try:
        return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"{at} ms"


def _alert(told: Told) -> str:
    return "\n".join(
        [
            f"{clean(told.title)} ({told.priority}, {told.category}), {clean(told.state)}",
            *(f"  {line}" for line in _facts(told)),
            f"  acknowledge: ward alerts ack {clean(told.alert_id)}",
        ]
    )


def _facts(told: Told) -> Iterator[str]:
    if told.value is not None:
        limit = f", limit {quantity(told.kind, told.code, told.limit_value)}" if told.limit_value is not None else ""
        yield f"{_signal(told.code)}{quantity(told.kind, told.code, told.value)}{limit}"
    elif told.limit_value is not None:
        yield f"{_signal(told.code)}limit {quantity(told.kind, told.code, told.limit_value)}"
    yield f"since {instant(told.since)}"
    if told.trend is not None:
        start = f" from {quantity(told.kind, told.code, told.trend_from)}" if told.trend_from is not None else ""
        span = f" {_span(told.trend_s)} ago" if told.trend_s is not None else ""
        yield f"{clean(told.trend)}{start}{span}"


def _signal(code: str | None) -> str:
    signal = signal_by_code().get(code or "")
    return f"{signal.display}: " if signal else f"{clean(code)}: " if code else ""


def _span(seconds: int) -> str:
    return f"{seconds // 60} min" if seconds >= 120 else f"{seconds} s"


def _first_value(notification: Notification) -> str:
    first = next(iter(in_order(notification.alerts)), None)
    if first is None or first.value is None:
        return ""
    return f": {quantity(first.kind, first.code, first.value)}"


def _place(notification: Notification) -> str:
    return " ".join(clean(part) for part in (notification.location_unit, notification.location_bed) if part)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
