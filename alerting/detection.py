"""What each rule of a pack says of a patient: findings by kind, from a message and what is remembered. Pure.

Limits come as bands from the alert flow (alerting/bands.py). Everything else is found here, from the same messages.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from alerting.evaluation import Evaluation, Reading
from alerting.kinds import (
    DISCONNECTED,
    CombinationRule,
    DeviceRule,
    FlatLineRule,
    NoValueRule,
    RateRule,
    Rule,
    ScoreRule,
    SilenceRule,
)
from alerting.lifecycle import SHIFTED, Alerts, Band, Finding, Seen
from alerting.memory import Memory, usable
from lakehouse.scores import SCORES, STALE_AFTER, Definition, Score, Scored, Value, score

STALE_MS: Mapping[str, int] = {name: round(limit.total_seconds() * 1000) for name, limit in STALE_AFTER.items()}
_INPUTS = {name: definition.inputs for name, definition in SCORES.items()}
_CACHED = 8192


class Detector:
    """The rules of a pack, by what they look at."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        rules = tuple(rules)
        self._rates = _by_code(rule for rule in rules if isinstance(rule, RateRule))
        self._flat = tuple(rule for rule in rules if isinstance(rule, FlatLineRule))
        self._no_value = _by_code(rule for rule in rules if isinstance(rule, NoValueRule))
        self._combinations = tuple(rule for rule in rules if isinstance(rule, CombinationRule))
        self._device = tuple(rule for rule in rules if isinstance(rule, DeviceRule))
        self._silences = tuple(rule for rule in rules if isinstance(rule, SilenceRule))
        by_score: dict[Score, list[ScoreRule]] = {}
        for rule in rules:
            if isinstance(rule, ScoreRule):
                by_score.setdefault(rule.score, []).append(rule)
        self._scores = tuple((Scorer(SCORES[name]), tuple(its)) for name, its in by_score.items())

    def findings(self, evaluation: Evaluation, memory: Memory, alerts: Alerts) -> list[Finding]:
        """What a message shows of every kind but limits, given the memory that has taken it."""
        found: list[Finding] = []
        if self._device:
            found.extend(self._of_device(evaluation, memory, alerts))
        if self._no_value and (alerts or not evaluation.quiet):
            found.extend(self._without_value(evaluation, alerts))
        for flat_rule in self._flat:
            found.extend(_flat_line(flat_rule, evaluation, memory, alerts))
        if alerts and self._silences:
            found.extend(self._heard(evaluation, memory, alerts))
        # A value that is older than the newest of its signal says nothing of now.
        newest = [reading.code for reading in evaluation.readings if memory.is_of(evaluation, reading.code)]
        for code in newest if self._rates else ():
            for rate in self._rates.get(code, ()):
                found.extend(_rate(rate, evaluation.observed_at, memory, alerts))
        if newest:
            found.extend(self.of_several(memory, alerts))
        return found

    def of_several(self, memory: Memory, alerts: Alerts) -> Iterator[Finding]:
        """What the rules of several signals, scores and combinations, say by all that is remembered.

        They say it of the newest instant of which anything is known, whichever signal was observed then: values are
        charted one by one, and a device may be behind another.
        """
        at = memory.observed_at
        for scorer, rules in self._scores:
            fresh = usable(memory.inputs, at, STALE_MS)
            scored = scorer(fresh)
            for rule in rules:
                total = _points(rule, scored)
                if total >= rule.at_least:
                    yield _of_score(rule, "breach", total, memory, fresh)
                elif _is_open(alerts, rule.id):
                    held = _points(rule, scorer({name: seen.value for name, seen in memory.inputs.items()}))
                    band: Band = "clear" if held < rule.at_least - rule.clear_margin else "margin"
                    yield _of_score(rule, band, total, memory, fresh)
        for combination in self._combinations:
            yield from _combined(combination, at, memory, alerts)

    def silent(self, memory: Memory, alerts: Alerts, now: int) -> list[Finding]:
        """Which silences have lasted long enough now. Each is found at the instant at which it had."""
        return [
            Finding(rule.id, "breach", at, rule.after_s, rule.after_s, rule.code)
            for rule, at in self._silences_to_come(memory, alerts)
            if at <= now
        ]

    def due(self, memory: Memory, alerts: Alerts) -> list[int]:
        """When each silence that is not found yet would have lasted long enough."""
        return [at for _, at in self._silences_to_come(memory, alerts)]

    def _silences_to_come(self, memory: Memory, alerts: Alerts) -> Iterator[tuple[SilenceRule, int]]:
        for rule in self._silences:
            since = memory.silent_since(rule.code, rule.after_s * 1000)
            if since is None:
                continue
            at, last = since + round(rule.after_s * 1000), alerts.get(rule.id)
            # A silence whose alert was closed, as that of a patient who left, is not found again.
            if last is None or not (last.open or last.seen_at >= at):
                yield rule, at

    def _of_device(self, evaluation: Evaluation, memory: Memory, alerts: Alerts) -> Iterator[Finding]:
        at = evaluation.received_at
        for rule in self._device:
            if rule.measure == "lead_off" and not (evaluation.lead_off or alerts):
                continue
            value = _measure(rule, evaluation, memory)
            if value is None:
                continue
            limit = rule.limit or 0.0
            if rule.measure == "battery":
                band = _band(value < limit, value >= limit + rule.clear_margin)
            else:
                band = _band(value > limit, value <= limit - rule.clear_margin)
            if band == "breach" or _is_open(alerts, rule.id):
                yield Finding(rule.id, band, at, value, rule.limit)

    def _without_value(self, evaluation: Evaluation, alerts: Alerts) -> Iterator[Finding]:
        at = evaluation.received_at
        for reading in evaluation.readings:
            for rule in self._no_value.get(reading.code, ()):
                band = _band(reading.fault == DISCONNECTED, reading.band != "none")
                if band == "breach" or (band == "clear" and _is_open(alerts, rule.id)):
                    yield Finding(rule.id, band, at, code=reading.code)

    def _heard(self, evaluation: Evaluation, memory: Memory, alerts: Alerts) -> Iterator[Finding]:
        usable_codes = {reading.code for reading in evaluation.readings if reading.band != "none"}
        for rule in self._silences:
            # What a nurse charts does not stand for a monitor.
            device = memory.is_device_frequent(evaluation.device_id, rule.after_s * 1000)
            if _is_open(alerts, rule.id) and (rule.code in usable_codes or (rule.code is None and device)):
                yield Finding(rule.id, "clear", evaluation.received_at, code=rule.code)


def limits(evaluation: Evaluation, alerts: Alerts) -> list[Finding]:
    """What the bands of a message's readings show."""
    if evaluation.quiet and not alerts:
        return []
    return [
        finding
        for reading in evaluation.readings
        if reading.band != "none"
        for finding in _of_limits(reading, evaluation, alerts)
    ]


class Scorer:
    """A score of inputs, remembered by the points that they have: there are far fewer of these than of values."""

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self._points = {
            name: tuple(reading.rule for part in definition.parts for reading in part.readings if reading.name == name)
            for name in definition.inputs
        }
        self._classes: dict[tuple[str, Value], tuple[object, ...]] = {}
        self._scored: dict[tuple[object, ...], Scored] = {}

    def __call__(self, inputs: Mapping[str, Value]) -> Scored:
        """The score of inputs by name; others than its own are left out."""
        key = tuple([self._class(name, inputs[name]) if name in inputs else None for name in self._points])
        scored = self._scored.get(key)
        if scored is None:
            if len(self._scored) >= _CACHED:
                self._scored.clear()
            scored = self._scored[key] = score(self._definition, inputs)
        return scored

    def _class(self, name: str, value: Value) -> tuple[object, ...]:
        known = self._classes.get((name, value))
        if known is None:
            if len(self._classes) >= _CACHED:
                self._classes.clear()
            # An input that only says which bands count, such as the SpO2 scale, is its own class.
            points = tuple(rule.of(value) for rule in self._points[name])
            known = self._classes[(name, value)] = points or (value,)
        return known


_R = TypeVar("_R", RateRule, NoValueRule)


def _by_code(rules: Iterable[_R]) -> dict[str, list[_R]]:
    found: dict[str, list[_R]] = {}
    for rule in rules:
        found.setdefault(rule.code, []).append(rule)
    return found


def _is_open(alerts: Alerts, rule_id: str) -> bool:
    alert = alerts.get(rule_id)
    return alert is not None and alert.open


def _band(breach: bool, clear: bool) -> Band:
    return "breach" if breach else "clear" if clear else "margin"


def _of_limits(reading: Reading, evaluation: Evaluation, alerts: Alerts) -> Iterator[Finding]:
    """What a reading says of the limit rules of its signal: a pack keeps them apart, so it breaks one at most."""
    at, code = evaluation.observed_at, reading.code
    for alert in alerts.values():
        rule_id = alert.definition.rule_id
        if alert.code == code and alert.open and alert.definition.kind == "limit" and rule_id != reading.rule:
            yield Finding(rule_id, "clear", at, reading.value, alert.limit, code)
    if reading.rule is None:
        return
    if reading.band == "breach":
        seen = (Seen(code, reading.value, at, evaluation.message_id),)
        yield Finding(reading.rule, "breach", at, reading.value, reading.limit, code, seen, reading.own_limit)
    elif _is_open(alerts, reading.rule):
        yield Finding(reading.rule, "margin", at, reading.value, reading.limit, code)


def _flat_line(rule: FlatLineRule, evaluation: Evaluation, memory: Memory, alerts: Alerts) -> Iterator[Finding]:
    flat = memory.flat.get(rule.code)
    if flat is None or not memory.is_of(evaluation, rule.code):
        return
    lasted = flat[2] >= rule.readings and evaluation.received_at - flat[1] >= rule.after_s * 1000
    if lasted or _is_open(alerts, rule.id):
        seconds = round((evaluation.received_at - flat[1]) / 1000, 1)
        band = _band(lasted, flat[2] == 1)
        yield Finding(rule.id, band, evaluation.received_at, seconds, rule.after_s, rule.code)


def _rate(rule: RateRule, at: int, memory: Memory, alerts: Alerts) -> Iterator[Finding]:
    changed = memory.change(rule.code, rule.window_s * 1000, rise=rule.direction == "rise")
    if changed is None:
        return
    change = round(changed[0], 3)
    band = _band(change >= rule.change, change <= rule.change - rule.clear_margin)
    if band == "breach" or _is_open(alerts, rule.id):
        readings = (memory.last[rule.code],) if rule.code in memory.last else ()
        yield Finding(rule.id, band, at, change, rule.change, rule.code, readings)


def _points(rule: ScoreRule, scored: Scored) -> int:
    """The least that the score can be, or the most that one part is known to have."""
    if not rule.in_one_part:
        return scored.total_min
    return max((points for points in scored.parts.values() if points is not None), default=0)


def _of_score(rule: ScoreRule, band: Band, total: int, memory: Memory, fresh: Mapping[str, Value]) -> Finding:
    wanted = _INPUTS[rule.score]
    readings = tuple(memory.inputs[name] for name in wanted if name in fresh) if band == "breach" else ()
    return Finding(rule.id, band, memory.observed_at, float(total), float(rule.at_least), None, readings)


def _combined(rule: CombinationRule, at: int, memory: Memory, alerts: Alerts) -> Iterator[Finding]:
    known = [(condition, memory.last.get(condition.code)) for condition in rule.conditions]
    values = [(c, seen) for c, seen in known if seen is not None and isinstance(seen.value, int | float)]
    breached = [
        seen
        for c, seen in values
        if at - seen.observed_at <= rule.within_s * 1000 and c.breached(float(seen.value or 0))
    ]
    if len(breached) >= rule.needed:
        yield Finding(rule.id, "breach", at, float(len(breached)), float(rule.needed), None, tuple(breached))
    elif _is_open(alerts, rule.id):
        unclear = sum(not c.cleared(float(seen.value or 0)) for c, seen in values)
        band: Band = "clear" if unclear < rule.needed else "margin"
        yield Finding(rule.id, band, at, float(len(breached)), float(rule.needed))


def _measure(rule: DeviceRule, evaluation: Evaluation, memory: Memory) -> float | None:
    if rule.measure == "battery":
        return evaluation.battery
    if rule.measure == "lead_off":
        return float(evaluation.lead_off)
    if evaluation.source in SHIFTED:
        return None
    ahead_s = round((evaluation.observed_at - evaluation.received_at) / 1000, 1)
    # What is charted comes late by a clock that is right. Only of what comes all the time is it known to be behind.
    if ahead_s < 0 and not memory.is_device_frequent(evaluation.device_id, (rule.limit or 0.0) * 1000):
        return 0.0
    return abs(ahead_s)
