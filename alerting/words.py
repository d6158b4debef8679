"""Rules, values and instants in the words of a person, for every command that shows them. Pure."""

from collections.abc import Iterator
from datetime import UTC, datetime

from alerting.kinds import CombinationRule, DeviceRule, FlatLineRule, LimitRule, RateRule, Rule, ScoreRule, SilenceRule
from alerting.pack import Pack
from lakehouse.vocabulary import signal_by_code

_MEASURES = {"battery": "battery below {:g} %", "clock_skew": "clock off by more than {:g} s"}


def aware(at: float) -> datetime:
    """Epoch milliseconds as an aware instant."""
    return datetime.fromtimestamp(at / 1000, UTC)


def instant(at: datetime | float | None) -> str:
    """An aware instant, or epoch milliseconds, to the second in UTC."""
    if at is None:
        return "unknown"
    when = at if isinstance(at, datetime) else aware(at)
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def span(seconds: float) -> str:
    """``15 s``, ``2 min``, ``2 min 5 s``, ``24 h``, ``0.25 s``."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    parts = ((whole // 3600, "h"), (whole % 3600 // 60, "min"), (whole % 60, "s"))
    return " ".join(f"{count} {unit}" for count, unit in parts if count)


def count(number: int, what: str) -> str:
    """``1 alert``, ``2 alerts``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def quantity(kind: str | None, code: str | None, value: float) -> str:
    """What an alert of a kind measures: a value with its unit, points of a score, how long a device was silent."""
    if kind in ("silence", "flat_line"):
        return span(value)
    if kind == "score":
        return count(round(value), "point")
    if kind == "combination":
        return count(round(value), "condition")
    return f"{value:g}{_unit(code)}"


def display(code: str | None) -> str:
    """The name of a signal as people read it; a code that the vocabulary does not know stays as it is."""
    signal = signal_by_code().get(code or "")
    return signal.display if signal else code or "value"


def watched(rule: Rule, unit: str | None = None) -> str:
    """What a rule watches, as it holds in a care unit."""
    if isinstance(rule, LimitRule):
        return f"{rule.signal} {rule.direction} {rule.limit_in(unit):g}{_unit(rule.code)}"
    if isinstance(rule, RateRule):
        change = f"{rule.change:g}{_unit(rule.code)}"
        return f"{rule.signal} {rule.direction}s by {change} within {span(rule.window_s)}"
    if isinstance(rule, SilenceRule):
        return f"no {rule.signal or 'message'} for {span(rule.after_s)}"
    if isinstance(rule, FlatLineRule):
        return f"{rule.signal} unchanged for {span(rule.after_s)}, in at least {rule.readings} readings"
    if isinstance(rule, DeviceRule):
        return _MEASURES[rule.measure].format(rule.limit) if rule.limit is not None else "a lead is off"
    return rule.words()


def lasting(rule: Rule, unit: str | None = None) -> str:
    """What a rule watches, and for how long before the alert is active."""
    return f"{watched(rule, unit)}{f', for {span(rule.delay_s)}' if rule.delay_s else ''}"


def telling(pack: Pack, rule: Rule) -> str:
    """Who is told of an alert of the rule, and who next."""
    channels = pack.channels_of(rule)
    if not channels:
        return "tells nobody"
    steps = "".join(
        f"; {', '.join(step.channels)} after {span(step.after_s)} without an answer"
        for step in pack.escalation_of(rule)
    )
    return f"tells {', '.join(channels)}{steps}"


def described(pack: Pack, rule: Rule) -> tuple[str, ...]:
    """A rule of a pack in some lines, the first of them its name."""
    return (
        f"{rule.id}: {rule.title} ({rule.priority}, {rule.category})",
        *(f"  {line}" for line in _facts(pack, rule)),
    )


def _facts(pack: Pack, rule: Rule) -> Iterator[str]:
    yield lasting(rule)
    if isinstance(rule, LimitRule):
        for unit, own in rule.units.items():
            yield f"in unit {unit} {watched(rule, unit)}: {own.rationale}"
    yield _ending(rule)
    if rule.inhibits:
        yield f"while it is open, nobody is told of {', '.join(rule.inhibits)}"
    yield telling(pack, rule)
    yield f"why: {rule.rationale}"
    yield f"source: {rule.reference}"


def _ending(rule: Rule) -> str:
    lasts = f" for {span(rule.resolve_after_s)}" if rule.resolve_after_s else ""
    waits = "; then it waits until somebody acknowledges it" if rule.latching else ""
    return f"over when {_clear(rule)}{lasts}{waits}"


def _clear(rule: Rule) -> str:
    if isinstance(rule, LimitRule):
        bound = "at most" if rule.direction == "above" else "at least"
        return f"{bound} {rule.clear_in(None):g}{_unit(rule.code)}"
    if isinstance(rule, RateRule):
        return f"the change is at most {rule.change - rule.clear_margin:g}{_unit(rule.code)}"
    if isinstance(rule, ScoreRule):
        return f"below {rule.at_least - rule.clear_margin}"
    if isinstance(rule, CombinationRule):
        return f"fewer than {rule.needed} are other than clear"
    if isinstance(rule, DeviceRule) and rule.limit is not None:
        below = rule.measure == "battery"
        return (
            f"at {'least' if below else 'most'} {rule.limit + (rule.clear_margin if below else -rule.clear_margin):g}"
        )
    return "it is heard again" if isinstance(rule, SilenceRule) else "that has ended"


def _unit(code: str | None) -> str:
    signal = signal_by_code().get(code or "")
    return f" {signal.unit}" if signal and signal.unit else ""
