"""Chunks of one lead joined to what they are pieces of: runs without a gap, and the gaps between them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise

import numpy as np

from lakehouse.ecg.chunk import Samples, WaveformChunk


class MixedSignalError(ValueError):
    """Chunks are of more than one lead, or of more than one scale or rate."""


class ChunkOverlapError(ValueError):
    """Two chunks say different things of the same instants."""


@dataclass(frozen=True)
class Gap:
    """Instants of which there is no sample, from the one that was due to the one that came."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class Series:
    """``runs`` are chunks in order of time, as long as samples follow each other; ``repeated`` samples came twice."""

    runs: tuple[WaveformChunk, ...]
    repeated: int = 0

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """What lies between the runs."""
        return tuple(Gap(before.ended_at, after.started_at) for before, after in pairwise(self.runs))


def shift(due: datetime, chunk: WaveformChunk) -> int:
    """By how many samples a chunk begins later than is due (a gap), or earlier (below 0); half a sample is none."""
    return round((chunk.started_at - due).total_seconds() * chunk.rate)


def join(chunks: Iterable[WaveformChunk]) -> Series:
    """One series of chunks in any order. Instants count from the beginning of a run.

    What came twice counts once where it is the same. Raises MixedSignalError, and ChunkOverlapError where it is not.
    """
    parts: list[list[WaveformChunk]] = []
    length = repeated = 0
    for chunk in sorted(chunks, key=lambda chunk: chunk.started_at):
        first = parts[0][0] if parts else chunk
        if _kind(chunk) != _kind(first):
            raise MixedSignalError(f"{_kind(first)} and {_kind(chunk)} are not of one series")
        late = shift(parts[-1][0].at(length), chunk) if parts else 1
        if late > 0:
            parts.append([chunk])
            length = len(chunk.samples)
            continue
        again = min(-late, len(chunk.samples))
        _hold_same(parts[-1], -late, chunk, again)
        repeated += again
        if again < len(chunk.samples):
            parts[-1].append(replace(chunk, samples=chunk.samples[again:]))
            length += len(chunk.samples) - again
    return Series(tuple(_whole(part) for part in parts), repeated)


def _kind(chunk: WaveformChunk) -> tuple[object, ...]:
    return (chunk.patient_id, chunk.device_id, chunk.signal, chunk.rate, chunk.unit, chunk.gain, chunk.baseline)


def _hold_same(part: list[WaveformChunk], back: int, chunk: WaveformChunk, again: int) -> None:
    """The chunk's first ``again`` samples must be those that the part has from ``back`` before its end."""
    pieces: list[Samples] = []
    for piece in reversed(part):
        if sum(map(len, pieces)) >= back:
            break
        pieces.insert(0, piece.samples)
    had = np.concatenate([chunk.samples[:0], *pieces])
    if not np.array_equal(had[len(had) - back :][:again], chunk.samples[:again]):
        raise ChunkOverlapError(
            f"two chunks differ in {again} samples from {chunk.started_at.isoformat()} on (device {chunk.device_id})"
        )


def _whole(part: list[WaveformChunk]) -> WaveformChunk:
    return replace(part[0], samples=np.concatenate([piece.samples for piece in part]))
