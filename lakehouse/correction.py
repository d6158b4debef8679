"""A quarantined value as a message that mends it, or sends it again. Pure.

Identity: the message keeps source, patient, device, instant, record_id and source_code, so that what it brings is a
version of the same observation. Where neither of the last two is there, the code is part of the identity
(lakehouse.transforms.observation): a changed code then makes another observation, and a second message withdraws the
one that never was, as entered in error.

Time: ``recorded_at`` is now, since nothing was known of the mended value before. It is never before what it mends: the
dates of de-identified sources lie a hundred years ahead, and of an observation the newest version counts.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from math import isfinite, isnan
from typing import Any

import orjson

from lakehouse.message import SCHEMA_VERSION, Message
from lakehouse.sources.instants import rfc3339
from lakehouse.vocabulary import converted

Row = Mapping[str, Any]
"""A row of silver.observation_quarantine, with ``raw``: the value of its bronze record, None where that is gone."""

NO_VALUE = "none"
"""The value_code that withdraws what never was a value: the contract has no message without one, and JSON no NaN."""

_AFTER = timedelta(milliseconds=1)
_TEXTS = ("code", "value_code", "unit", "source_code", "source_unit", "record_id")
_TOLD_APART_BY = ("code", "value_code", "record_id", "source_code")


class ChangeError(ValueError):
    """What is to be changed contradicts itself; the text says how."""


class CorrectionError(ValueError):
    """A quarantined value cannot be sent again like this; the text says why, and what else to do."""


@dataclass(frozen=True)
class Change:
    """What is changed of an observation as it was sent; nothing for a replay. ``value`` and ``scale`` are in ``unit``.

    Raises ChangeError.
    """

    code: str | None = None
    unit: str | None = None
    value: float | None = None
    scale: float | None = None
    value_code: str | None = None
    entered_in_error: bool = False

    def __post_init__(self) -> None:
        if sum(given is not None for given in (self.value, self.scale, self.value_code)) > 1:
            raise ChangeError("a value is given, scaled or coded: only one of these")
        if self.entered_in_error and len(self.given) > 1:
            raise ChangeError("what is entered in error is withdrawn as it is: nothing else of it can be changed")
        if self.scale == 0:
            raise ChangeError("a value times 0 is no correction: give the value")

    @property
    def given(self) -> dict[str, Any]:
        """What is changed, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None and value is not False}


@dataclass(frozen=True)
class Correction:
    """One quarantined observation and the messages that send it again: the correction, then perhaps a withdrawal."""

    row: Row
    before: dict[str, Any]
    messages: tuple[Message, ...]

    @property
    def message(self) -> Message:
        """The message that brings the value."""
        return self.messages[0]

    @property
    def after(self) -> dict[str, Any]:
        """The observation as it is sent again."""
        return dict(self.message["observations"][0])

    @property
    def another(self) -> bool:
        """Whether it brings another observation than the quarantined one."""
        return len(self.messages) > 1


def correction(versions: Iterable[Row], change: Change, now: datetime) -> Correction:
    """The change of one quarantined observation. Raises CorrectionError.

    ``versions``: what its newest message has in quarantine under its observation_id, the one to be mended first.
    """
    rows = list(versions)
    row, before = rows[0], as_sent(rows[0])
    if change.entered_in_error:
        return Correction(row, before, (_message(row, _withdrawn(before), "entered-in-error", change, now),))
    if "clock_ahead" in row["failed_constraints"]:
        raise CorrectionError("its instant is wrong and part of its identity: it can only be entered in error")
    after = mended(before, change)
    if any(mended(as_sent(other), change) != after for other in rows[1:]):
        raise CorrectionError("its message gives several values under this id: fix it with the one value that is true")
    status = "corrected" if change.given else row["status"]
    sent = _message(row, after, status, change, now)
    if _same_identity(row, after):
        return Correction(row, before, (sent,))
    withdrawal = _message(row, _withdrawn(before), "entered-in-error", change, now)
    return Correction(row, before, (sent, {**withdrawal, "message_id": f"{sent['message_id']}/withdrawn"}))


def as_sent(row: Row) -> dict[str, Any]:
    """The observation that a quarantined row was made of, out of its bronze record. Raises CorrectionError."""
    place = f"{row['topic']}, partition {row['partition']}, offset {row['offset']}"
    if row["raw"] is None:
        raise CorrectionError(f"bronze no longer keeps its record ({place}): have its source send it again")
    for observation in json.loads(row["raw"])["observations"]:
        if _made(observation) == _made_of(row):
            sent = {"value": _float(observation.get("value")), **_texts(observation)}
            return {name: given for name, given in sent.items() if given is not None}
    raise CorrectionError(f"the record it came from ({place}) does not hold it")


def mended(observation: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """The observation with the change. Raises CorrectionError where there is no number to scale."""
    after = {**observation, **{name: v for name, v in (("code", change.code), ("unit", change.unit)) if v is not None}}
    if change.scale is not None:
        if "value" not in after:
            raise CorrectionError("it has no number to scale: give its value")
        # Twelve digits are more than any device has, and leave out what 36.6 times 0.1 has behind them.
        after["value"] = float(f"{after['value'] * change.scale:.12g}")
    if change.value is not None:
        after["value"] = change.value
        after.pop("value_code", None)
    if change.value_code is not None:
        after["value_code"] = change.value_code
        after.pop("value", None)
        after.pop("unit", None)
    return after


def judged_row(message: Message, received_at: datetime) -> dict[str, Any]:
    """What silver makes of a message of one observation: the columns that constraints look at."""
    (observation,) = message["observations"]
    sent = observation.get("value")
    value, unit = converted(sent, observation.get("unit"))
    return {
        "status": message["status"],
        "source": message["source"],
        "code": observation.get("code"),
        "value": value,
        "value_code": observation.get("value_code"),
        "unit": unit,
        "source_value": sent,
        "observed_at": datetime.fromisoformat(message["observed_at"]),
        "received_at": received_at,
        "values_in_message": 1,
    }


def _message(row: Row, observation: dict[str, Any], status: str, change: Change, now: datetime) -> Message:
    location = {name: row[f"location_{name}"] for name in ("unit", "bed") if row[f"location_{name}"]}
    message = {
        "schema_version": SCHEMA_VERSION,
        "message_id": _message_id(row, change),
        "patient_id": row["patient_id"],
        "encounter_id": row["encounter_id"],
        "device_id": row["device_id"],
        "source": row["source"],
        "location": location,
        "observed_at": rfc3339(row["observed_at"]),
        "recorded_at": rfc3339(max(now, row["recorded_at"] + _AFTER)),
        "status": status,
        "observations": [observation],
    }
    return {name: value for name, value in message.items() if value}


def _message_id(row: Row, change: Change) -> str:
    """By what is fixed and how: the same fix of the same version is the same message, whoever gives it and when."""
    how = orjson.dumps(change.given, option=orjson.OPT_SORT_KEYS)
    return f"quarantine/{hashlib.sha256(row['observation_id'] + row['version'] + how).hexdigest()[:32]}"


def _withdrawn(observation: Mapping[str, Any]) -> dict[str, Any]:
    value = observation.get("value")
    texts = {name: text for name, text in observation.items() if name != "value"}
    if value is not None and isfinite(value) and "value_code" not in texts:
        return {**texts, "value": value}
    return {"value_code": NO_VALUE, **texts}


def _same_identity(row: Row, after: Mapping[str, Any]) -> bool:
    return bool(row["record_id"] is not None or row["source_code"] is not None or after.get("code") == row["code"])


def _made(observation: Mapping[str, Any]) -> tuple[Any, ...]:
    """What an observation becomes in silver, as far as it tells two of one message apart."""
    texts, value = _texts(observation), _float(observation.get("value"))
    source_unit = texts["unit"] if texts["source_unit"] is None else texts["source_unit"]
    unit = converted(value, texts["unit"])[1]
    return (*(texts[name] for name in _TOLD_APART_BY), _comparable(value), source_unit, unit)


def _made_of(row: Row) -> tuple[Any, ...]:
    source_value = _comparable(row["source_value"])
    return (*(row[name] for name in _TOLD_APART_BY), source_value, row["source_unit"], row["unit"])


def _comparable(value: float | None) -> float | str | None:
    return "NaN" if value is not None and isnan(value) else value


def _texts(observation: Mapping[str, Any]) -> dict[str, str | None]:
    """As from_json reads fields that are texts: a number is taken as its own."""
    return {name: None if observation.get(name) is None else str(observation[name]) for name in _TEXTS}


def _float(value: Any) -> float | None:
    return None if value is None else float(value)
