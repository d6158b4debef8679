"""A patient's own limits: the record on the compacted topic ``alert.limit``, and a pack with such limits in force.

One record holds the own limits of one patient and signal, high and low together; its key is the JSON array of both, and
a tombstone takes them back. An own limit replaces the pack's limit of the same signal and direction in every care unit.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import ValidationError

from alerting.kinds import LimitRule, Rule, bounds
from alerting.pack import Pack
from lakehouse.vocabulary import plausible, signal_by_code

SCHEMA_VERSION = 1


class LimitError(ValueError):
    """An own limit cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class OwnLimits:
    """The own limits of one patient and signal, in the signal's unit; ``set_at`` in epoch milliseconds."""

    patient_id: str
    code: str
    high: float | None
    low: float | None
    set_at: int
    set_by: str | None = None
    reason: str | None = None


def key(patient_id: str, code: str) -> bytes:
    """The record key of one patient and signal."""
    return orjson.dumps([patient_id, code])


def encode(limits: OwnLimits) -> bytes:
    """The record value."""
    columns = {
        "schema_version": SCHEMA_VERSION,
        "patient_id": limits.patient_id,
        "code": limits.code,
        "high": limits.high,
        "low": limits.low,
        "set_at": limits.set_at,
        "set_by": limits.set_by,
        "reason": limits.reason,
    }
    return orjson.dumps({name: value for name, value in columns.items() if value is not None})


def decode(record_key: bytes | None, value: bytes | None) -> tuple[str, str, OwnLimits | None]:
    """Patient, code, and the limits (None: taken back) in a record. Raises LimitError."""
    try:
        patient_id, code = orjson.loads(record_key or b"")
        if value is None:
            return str(patient_id), str(code), None
        record = orjson.loads(value)
        own = OwnLimits(
            patient_id=str(patient_id),
            code=str(code),
            high=_number(record.get("high")),
            low=_number(record.get("low")),
            set_at=int(record["set_at"]),
            set_by=record.get("set_by"),
            reason=record.get("reason"),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LimitError(f"not a record of own limits: {error}") from error
    return own.patient_id, own.code, own


def with_own(pack: Pack, own: Iterable[OwnLimits]) -> Pack:
    """The pack with own limits in force. Raises LimitError where one is not plausible or leaves no normal value."""
    rules = list(pack.rules)
    for limits in own:
        for direction, limit in (("above", limits.high), ("below", limits.low)):
            if limit is not None:
                _replace(rules, limits.code, direction, limit)
    try:
        return Pack.model_validate({**pack.model_dump(exclude={"rules"}), "rules": tuple(rules)})
    except ValidationError as error:
        raise LimitError("; ".join(part["msg"].removeprefix("Value error, ") for part in error.errors())) from error


def _replace(rules: list[Rule], code: str, direction: str, limit: float) -> None:
    for index, rule in enumerate(rules):
        if isinstance(rule, LimitRule) and rule.code == code and rule.direction == direction:
            rules[index] = _with_limit(rule, limit)
            return
    signal = signal_by_code().get(code)
    side = "high" if direction == "above" else "low"
    raise LimitError(f"the pack has no {side} limit of {signal.name if signal else code} that could be replaced")


def _with_limit(rule: LimitRule, limit: float) -> LimitRule:
    if not plausible(rule.measured, limit):
        raise LimitError(f"{rule.signal} is plausible {bounds(rule.measured)}: {limit:g} is no limit")
    try:
        return LimitRule.model_validate({**rule.model_dump(), "limit": limit, "units": {}})
    except ValidationError as error:
        raise LimitError("; ".join(part["msg"].removeprefix("Value error, ") for part in error.errors())) from error


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
