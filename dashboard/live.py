"""The gateway's live cache, read over HTTP: what is on the ward now, at most two seconds old."""

import json
import urllib.request
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_ANSWER_S = 2.0  # a local gateway answers within 50 ms; longer than this, stored minutes are the better answer
COLUMNS = ("patient_id", "unit", "bed", "code", "value", "band", "fault", "observed_at")


@dataclass(frozen=True)
class Gateway:
    """Where the gateway is, and the file of the key to ask it with, where it wants one."""

    url: str
    key_file: Path | None = None

    def headers(self) -> dict[str, str]:
        """What a request says of who asks. Raises OSError."""
        # Read each time: a key that was replaced is taken up without a restart.
        return {"Authorization": f"Bearer {self.key_file.read_text().strip()}"} if self.key_file else {}


class GatewayAwayError(ConnectionError):
    """The gateway does not answer, or not with vitals."""


def latest(gateway: Gateway) -> "pd.DataFrame":
    """The latest value of each patient's signals, in the columns of :func:`dashboard.queries.latest`.

    Raises GatewayAwayError.
    """
    import pandas as pd

    try:
        asked = urllib.request.Request(f"{gateway.url}/api/vitals/latest", headers=gateway.headers())  # noqa: S310 - configured
        with urllib.request.urlopen(asked, timeout=_ANSWER_S) as answer:  # noqa: S310 - as above
            patients = json.load(answer)["patients"]
        rows = [row for patient in patients for row in _rows(patient)]
    except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
        raise GatewayAwayError(f"the gateway at {gateway.url} does not answer: {error}") from error
    # Objects, not numpy's instants: those end in 2262, and one device with a wrong clock must not take the ward away.
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)


def _rows(patient: dict[str, Any]) -> list[tuple[Any, ...]]:
    place = patient["location"]
    return [
        (
            patient["patient_id"],
            place["unit"],
            place["bed"],
            reading["code"],
            reading["value"],
            reading["band"],
            reading["fault"],
            datetime.fromisoformat(reading["observed_at"]),
        )
        for reading in patient["readings"]
    ]
