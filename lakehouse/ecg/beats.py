"""Chunks in, beats out: the R peaks of one lead, found by wfdb's XQRS in windows of a fixed grid.

XQRS learns from the first beats it is given and adapts from there, so where it starts matters. It is therefore given
windows that are counted from the beginning of a run, not from that of a chunk: ten seconds, with what came before for
it to learn from, and a little of what came after so that a beat at the border is whole. So any way to cut a run into
chunks gives the same beats. What comes with a gap is a new run; a few milliseconds are none, and instants follow the
newest chunk.

The state between two chunks is a frozen value: whoever reads a stream keeps one for each patient, device and lead.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from lakehouse.ecg.chunk import WaveformChunk
from lakehouse.ecg.quality import Quality, filled, quality
from lakehouse.ecg.series import shift

WINDOW_SECONDS = 10.0
BEFORE_SECONDS = 10.0
AFTER_SECONDS = 1.0
"""A beat is told at most WINDOW_SECONDS and AFTER_SECONDS later than it was."""

JITTER_SECONDS = 0.04
"""By how much a chunk may begin too late or too early and still follow: clocks of monitor and converter differ."""

REFRACTORY_SECONDS = 0.2
BORDER_SECONDS = 0.15
"""By how much two windows may differ on where a beat is."""

LEAST_SECONDS = 2.0
"""Shorter runs are not searched: the filters alone swing for half a second."""

LEAST_RATE = 100.0
"""Hz; below it a QRS complex has too few samples for the filters' band."""


class RateError(ValueError):
    """The lead is sampled too slowly for beats to be found."""


class ChunkOrderError(ValueError):
    """A chunk begins before the end of what was read."""


@dataclass(frozen=True)
class Beat:
    """One R peak. ``rr`` is the interval from the beat before it in the same run, in seconds; None for the first.

    ``quality`` is that of the ten seconds in which it lies: only beats of Quality.GOOD are to be believed.
    """

    at: datetime
    rr: float | None
    quality: Quality


@dataclass(frozen=True)
class Stretch:
    """Some ten seconds that were searched, with what they are worth and the beats in them."""

    started_at: datetime
    ended_at: datetime
    quality: Quality
    beats: tuple[Beat, ...]


@dataclass(frozen=True, eq=False)
class Search:
    """Where the search in one run is. ``held`` are its last samples in mV, ``clipped`` those at an end of the range.

    Counts are samples since the beginning of the run: ``total`` were read, up to ``done`` was searched, at ``last``
    the last beat was found.
    """

    started_at: datetime
    rate: float
    held: NDArray[np.float64]
    clipped: NDArray[np.bool_]
    total: int
    done: int = 0
    last: int | None = None

    def samples(self, seconds: float) -> int:
        """So many seconds in samples."""
        return round(seconds * self.rate)

    def at(self, index: int) -> datetime:
        """The instant of a sample of the run."""
        return self.started_at + timedelta(seconds=index / self.rate)


def search(state: Search | None, chunk: WaveformChunk) -> tuple[Search, list[Stretch]]:
    """The next state, and the stretches that are searched now. Raises RateError, ChunkOrderError."""
    if chunk.rate < LEAST_RATE:
        raise RateError(f"{chunk.rate:g} Hz: beats are found from {LEAST_RATE:g} Hz on")
    late = shift(state.at(state.total), chunk) if state else 0
    if abs(late) <= JITTER_SECONDS * chunk.rate and state:
        state, late = replace(state, started_at=state.started_at + timedelta(seconds=late / chunk.rate)), 0
    if late < 0:
        raise ChunkOrderError(f"the chunk of {chunk.started_at.isoformat()} begins {-late} samples too early")
    if state is None or late or chunk.rate != state.rate:
        found = finish(state) if state else []
        state = Search(chunk.started_at, chunk.rate, chunk.millivolts(), chunk.saturated(), len(chunk.samples))
    else:
        found = []
        state = replace(
            state,
            held=np.concatenate([state.held, chunk.millivolts()]),
            clipped=np.concatenate([state.clipped, chunk.saturated()]),
            total=state.total + len(chunk.samples),
        )
    after = state.samples(AFTER_SECONDS)
    while (end := state.done + state.samples(WINDOW_SECONDS)) + after <= state.total:
        state, stretch = _searched(state, end)
        found.append(stretch)
    return state, found


def finish(state: Search) -> list[Stretch]:
    """The rest of a run, when nothing more of it will come. A run shorter than LEAST_SECONDS has none."""
    found = []
    while state.done < state.total and state.total >= state.samples(LEAST_SECONDS):
        state, stretch = _searched(state, min(state.done + state.samples(WINDOW_SECONDS), state.total))
        found.append(stretch)
    return found


def stretches(chunks: Iterable[WaveformChunk]) -> Iterator[Stretch]:
    """All that is found in one lead, of chunks in order of time. Raises RateError, ChunkOrderError."""
    state = None
    for chunk in chunks:
        state, found = search(state, chunk)
        yield from found
    if state:
        yield from finish(state)


def beats(chunks: Iterable[WaveformChunk]) -> Iterator[Beat]:
    """All beats of one lead, of chunks in order of time. Raises RateError, ChunkOrderError."""
    return (beat for stretch in stretches(chunks) for beat in stretch.beats)


def _searched(state: Search, end: int) -> tuple[Search, Stretch]:
    """Search from ``done`` to ``end``, and let go of what no later window needs."""
    base = state.total - len(state.held)
    # The rest of a run may be a few samples, of which nothing could be said.
    window = slice(max(0, min(state.done, end - state.samples(LEAST_SECONDS)) - base), end - base)
    label = quality(state.held[window], state.clipped[window], state.rate)
    last, found = state.last, []
    for peak in _peaks(state.held[: end - base + state.samples(AFTER_SECONDS)], state.rate):
        index = base + int(peak)
        from_here = index >= state.done - state.samples(BORDER_SECONDS)
        if from_here and index < end and (last is None or index - last > state.samples(REFRACTORY_SECONDS)):
            found.append(Beat(state.at(index), None if last is None else (index - last) / state.rate, label))
            last = index
    keep = max(0, end - base - state.samples(BEFORE_SECONDS))
    stretch = Stretch(state.at(state.done), state.at(end), label, tuple(found))
    return replace(state, held=state.held[keep:], clipped=state.clipped[keep:], done=end, last=last), stretch


def _peaks(millivolts: NDArray[np.float64], rate: float) -> NDArray[np.int64]:
    from wfdb.processing import XQRS

    known = ~np.isnan(millivolts)
    if not known.any() or not np.ptp(millivolts[known]):
        return np.empty(0, dtype=np.int64)
    detector = XQRS(sig=filled(millivolts), fs=rate)
    # A part without change has no amplitude to be normalised by.
    with np.errstate(divide="ignore", invalid="ignore"):
        detector.detect(verbose=False)
    peaks = np.asarray(detector.qrs_inds, dtype=np.int64)
    return peaks[known[peaks]]
