"""Seconds after the start of a run as instants: to the millisecond, as messages and the truth have them."""

from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from streaming.simulator.cohort import Floats


def rfc3339(start: datetime, at: Floats) -> list[str]:
    """``2026-01-31T12:00:00.250Z``, one for each of ``at``."""
    texts: list[str] = np.datetime_as_string(_instants(start, at), unit="ms", timezone="UTC").tolist()
    return texts


def epoch_ms(start: datetime, at: Floats) -> NDArray[np.int64]:
    """Milliseconds since 1970, one for each of ``at``; the same instants as ``rfc3339`` gives."""
    return _instants(start, at).astype(np.int64)


def _instants(start: datetime, at: Floats) -> NDArray[np.datetime64]:
    start_us = np.datetime64(start.astimezone(UTC).replace(tzinfo=None), "us")
    instants: NDArray[np.datetime64] = (start_us + np.rint(at * 1e6).astype("timedelta64[us]")).astype("datetime64[ms]")
    return instants
