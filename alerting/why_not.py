"""Why nobody was told of a rule at some time, or that somebody was: one answer with its evidence. Pure.

What was recorded comes first: an alert of the rule in gold.alert_event that stood then. Where there is none, the
patient's values are held against the rule once more (alerting/looking_back.py), and that says why there was none.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches
from itertools import groupby
from typing import Any, Literal

from alerting.answers import DELIVERIES, NOTIFICATIONS, Row, delivered, muting, not_told, story, told
from alerting.command import Silence
from alerting.evaluation import Evaluation
from alerting.kinds import DeviceRule, LimitRule, Rule, ScoreRule, SilenceRule
from alerting.lifecycle import SOUNDING, STALE_AFTER, Event, Finding, State, Trigger
from alerting.limits import OwnLimits
from alerting.looking_back import Look, Replayed, replay
from alerting.message_text import clean
from alerting.pack import Pack
from alerting.telling import NOT_TOLD
from alerting.words import aware, count, display, instant, lasting, quantity, span, watched
from lakehouse.scores import INPUT_OF_SIGNAL, SCORES
from lakehouse.scores import STALE_AFTER as INPUTS_STALE_AFTER
from lakehouse.tables import OBSERVATION_CONSTRAINTS
from lakehouse.vocabulary import signals

AROUND = timedelta(minutes=2)
"""How near to the time asked for a value or an alert counts as being of that time: people remember it so well."""
_AROUND_MS = round(AROUND.total_seconds() * 1000)
_DAY_MS = 86_400_000
_LEAST_BACK = timedelta(hours=1)
_LONGEST_BACK = timedelta(hours=24)
EVENTS = "gold.alert_event"
VALUES = "silver.observation"
_NOT_LANDED = f"some of it may not have landed in {VALUES} yet: ask again in two minutes"
_MEANING = {constraint.name: constraint.comment for constraint in OBSERVATION_CONSTRAINTS}

Kind = Literal[
    "no_rule",
    "nothing_heard",
    "no_signal",
    "quarantined",
    "late",
    "no_breach",
    "margin",
    "pending",
    "too_short",
    "silenced",
    "inhibited",
    "waiting",
    "ended_before_told",
    "tells_nobody",
    "undelivered",
    "unconfigured",
    "delivery_unknown",
    "told",
    "not_recorded",
    "not_known",
]
"""What an answer comes to, for programs."""


@dataclass(frozen=True, slots=True)
class Question:
    """Why nobody was told of this rule of this patient at this instant (epoch ms)."""

    patient_id: str
    rule_id: str
    at: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known: the pack and own limits, the patient's evaluations by that rule, and rows of gold.

    ``events`` are of the patient and rule. ``silences`` None: they cannot be read. ``missing`` names tables that are
    not there; ``until`` is up to when the evaluations are complete (epoch ms), None: for as long as it matters;
    ``remarks`` are told with every answer that rests on values.
    """

    pack: Pack
    evaluations: Sequence[Evaluation] = ()
    events: Sequence[Row] = ()
    notifications: Sequence[Row] = ()
    deliveries: Sequence[Row] = ()
    own: Sequence[OwnLimits] = ()
    silences: Mapping[str, Silence] | None = None
    until: int | None = None
    missing: Collection[str] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer in its first line, the evidence in the others."""

    kind: Kind
    lines: tuple[str, ...]


def span_needed(rule: Rule) -> tuple[timedelta, timedelta]:
    """How much of the past before the time asked for, and after it, says what a rule made of it."""
    lasts = timedelta(seconds=rule.delay_s + rule.resolve_after_s)
    looks: list[timedelta] = [_LEAST_BACK, *_windows(rule)]
    return min(max(looks) + lasts + AROUND, _LONGEST_BACK), AROUND + lasts


def _windows(rule: Rule) -> Iterator[timedelta]:
    for field in ("window_s", "within_s", "after_s"):
        if (seconds := getattr(rule, field, None)) is not None:
            yield 2 * timedelta(seconds=seconds)
    if isinstance(rule, ScoreRule):
        yield from (INPUTS_STALE_AFTER[name] for name in SCORES[rule.score].inputs if name != "spo2_scale")


def why_not(question: Question, evidence: Evidence) -> Answer:
    """The answer to the question."""
    alert = _alert_then(question.at, evidence.events)
    rule = evidence.pack.rule(question.rule_id)
    if alert is not None:
        return _of_alert(question, evidence, alert, rule)
    if rule is None:
        return _no_rule(question, evidence.pack)
    if VALUES in evidence.missing:
        nothing = f"nothing can be said: {VALUES} is not there, nor an alert of the rule at {instant(question.at)}"
        return Answer("not_known", (nothing, *evidence.remarks))
    found = _of_values(question, evidence, rule)
    recent = evidence.until is not None and question.at + _AROUND_MS > evidence.until
    remarks = (*evidence.remarks, *((_NOT_LANDED,) if recent else ()))
    return Answer(found.kind, (*found.lines, f"the rule: {lasting(rule)}, {evidence.pack.label}", *remarks))


def _no_rule(question: Question, pack: Pack) -> Answer:
    known = [rule.id for rule in pack.rules]
    near = get_close_matches(question.rule_id, known)
    meant = f"did you mean {' or '.join(near)}?" if near else f"its rules: {', '.join(known)}"
    return Answer("no_rule", (f"nobody could be told: {pack.label} has no rule {clean(question.rule_id)}", meant))


# An alert that was


def _ms(at: datetime | None) -> int | None:
    return None if at is None else round(at.timestamp() * 1000)


def _away(at: int, events: Sequence[Row], clock: str) -> int:
    """How far an instant is from the time for which an alert stood, by one of its clocks; 0: it stood."""
    times = [time for event in events if (time := _ms(event.get(clock))) is not None]
    if not times:
        return _AROUND_MS + 1
    still_open = events[-1]["state"] not in (State.RESOLVED, State.SUPERSEDED)
    after = 0 if still_open else max(0, at - max(times))
    return max(min(times) - at, after, 0)


_CLOCKS = ("emitted_at", "observed_at")


def _clock(at: int, events: Sequence[Row]) -> str:
    """The clock by which an alert stood at an instant: ours, or the device's where that one is shifted."""

    def by(clock: str) -> tuple[int, bool]:
        times = [time for event in events if (time := _ms(event.get(clock))) is not None]
        return _away(at, events, clock), not times or min(abs(at - time) for time in times) > _DAY_MS

    return min(_CLOCKS, key=by)


def _alert_then(at: int, events: Sequence[Row]) -> list[Row] | None:
    """The transitions of the alert that stood at an instant, or nearest to it; by our clock or the device's."""
    ordered = sorted(events, key=lambda event: (event["alert_id"], event["sequence"]))
    alerts = [list(group) for _, group in groupby(ordered, key=lambda event: event["alert_id"])]
    by_distance = [(min(_away(at, alert, clock) for clock in _CLOCKS), alert) for alert in alerts]
    near = [(away, alert) for away, alert in by_distance if away <= _AROUND_MS]
    return min(near, key=lambda one: (one[0], -(_ms(one[1][0]["emitted_at"]) or 0)))[1] if near else None


@dataclass(frozen=True, slots=True)
class _Stood:
    """An alert at the time asked for: its last transition until then, and what was decided until then and later."""

    events: Sequence[Row]
    then: Row
    before: tuple[Row, ...]
    later: tuple[Row, ...]

    @property
    def ever_active(self) -> bool:
        return any(event["state"] == State.ACTIVE for event in self.events)


def _stood(at: int, events: Sequence[Row], notifications: Sequence[Row]) -> _Stood:
    """The alert at an instant, with the notifications that tell of it."""
    clock = _clock(at, events)
    # Asked of a moment before it opened: what became of it answers that.
    at = max(at, _ms(events[0].get(clock)) or at)
    until = [event for event in events if (_ms(event.get(clock)) or 0) <= at]
    then = until[-1] if until else events[0]
    mine = sorted(notifications, key=lambda row: row["decided_at"])

    def by_then(row: Row) -> bool:
        if clock == "emitted_at":
            return (_ms(row["decided_at"]) or 0) <= at
        sequences = dict(zip(row["alert_ids"], row["sequences"], strict=True))
        return bool(sequences[then["alert_id"]] <= then["sequence"])

    return _Stood(
        events, then, tuple(row for row in mine if by_then(row)), tuple(row for row in mine if not by_then(row))
    )


def _of_alert(question: Question, evidence: Evidence, alert: Sequence[Row], rule: Rule | None) -> Answer:
    mine = [row for row in evidence.notifications if alert[0]["alert_id"] in (row["alert_ids"] or ())]
    stood = _stood(question.at, alert, mine)
    kind, verdict = _verdict(question, evidence, stood, rule)
    who = told(alert, mine, evidence.deliveries, pack=evidence.pack, missing=evidence.missing)
    return Answer(kind, (verdict, *story(alert), "who was told", *(f"  {line}" for line in who)))


def _verdict(question: Question, evidence: Evidence, stood: _Stood, rule: Rule | None) -> tuple[Kind, str]:
    at, then = instant(question.at), stood.then
    if then["state"] == State.SILENCED:
        kind: Kind = "inhibited" if then.get("reason") == Trigger.INHIBITED else "silenced"
        return kind, f"nobody was told at {at}: it was muted by {muting(then, evidence.silences)}"
    if not stood.ever_active:
        return _never_active(at, stood, rule)
    if then["state"] == State.PENDING:
        active = next(event for event in stood.events if event["state"] == State.ACTIVE)
        since = f"{instant(active['observed_at'])}, when it had lasted{_delay(rule)}"
        return "pending", f"nobody was told at {at}: it was pending; it became active at {since}"
    tried = [row for row in stood.before if row["channels"]]
    if tried:
        return _tried(evidence, stood, tried, rule)
    return _untold(at, evidence, stood, rule)


def _delay(rule: Rule | None) -> str:
    return f" for the rule's {span(rule.delay_s)}" if rule is not None and rule.delay_s else " for the rule's delay"


def _never_active(at: str, stood: _Stood, rule: Rule | None) -> tuple[Kind, str]:
    first, last = stood.events[0], stood.events[-1]
    if last["state"] == State.PENDING:
        since = instant(first["observed_at"])
        return "pending", f"nobody was told at {at}: it is pending since {since}, and has not lasted{_delay(rule)}"
    lasted = (last["observed_at"] - first["observed_at"]).total_seconds()
    ended = f"it ended ({last['reason']}) after {span(lasted)}, before it had lasted{_delay(rule)}"
    return "too_short", f"nobody was told at {at}: {ended}"


def _tried(evidence: Evidence, stood: _Stood, tried: Sequence[Row], rule: Rule | None) -> tuple[Kind, str]:
    """Somebody was to be told: how that ended."""
    ended = {(row["notification_id"], row["channel"]): row for row in evidence.deliveries}
    ways = [
        (row, channel, ended.get((row["notification_id"], channel))) for row in tried for channel in row["channels"]
    ]
    reached = [way for way in ways if way[2] is not None and way[2]["status"] in ("delivered", "digested")]
    if reached:
        _, channel, how = reached[-1]
        return "told", f"somebody was told: {channel}, {delivered(how)}{_further(stood, rule, evidence.pack)}"
    if DELIVERIES in evidence.missing:
        said = f"{ways[-1][1]} was to be told: how that ended is not known, {DELIVERIES} is not there"
        return "delivery_unknown", said
    row, channel, how = next((way for way in reversed(ways) if way[2] is not None), ways[-1])
    said = f"nobody was told: {channel} was to be told at {instant(row['decided_at'])}, {delivered(how)}"
    if how is None:
        return "delivery_unknown", said
    return ("unconfigured" if how["status"] == "unconfigured" else "undelivered"), said


def _further(stood: _Stood, rule: Rule | None, pack: Pack) -> str:
    """Whether another step of escalation comes, or why it does not."""
    then = stood.then
    if then["state"] == State.ACKNOWLEDGED:
        by = next((event.get("actor") for event in stood.events if event["state"] == State.ACKNOWLEDGED), None)
        return f"; nobody further, since {clean(by or 'somebody')} acknowledged it"
    steps = pack.escalation_of(rule) if rule is not None else ()
    step = then.get("escalation_step") or 0
    if then["state"] not in SOUNDING or step >= len(steps):
        return ""
    after = f"{span(steps[step].after_s)} after it became active"
    return f"; {', '.join(steps[step].channels)} would be next, {after}, unless somebody acknowledges it first"


def _untold(at: str, evidence: Evidence, stood: _Stood, rule: Rule | None) -> tuple[Kind, str]:
    """It was active by then, and nobody was to be told of it."""
    if NOTIFICATIONS in evidence.missing:
        return (
            "not_known",
            f"it was {stood.then['state']} at {at}; who was told is not known: {NOTIFICATIONS} is not there",
        )
    later = next((row for row in stood.later if row["channels"]), None)
    if later is not None:
        waited = f"nobody was told at {at}: it waited to be told together with others of the patient"
        return "waiting", f"{waited}, until {instant(later['decided_at'])}"
    dropped = next((row for row in (*stood.before, *stood.later) if row["reason"] == NOT_TOLD), None)
    if dropped is not None:
        return "ended_before_told", f"nobody was told at {at}: {not_told(dropped)}"
    muted = next((event for event in stood.events if event["state"] == State.SILENCED), None)
    if muted is not None:
        kind: Kind = "inhibited" if muted.get("reason") == Trigger.INHIBITED else "silenced"
        return kind, f"nobody was told at {at}: it was muted by {muting(muted, evidence.silences)}"
    if rule is not None and not evidence.pack.channels_of(rule):
        return "tells_nobody", f"nobody was told at {at}: {evidence.pack.label} names no channel for this rule"
    nothing = f"{NOTIFICATIONS} has no decision on it: none was made, or it has not landed yet (half a minute)"
    return "not_known", f"it was {stood.then['state']} at {at}, and {nothing}"


# No alert that was


def _of_values(question: Question, evidence: Evidence, rule: Rule) -> Answer:
    until = question.at + round(span_needed(rule)[1].total_seconds() * 1000)
    until = until if evidence.until is None else min(until, evidence.until)
    past = replay(evidence.pack, rule, evidence.evaluations, until)
    near = [look for look in past.looks if _is_near(look.evaluation, question.at)]
    opened = _alert_then(question.at, _as_rows(past.events))
    if opened is not None:
        return _replayed(question, evidence, rule, opened)
    if isinstance(rule, SilenceRule):
        return _of_silence(question, rule, past)
    if not near:
        return _nothing_heard(question, rule, past)
    return _not_usable(rule, near) or _late(rule, near) or _no_breach(question, evidence, rule, near)


def _is_near(evaluation: Evaluation, at: int) -> bool:
    return min(abs(evaluation.observed_at - at), abs(evaluation.received_at - at)) <= _AROUND_MS


def _as_rows(events: Iterable[Event]) -> list[Row]:
    """Events of the engine as rows of gold: those say when they were written, these by which clock they came."""
    rows: list[Row] = []
    for event in events:
        row: dict[str, Any] = {name: event.get(name) for name in ("value", "limit_value", "code", *event)}
        row["observed_at"] = aware(event["observed_at"])
        row["emitted_at"] = aware(event.get("message_received_at") or event["observed_at"])
        rows.append(row)
    return rows


def _replayed(question: Question, evidence: Evidence, rule: Rule, opened: Sequence[Row]) -> Answer:
    """The values give an alert, and gold has none."""
    stood = _stood(question.at, opened, ())
    lacking = f"{EVENTS} is not there" if EVENTS in evidence.missing else f"{EVENTS} has no such alert"
    shown = tuple(
        f"  {instant(row['observed_at'])}  {row['state']}: {row['reason']}{_of_row(row)}" for row in stood.events
    )
    if not stood.ever_active:
        kind, verdict = _never_active(instant(question.at), stood, rule)
        return Answer(kind, (f"{verdict} ({lacking}: so say the values)", *shown))
    causes = (
        "router and alert flow did not run then, or another pack or other limits were in force, or it has not landed"
    )
    verdict = f"by these rules an alert was active at {instant(question.at)}, but {lacking}"
    return Answer("not_recorded", (f"{verdict}: {causes}", *shown))


def _of_row(row: Row) -> str:
    value = row.get("value")
    return "" if value is None else f", {quantity(row.get('kind'), row.get('code'), value)}"


def _nothing_heard(question: Question, rule: Rule, past: Replayed) -> Answer:
    start, stop = instant(question.at - _AROUND_MS), instant(question.at + _AROUND_MS)
    verdict = f"nobody was told: nothing was heard of {clean(question.patient_id)} between {start} and {stop}"
    lines = []
    before = [look for look in past.looks if look.evaluation.received_at < question.at]
    if before:
        last = before[-1]
        lines.append(f"the last message before that came {instant(last.evaluation.received_at)}")
        judged = next((look for look in reversed(before) if look.finding is not None), None)
        if judged is not None:
            lines.append(f"the last of it that the rule could judge: {_said(rule, judged)}")
    else:
        lines.append(f"nor in the {span(span_needed(rule)[0].total_seconds())} before")
    after = next((look for look in past.looks if look.evaluation.received_at > question.at), None)
    if after is not None:
        lines.append(f"the next message came {instant(after.evaluation.received_at)}")
    return Answer("nothing_heard", (verdict, *lines))


def _codes(rule: Rule) -> frozenset[str]:
    """The signals that a rule looks at; none for what a device says of itself."""
    if isinstance(rule, ScoreRule):
        inputs = SCORES[rule.score].inputs
        gives = {name for name, source in INPUT_OF_SIGNAL.items() if source.input in inputs}
        return frozenset(signal.code for signal in signals() if signal.name in gives)
    if rule.kind == "combination":
        return frozenset(condition.code for condition in rule.conditions)
    code = getattr(rule, "code", None)
    return frozenset([code]) if code else frozenset()


def _not_usable(rule: Rule, near: Sequence[Look]) -> Answer | None:
    """No value of the rule's signals came, or none of them could be used."""
    codes = _codes(rule)
    if not codes or any(look.finding is not None for look in near):
        return None
    readings = [(look, reading) for look in near for reading in look.evaluation.readings if reading.code in codes]
    names = ", ".join(display(code) for code in sorted(codes))
    if not readings:
        return Answer("no_signal", (f"nobody was told: {count(len(near), 'message')} came then, none with {names}",))
    if any(reading.fault is None for _, reading in readings):
        return None
    first = readings[0][0].evaluation
    verdict = f"nobody was told: every value of {names} that came then was quarantined"
    where = f"the first of them: message {clean(first.message_id)}, observed {instant(first.observed_at)}"
    return Answer("quarantined", (verdict, *_faults(codes, near), where))


def _faults(codes: Collection[str], near: Sequence[Look]) -> list[str]:
    """What was quarantined of some signals, and why: a line for each constraint."""
    readings = (reading for look in near for reading in look.evaluation.readings if reading.code in codes)
    bad = Counter((reading.code, reading.fault) for reading in readings if reading.fault is not None)
    return [
        f"quarantined then: {count(times, 'value')} of {display(code)}, {fault}: {_MEANING.get(fault, 'unknown')}"
        for (code, fault), times in bad.items()
    ]


def _late(rule: Rule, near: Sequence[Look]) -> Answer | None:
    """Values then were a breach, but came too late to open an alert, or after later ones."""
    breaches = [look for look in near if look.finding is not None and look.finding.band == "breach"]
    if not breaches:
        return None
    first = breaches[0].evaluation
    came = f"observed {instant(first.observed_at)}, at the broker {instant(first.received_at)}"
    if all(look.stale for look in breaches):
        late = span((first.received_at - first.observed_at) / 1000)
        verdict = f"nobody was told: the values came {late} late"
        rule_of = f"a message of more than {span(STALE_AFTER.total_seconds())} ago opens nothing: it tells of the past"
        return Answer("late", (verdict, f"{_said(rule, breaches[0])}, {came}", rule_of))
    verdict = "nobody was told: the values came after later ones, which were no breach"
    return Answer("late", (verdict, f"{_said(rule, breaches[0])}, {came}"))


def _no_breach(question: Question, evidence: Evidence, rule: Rule, near: Sequence[Look]) -> Answer:
    """Values came, and none was a breach: the nearest of them, and what could not be used."""
    judged = [(look, look.finding) for look in near if look.finding is not None]
    messages, faults = count(len(near), "message"), _faults(_codes(rule), near)
    if not judged:
        verdict = f"nobody was told: {messages} came then, and nothing in them that the rule could judge"
        return Answer("no_breach", (verdict, "too little was known before, or it was taken back", *faults))
    limit = _limit_then(question, evidence, rule, near[-1].evaluation.location_unit)
    margins = [look for look, finding in judged if finding.band == "margin" and finding.value is not None]
    valued = [look for look, finding in judged if finding.value is not None]
    shown = [f"nearest to it: {_said(rule, _nearest(rule, margins or valued))}"] if valued else []
    if margins:
        verdict = f"nobody was told: values were in the margin, which opens nothing; {limit}"
        return Answer("margin", (verdict, *shown, *faults))
    verdict = f"nobody was told: none of {messages} then had a breach; {limit}"
    return Answer("no_breach", (verdict, *shown, *faults))


def _nearest(rule: Rule, looks: Sequence[Look]) -> Look:
    falls = (isinstance(rule, LimitRule) and rule.direction == "below") or (
        isinstance(rule, DeviceRule) and rule.measure == "battery"
    )

    def value(look: Look) -> float:
        return (look.finding.value if look.finding else None) or 0.0

    return min(looks, key=value) if falls else max(looks, key=value)


def _limit_then(question: Question, evidence: Evidence, rule: Rule, unit: str | None) -> str:
    """The limit that was in force."""
    if isinstance(rule, LimitRule):
        for own in evidence.own:
            side = own.high if rule.direction == "above" else own.low
            if own.code == rule.code and own.set_at <= question.at and side is not None:
                by = f" by {clean(own.set_by)}" if own.set_by else ""
                limit = f"{rule.direction} {quantity('limit', rule.code, side)}"
                return f"the limit is the patient's own, {limit}, set {instant(own.set_at)}{by}"
    return f"it tells of {watched(rule, unit)}"


def _said(rule: Rule, look: Look) -> str:
    finding: Finding | None = look.finding
    evaluation = look.evaluation
    where = f"message {clean(evaluation.message_id)}, {instant(evaluation.observed_at)}"
    if finding is None or finding.value is None:
        return f"{finding.band if finding else 'nothing'} ({where})"
    code = finding.code or getattr(rule, "code", None)
    return f"{quantity(rule.kind, code, finding.value)} ({finding.band}, {where})"


def _of_silence(question: Question, rule: SilenceRule, past: Replayed) -> Answer:
    """A silence that was no alert: it was too short, or of something that is not heard often enough."""
    heard = [look for look in past.looks if rule.code is None or _is_usable(look.evaluation, rule.code)]
    before = [look for look in heard if look.evaluation.received_at <= question.at]
    what = f"no {rule.signal or 'message'}"
    if not before:
        verdict = (
            f"nobody was told: {what} came before {instant(question.at)} either, and only what was heard is missed"
        )
        return Answer("nothing_heard", (verdict,))
    last = before[-1]
    after = next((look for look in heard if look.evaluation.received_at > question.at), None)
    lines = [f"heard last at {instant(last.evaluation.received_at)}"]
    if after is not None:
        lines.append(f"heard again at {instant(after.evaluation.received_at)}")
    usual = last.usual_gap_ms / 1000
    if not usual or usual * 3 > rule.after_s:
        often = f"came about every {span(usual)}" if usual else "had come once"
        verdict = f"nobody was told: it {often}; only what comes three times within {span(rule.after_s)} is missed"
    else:
        gap = (question.at - last.evaluation.received_at) / 1000
        verdict = f"nobody was told: the silence had lasted {span(gap)} of {span(rule.after_s)}"
    return Answer("no_breach", (verdict, *lines))


def _is_usable(evaluation: Evaluation, code: str) -> bool:
    return any(reading.code == code and reading.band != "none" for reading in evaluation.readings)
