"""A WFDB record as chunks: its ECG leads, digital samples as they are in the files.

A record's date is that of a clock nobody knows the zone of, if it has one, so the caller says when it began.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import isfinite
from pathlib import Path

import numpy as np

from lakehouse.ecg.chunk import MILLIVOLTS, NO_VALUE, ChunkError, Samples, WaveformChunk
from lakehouse.ecg.lead import code_by_lead

_UNREADABLE = (ValueError, IndexError, KeyError, TypeError, AttributeError, ArithmeticError, OSError, MemoryError)
"""What wfdb raises of a damaged header or signal file."""


class WfdbRecordError(ValueError):
    """Files are no WFDB record, or one that has no such lead; the text names the record."""


@dataclass(frozen=True)
class Lead:
    """One signal of a record: MDC code, Hz, and what the header says of its scale; ``samples`` are all it has."""

    name: str
    code: str
    rate: float
    unit: str
    gain: float
    baseline: float
    lowest: float
    highest: float
    samples: Samples


def leads(record: Path, codes: Mapping[str, str] | None = None) -> tuple[Lead, ...]:
    """The leads of a record (path without an extension), whole. Raises WfdbRecordError.

    Signals that are neither leads by their name nor in ``codes``, which maps other names to MDC codes, are left out.
    """
    known = {**code_by_lead(), **{name.lower(): code for name, code in (codes or {}).items()}}
    if not record.with_name(f"{record.name}.hea").is_file():
        raise WfdbRecordError(f"{record}: there is no {record.name}.hea")
    try:
        return tuple(_leads(record, known))
    except WfdbRecordError:
        raise
    except _UNREADABLE as error:
        raise WfdbRecordError(f"{record} cannot be read: {error or type(error).__name__}") from error


def chunks(
    record: Path,
    patient_id: str,
    device_id: str,
    started_at: datetime,
    seconds: float = 10.0,
    codes: Mapping[str, str] | None = None,
) -> Iterator[WaveformChunk]:
    """The leads of a record, each cut into chunks of ``seconds``, one lead after the other. Raises WfdbRecordError."""
    for lead in leads(record, codes):
        size = max(1, round(seconds * lead.rate))
        for begin in range(0, len(lead.samples), size):
            try:
                yield WaveformChunk(
                    patient_id=patient_id,
                    device_id=device_id,
                    signal=lead.code,
                    started_at=started_at + timedelta(seconds=begin / lead.rate),
                    rate=lead.rate,
                    unit=lead.unit,
                    gain=lead.gain,
                    baseline=lead.baseline,
                    samples=lead.samples[begin : begin + size],
                    lowest=lead.lowest,
                    highest=lead.highest,
                )
            except (ChunkError, OverflowError) as error:
                raise WfdbRecordError(f"{record}, lead {lead.name}: {error}") from error


def _leads(path: Path, known: Mapping[str, str]) -> Iterator[Lead]:
    import wfdb

    header = wfdb.rdheader(str(path))
    chosen = [number for number, name in enumerate(header.sig_name or []) if (name or "").lower() in known]
    if not chosen:
        named = ", ".join(map(str, header.sig_name or []))
        raise WfdbRecordError(f"{path} has no lead that is known by its name: {named}")
    # Frames are not smoothed: that would average the samples of a signal that is faster than the record.
    record = wfdb.rdrecord(str(path), channels=chosen, physical=False, smooth_frames=False)
    measured = record.dac(expanded=True)
    for number, name in enumerate(record.sig_name):
        unit = record.units[number]
        if unit not in MILLIVOLTS:
            raise WfdbRecordError(f"{path}, lead {name}: its unit {unit} is none of {', '.join(MILLIVOLTS)}")
        rate = float(record.fs * record.samps_per_frame[number])
        if not (isfinite(rate) and rate > 0):
            raise WfdbRecordError(f"{path}, lead {name}: {rate:g} samples a second")
        half = 2 ** (record.adc_res[number] - 1)
        yield Lead(
            name=name,
            code=known[name.lower()],
            rate=rate,
            unit=unit,
            gain=float(record.adc_gain[number]),
            baseline=float(record.baseline[number]),
            lowest=float(record.adc_zero[number] - half),
            highest=float(record.adc_zero[number] + half - 1),
            samples=np.where(np.isnan(measured[number]), NO_VALUE, record.e_d_signal[number]).astype(np.int32),
        )
