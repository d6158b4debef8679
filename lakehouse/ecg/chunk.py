"""A chunk of one lead: some seconds of samples as the converter gave them, and the codec in which they are kept.

Samples stay integers; ``(sample - baseline) / gain`` is the value in ``unit``, as in a WFDB header. Three integers
are no measurements but what a sender says in place of one: NO_VALUE, BELOW and ABOVE (FHIR's E, L and U).

The codec is lossless: differences from the sample before, modulo 2**32; zigzag, so that small ones of either sign are
small numbers; the four bytes of each in planes, of which the upper are nearly all zero; zstd.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import cache
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int32]

NO_VALUE = -(2**31)
BELOW = NO_VALUE + 1
ABOVE = 2**31 - 1
MARKS = (NO_VALUE, BELOW, ABOVE)

MOST_SAMPLES = 100_000
"""In one packed chunk: a bound on what a few bytes may unfold to. A hundred seconds at 1 kHz."""

MILLIVOLTS = {"mV": 1.0, "uV": 0.001, "V": 1000.0}
"""UCUM units of a lead, and what one is in mV."""

_LEVEL = 1
"""Higher ones look for repeats, of which a noisy line has none: they take more time and more bytes."""


class ChunkError(ValueError):
    """What should be a chunk is none; the text names the field."""


class CodecError(ValueError):
    """Bytes are not what ``packed`` gives, or not of that many samples."""


@dataclass(frozen=True, eq=False)
class WaveformChunk:
    """Samples of one lead without a gap. Raises ChunkError.

    ``signal`` is the lead's MDC code, ``rate`` in Hz, ``gain`` in steps of the converter per ``unit`` (UCUM),
    ``baseline`` the step of 0. ``lowest`` and ``highest`` are the ends of the converter's range, where they are
    known. ``samples`` are taken as any sequence of integers and kept as an array that cannot be written to.
    """

    patient_id: str
    device_id: str
    signal: str
    started_at: datetime
    rate: float
    unit: str
    gain: float
    baseline: float
    samples: Samples
    lowest: float | None = None
    highest: float | None = None

    def __post_init__(self) -> None:
        if self.started_at.tzinfo is None:
            raise ChunkError("started_at has no zone")
        if not (isfinite(self.rate) and self.rate > 0):
            raise ChunkError(f"rate must be above 0 Hz: {self.rate}")
        if self.unit not in MILLIVOLTS:
            raise ChunkError(f"unit must be one of {', '.join(MILLIVOLTS)}: {self.unit}")
        if not isfinite(self.gain) or self.gain == 0:
            raise ChunkError(f"gain must be finite and not 0: {self.gain}")
        if not isfinite(self.baseline):
            raise ChunkError(f"baseline must be finite: {self.baseline}")
        object.__setattr__(self, "samples", _held(self.samples))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, WaveformChunk):
            return NotImplemented
        return self._said() == other._said() and np.array_equal(self.samples, other.samples)

    def __hash__(self) -> int:
        return hash(self._said())

    def _said(self) -> tuple[Any, ...]:
        return tuple(getattr(self, field.name) for field in fields(self) if field.name != "samples")

    def at(self, index: int) -> datetime:
        """When the sample of this index was taken, to the microsecond; the first is 0."""
        return self.started_at + timedelta(seconds=index / self.rate)

    @property
    def ended_at(self) -> datetime:
        """When the sample after the last is due."""
        return self.at(len(self.samples))

    def millivolts(self) -> NDArray[np.float64]:
        """The samples in mV; NaN where there is no measurement."""
        values = (self.samples - self.baseline) / self.gain * MILLIVOLTS[self.unit]
        return np.where(np.isin(self.samples, MARKS), np.nan, values)

    def saturated(self) -> NDArray[np.bool_]:
        """Which samples are at an end of the converter's range, or said to be beyond it."""
        low = BELOW if self.lowest is None else self.lowest
        high = ABOVE if self.highest is None else self.highest
        ends = (self.samples <= low) | (self.samples >= high)
        return np.asarray(ends & (self.samples != NO_VALUE), dtype=np.bool_)


def _held(samples: Sequence[int] | Samples) -> Samples:
    given = np.asarray(samples)
    if given.ndim != 1 or not len(given):
        raise ChunkError("samples must be one or more, in one row")
    if given.dtype.kind not in "iu":
        raise ChunkError("samples must be integers")
    if given.min() < NO_VALUE or given.max() > ABOVE:
        raise ChunkError("samples must fit 32 bits")
    held = np.array(given, dtype=np.int32)
    held.setflags(write=False)
    return held


@cache
def _zstd() -> Any:
    import pyarrow as pa

    return pa.Codec("zstd", compression_level=_LEVEL)


def packed(samples: Samples) -> bytes:
    """The samples, compressed without loss. Raises CodecError where they are more than MOST_SAMPLES."""
    if len(samples) > MOST_SAMPLES:
        raise CodecError(f"{len(samples)} samples are too many for one chunk: {MOST_SAMPLES} at most")
    steps = np.diff(samples.astype(np.uint32), prepend=np.uint32(0)).view(np.int32)
    zigzag = ((steps << 1) ^ (steps >> 31)).astype("<u4")
    planes = np.ascontiguousarray(zigzag.view(np.uint8).reshape(-1, 4).T)
    return bytes(_zstd().compress(planes.tobytes(), asbytes=True))


def unpacked(content: bytes, count: int) -> Samples:
    """``count`` samples out of what ``packed`` gave. Raises CodecError."""
    if not 0 < count <= MOST_SAMPLES:
        raise CodecError(f"count must be 1 to {MOST_SAMPLES}: {count}")
    try:
        planes = np.frombuffer(_zstd().decompress(content, decompressed_size=4 * count, asbytes=True), dtype=np.uint8)
    except (OSError, ValueError) as error:
        raise CodecError(f"not {count} packed samples: {error}") from error
    if len(planes) != 4 * count:
        raise CodecError(f"not {count} packed samples: {len(planes) / 4:g}")
    zigzag = np.ascontiguousarray(planes.reshape(4, -1).T).view("<u4").ravel()
    steps = (zigzag >> np.uint32(1)) ^ (np.uint32(0) - (zigzag & np.uint32(1)))
    return np.cumsum(steps, dtype=np.uint32).view(np.int32)
