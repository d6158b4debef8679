"""The record on ``risk``: the newest risk that the model in service has given of a patient, for rules to use.

To the engine it is a value of the signal ``deterioration_risk``, in per cent, that no device has measured: it opens and
clears alerts of limit rules and counts in combinations, and says nothing of whether the monitor is heard.
"""

from dataclasses import dataclass
from typing import Any

import orjson

from lakehouse.vocabulary import signal_by_name

SIGNAL = signal_by_name()["deterioration_risk"]


class RiskError(ValueError):
    """A record is not a risk; the text says why."""


@dataclass(frozen=True)
class Risk:
    """The risk of one patient, 0 to 1, at an instant (epoch ms), and the model and version that gave it."""

    patient_id: str
    landmark_at: int
    risk: float
    model: str
    model_version: int

    @property
    def percent(self) -> float:
        """As the signal has it."""
        return round(self.risk * 100, 1)

    @property
    def given_by(self) -> str:
        """The model in place of a device."""
        return f"{self.model}/{self.model_version}"


def encode(risk: Risk) -> bytes:
    """The record's value."""
    return orjson.dumps(risk)


def decode(value: bytes | None) -> Risk:
    """The risk in a record. Raises RiskError."""
    if value is None:
        raise RiskError("a tombstone")
    try:
        record: dict[str, Any] = orjson.loads(value)
        found = Risk(**record)
    except orjson.JSONDecodeError as error:
        raise RiskError(f"not JSON: {error}") from error
    except TypeError as error:
        raise RiskError(f"misshapen: {error}") from error
    typed = (
        isinstance(found.patient_id, str)
        and isinstance(found.landmark_at, int)
        and isinstance(found.risk, int | float)
        and isinstance(found.model, str)
        and isinstance(found.model_version, int)
    )
    if not typed or not 0 <= found.risk <= 1:
        raise RiskError("misshapen: a field of another type, or a risk outside of 0 to 1")
    return found
