"""Which patients a caller sees: those whose current place is in one of the caller's care units.

A patient's place is where a monitor last said, within the last day; else that of the stay that is under way.
"""

import threading
import time
from collections.abc import Callable, Mapping

from gateway.live import LatestVitals
from lakehouse.caller import Caller
from lakehouse.datadir import DataDir
from lakehouse.places import under_way

_STAYS_S = 10.0  # silver is as old as its flow anyway, and a look takes some ten milliseconds


class Places:
    """The care unit of each patient. Safe between threads; it may block for as long as a query takes."""

    def __init__(self, data: DataDir, cache: LatestVitals, clock: Callable[[], float] = time.monotonic) -> None:
        self._data, self._cache, self._clock = data, cache, clock
        self._guard = threading.Lock()
        self._stays: tuple[float, Mapping[str, str]] | None = None

    def unit_of(self, patient_id: str) -> str | None:
        """Where a patient is; None where nothing says so."""
        live = self._cache.patient(patient_id)
        return (live.unit if live else None) or self._under_way().get(patient_id)

    def sees(self, caller: Caller, patient_id: str) -> bool:
        """Whether a patient is in one of the caller's units."""
        return caller.units is None or caller.sees(self.unit_of(patient_id))

    def among(self, caller: Caller) -> frozenset[str] | None:
        """The patients that a caller sees; None: all."""
        if caller.units is None:
            return None
        live = {patient.patient_id: patient.unit for patient in self._cache.patients() if patient.unit}
        places = {**self._under_way(), **live}
        return frozenset(patient_id for patient_id, unit in places.items() if unit in caller.units)

    def _under_way(self) -> Mapping[str, str]:
        with self._guard:
            if self._stays is None or self._clock() - self._stays[0] > _STAYS_S:
                self._stays = self._clock(), under_way(self._data)
            return self._stays[1]
