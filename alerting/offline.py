"""What the alert flow makes of a message, in Python: for what tries rules out without Spark.

The flow itself is streaming/alert_limits.py; a test holds the two equal, over all that the simulator can send.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from math import isfinite
from typing import Any

from alerting.bands import Arms, band_of
from alerting.evaluation import Evaluation, Reading
from alerting.lifecycle import SHIFTED
from lakehouse.message import Message
from lakehouse.tables import CLOCK_SKEW, STATUSES
from lakehouse.vocabulary import CONSCIOUSNESS, NO_VALUE_SENTINELS, Signal, converted, plausible, signal_by_code

_SKEW_MS = int(CLOCK_SKEW.total_seconds() * 1000)


def evaluations(messages: Iterable[tuple[int, Message]], limits: Arms, pack: str) -> Iterator[Evaluation]:
    """The evaluation of each message, given with the instant (epoch ms) at which it is received, in order."""
    for offset, (received_at, message) in enumerate(messages):
        yield evaluate(message, received_at, limits, pack, offset)


def evaluate(message: Message, received_at: int, limits: Arms, pack: str, offset: int) -> Evaluation:
    """One message held against a pack's limits; its place on ``vitals`` is partition 0 and this offset."""
    location, device = message.get("location") or {}, message.get("device_status") or {}
    unit = location.get("unit")
    observed_at = round(datetime.fromisoformat(message["observed_at"]).timestamp() * 1000)
    ahead = observed_at > received_at + _SKEW_MS and message["source"] not in SHIFTED
    whole = _whole(message, ahead)
    ambiguous = _ambiguous(message["observations"])
    readings = tuple(
        _reading(seen, whole, _identity(seen) in ambiguous, limits, unit) for seen in message["observations"]
    )
    quiet = all(reading.band == "normal" or (reading.value_code and not reading.fault) for reading in readings)
    lead_off = device.get("lead_off") is True
    return Evaluation(
        pack=pack,
        message_id=message["message_id"],
        patient_id=message["patient_id"],
        device_id=message["device_id"],
        source=message["source"],
        status=message["status"],
        partition=0,
        offset=offset,
        observed_at=observed_at,
        received_at=received_at,
        readings=readings,
        quiet=quiet and not lead_off,
        location_unit=unit,
        location_bed=location.get("bed"),
        lead_off=lead_off,
        battery=device.get("battery"),
    )


def _whole(message: Message, ahead: bool) -> tuple[str | None, str | None]:
    """The fault of every value of a message: one that comes before all others, and one that comes after."""
    status = None if message["status"] in STATUSES else "unknown_status"
    return status, "clock_ahead" if ahead else None


def _reading(seen: Any, whole: tuple[str | None, str | None], ambiguous: bool, limits: Arms, unit: Any) -> Reading:
    code, raw, value_code = seen.get("code"), seen.get("value"), seen.get("value_code")
    signal = signal_by_code().get(code)
    value, ucum = converted(raw, seen.get("unit"))
    first, last = whole
    fault = first or _fault(signal, value, value_code, ucum, raw) or last or ("ambiguous_repeat" if ambiguous else None)
    if fault is not None:
        return Reading(code, "none", fault=fault)
    band = band_of(limits, code, value, unit)
    return Reading(code, band.band, value, band.rule, band.limit, value_code)


def _fault(
    signal: Signal | None, value: float | None, value_code: str | None, unit: str | None, raw: float | None
) -> str | None:
    """The first constraint that a value breaks, in the order of lakehouse.tables.OBSERVATION_CONSTRAINTS."""
    if signal is None:
        return "unknown_code"
    if (value is None) == (value_code is None):
        return "missing_value"
    if value is None:
        return None if signal.coded and value_code in CONSCIOUSNESS else "unknown_value_code"
    if not isfinite(value):
        return "not_finite"
    if raw in NO_VALUE_SENTINELS or (raw == 0 and signal.zero_is_no_value):
        return "sensor_disconnected"
    if unit is None or unit != signal.unit:
        return "unknown_unit"
    if not plausible(signal, value):
        return "out_of_range"
    return "unknown_value_code" if signal.coded else None


def _identity(seen: Any) -> str:
    for name in ("record_id", "source_code", "code"):
        if seen.get(name) is not None:
            return f"{name}:{seen[name]}"
    return ""


def _ambiguous(observations: list[Any]) -> frozenset[str]:
    """Identities under which a message gives more than one value."""
    identities = [_identity(seen) for seen in observations]
    if len(set(identities)) == len(identities):
        return frozenset()
    values: dict[str, set[Any]] = {}
    for name, seen in zip(identities, observations, strict=True):
        values.setdefault(name, set()).add(tuple(seen.get(field) for field in ("code", "value", "value_code", "unit")))
    return frozenset(name for name, found in values.items() if len(found) > 1)
