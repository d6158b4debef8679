"""What is unusual for a patient, and what is only an artefact of a sensor, minute by minute.

Each signal is held against the patient's own last hours: the median of the minutes' means, and the median of how far
they lay from it (MAD), which a few wild minutes do not move. A minute lies before all that is asked of it: nothing here
knows the future. An artefact is told by how a signal moves within its minutes, not by how high it is, and a minute that
is one is neither unusual nor part of a baseline. Pure: minutes of gold.vital_sign_minute in, findings out.

Not a rule of the ward: nobody is called by it. Rules for missing values, flat lines and devices are in the rule pack.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from math import isnan
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lakehouse.vocabulary import signal_by_code

Values = NDArray[np.float64]
Marks = NDArray[np.bool_]

MINUTE = timedelta(minutes=1)
_STEPS = 200
"""Of a signal's plausible range: 1.5 beats a minute, half a per cent of SpO2, a tenth of a degree."""
_TO_SIGMA = 1.4826
"""The standard deviation of a normal distribution by its MAD."""


class Kind(StrEnum):
    """What a finding says."""

    UNUSUAL = "unusual"
    """Far from what is usual for this patient, for some minutes."""
    MOTION = "motion"
    """Out and back within a minute, as when a patient moves or a sensor is knocked."""
    FLAT_LINE = "flat_line"
    """One and the same value for minutes, where the signal moves within its minutes as a rule."""
    SENSOR_OFF = "sensor_off"
    """No value for minutes while the patient's other sensors give some."""


ARTEFACTS = (Kind.MOTION, Kind.FLAT_LINE, Kind.SENSOR_OFF)


@dataclass(frozen=True)
class Settings:
    """What counts as unusual. Minutes, and multiples of a robust standard deviation."""

    baseline: int = 240
    """How far back a patient's usual goes."""
    least: int = 30
    """Minutes with a value that a baseline needs."""
    deviation: float = 5.0
    lasting: int = 3
    """Minutes in a row that an unusual value, a flat line or a missing sensor takes to count."""
    swing: float = 6.0
    """How many times its usual range within a minute a signal moves when it is motion."""


class Finding(NamedTuple):
    """A stretch of minutes of one signal. ``end`` is the first minute after it.

    ``value`` is the mean farthest from ``usual``, ``deviation`` that in robust standard deviations; None of artefacts.
    """

    kind: Kind
    code: str
    begin: datetime
    end: datetime
    value: float | None
    usual: float | None
    deviation: float | None

    @property
    def words(self) -> str:
        """``unusual: 131, usual 84.5``; of an artefact its kind."""
        kind = self.kind.replace("_", " ")
        return kind if self.value is None or self.usual is None else f"{kind}: {self.value:.3g}, usual {self.usual:.3g}"


class _Signal(NamedTuple):
    """One signal on a grid of minutes: NaN where there is no value."""

    code: str
    mean: Values
    low: Values
    high: Values
    first: Values
    last: Values
    resolution: float


def findings(minutes: Iterable[Mapping[str, Any]], settings: Settings = Settings()) -> list[Finding]:
    """Every finding of one patient's minutes (rows of gold.vital_sign_minute), in order of time."""
    rows = list(minutes)
    if not rows:
        return []
    begin, signals = _grid(rows)
    present = np.array([~np.isnan(signal.mean) for signal in signals])
    found = [one for number, signal in enumerate(signals) for one in _of(signal, present, number, begin, settings)]
    return sorted(found, key=lambda one: (one.begin, one.code, one.kind))


def _grid(rows: Sequence[Mapping[str, Any]]) -> tuple[datetime, list[_Signal]]:
    begin, end = min(row["minute"] for row in rows), max(row["minute"] for row in rows)
    length = _minutes(begin, end) + 1
    columns: dict[str, NDArray[np.float64]] = {}
    for row in rows:
        of = columns.setdefault(row["code"], np.full((5, length), np.nan))
        of[:, _minutes(begin, row["minute"])] = row["mean"], row["min"], row["max"], row["first"], row["last"]
    return begin.astimezone(UTC), [
        _Signal(code, of[0], of[1], of[2], of[3], of[4], _resolution(code)) for code, of in sorted(columns.items())
    ]


def _minutes(begin: datetime, end: datetime) -> int:
    return round((end - begin) / MINUTE)


def _resolution(code: str) -> float:
    """The least spread that a signal's baseline is taken to have: a monitor that shows 37.0 all night is not exact."""
    signal = signal_by_code().get(code)
    high, low = (signal.at_most or signal.below, signal.at_least or signal.above) if signal else (None, None)
    return (high - (low or 0.0)) / _STEPS if high is not None else 1.0


def _of(signal: _Signal, present: Marks, number: int, begin: datetime, settings: Settings) -> Iterator[Finding]:
    ranges = signal.high - signal.low
    flat = _lasting(_still(ranges, settings.least), settings.lasting)
    usual_range = _before(np.where(flat, np.nan, ranges), settings, np.nanmedian)
    # Out and back: the minute's ends lie where its mean of before did, and one of its values far from there.
    ends = np.maximum(np.abs(signal.first - signal.last), np.abs(signal.mean - (signal.first + signal.last) / 2))
    swing = ranges > settings.swing * np.maximum(usual_range, signal.resolution)
    motion = swing & (ends < ranges / 2)
    # A sensor is off that had given values for an hour's half, while another one still does.
    others = np.delete(present, number, axis=0).any(axis=0)
    gave = _count_before(present[number], settings.baseline) >= settings.least
    off = _lasting(~present[number] & others & gave, settings.lasting)

    kept = np.where(flat | motion, np.nan, signal.mean)
    usual = _before(kept, settings, np.nanmedian)
    spread = _spread(kept, usual, settings)
    away = (kept - usual) / np.maximum(_TO_SIGMA * spread, signal.resolution)
    unusual = _lasting(np.abs(away) >= settings.deviation, settings.lasting)
    for kind, marks in (
        (Kind.FLAT_LINE, flat),
        (Kind.MOTION, motion),
        (Kind.SENSOR_OFF, off),
        (Kind.UNUSUAL, unusual),
    ):
        for first, after in _stretches(marks):
            yield _finding(kind, signal, begin, first, after, usual, away)


def _finding(
    kind: Kind, signal: _Signal, begin: datetime, first: int, after: int, usual: Values, away: Values
) -> Finding:
    span = begin + first * MINUTE, begin + after * MINUTE
    within = np.abs(away[first:after])
    if kind is not Kind.UNUSUAL or np.isnan(within).all():
        return Finding(kind, signal.code, *span, None, None, None)
    at = first + int(np.nanargmax(within))
    return Finding(
        kind,
        signal.code,
        *span,
        float(signal.mean[at]),
        float(usual[at]),
        round(float(away[at]), 1),
    )


def _windows(values: Values, length: int) -> NDArray[np.float64]:
    """For each minute the ``length`` minutes before it, as a row."""
    padded = np.concatenate([np.full(length, np.nan), values[:-1]])
    return np.lib.stride_tricks.sliding_window_view(padded, length)[: len(values)]


def _before(values: Values, settings: Settings, statistic: Any) -> Values:
    """A statistic of the minutes before each minute; NaN where too few of them have a value."""
    windows = _windows(values, settings.baseline)
    enough = (~np.isnan(windows)).sum(axis=1) >= settings.least
    found = np.full(len(values), np.nan)
    if enough.any():
        found[enough] = statistic(windows[enough], axis=1)
    return found


def _spread(values: Values, usual: Values, settings: Settings) -> Values:
    """The MAD of the minutes before each minute."""
    windows = _windows(values, settings.baseline)
    found = np.full(len(values), np.nan)
    known = ~np.isnan(usual)
    if known.any():
        found[known] = np.nanmedian(np.abs(windows[known] - usual[known, None]), axis=1)
    return found


def _still(ranges: Values, least: int) -> Marks:
    """Minutes without any movement of a signal that has moved within most of its minutes so far.

    Such a minute counts for nothing: a signal that stands still for hours would else be one that never moves.
    """
    marks = np.zeros(len(ranges), dtype=bool)
    moving = seen = 0
    for at, swing in enumerate(ranges.tolist()):
        if swing == 0 and seen >= least and 2 * moving > seen:
            marks[at] = True
        elif not isnan(swing):
            seen += 1
            moving += swing > 0
    return marks


def _count_before(marks: Marks, length: int) -> NDArray[np.int64]:
    total = np.concatenate([[0], np.cumsum(marks)])
    at = np.arange(len(marks))
    return np.asarray(total[at] - total[np.maximum(at - length, 0)], dtype=np.int64)


def _stretches(marks: Marks) -> Iterator[tuple[int, int]]:
    """Begin, and first place after, of each run of marks."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marks, [False]]).astype(np.int8)))
    yield from ((int(begin), int(end)) for begin, end in edges.reshape(-1, 2))


def _lasting(marks: Marks, least: int) -> Marks:
    """The marks that stand in runs of at least so many."""
    kept = np.zeros(len(marks), dtype=bool)
    for begin, end in _stretches(marks):
        kept[begin:end] = end - begin >= least
    return kept
