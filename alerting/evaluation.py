"""The record on ``alert.evaluations``: one parsed message held against the rule pack."""

from dataclasses import dataclass
from typing import Any

import orjson

from alerting.bands import BandName

QUIET_PREFIX = b'{"quiet":true'
"""How a record begins in which every value is normal: it need not be parsed for a patient with nothing open."""


class EvaluationError(ValueError):
    """A record is not an evaluation; the text says why."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One signal of a message and its band. ``value`` is in the vocabulary's unit.

    ``own_limit`` is true where the band comes from a limit of this patient's own.
    """

    code: str
    band: BandName
    value: float | None = None
    rule: str | None = None
    limit: float | None = None
    own_limit: bool = False


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One message's readings. Instants are epoch milliseconds, by the device (observed) and the broker (received).

    ``partition`` and ``offset`` are those of the message on ``vitals``: they name the message, however often the stream
    evaluates it.
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
    location_unit: str | None = None
    location_bed: str | None = None


def decode(value: bytes | None) -> Evaluation:
    """The evaluation in a record. Raises EvaluationError."""
    if value is None:
        raise EvaluationError("a tombstone")
    try:
        return _evaluation(orjson.loads(value))
    except orjson.JSONDecodeError as error:
        raise EvaluationError(f"not JSON: {error}") from error
    except KeyError as error:
        raise EvaluationError(f"without {error}") from error
    except (TypeError, AttributeError) as error:
        raise EvaluationError(f"misshapen: {error}") from error


def _evaluation(record: dict[str, Any]) -> Evaluation:
    return Evaluation(
        pack=record["pack"],
        message_id=record["message_id"],
        patient_id=record["patient_id"],
        device_id=record["device_id"],
        source=record["source"],
        status=record["status"],
        partition=record["partition"],
        offset=record["offset"],
        observed_at=record["observed_at"],
        received_at=record["received_at"],
        readings=tuple(
            Reading(seen["code"], seen["band"], seen.get("value"), seen.get("rule"), seen.get("limit"))
            for seen in record["observations"]
        ),
        location_unit=record.get("location_unit"),
        location_bed=record.get("location_bed"),
    )
