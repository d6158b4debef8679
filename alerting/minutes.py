"""The minutes of gold as history for the what-if lab: the last value of each signal and minute, judged by a pack."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from zlib import crc32

from alerting.bands import Arms, arms, band_of
from alerting.evaluation import Evaluation, Reading
from alerting.lab import Episode
from alerting.pack import Pack
from lakehouse.datadir import DataDir


@dataclass(frozen=True)
class Gold:
    """Minutes of the lakehouse, from ``since`` up to ``until``."""

    data: DataDir
    since: datetime
    until: datetime

    def evaluations(self, pack: Pack, share: tuple[int, int]) -> Iterator[Evaluation]:
        """The last value of each signal and minute, patient after patient."""
        from lakehouse.reader import query

        sql = (
            'SELECT patient_id, epoch_ms(minute) AS at, list(code) AS codes, list("last") AS "values"'
            " FROM gold.vital_sign_minute WHERE minute >= $since AND minute < $until"
            " GROUP BY patient_id, minute ORDER BY patient_id, minute"
        )
        limits = arms(pack)
        found = query(self.data, sql, {"since": self.since, "until": self.until})
        offset = 0
        for batch in found.to_batches(max_chunksize=10_000):
            columns = (batch.column(name).to_pylist() for name in ("patient_id", "at", "codes", "values"))
            for patient_id, at, codes, values in zip(*columns, strict=True):
                if of_share(patient_id, share):
                    offset += 1
                    readings = banded(codes, values, limits, None)
                    quiet = all(reading.band == "normal" for reading in readings)
                    yield evaluation((patient_id, "", None, None), at, readings, quiet, pack.label, offset, "gold")

    def episodes(self) -> tuple[Episode, ...]:
        """None: gold says what was measured, and not what was so."""
        return ()


def of_share(patient_id: str, share: tuple[int, int]) -> bool:
    """Whether a patient belongs to a share, (number, of how many)."""
    return share[1] == 1 or crc32(patient_id.encode()) % share[1] == share[0]


def banded(codes: Iterable[str], values: Iterable[float], limits: Arms, unit: str | None) -> tuple[Reading, ...]:
    """Values that are known to be usable, each with its band."""
    found = ((code, value, band_of(limits, code, value, unit)) for code, value in zip(codes, values, strict=True))
    return tuple([Reading(code, band.band, value, band.rule, band.limit) for code, value, band in found])


def evaluation(
    place: tuple[str, str, str | None, str | None],
    at: int,
    readings: tuple[Reading, ...],
    quiet: bool,
    pack: str,
    offset: int,
    source: str,
) -> Evaluation:
    """Readings of one instant; ``place`` is patient, device, unit and bed."""
    patient_id, device_id, unit, bed = place
    return Evaluation(
        pack, str(offset), patient_id, device_id, source, "final", 0, offset, at, at, readings, quiet, unit, bed
    )
