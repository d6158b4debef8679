"""The kinds of rules: what each of them watches, as values that pydantic checks.

Physiological kinds (limit, rate, score, combination) count time as the device does (observed_at). The others (silence,
flat_line, no_value, device) tell of the device itself, whose clock may be what is wrong: they count by the broker's.
"""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lakehouse.scores import SCORES, Score
from lakehouse.vocabulary import Signal, plausible, signal_by_name

Priority = Literal["high", "medium", "low"]
Category = Literal["physiological", "technical"]
Direction = Literal["above", "below"]

Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Margin = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]
Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]
Id = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
Text = Annotated[str, Field(min_length=1)]
# What may stand in a SQL literal as it is.
_UnitName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._/-]*$")]

RANK: dict[str, int] = {"low": 0, "medium": 1, "high": 2}
"""Priorities in order."""

DISCONNECTED = "sensor_disconnected"
"""The fault of a value that says "no value": see lakehouse.tables.OBSERVATION_CONSTRAINTS."""


class Declared(BaseModel):
    """A part of a pack: frozen, and a field that is not known is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EscalationStep(Declared):
    """Who is told when nobody has acknowledged an alert ``after_s`` seconds after it became active."""

    after_s: Positive
    channels: Annotated[tuple[Id, ...], Field(min_length=1)]


class UnitLimit(Declared):
    """The limit of one care unit, in place of the rule's own."""

    limit: Finite
    clear_margin: Margin
    rationale: Text


class RuleBase(Declared):
    """What rules of every kind have in common.

    ``delay_s`` is how long what the rule watches must last before the alert becomes active, ``resolve_after_s`` how
    long its end. A ``latching`` alert stays until it is acknowledged. While an alert of this rule is open, those of the
    rules it ``inhibits`` are not told. ``channels`` and ``escalation`` replace what the pack says for the priority.
    """

    id: Id
    title: Text
    priority: Priority
    category: Category
    delay_s: Margin = 0
    resolve_after_s: Margin = 0
    latching: bool = False
    inhibits: tuple[Id, ...] = ()
    channels: tuple[Id, ...] | None = None
    escalation: tuple[EscalationStep, ...] | None = None
    rationale: Text
    reference: Text

    @field_validator("escalation")
    @classmethod
    def _steps_in_order(cls, steps: tuple[EscalationStep, ...] | None) -> tuple[EscalationStep, ...] | None:
        return in_order(steps) if steps is not None else None


def in_order(steps: tuple[EscalationStep, ...]) -> tuple[EscalationStep, ...]:
    """The steps, or ValueError where one does not come after the one before it."""
    if any(later.after_s <= earlier.after_s for earlier, later in pairwise(steps)):
        raise ValueError("each step must come later than the one before it")
    return steps


def numeric(name: str) -> str:
    """The name of a numeric signal, or ValueError."""
    known = [signal.name for signal in signal_by_name().values() if not signal.coded]
    if name not in known:
        raise ValueError(f"not a numeric signal; known: {', '.join(known)}")
    return name


def bounds(signal: Signal) -> str:
    """What is plausible for a signal, in words: ``above 0 and at most 100``."""
    named = (
        ("above", signal.above),
        ("at least", signal.at_least),
        ("below", signal.below),
        ("at most", signal.at_most),
    )
    return " and ".join(f"{word} {limit:g}" for word, limit in named if limit is not None)


def clear_value(direction: Direction, limit: float, margin: float) -> float:
    """The value at which what lies ``above`` or ``below`` a limit is clear of it."""
    # 38.5 - 0.3 must be 38.2 and not its neighbour: a value is held against the number a reader computes.
    return round(limit - margin if direction == "above" else limit + margin, 6)


class _OfSignal(RuleBase):
    """A rule of one numeric signal."""

    signal: str

    _is_numeric = field_validator("signal")(numeric)

    @property
    def measured(self) -> Signal:
        """The signal of the vocabulary."""
        return signal_by_name()[self.signal]

    @property
    def code(self) -> str:
        """LOINC code of the signal."""
        return self.measured.code


class LimitRule(_OfSignal):
    """A value of one signal above or below a limit, both in the signal's unit.

    ``clear_margin`` is the hysteresis: an alert clears only when the value is that far on the good side of the limit.
    """

    kind: Literal["limit"]
    direction: Direction
    limit: Finite
    clear_margin: Margin
    units: dict[_UnitName, UnitLimit] = {}

    @model_validator(mode="after")
    def _is_reachable(self) -> Self:
        for unit in (None, *self.units):
            limit, clear = self.limit_in(unit), self.clear_in(unit)
            if not (plausible(self.measured, limit) and plausible(self.measured, clear)):
                where = f" in unit {unit}" if unit else ""
                raise ValueError(
                    f"limit {limit:g}{where} clears at {clear:g},"
                    f" but {self.signal} is plausible {bounds(self.measured)}"
                )
        return self

    def limit_in(self, unit: str | None) -> float:
        """The limit in one care unit."""
        return self.units[unit].limit if unit in self.units else self.limit

    def margin_in(self, unit: str | None) -> float:
        """The clear margin in one care unit."""
        return self.units[unit].clear_margin if unit in self.units else self.clear_margin

    def clear_in(self, unit: str | None) -> float:
        """The value at which an alert of this rule clears in one care unit."""
        return clear_value(self.direction, self.limit_in(unit), self.margin_in(unit))

    def words(self) -> str:
        """The rule in a few words."""
        return f"{self.signal} {self.direction} {self.limit:g}"


class RateRule(_OfSignal):
    """A signal that rises or falls by ``change`` (in its unit) within a window.

    The window is looked at in tenths: the mean of the newest against the lowest (for a rise) or highest of the others,
    so that one odd value makes no rate. An alert clears when the change is ``clear_margin`` less.
    """

    kind: Literal["rate"]
    direction: Literal["rise", "fall"]
    change: Positive
    window_s: Annotated[float, Field(strict=True, ge=60, le=86_400)]
    clear_margin: Margin

    @model_validator(mode="after")
    def _can_clear(self) -> Self:
        if self.clear_margin >= self.change:
            raise ValueError(f"clear_margin {self.clear_margin:g} must be less than the change {self.change:g}")
        return self

    def words(self) -> str:
        """The rule in a few words."""
        return f"{self.signal} {self.direction} by {self.change:g} within {self.window_s:g} s"


class ScoreRule(RuleBase):
    """An early-warning score at or above a number of points.

    It opens when the least that the score can be, with inputs no older than their limits, reaches ``at_least``; so a
    missing input never raises it. It clears when the score with the last known value of each input, however old, is
    below ``at_least`` by more than ``clear_margin`` points: an input that fell silent is no recovery. With
    ``in_one_part`` the points of each part alone are held against ``at_least``, and not their sum.
    """

    kind: Literal["score"]
    score: Score
    at_least: Annotated[int, Field(strict=True, ge=1)]
    clear_margin: Annotated[int, Field(strict=True, ge=0)] = 0
    in_one_part: bool = False

    @model_validator(mode="after")
    def _is_reachable(self) -> Self:
        parts = [max(p for r in part.readings for p in r.rule.possible) for part in SCORES[self.score].parts]
        most = max(parts) if self.in_one_part else sum(parts)
        if self.at_least > most or self.clear_margin >= self.at_least:
            raise ValueError(
                f"at_least {self.at_least} less a margin of {self.clear_margin} must lie within 1 and {most}"
            )
        return self

    def words(self) -> str:
        """The rule in a few words."""
        return f"{self.score.value} at least {self.at_least}{' in one part' if self.in_one_part else ''}"


class Condition(Declared):
    """One part of a combination: a signal above or below a limit."""

    signal: str
    direction: Direction
    limit: Finite
    clear_margin: Margin = 0

    _is_numeric = field_validator("signal")(numeric)

    @property
    def code(self) -> str:
        """LOINC code of the signal."""
        return signal_by_name()[self.signal].code

    @property
    def clear(self) -> float:
        """The value at which the condition is clear."""
        return clear_value(self.direction, self.limit, self.clear_margin)

    def breached(self, value: float) -> bool:
        """Whether a value is beyond the limit."""
        return value > self.limit if self.direction == "above" else value < self.limit

    def cleared(self, value: float) -> bool:
        """Whether a value is on the good side of the margin."""
        return value <= self.clear if self.direction == "above" else value >= self.clear


class CombinationRule(RuleBase):
    """At least so many of several conditions at once (all of them unless ``at_least`` says fewer).

    A signal counts by its newest value, no older than ``within_s``. The alert clears when fewer than ``at_least`` of
    the conditions are other than clear, by the last known values however old.
    """

    kind: Literal["combination"]
    conditions: Annotated[tuple[Condition, ...], Field(min_length=2)]
    at_least: Annotated[int, Field(strict=True, ge=2)] | None = None
    within_s: Positive

    @model_validator(mode="after")
    def _is_reachable(self) -> Self:
        if self.needed > len(self.conditions):
            raise ValueError(f"at_least {self.needed} of {len(self.conditions)} conditions cannot be")
        if len({condition.signal for condition in self.conditions}) < len(self.conditions):
            raise ValueError("conditions: a signal may have one condition")
        return self

    @property
    def needed(self) -> int:
        """How many conditions must hold."""
        return self.at_least or len(self.conditions)

    def words(self) -> str:
        """The rule in a few words."""
        each = ", ".join(f"{c.signal} {c.direction} {c.limit:g}" for c in self.conditions)
        return f"{self.needed} of: {each}"


class SilenceRule(RuleBase):
    """Nothing from a device, or no usable value of one of its signals, for ``after_s`` seconds.

    Only of what came at least three times as often before: a value charted by hand once an hour is not silent after a
    minute. De-identified sources are exempt, since their past is not now.
    """

    kind: Literal["silence"]
    signal: str | None = None
    after_s: Positive

    @field_validator("signal")
    @classmethod
    def _is_known(cls, name: str | None) -> str | None:
        return None if name is None else numeric(name)

    @model_validator(mode="after")
    def _has_no_delay(self) -> Self:
        if self.delay_s:
            raise ValueError("delay_s: after_s is the delay of a silence")
        return self

    @property
    def code(self) -> str | None:
        """LOINC code of the signal, None for the device as a whole."""
        return None if self.signal is None else signal_by_name()[self.signal].code

    def words(self) -> str:
        """The rule in a few words."""
        return f"no {self.signal or 'message'} for {self.after_s:g} s"


class FlatLineRule(_OfSignal):
    """A signal whose value does not change at all for ``after_s`` seconds, over at least ``readings`` readings."""

    kind: Literal["flat_line"]
    after_s: Positive
    readings: Annotated[int, Field(strict=True, ge=2)] = 10

    def words(self) -> str:
        """The rule in a few words."""
        return f"{self.signal} unchanged for {self.after_s:g} s"


class NoValueRule(_OfSignal):
    """A device that sends a "no value" in place of a signal's value: its lead or probe is off."""

    kind: Literal["no_value"]

    def words(self) -> str:
        """The rule in a few words."""
        return f"{self.signal} without a value"


class DeviceRule(RuleBase):
    """What a device says of itself: battery below ``limit`` %, clock off by more than ``limit`` s, or a lead off.

    A clock is behind only where messages come at least three times within ``limit``: what is charted comes late by a
    clock that is right.
    """

    kind: Literal["device"]
    measure: Literal["battery", "clock_skew", "lead_off"]
    limit: Margin | None = None
    clear_margin: Margin = 0

    @model_validator(mode="after")
    def _has_its_limit(self) -> Self:
        if (self.limit is None) is not (self.measure == "lead_off"):
            raise ValueError("battery and clock_skew need a limit, and lead_off has none")
        return self

    def words(self) -> str:
        """The rule in a few words."""
        return self.measure if self.limit is None else f"{self.measure} {self.limit:g}"


Rule = Annotated[
    LimitRule | RateRule | ScoreRule | CombinationRule | SilenceRule | FlatLineRule | NoValueRule | DeviceRule,
    Field(discriminator="kind"),
]
"""A rule of any kind. Another kind is a class with its own ``kind``, joined here."""
