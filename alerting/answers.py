"""Why an alert fired, what became of it, and who was told: its rows of gold as lines for a person. Pure.

Rows are those of gold.alert_event, gold.alert_notification and gold.alert_delivery as dictionaries, instants aware.
Texts that come from devices and people are put on one line without control characters.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from alerting import telling
from alerting.command import Silence
from alerting.lifecycle import OPENED, OPENED_OWN, State, Trigger
from alerting.message_text import clean
from alerting.pack import Pack
from alerting.words import count, display, instant, lasting, quantity, span

Row = Mapping[str, Any]

NOTIFICATIONS = "gold.alert_notification"
DELIVERIES = "gold.alert_delivery"

_REASONS = {
    OPENED: "breach",
    OPENED_OWN: "breach of the patient's own limit",
    Trigger.SUSTAINED: "lasted as long as the rule's delay",
    Trigger.CLEARED: "cleared",
    Trigger.CLEARED_UNSEEN: "cleared, waits for somebody to acknowledge it",
    Trigger.BREACHED_AGAIN: "breach again",
    Trigger.ACKNOWLEDGED: "acknowledged",
    Trigger.UNANSWERED: "nobody had acknowledged it",
    Trigger.UNMUTED: "no longer muted",
    Trigger.ENTERED_IN_ERROR: "the reading was entered in error",
    Trigger.CORRECTED: "the reading was corrected",
    Trigger.RULE_WITHDRAWN: "the pack has no such rule any longer",
    Trigger.ABANDONED: "nothing was heard of the patient for a day",
}
_TOLD = {
    telling.RAISED: "raised",
    telling.GROUPED: "told together, after a wait",
    telling.ESCALATED: "escalated",
}


def story(events: Sequence[Row]) -> tuple[str, ...]:
    """The alert, then a line a transition: when, which state, why, by what, and when it was written."""
    return (*_heading(events[0]), *map(_transition, events))


def explanation(
    events: Sequence[Row],
    notifications: Sequence[Row],
    deliveries: Sequence[Row],
    *,
    pack: Pack | None,
    silences: Mapping[str, Silence] | None,
    missing: Collection[str] = (),
) -> tuple[str, ...]:
    """Why the alert fired, what became of it, who was told and how that ended, who took it on, what muted it.

    ``events`` are those of one alert, in order, and not empty. ``pack`` has the rule's words, None: none is known;
    ``silences`` are by id, None: they cannot be read; ``missing`` names tables that are not there.
    """
    return (
        *_heading(events[0]),
        *_part("why it fired", _why(events[0], pack)),
        *_part("what happened", (line.strip() for line in map(_transition, events))),
        *_part("who was told", told(events, notifications, deliveries, pack=pack, missing=missing)),
        *_part("who acknowledged it", _acknowledged(events)),
        *_part("what muted it", _muted(events, silences)),
    )


def _part(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield title
    yield from (f"  {line}" for line in lines)


def _heading(first: Row) -> Iterator[str]:
    place = " ".join(clean(part) for name in ("location_unit", "location_bed") if (part := first.get(name)))
    device = clean(first.get("device_id") or "unknown")
    yield f"{first['title']} ({first['priority']}, {first['category']}), rule {first['rule_id']} of {first['pack']}"
    yield f"patient {clean(first['patient_id'])}{f', {place}' if place else ''}, device {device}"
    yield f"alert {first['alert_id']}"


def _transition(event: Row) -> str:
    return (
        f"  {instant(event.get('observed_at'))}  {event['state']:<12}  {_reason(event)}{_value(event)}"
        f", {_cause(event)}, written {instant(event.get('emitted_at'))}"
    )


def _reason(event: Row) -> str:
    reason = event.get("reason")
    if reason == Trigger.SILENCED:
        return f"muted by silence {event.get('muted_by')}"
    if reason == Trigger.INHIBITED:
        return f"muted: rule {event.get('muted_by')} explains it"
    words = _REASONS.get(reason or "", reason or "no reason given")
    if event["state"] == State.ESCALATED:
        return f"{words}, step {event.get('escalation_step') or 1}"
    return words


def _value(event: Row) -> str:
    value, limit, kind, code = (event.get(name) for name in ("value", "limit_value", "kind", "code"))
    if value is None:
        return ""
    return f": {quantity(kind, code, value)}{'' if limit is None else f' (limit {limit:g})'}"


def _cause(event: Row) -> str:
    if event.get("actor"):
        note = f": {clean(event['note'])}" if event.get("note") else ""
        return f"by {clean(event['actor'])}{note}"
    message = event.get("message_id")
    if message:
        return f"message {clean(message)}"
    commanded = event.get("reason") in (Trigger.SILENCED, Trigger.UNMUTED)
    return "by command or clock" if commanded else "by the clock"


# Why


def _why(first: Row, pack: Pack | None) -> Iterator[str]:
    rule = pack.rule(first["rule_id"]) if pack is not None else None
    if rule is None or pack is None:
        yield f"the words of rule {first['rule_id']} of {first['pack']} are not kept here"
    else:
        if pack.label != first["pack"]:
            yield f"the words are those of {pack.label}; the alert was made by {first['pack']}, which is not kept here"
        yield f"the rule: {lasting(rule, first.get('location_unit'))}"
        yield f"its reason: {rule.rationale}"
        yield f"its source: {rule.reference}"
    own = " of the patient's own" if first.get("reason") == OPENED_OWN else ""
    if first.get("value") is not None and first.get("limit_value") is not None:
        kind, code = first.get("kind"), first.get("code")
        value, limit = (quantity(kind, code, first[name]) for name in ("value", "limit_value"))
        yield f"it opened at {value}, against a limit{own} of {limit}"
    yield from _readings(first)
    yield from _delays(first)


def _readings(first: Row) -> Iterator[str]:
    readings = first.get("readings") or ()
    for reading in readings:
        coded, value = reading.get("value_code"), reading.get("value")
        said = clean(coded) if coded is not None else "" if value is None else quantity(None, reading["code"], value)
        yield (
            f"it rests on: {display(reading['code'])} {said}, observed {instant(reading['observed_at'])},"
            f" message {clean(reading['message_id'])}"
        )
    if not readings:
        yield "it rests on no reading: a device or a time tells of it"


def _delays(first: Row) -> Iterator[str]:
    observed, received, written = (first.get(name) for name in ("observed_at", "message_received_at", "emitted_at"))
    if received is None or written is None:
        return
    if observed is not None:
        took = (received - observed).total_seconds()
        yield f"its message reached the broker {span(abs(took))} {'after' if took >= 0 else 'before'} that instant"
    yield f"and was an event {span((written - received).total_seconds())} later"


# Who


def told(
    events: Sequence[Row],
    notifications: Sequence[Row],
    deliveries: Sequence[Row],
    *,
    pack: Pack | None = None,
    missing: Collection[str] = (),
) -> tuple[str, ...]:
    """Who was told of an alert, by which channel, when, and how that ended: a line for each notification and channel.

    Never empty: where nobody was told it says why, as far as that can be said.
    """
    if NOTIFICATIONS in missing:
        return (f"not known: {NOTIFICATIONS} is not there",)
    ended = {(row["notification_id"], row["channel"]): row for row in deliveries}
    lines = [
        line
        for row in sorted(notifications, key=lambda one: one["decided_at"])
        for line in _notified(row, ended, untold=DELIVERIES in missing)
    ]
    return tuple(lines) or (f"nobody: {_untold(events, pack)}",)


def _notified(row: Row, ended: Mapping[tuple[str, str], Row], *, untold: bool) -> Iterator[str]:
    at, channels = instant(row["decided_at"]), row["channels"] or ()
    if not channels:
        yield f"{at}  nobody: {not_told(row)}"
        return
    step = f", step {row['step']}" if row["step"] else ""
    others = len(row["alert_ids"] or ()) - 1
    together = f", with {count(others, 'other alert')}" if others > 0 else ""
    for channel in channels:
        how = "how that ended is not known" if untold else delivered(ended.get((row["notification_id"], channel)))
        yield f"{at}  {_TOLD.get(row['reason'], row['reason'])}{step}, {channel}{together}: {how}"


def not_told(row: Row) -> str:
    """Why a notification has no channel."""
    if row["reason"] == telling.NOT_TOLD:
        return "it waited to be told with others, and before that it had ended, was acknowledged or muted"
    return f"no channel is named for this step ({row['reason']})"


def delivered(row: Row | None) -> str:
    """How a notification ended on a channel."""
    if row is None:
        return f"not known yet; `ward notify` tells people and records it, {DELIVERIES} has it half a minute later"
    at, tried = instant(row["ended_at"]), count(row["attempts"], "attempt")
    if row["status"] == "delivered":
        return f"delivered {at}, {tried}"
    if row["status"] == "digested":
        return f"delivered {at} in digest {row['digest_id']}"
    if row["status"] == "unconfigured":
        return f"NOT delivered: the channels file has no such channel ({at})"
    return f"NOT delivered, given up {at} after {tried}: {clean(row['error'] or 'no error recorded', 300)}"


def _untold(events: Sequence[Row], pack: Pack | None) -> str:
    states = {event["state"] for event in events}
    if State.ACTIVE not in states:
        return "it was never active"
    rule = pack.rule(events[0]["rule_id"]) if pack is not None else None
    if rule is not None and pack is not None and not pack.channels_of(rule):
        return f"the rule tells nobody, by {pack.label}"
    if State.SILENCED in states:
        return "it was muted when it became active"
    return f"{NOTIFICATIONS} has nothing of it: the rule tells nobody, or it lands within half a minute"


def _acknowledged(events: Sequence[Row]) -> Iterator[str]:
    found = [event for event in events if event.get("reason") == Trigger.ACKNOWLEDGED]
    for event in found:
        note = f": {clean(event['note'])}" if event.get("note") else ""
        yield f"{instant(event.get('observed_at'))}  {clean(event.get('actor') or 'unknown')}{note}"
    if not found:
        yield "nobody"


def _muted(events: Sequence[Row], silences: Mapping[str, Silence] | None) -> Iterator[str]:
    found = [event for event in events if event["state"] == State.SILENCED]
    for event in found:
        yield f"{instant(event.get('observed_at'))}  {muting(event, silences)}"
    if not found:
        yield "nothing"


def muting(event: Row, silences: Mapping[str, Silence] | None) -> str:
    """What a transition to silenced was caused by."""
    name = event.get("muted_by") or "unknown"
    if event.get("reason") == Trigger.INHIBITED:
        return f"an open alert of rule {name}, which explains it"
    silence = (silences or {}).get(name)
    if silence is None:
        return f"silence {name}, {'no longer on' if silences is not None else 'not read from'} alert.command"
    return silenced(silence)


def silenced(silence: Silence) -> str:
    """A silence in words."""
    who = f"by {clean(silence.by)}, until {instant(silence.until)}: {clean(silence.note)}"
    return f"silence {silence.command_id} of {matching(silence)} {who}"


def matching(silence: Silence) -> str:
    """What a silence mutes."""
    named = (("patient", silence.patient_id), ("rule", silence.rule_id), ("unit", silence.location_unit))
    return ", ".join(f"{what} {clean(which)}" for what, which in named if which)
