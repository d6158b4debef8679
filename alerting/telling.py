"""Who is told what, and when: alerts of one patient become notifications, together where they come together. Pure.

Physiological alerts and technical ones are told apart: they concern different people.

- The first alert of a patient is told at once. While it is open, so that somebody is with the patient or on the way,
  another one waits until its rule's group time after the last telling, and then goes with whatever else waits; one of a
  higher priority than what was last told does not wait.
- An alert of a rule that was told less than a minute ago (AGAIN_AFTER_MS) waits until then: a value that hovers.
- A step of escalation is told at once.
- What has ended, or was acknowledged or silenced, before it was told is not told any more; a notification without
  channels says so, so that nothing is dropped in silence.
"""

from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import NamedTuple

import orjson

from alerting.kinds import RANK, Priority
from alerting.lifecycle import OPEN, SOUNDING, Alert, Alerts, Origin, State
from alerting.notification import Notification, Told

RAISED = "raised"
GROUPED = "grouped"
"""Told after waiting."""
ESCALATED = "escalated"
NOT_TOLD = "ended_before_told"

Trend = Callable[[str], tuple[float, int] | None]
"""The value some seconds ago of a signal, by code, and how many."""

_HELD = OPEN - {State.LATCHED}
AGAIN_AFTER_MS = 60_000
"""How often one rule is told of one patient at most."""
_STEADY = 0.01
"""A change of less than this share of the value is no trend."""


class Group(NamedTuple):
    """What a patient's carers were told while something of it is open.

    ``told`` are alert ids, ``told_at`` is when they were last told something (epoch ms) and ``rank`` that of its
    priority. ``waiting`` are the alerts that they were not told yet. ``rules`` has when each rule was last told, as
    long as that holds another one back.
    """

    told_at: int | None = None
    rank: int = -1
    told: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    rules: tuple[tuple[str, int], ...] = ()

    def due_at(self, alert: Alert) -> int:
        """When an alert that waits is told; the past for one that need not wait."""
        again = dict(self.rules).get(alert.definition.rule_id, -AGAIN_AFTER_MS) + AGAIN_AFTER_MS
        if not self.told or self.told_at is None or RANK[alert.definition.priority] > self.rank:
            return again
        return max(again, self.told_at + alert.definition.group_ms)


def tell(
    group: Group, before: Alerts, after: Alerts, whence: Origin, trend: Trend
) -> tuple[Group, tuple[Notification, ...]]:
    """What is told after alerts of one patient and category went from ``before`` to ``after``, or as time goes by."""
    made: list[Notification] = []
    by_id = {alert.alert_id: alert for alert in after.values()}
    fresh = [alert.alert_id for alert in after.values() if _became_active(before.get(alert.definition.rule_id), alert)]
    waiting = [by_id[name] for name in dict.fromkeys((*group.waiting, *fresh)) if name in by_id]
    ended = [alert for alert in waiting if alert.state not in SOUNDING]
    waiting = [alert for alert in waiting if alert.state in SOUNDING]
    told = tuple(name for name in group.told if name in by_id and by_id[name].state in _HELD)
    rules = tuple((name, at) for name, at in group.rules if whence.now - at < AGAIN_AFTER_MS)
    group = group._replace(told=told, rules=rules)
    for alert in after.values():
        if alert.state is State.ESCALATED and _step_of(before, alert) < alert.step:
            channels = alert.definition.escalation[alert.step - 1].channels
            made.append(_notification(ESCALATED, [alert], channels, whence, trend, step=alert.step))
            group = group._replace(told_at=whence.now, rank=RANK[alert.definition.priority])
    if ended:
        made.append(_notification(NOT_TOLD, ended, (), whence, trend))
    if any(group.due_at(alert) <= whence.now for alert in waiting):
        channels = tuple(sorted({name for alert in waiting for name in alert.definition.channels}))
        reason = GROUPED if set(group.waiting) & {alert.alert_id for alert in waiting} else RAISED
        made.append(_notification(reason, waiting, channels, whence, trend))
        rank = max(RANK[alert.definition.priority] for alert in waiting)
        names = tuple(alert.alert_id for alert in waiting)
        told_now = tuple((alert.definition.rule_id, whence.now) for alert in waiting)
        return Group(whence.now, rank, (*group.told, *names), (), (*group.rules, *told_now)), tuple(made)
    return group._replace(waiting=tuple(alert.alert_id for alert in waiting)), tuple(made)


def _became_active(before: Alert | None, alert: Alert) -> bool:
    """Whether it is active since this moment, and its rule tells somebody."""
    if alert.state is not State.ACTIVE or not alert.definition.channels:
        return False
    # Not by the instant: what a device sends at once after a fault of the network has one instant at the broker.
    return before is None or before.alert_id != alert.alert_id or before.state is not State.ACTIVE


def _step_of(before: Alerts, alert: Alert) -> int:
    last = before.get(alert.definition.rule_id)
    return last.step if last is not None and last.alert_id == alert.alert_id else 0


def _notification(
    reason: str, alerts: Iterable[Alert], channels: tuple[str, ...], whence: Origin, trend: Trend, step: int = 0
) -> Notification:
    alerts = sorted(alerts, key=lambda alert: (-RANK[alert.definition.priority], alert.opened_at, alert.alert_id))
    named = [whence.patient_id, reason, step, [[alert.alert_id, alert.sequence] for alert in alerts]]
    priority: Priority = alerts[0].definition.priority
    return Notification(
        notification_id=blake2b(orjson.dumps(named), digest_size=16).hexdigest(),
        patient_id=whence.patient_id,
        reason=reason,
        step=step,
        priority=priority,
        channels=channels,
        at=whence.now,
        pack=alerts[0].pack,
        alerts=tuple(_told(alert, trend) for alert in alerts),
        location_unit=whence.location_unit,
        location_bed=whence.location_bed,
        message_received_at=whence.received_at,
    )


def _told(alert: Alert, trend: Trend) -> Told:
    before = trend(alert.code) if alert.code and alert.definition.kind == "limit" else None
    return Told(
        alert_id=alert.alert_id,
        sequence=alert.sequence,
        rule_id=alert.definition.rule_id,
        title=alert.definition.title,
        priority=alert.definition.priority,
        category=alert.definition.category,
        state=alert.state.value,
        since=alert.opened_at,
        kind=alert.definition.kind,
        code=alert.code,
        value=alert.value,
        limit_value=alert.limit,
        trend=None if before is None else _direction(before[0], alert.value),
        trend_from=None if before is None else round(before[0], 1),
        trend_s=None if before is None else before[1],
    )


def _direction(before: float, value: float | None) -> str | None:
    if value is None:
        return None
    if abs(value - before) < _STEADY * abs(before):
        return "steady"
    return "rising" if value > before else "falling"
