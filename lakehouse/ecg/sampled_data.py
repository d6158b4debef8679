"""FHIR's SampledData (R4) as chunks: an Observation with one, or with a component of each lead.

A data point p stands for ``origin + factor * p``. Points are kept as they are written: where they have decimals, all
are multiplied by the same power of ten, and so is the gain. E, U and L stay what they are.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from math import isfinite
from typing import Any

from lakehouse.ecg.chunk import ABOVE, BELOW, NO_VALUE, ChunkError, WaveformChunk
from lakehouse.ecg.lead import lead_codes

SYSTEMS = ("urn:iso:std:iso:11073:10101", "urn:oid:2.16.840.1.113883.6.24")
"""What MDC codes are said to be of."""

_MARKS = {"E": NO_VALUE, "L": BELOW, "U": ABOVE}
_POINT = re.compile(r"-?\d{1,10}(\.\d{1,9})?")
_MILLISECONDS = 1000.0


class SampledDataError(ValueError):
    """An Observation has no SampledData of a lead, or one that breaks FHIR; the text names the element."""


def chunks(observation: Mapping[str, Any], patient_id: str, device_id: str) -> Iterator[WaveformChunk]:
    """The leads of one Observation, as JSON has it. Raises SampledDataError.

    With ``dimensions`` above 1, one Observation needs as many lead codes in ``code.coding``, in the order of the
    points.
    """
    if not isinstance(observation, Mapping) or observation.get("resourceType") != "Observation":
        raise SampledDataError("not an Observation")
    started_at = _began(observation)
    parts = [part for part in _objects(observation, "component") if "valueSampledData" in part]
    if "valueSampledData" in observation:
        parts.insert(0, observation)
    if not parts:
        raise SampledDataError("valueSampledData is missing, in the Observation and in its components")
    for part in parts:
        yield from _of_part(part, patient_id, device_id, started_at)


def _of_part(part: Mapping[str, Any], patient_id: str, device_id: str, started_at: datetime) -> Iterator[WaveformChunk]:
    data = _object(part, "valueSampledData")
    origin = _object(data, "origin")
    zero, factor = _number(origin, "value"), _number(data, "factor", 1.0)
    period, dimensions = _number(data, "period"), _number(data, "dimensions")
    if period <= 0 or factor == 0:
        raise SampledDataError(f"period must be above 0 and factor not 0: {period:g}, {factor:g}")
    codes = _codes(part)
    if dimensions != len(codes):
        raise SampledDataError(f"dimensions is {dimensions:g}, and code has {len(codes)} leads (MDC)")
    points, scale = _points(data)
    if len(points) % len(codes):
        raise SampledDataError(f"data has {len(points)} points, which is not a multiple of {len(codes)} dimensions")
    lowest, highest = _limit(data, "lowerLimit", scale), _limit(data, "upperLimit", scale)
    if (lowest is None and BELOW in points) or (highest is None and ABOVE in points):
        raise SampledDataError("data has L or U, and lowerLimit or upperLimit, which they mean, is missing")
    for number, code in enumerate(codes):
        try:
            yield WaveformChunk(
                patient_id=patient_id,
                device_id=device_id,
                signal=code,
                started_at=started_at,
                rate=_MILLISECONDS / period,
                unit=str(origin.get("code", origin.get("unit"))),
                gain=scale / factor,
                baseline=-zero * scale / factor,
                samples=points[number :: len(codes)],  # type: ignore[arg-type]
                lowest=lowest,
                highest=highest,
            )
        except ChunkError as error:
            raise SampledDataError(f"valueSampledData: {error}") from error


def _began(observation: Mapping[str, Any]) -> datetime:
    period = observation.get("effectivePeriod")
    said = period.get("start") if isinstance(period, Mapping) else None
    said = said or observation.get("effectiveDateTime") or observation.get("effectiveInstant")
    try:
        began = datetime.fromisoformat(str(said))
    except ValueError as error:
        raise SampledDataError(
            f"effectivePeriod, effectiveDateTime and effectiveInstant have no instant: {said}"
        ) from error
    if began.tzinfo is None:
        raise SampledDataError(f"the effective instant has no zone: {said}")
    return began


def _codes(part: Mapping[str, Any]) -> list[str]:
    codings = _objects(_object(part, "code"), "coding")
    said = [str(coding.get("code")) for coding in codings if coding.get("system") in SYSTEMS]
    codes = [code for code in said if code in lead_codes()]
    if not codes:
        raise SampledDataError(f"code has no lead of an ECG in {SYSTEMS[0]}")
    return codes


def _points(data: Mapping[str, Any]) -> tuple[list[int], int]:
    """Data points as integers, and the power of ten by which they are multiplied."""
    text = data.get("data")
    if not isinstance(text, str) or not text.strip():
        raise SampledDataError("data is missing: there are no points")
    words: Sequence[str] = text.split()
    wrong = next((word for word in words if word not in _MARKS and not _POINT.fullmatch(word)), None)
    if wrong is not None:
        raise SampledDataError(f"data has a point that is no decimal of nine places, nor E, U or L: {wrong[:40]}")
    places = max(len(word.partition(".")[2]) for word in words)
    scale = 10**places
    points = [_MARKS[word] if word in _MARKS else int(Decimal(word) * scale) for word in words]
    if any(not BELOW < point < ABOVE for point, word in zip(points, words, strict=True) if word not in _MARKS):
        raise SampledDataError(f"data has a point that does not fit 32 bits with {places} decimal places")
    return points, scale


def _limit(data: Mapping[str, Any], name: str, scale: int) -> float | None:
    return _number(data, name) * scale if name in data else None


def _number(parent: Mapping[str, Any], name: str, otherwise: float | None = None) -> float:
    value = parent.get(name, otherwise)
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise SampledDataError(f"{name} is missing or no number: {str(value)[:40]}")
    return float(value)


def _object(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = parent.get(name)
    if not isinstance(value, Mapping):
        raise SampledDataError(f"{name} is missing or no object")
    return value


def _objects(parent: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    values = parent.get(name, [])
    if not isinstance(values, list) or not all(isinstance(value, Mapping) for value in values):
        raise SampledDataError(f"{name} is no list of objects")
    return values
