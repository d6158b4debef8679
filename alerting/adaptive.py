"""Limits proposed from a patient's own baseline, within hard safety limits. A person applies them, or does not.

The baseline is the median of the minutes' means over a window of gold and their spread, 1.4826 times the median
absolute deviation, which for normal values is their standard deviation and which an episode of an hour hardly moves. A
proposed limit lies SPREADS spreads from the median, and where a profile (alerting/profiles) bounds it, at the bound.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from statistics import median
from typing import Annotated

import yaml
from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from alerting.kinds import Declared, Finite, Id, Text, numeric
from lakehouse.vocabulary import signal_by_name

SPREADS = 4.0
"""Of normal values one in thirty thousand lies further from the median: at one a minute, one in three weeks."""
LEAST_MINUTES = 360
"""Six hours of minutes: less is no baseline."""
_OF_NORMAL = 1.4826


class ProfileError(ValueError):
    """A profile cannot be used; the text says why."""


class Bounds(Declared):
    """The least and the greatest that each limit of a signal may be."""

    high: tuple[Finite, Finite] | None = None
    low: tuple[Finite, Finite] | None = None

    @model_validator(mode="after")
    def _in_order(self) -> "Bounds":
        for pair in (self.high, self.low):
            if pair is not None and pair[0] > pair[1]:
                raise ValueError(f"{pair[0]:g} to {pair[1]:g} is no range")
        return self


class Profile(Declared):
    """Bounds for patients of an age (years) or with a known condition; without either, for all."""

    name: Id
    title: Text
    from_age: Annotated[int, Field(ge=0)] | None = None
    condition: Id | None = None
    bounds: dict[str, Bounds]
    rationale: Text

    @field_validator("bounds")
    @classmethod
    def _of_signals(cls, bounds: dict[str, Bounds]) -> dict[str, Bounds]:
        for name in bounds:
            numeric(name)
        return bounds


@dataclass(frozen=True)
class Baseline:
    """What is usual for a patient: median and robust spread of a signal, in its unit, over so many minutes."""

    signal: str
    median: float
    spread: float
    minutes: int


@dataclass(frozen=True)
class Proposal:
    """A limit for one side of a signal: what the baseline alone gives (``wanted``), and what the profile allows."""

    baseline: Baseline
    side: str
    wanted: float
    limit: float
    profile: Profile


_PROFILES: TypeAdapter[tuple[Profile, ...]] = TypeAdapter(tuple[Profile, ...])


def profiles(name: str = "adult") -> tuple[Profile, ...]:
    """The profiles that come with the project. Raises ProfileError."""
    text = resources.files("alerting.profiles").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    try:
        return _PROFILES.validate_python(yaml.safe_load(text))
    except ValidationError as error:
        where = ("{}: {}".format(".".join(map(str, part["loc"])), part["msg"]) for part in error.errors())
        raise ProfileError(f"alerting/profiles/{name}.yaml: {'; '.join(where)}") from error


def conditions(known: Iterable[Profile]) -> tuple[str, ...]:
    """The conditions that profiles know."""
    return tuple(profile.condition for profile in known if profile.condition is not None)


def baseline(signal: str, means: Sequence[float]) -> Baseline | None:
    """The baseline of a signal from the means of its minutes; None where they are too few."""
    if len(means) < LEAST_MINUTES:
        return None
    middle = median(means)
    spread = _OF_NORMAL * median(abs(value - middle) for value in means)
    return Baseline(signal, middle, spread, len(means))


def bounds_of(
    known: Iterable[Profile], *, age: int | None, condition: Iterable[str] = ()
) -> Mapping[str, tuple[Bounds, Profile]]:
    """The bounds that hold for a patient, by signal, and the profile that gives them."""
    has = frozenset(condition)
    found: dict[str, tuple[Bounds, Profile]] = {}
    for profile in known:
        fits_age = profile.from_age is None or (age is not None and age >= profile.from_age)
        if fits_age and (profile.condition is None or profile.condition in has):
            found.update({name: (bounds, profile) for name, bounds in profile.bounds.items()})
    return found


def propose(baselines: Iterable[Baseline], bounds: Mapping[str, tuple[Bounds, Profile]]) -> tuple[Proposal, ...]:
    """Limits for each signal that has a baseline and bounds."""
    found = []
    for one in baselines:
        if one.signal not in bounds:
            continue
        its, profile = bounds[one.signal]
        for side, pair, sign in (("high", its.high, 1), ("low", its.low, -1)):
            if pair is not None:
                wanted = _rounded(one.signal, one.median + sign * SPREADS * one.spread)
                limit = min(max(wanted, pair[0]), pair[1])
                found.append(Proposal(one, side, wanted, limit, profile))
    return tuple(found)


def _rounded(signal: str, value: float) -> float:
    """To the precision of a monitor: whole numbers, a temperature to one decimal."""
    return round(value, 1 if signal_by_name()[signal].unit == "Cel" else 0)
