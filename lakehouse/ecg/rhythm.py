"""Rhythm by the minute: heart rate and the variability of intervals, in the terms of the Task Force of 1996.

Only intervals between two beats of good quality count. Variability is that of normal intervals: those before and
after a premature beat are left out, since one of them would outweigh a hundred others. ``irregularity`` is of all of
them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from lakehouse.ecg.beat_class import JudgedBeat
from lakehouse.ecg.quality import Quality

_OVER_MS = 50.0


@dataclass(frozen=True)
class RhythmMinute:
    """One lead in one minute, UTC. Intervals are in ms, None where there is none; ``intervals`` are how many counted.

    ``beats`` are all that were found, ``good_beats`` those to be believed, ``premature`` are of these.
    ``irregularity`` is the root mean square of successive differences by the mean interval, a number without a unit;
    ``pnn50`` a share.
    """

    minute: datetime
    beats: int
    good_beats: int
    premature: int
    intervals: int
    mean_rr: float | None
    min_rr: float | None
    max_rr: float | None
    sdnn: float | None
    rmssd: float | None
    pnn50: float | None
    irregularity: float | None


@dataclass(frozen=True)
class _Interval:
    """Milliseconds, whether it is between two normal beats, and whether the one before it in time touches it."""

    ms: float
    normal: bool
    follows: bool


def by_minute(beats: Iterable[JudgedBeat]) -> Iterator[RhythmMinute]:
    """The minutes that have a beat, of beats of one lead in order. An interval is of the minute in which it ends."""
    for minute, members in groupby(_intervals(beats), key=lambda pair: _minute(pair[0])):
        yield _of_minute(minute, list(members))


def _minute(one: JudgedBeat) -> datetime:
    return one.beat.at.astimezone(UTC).replace(second=0, microsecond=0)


def _intervals(beats: Iterable[JudgedBeat]) -> Iterator[tuple[JudgedBeat, _Interval | None]]:
    before: JudgedBeat | None = None
    had_interval = False
    for one in beats:
        interval = None
        if before is not None and one.beat.rr is not None and _good(before) and _good(one):
            normal = not before.premature and not one.premature
            interval = _Interval(one.beat.rr * 1000, normal, had_interval)
        yield one, interval
        before, had_interval = one, interval is not None


def _good(one: JudgedBeat) -> bool:
    return one.beat.quality is Quality.GOOD


def _of_minute(minute: datetime, members: list[tuple[JudgedBeat, _Interval | None]]) -> RhythmMinute:
    intervals = [interval for _, interval in members if interval]
    every = np.array([interval.ms for interval in intervals])
    normal = np.array([interval.ms for interval in intervals if interval.normal])
    normal_steps = _steps(intervals, normal=True)
    rms = _root_mean_square(_steps(intervals))
    return RhythmMinute(
        minute=minute,
        beats=len(members),
        good_beats=sum(_good(one) for one, _ in members),
        premature=sum(bool(one.premature) and _good(one) for one, _ in members),
        intervals=len(intervals),
        mean_rr=float(every.mean()) if len(every) else None,
        min_rr=float(every.min()) if len(every) else None,
        max_rr=float(every.max()) if len(every) else None,
        sdnn=float(normal.std(ddof=1)) if len(normal) > 1 else None,
        rmssd=_root_mean_square(normal_steps),
        pnn50=float(np.mean(np.abs(normal_steps) > _OVER_MS)) if len(normal_steps) else None,
        irregularity=None if rms is None else rms / float(every.mean()),
    )


def _steps(intervals: list[_Interval], normal: bool = False) -> NDArray[np.float64]:
    """Differences of intervals that touch, within the minute; of normal ones alone."""
    pairs = pairwise(intervals)
    return np.array(
        [b.ms - a.ms for a, b in pairs if b.follows and (not normal or (a.normal and b.normal))], dtype=np.float64
    )


def _root_mean_square(steps: NDArray[np.float64]) -> float | None:
    return float(np.sqrt(np.mean(steps**2))) if len(steps) else None
