"""What each rule of a pack says of a patient: findings by kind, from a message and what is remembered. Pure.

Limits come as bands from the alert flow (alerting/bands.py). Everything else is found here, from the same messages.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

from alerting.evaluation import Evaluation, Reading
from alerting.kinds import (
    DISCONNECTED,
    CombinationRule,
    Condition,
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
from lakehouse.scores import SCORES, STALE_AFTER, Bands, Codes, Definition, Outside, Score, Scored, Value, score

STALE_MS: Mapping[str, int] = {name: round(limit.total_seconds() * 1000) for name, limit in STALE_AFTER.items()}
_INPUTS = {name: definition.inputs for name, definition in SCORES.items()}
_CACHED = 8192


class _Silence(NamedTuple):
    """A silence with what it looks at on every message: its signal, None for any device, and how long it lasts."""

    rule: SilenceRule
    code: str | None
    after_ms: float


class _Combination(NamedTuple):
    """The same of a combination: its conditions by signal, how many must hold, and how old a value may be."""

    rule: CombinationRule
    conditions: tuple[tuple[str, Condition], ...]
    needed: int
    within_ms: float


class Detector:
    """The rules of a pack, by what they look at."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        rules = tuple(rules)
        self._rates = _by_code(rule for rule in rules if isinstance(rule, RateRule))
        self._flat = tuple((rule.code, rule) for rule in rules if isinstance(rule, FlatLineRule))
        self._no_value = _by_code(rule for rule in rules if isinstance(rule, NoValueRule))
        self._combinations = tuple(
            _Combination(rule, tuple((one.code, one) for one in rule.conditions), rule.needed, rule.within_s * 1000)
            for rule in rules
            if isinstance(rule, CombinationRule)
        )
        self._device = tuple(rule for rule in rules if isinstance(rule, DeviceRule))
        self._silences = tuple(
            _Silence(rule, rule.code, rule.after_s * 1000) for rule in rules if isinstance(rule, SilenceRule)
        )
        by_score: dict[Score, list[ScoreRule]] = {}
        for rule in rules:
            if isinstance(rule, ScoreRule):
                by_score.setdefault(rule.score, []).append(rule)
        self._scores = tuple((Scorer(SCORES[name]), tuple(its)) for name, its in by_score.items())

    def findings(self, evaluation: Evaluation, memory: Memory, opened: Collection[str]) -> list[Finding]:
        """What a message shows of every kind but limits, given the memory that has taken it.

        ``opened`` are the rules with an open alert.
        """
        found: list[Finding | None] = [_of_device(rule, evaluation, memory, opened) for rule in self._device]
        if self._no_value and (opened or not evaluation.quiet):
            found += self._without_value(evaluation, opened)
        for code, flat_rule in self._flat:
            if memory.is_of(evaluation, code):
                found.append(_flat_line(flat_rule, code, evaluation, memory, opened))
        if opened and self._silences:
            found += self._heard(evaluation, memory, opened)
        # A value that is older than the newest of its signal says nothing of now.
        newest = memory.newest(evaluation)
        for code in newest if self._rates else ():
            for rate in self._rates.get(code, ()):
                found.append(_rate(rate, code, evaluation.observed_at, memory, opened))
        if newest:
            found += self.of_several(memory, opened)
        return [finding for finding in found if finding is not None]

    def of_several(self, memory: Memory, opened: Collection[str]) -> Iterator[Finding]:
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
                elif rule.id in opened:
                    held = _points(rule, scorer({name: seen.value for name, seen in memory.inputs.items()}))
                    band: Band = "clear" if held < rule.at_least - rule.clear_margin else "margin"
                    yield _of_score(rule, band, total, memory, fresh)
        for combination in self._combinations:
            finding = _combined(combination, at, memory, opened)
            if finding is not None:
                yield finding

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
        for rule, code, after_ms in self._silences:
            since = memory.silent_since(code, after_ms)
            if since is None:
                continue
            at, last = since + round(after_ms), alerts.get(rule.id)
            # A silence whose alert was closed, as that of a patient who left, is not found again.
            if last is None or not (last.open or last.seen_at >= at):
                yield rule, at

    def _without_value(self, evaluation: Evaluation, opened: Collection[str]) -> Iterator[Finding]:
        at = evaluation.received_at
        for reading in evaluation.readings:
            for rule in self._no_value.get(reading.code, ()):
                band = _band(reading.fault == DISCONNECTED, reading.band != "none")
                if band == "breach" or (band == "clear" and rule.id in opened):
                    yield Finding(rule.id, band, at, code=reading.code)

    def _heard(self, evaluation: Evaluation, memory: Memory, opened: Collection[str]) -> Iterator[Finding]:
        usable_codes = {reading.code for reading in evaluation.readings if reading.band != "none"}
        for rule, code, after_ms in self._silences:
            if rule.id not in opened:
                continue
            # What a nurse charts does not stand for a monitor.
            device = memory.is_device_frequent(evaluation.device_id, after_ms)
            if code in usable_codes or (code is None and device):
                yield Finding(rule.id, "clear", evaluation.received_at, code=code)


def limits(evaluation: Evaluation, opened: Alerts) -> list[Finding]:
    """What the bands of a message's readings show, given the alerts that are open."""
    if evaluation.quiet and not opened:
        return []
    return [
        finding
        for reading in evaluation.readings
        if reading.band != "none"
        for finding in _of_limits(reading, evaluation, opened)
    ]


class Scorer:
    """A score of inputs, remembered by the points that they have: there are far fewer of these than of values."""

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        readings = [reading for part in definition.parts for reading in part.every]
        self._classes = tuple(
            (name, _Classes(reading.rule for reading in readings if reading.name == name)) for name in definition.inputs
        )
        self._scored: dict[tuple[object, ...], Scored] = {}

    def __call__(self, inputs: Mapping[str, Value]) -> Scored:
        """The score of inputs by name; others than its own are left out."""
        key = tuple([classes[inputs.get(name)] for name, classes in self._classes])
        scored = self._scored.get(key)
        if scored is None:
            if len(self._scored) >= _CACHED:
                self._scored.clear()
            scored = self._scored[key] = score(self._definition, inputs)
        return scored


class _Classes(dict[Value, tuple[object, ...]]):
    """The points that values of one input have; a missing one is None."""

    def __init__(self, rules: Iterable[Bands | Outside | Codes]) -> None:
        super().__init__()
        self._rules = tuple(rules)

    def __missing__(self, value: Value) -> tuple[object, ...]:
        if len(self) >= _CACHED:
            self.clear()
        # An input that only says which bands count, such as the SpO2 scale, is its own class.
        points = self[value] = tuple([rule.of(value) for rule in self._rules]) or (value,)
        return points


_R = TypeVar("_R", RateRule, NoValueRule)


def _by_code(rules: Iterable[_R]) -> dict[str, list[_R]]:
    found: dict[str, list[_R]] = {}
    for rule in rules:
        found.setdefault(rule.code, []).append(rule)
    return found


def _band(breach: bool, clear: bool) -> Band:
    return "breach" if breach else "clear" if clear else "margin"


def _of_limits(reading: Reading, evaluation: Evaluation, opened: Alerts) -> Iterator[Finding]:
    """What a reading says of the limit rules of its signal: a pack keeps them apart, so it breaks one at most."""
    at, code = evaluation.observed_at, reading.code
    for alert in opened.values():
        rule_id = alert.definition.rule_id
        if alert.code == code and alert.definition.kind == "limit" and rule_id != reading.rule:
            yield Finding(rule_id, "clear", at, reading.value, alert.limit, code)
    if reading.rule is None:
        return
    if reading.band == "breach":
        seen = (Seen(code, reading.value, at, evaluation.message_id),)
        yield Finding(reading.rule, "breach", at, reading.value, reading.limit, code, seen, reading.own_limit)
    elif reading.rule in opened:
        yield Finding(reading.rule, "margin", at, reading.value, reading.limit, code)


def _of_device(rule: DeviceRule, evaluation: Evaluation, memory: Memory, opened: Collection[str]) -> Finding | None:
    value = _measure(rule, evaluation, memory)
    if value is None:
        return None
    limit = rule.limit or 0.0
    if rule.measure == "battery":
        band = _band(value < limit, value >= limit + rule.clear_margin)
    else:
        band = _band(value > limit, value <= limit - rule.clear_margin)
    if band != "breach" and rule.id not in opened:
        return None
    return Finding(rule.id, band, evaluation.received_at, value, rule.limit)


def _flat_line(
    rule: FlatLineRule, code: str, evaluation: Evaluation, memory: Memory, opened: Collection[str]
) -> Finding | None:
    flat = memory.flat.get(code)
    if flat is None:
        return None
    lasted = flat[2] >= rule.readings and evaluation.received_at - flat[1] >= rule.after_s * 1000
    if not lasted and rule.id not in opened:
        return None
    seconds = round((evaluation.received_at - flat[1]) / 1000, 1)
    return Finding(rule.id, _band(lasted, flat[2] == 1), evaluation.received_at, seconds, rule.after_s, code)


def _rate(rule: RateRule, code: str, at: int, memory: Memory, opened: Collection[str]) -> Finding | None:
    changed = memory.change(code, rule.window_s * 1000, rise=rule.direction == "rise")
    if changed is None:
        return None
    change = round(changed[0], 3)
    band = _band(change >= rule.change, change <= rule.change - rule.clear_margin)
    if band != "breach" and rule.id not in opened:
        return None
    readings = (memory.last[code],) if code in memory.last else ()
    return Finding(rule.id, band, at, change, rule.change, code, readings)


def _points(rule: ScoreRule, scored: Scored) -> int:
    """The least that the score can be, or the most that one part is known to have."""
    if not rule.in_one_part:
        return scored.total_min
    return max(filter(None, scored.parts.values()), default=0)


def _of_score(rule: ScoreRule, band: Band, total: int, memory: Memory, fresh: Mapping[str, Value]) -> Finding:
    wanted = _INPUTS[rule.score]
    readings = tuple(memory.inputs[name] for name in wanted if name in fresh) if band == "breach" else ()
    return Finding(rule.id, band, memory.observed_at, float(total), float(rule.at_least), None, readings)


def _combined(combination: _Combination, at: int, memory: Memory, opened: Collection[str]) -> Finding | None:
    rule, conditions, needed, within_ms = combination
    values: list[tuple[Condition, float]] = []
    breached: list[Seen] = []
    for code, condition in conditions:
        seen = memory.last.get(code)
        if seen is None or seen.value is None or isinstance(seen.value, str):
            continue
        values.append((condition, seen.value))
        if at - seen.observed_at <= within_ms and condition.breached(seen.value):
            breached.append(seen)
    if len(breached) >= needed:
        return Finding(rule.id, "breach", at, float(len(breached)), float(needed), None, tuple(breached))
    if rule.id not in opened:
        return None
    unclear = sum(not condition.cleared(value) for condition, value in values)
    return Finding(rule.id, "clear" if unclear < needed else "margin", at, float(len(breached)), float(needed))


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
