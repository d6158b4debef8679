"""A client of the gateway that posts all the while and remembers what it was promised."""

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Self

import orjson

from lakehouse import reader
from lakehouse.datadir import DataDir

SOURCE = "chaos"
_PATIENTS = 20
_TIMEOUT_S = 5.0


class Client:
    """Posts one message after another; ``acknowledged`` has the ids of those that the gateway has taken."""

    def __init__(self, address: Callable[[], str | None], rate: float) -> None:
        self._address, self._every_s = address, 1 / rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="client", daemon=True)
        self.acknowledged: set[str] = set()
        self.refused = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        begun, number = time.time_ns(), 0
        while not self._stop.wait(self._every_s):
            number += 1
            name = f"{SOURCE}/{begun}/{number}"
            if self._post(message(name, number)):
                self.acknowledged.add(name)
            else:
                self.refused += 1

    def _post(self, content: dict[str, Any]) -> bool:
        address = self._address()
        if address is None:
            return False
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(  # noqa: S310 - our own gateway
            f"{address}/api/iot", orjson.dumps(content), headers
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
                return bool(answer.status == 202)
        except (OSError, urllib.error.URLError):
            return False


def message(name: str, number: int, schema_version: int = 1) -> dict[str, Any]:
    """A monitor's message of one normal heart rate, observed now."""
    return {
        "schema_version": schema_version,
        "message_id": name,
        "patient_id": f"{SOURCE}/{number % _PATIENTS}",
        "device_id": f"monitor-{number % _PATIENTS}",
        "source": SOURCE,
        "location": {"unit": "ICU", "bed": str(number % _PATIENTS)},
        "observed_at": datetime.now(UTC).isoformat(),
        "status": "final",
        "observations": [{"code": "8867-4", "value": 80.0, "unit": "/min"}],
    }


def missing(data: DataDir, acknowledged: set[str]) -> set[str]:
    """The acknowledged messages whose value is not in silver."""
    sql = f"SELECT DISTINCT message_id FROM silver.observation WHERE source = '{SOURCE}'"  # noqa: S608 - our own text
    return acknowledged - set(reader.query(data, sql).column("message_id").to_pylist())
