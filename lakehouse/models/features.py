"""What a model is told of a patient at an instant T: declared once, for training and for live use alike.

A feature is a function of the versions of observations that were known by T, of the year of birth, and of nothing else.
What is recorded after T, corrections among it, changes no feature, and neither does the order of the rows; property
tests hold both.

Missing-data rule: a statistic without a value is NaN, which the model takes as it is; a count without a value is 0. A
score with missing inputs has a least and a most, never a silent 0.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from math import fsum, nan, sqrt
from typing import NamedTuple

from lakehouse.scores import NEWS2, SCORES, STALE_AFTER, Score, Value, input_of, score
from lakehouse.vocabulary import signal_by_code

DAY = timedelta(hours=24)
OLDEST_KNOWN_AGE = 90
"""Ages above 89 are one group (HIPAA Safe Harbor); MIMIC-III moves those births 300 years back."""


class Version(NamedTuple):
    """One version of one observation, as silver.observation has it. Instants have a zone.

    Versions of one observation order by the last five fields, as lakehouse/transforms/observation.py says.
    """

    observation_id: bytes
    code: str | None
    value: float | None
    value_code: str | None
    status: str | None
    observed_at: datetime
    recorded_at: datetime
    topic: str
    partition: int
    offset: int
    version: bytes


class Statistic(StrEnum):
    """What is said of the values of a window, ordered by their instants."""

    LAST = "last"
    MIN = "min"
    MAX = "max"
    MEAN = "mean"
    SLOPE = "slope"
    """Per hour, by least squares; NaN where all values are of one instant."""
    VARIABILITY = "variability"
    """Standard deviation of the sample, of two values or more."""
    HOURS_SINCE = "hours_since"
    COUNT = "count"


@dataclass(frozen=True)
class Feature:
    """One statistic of one signal over the window that ends at T; the window's begin does not belong to it."""

    signal: str
    statistic: Statistic
    window: timedelta = DAY

    @property
    def name(self) -> str:
        """Signal, statistic and hours: heart_rate_mean_24h."""
        return f"{self.signal}_{self.statistic}_{self.window // timedelta(hours=1)}h"


_COURSE = ("heart_rate", "respiratory_rate", "spo2", "systolic_bp", "mean_bp", "temperature")
_STATE = ("fio2", "oxygen_flow", "gcs_eye", "gcs_verbal", "gcs_motor")
_LABORATORY = ("glucose", "paco2", "wbc")
FEATURES: tuple[Feature, ...] = (
    *(Feature(signal, statistic) for signal in _COURSE for statistic in Statistic),
    # A turn within hours is what a mean of a day hides.
    *(Feature(signal, Statistic.MEAN, timedelta(hours=4)) for signal in _COURSE),
    *(Feature(signal, statistic) for signal in _STATE for statistic in (Statistic.LAST, Statistic.MIN, Statistic.MAX)),
    *(Feature(signal, statistic) for signal in _LABORATORY for statistic in (Statistic.LAST, Statistic.HOURS_SINCE)),
)
_PARTS = tuple(part.name for part in NEWS2.parts)
SCORED: tuple[str, ...] = (
    *(f"news2_{part}_points" for part in _PARTS),
    *(f"{name}_total_{end}" for name in SCORES for end in ("min", "max")),
)
NAMES: tuple[str, ...] = (*(feature.name for feature in FEATURES), *SCORED, "age")
"""Every feature, in the order in which a model takes them."""

DIGEST = sha256(repr((FEATURES, SCORED, OLDEST_KNOWN_AGE, SCORES, STALE_AFTER)).encode()).hexdigest()
"""Of the declaration: a model is only given features that are declared as those it was trained on."""

LOOK_BACK = max(*(feature.window for feature in FEATURES), *STALE_AFTER.values())
"""How far before T an observation can still count."""


def known(versions: Iterable[Version], at: datetime) -> list[Version]:
    """Of each observation the newest version recorded by then, without those entered in error, by instant and id.

    What was observed after ``at`` is left out, whatever a device's clock says of it.
    """
    newest: dict[bytes, Version] = {}
    for one in versions:
        if one.recorded_at <= at and ((other := newest.get(one.observation_id)) is None or _order(one) > _order(other)):
            newest[one.observation_id] = one
    counting = (one for one in newest.values() if one.status != "entered-in-error" and one.observed_at <= at)
    return sorted(counting, key=lambda one: (one.observed_at, one.observation_id))


def _order(one: Version) -> tuple[datetime, str, int, int, bytes]:
    return one.recorded_at, one.topic, one.partition, one.offset, one.version


def features(versions: Iterable[Version], birth_year: int | None, at: datetime) -> dict[str, float]:
    """Every feature of one patient at an instant, by name, from any of the patient's versions in any order.

    Versions observed more than :data:`LOOK_BACK` before ``at`` may be left out. Raises ValueError for an instant
    without a zone.
    """
    if at.tzinfo is None:
        raise ValueError("features at an instant: it needs its zone")
    current = known(versions, at)
    signals = signal_by_code()
    points: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for one in current:
        signal = signals.get(one.code or "")
        if signal is not None and one.value is not None:
            points[signal.name].append(((at - one.observed_at).total_seconds() / 3600, one.value))
    return {
        **{feature.name: _of(feature, points[feature.signal]) for feature in FEATURES},
        **_scores(current, at),
        "age": nan if birth_year is None else float(min(at.year - birth_year, OLDEST_KNOWN_AGE)),
    }


def vector(found: Mapping[str, float]) -> list[float]:
    """Features in the order of :data:`NAMES`."""
    return [found[name] for name in NAMES]


def _of(feature: Feature, points: Sequence[tuple[float, float]]) -> float:
    """The statistic of points (hours before T, value), the oldest first."""
    hours = feature.window / timedelta(hours=1)
    within = [point for point in points if point[0] < hours]
    if feature.statistic is Statistic.COUNT:
        return float(len(within))
    if not within:
        return nan
    values = [value for _, value in within]
    match feature.statistic:
        case Statistic.LAST:
            return values[-1]
        case Statistic.MIN:
            return min(values)
        case Statistic.MAX:
            return max(values)
        case Statistic.MEAN:
            return fsum(values) / len(values)
        case Statistic.HOURS_SINCE:
            return within[-1][0]
        case Statistic.SLOPE:
            return _slope(within)
        case Statistic.VARIABILITY:
            return _variability(values)


def _slope(points: Sequence[tuple[float, float]]) -> float:
    mean_ago = fsum(ago for ago, _ in points) / len(points)
    mean = fsum(value for _, value in points) / len(points)
    spread = fsum((ago - mean_ago) ** 2 for ago, _ in points)
    if spread == 0:
        return nan
    return -fsum((ago - mean_ago) * (value - mean) for ago, value in points) / spread


def _variability(values: Sequence[float]) -> float:
    if len(values) < 2:
        return nan
    mean = fsum(values) / len(values)
    return sqrt(fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _scores(current: Sequence[Version], at: datetime) -> dict[str, float]:
    """Points of NEWS2's parts, and the least and most that each score can be, from what is not stale at T."""
    inputs = _inputs(current, at)
    scored = {name: score(definition, inputs) for name, definition in SCORES.items()}
    found = {f"news2_{part}_points": _number(points) for part, points in scored[Score.NEWS2].parts.items()}
    for name, one in scored.items():
        found |= {f"{name}_total_min": float(one.total_min), f"{name}_total_max": float(one.total_max)}
    return found


def _inputs(current: Sequence[Version], at: datetime) -> dict[str, Value]:
    """The newest value of each input; of two at one instant oxygen before air, then the order of identities."""
    signals = signal_by_code()
    newest: dict[str, tuple[tuple[datetime, bool, bytes], Value]] = {}
    for one in current:
        signal = signals.get(one.code or "")
        given = None if signal is None else input_of(signal.name, one.value, one.value_code)
        if given is None or one.observed_at < at - STALE_AFTER[given[0]]:
            continue
        name, value = given
        rank = (one.observed_at, name == "on_oxygen" and value is True, one.observation_id)
        if name not in newest or rank > newest[name][0]:
            newest[name] = (rank, value)
    return {name: value for name, (_, value) in newest.items()}


def _number(points: int | None) -> float:
    return nan if points is None else float(points)
