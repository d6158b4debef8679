"""Chunks of one lead, as they may be stored, to chunks that can be searched: each instant said once, or not at all.

A sender that repeats itself may cut its samples otherwise the second time. What is said twice alike counts once. Where
two chunks say different things of the same instants neither is believed: nobody knows which is right.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime

import numpy as np

from lakehouse.ecg.beats import JITTER_SECONDS
from lakehouse.ecg.chunk import WaveformChunk


def settled(chunks: Iterable[WaveformChunk]) -> Iterator[WaveformChunk]:
    """The chunks in order of time, without repeats and without those that contradict another, in any order given."""
    ordered = sorted(chunks, key=lambda chunk: chunk.started_at)
    disputed = _disputed(ordered)
    end: datetime | None = None
    for number, chunk in enumerate(ordered):
        if number in disputed or (end is not None and chunk.ended_at <= end):
            continue
        yield chunk if end is None else _after(chunk, end)
        end = chunk.ended_at


def within(chunks: Iterable[WaveformChunk], start: datetime, end: datetime) -> Iterator[WaveformChunk]:
    """Of each chunk the samples from ``start`` on and before ``end``."""
    for chunk in chunks:
        first = _index(chunk, start)
        past = _index(chunk, end)
        if first < past:
            yield _part(chunk, first, past)


def _disputed(ordered: list[WaveformChunk]) -> set[int]:
    found: set[int] = set()
    for number, chunk in enumerate(ordered):
        for other_number, other in enumerate(ordered[number + 1 :], number + 1):
            if other.started_at >= chunk.ended_at:
                break
            if _overlap(chunk, other) > JITTER_SECONDS and not _agree(chunk, other):
                found |= {number, other_number}
    return found


def _overlap(first: WaveformChunk, second: WaveformChunk) -> float:
    return (min(first.ended_at, second.ended_at) - second.started_at).total_seconds()


def _agree(first: WaveformChunk, second: WaveformChunk) -> bool:
    if _scale(first) != _scale(second):
        return False
    had = first.samples[_index(first, second.started_at) :]
    count = min(len(had), len(second.samples))
    return np.array_equal(had[:count], second.samples[:count])


def _scale(chunk: WaveformChunk) -> tuple[object, ...]:
    return (chunk.rate, chunk.unit, chunk.gain, chunk.baseline)


def _after(chunk: WaveformChunk, end: datetime) -> WaveformChunk:
    """The chunk without what ends before ``end``; less than the jitter of clocks is no repeat."""
    if (end - chunk.started_at).total_seconds() <= JITTER_SECONDS:
        return chunk
    return _part(chunk, _index(chunk, end), len(chunk.samples))


def _part(chunk: WaveformChunk, first: int, past: int) -> WaveformChunk:
    if (first, past) == (0, len(chunk.samples)):
        return chunk
    return replace(chunk, samples=chunk.samples[first:past], started_at=chunk.at(first))


def _index(chunk: WaveformChunk, instant: datetime) -> int:
    """The index of the sample at this instant, to the nearest, from 0 to the number of samples."""
    index = round((instant - chunk.started_at).total_seconds() * chunk.rate)
    return min(max(index, 0), len(chunk.samples))
