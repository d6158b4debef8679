"""Which patients a caller sees: those whose current place is in one of the caller's care units.

A patient's place is where a monitor last said, within the last day; else that of the stay that is under way.
"""

import threading
import time
from collections.abc import Callable, Mapping

from gateway.caller import Caller
from gateway.live import LatestVitals
from lakehouse import reader
from lakehouse.datadir import DataDir
from lakehouse.reader import TableMissingError

_STAYS_S = 10.0  # silver is as old as its flow anyway, and a look takes some ten milliseconds

# HL7 v2 gives unit, room and bed as one text.
_STAYS = """
SELECT patient_id, arg_max(split_part(location, ', ', 1), started_at) AS unit
FROM (
    SELECT patient_id, status, location, started_at FROM silver.encounter
    QUALIFY row_number() OVER (
        PARTITION BY encounter_id ORDER BY recorded_at DESC, topic DESC, "partition" DESC, "offset" DESC, version DESC
    ) = 1
)
WHERE status = 'in-progress' AND location IS NOT NULL
GROUP BY patient_id
"""


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
        return caller.units is None or self.unit_of(patient_id) in caller.units

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
                self._stays = self._clock(), self._read()
            return self._stays[1]

    def _read(self) -> Mapping[str, str]:
        try:
            return {row["patient_id"]: row["unit"] for row in reader.query(self._data, _STAYS).to_pylist()}
        except TableMissingError:
            return {}
