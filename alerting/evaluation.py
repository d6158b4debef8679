"""The record on ``alert.evaluations``: one parsed message held against the rule pack."""

from collections.abc import Callable
from types import NoneType
from typing import Any, NamedTuple

import orjson

from alerting.bands import BandName


class EvaluationError(ValueError):
    """A record is not an evaluation; the text says why."""


class Reading(NamedTuple):
    """One signal of a message and its band. ``value`` is in the vocabulary's unit.

    ``own_limit`` is true where the band comes from a limit of this patient's own; ``fault`` names the constraint that a
    value without a band breaks.
    """

    code: str
    band: BandName
    value: float | None = None
    rule: str | None = None
    limit: float | None = None
    value_code: str | None = None
    fault: str | None = None
    own_limit: bool = False


class Evaluation(NamedTuple):
    """One message's readings. Instants are epoch milliseconds, by the device (observed) and the broker (received).

    ``partition`` and ``offset`` are those of the message on ``vitals``: they name the message, however often the stream
    evaluates it. ``quiet``: every band is normal and the lead is not off.
    """

    pack: str
    message_id: str
    patient_id: str
    device_id: str
    source: str
    status: str
    partition: int
    offset: int
    observed_at: int
    received_at: int
    readings: tuple[Reading, ...]
    quiet: bool = False
    location_unit: str | None = None
    location_bed: str | None = None
    lead_off: bool = False
    battery: float | None = None


_is: Callable[[Any, Any], bool] = isinstance
_TEXT, _NUMBER = (str, NoneType), (int, float, NoneType)
_READING: tuple[Any, ...] = (str, str, _NUMBER, _TEXT, _NUMBER, _TEXT, _TEXT, bool)
_EVALUATION: tuple[Any, ...] = (*(str,) * 6, *(int,) * 4, tuple, bool, _TEXT, _TEXT, bool, _NUMBER)
"""What each field must be. Whoever reaches the broker can write this topic, and another type would end the router."""


_MOST = 1e15
"""No signal comes near it; of larger ones the sums would not stay finite."""


def decode(value: bytes | None) -> Evaluation:
    """The evaluation in a record. Raises EvaluationError."""
    if value is None:
        raise EvaluationError("a tombstone")
    try:
        return _checked(_evaluation(orjson.loads(value)))
    except orjson.JSONDecodeError as error:
        raise EvaluationError(f"not JSON: {error}") from error
    except KeyError as error:
        raise EvaluationError(f"without {error}") from error
    except (TypeError, AttributeError) as error:
        raise EvaluationError(f"misshapen: {error}") from error


def _checked(evaluation: Evaluation) -> Evaluation:
    one = evaluation
    numbers = (one.partition, one.offset, one.observed_at, one.received_at, one.battery)
    # True is an int to Python, and would be none to whoever reads the router's state.
    if not all(map(_is, evaluation, _EVALUATION)) or bool in map(type, numbers):
        raise EvaluationError("misshapen: a field of another type")
    for reading in evaluation.readings:
        value = reading.value
        if not all(map(_is, reading, _READING)) or type(value) is bool or type(reading.limit) is bool:
            raise EvaluationError("misshapen: a field of an observation of another type")
        if value is not None and not -_MOST <= value <= _MOST:
            raise EvaluationError("misshapen: a value beyond any signal")
    return evaluation


def _evaluation(record: dict[str, Any]) -> Evaluation:
    return Evaluation(
        record["pack"],
        record["message_id"],
        record["patient_id"],
        record["device_id"],
        record["source"],
        record["status"],
        record["partition"],
        record["offset"],
        record["observed_at"],
        record["received_at"],
        tuple(
            Reading(
                # A value without a code has no signal, and says so by its fault; the others of its message count.
                seen.get("code") or "",
                seen["band"],
                seen.get("value"),
                seen.get("rule"),
                seen.get("limit"),
                seen.get("value_code"),
                seen.get("fault"),
            )
            for seen in record["observations"]
        ),
        record.get("quiet") is True,
        record.get("location_unit"),
        record.get("location_bed"),
        record.get("lead_off") is True,
        record.get("battery"),
    )
