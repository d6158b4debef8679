"""What the what-if lab tries packs on, and how: history as evaluations, a share of the patients in each process.

Sources: ``truth``, a run of the simulator made again, with its labelled episodes; ``gold``, the last value of each
minute in gold.vital_sign_minute; ``replay``, a data set of real patients. Each gives a patient's values in order.
"""

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Protocol
from zlib import crc32

import numpy as np

from alerting.bands import Arms, BandName, arms, band_of
from alerting.evaluation import Evaluation, Reading
from alerting.lab import Episode, Outcome, Trial
from alerting.offline import evaluations
from alerting.pack import Pack
from lakehouse.datadir import DataDir
from lakehouse.message import Message
from lakehouse.sources.registry import source_named
from lakehouse.sources.source import Selection, Tally, timed
from lakehouse.vocabulary import signal_by_name
from streaming.simulator import regenerate
from streaming.simulator.cohort import SIGNALS

_TERMINATED = 128 + signal.SIGTERM


class History(Protocol):
    """Where evaluations come from. A share is (number, of how many)."""

    def evaluations(self, pack: Pack, share: tuple[int, int]) -> Iterator[Evaluation]:
        """Those of one share of the patients, in the order in which each patient's were received."""

    def episodes(self) -> tuple[Episode, ...]:
        """The labelled episodes, of all patients."""


@dataclass(frozen=True)
class Truth:
    """A run of the simulator."""

    run: regenerate.Run

    def evaluations(self, pack: Pack, share: tuple[int, int]) -> Iterator[Evaluation]:
        """From its readings where it has no faults, else from its messages."""
        number, shares = share
        limits = arms(pack)
        if any(self.run.options.fault_rates.values()):
            mine = (one for one in regenerate.messages(self.run) if _of(one[1]["patient_id"], share))
            return evaluations(mine, limits, pack.label)
        return _of_readings(self.run, limits, pack.label, number, shares)

    def episodes(self) -> tuple[Episode, ...]:
        """As the simulator has them."""
        labels = (label for label in regenerate.labels(self.run) if isinstance(label, regenerate.EpisodeLabel))
        return tuple(
            Episode(
                one.patient_id,
                one.kind,
                one.from_ms,
                one.plateau_from_ms,
                one.plateau_to_ms,
                one.to_ms,
                one.expected_rules,
            )
            for one in labels
        )


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
                if _of(patient_id, share):
                    offset += 1
                    readings = _readings(codes, values, limits, None)
                    quiet = all(reading.band == "normal" for reading in readings)
                    yield _evaluation((patient_id, "", None, None), at, readings, quiet, pack.label, offset, "gold")

    def episodes(self) -> tuple[Episode, ...]:
        """None: gold says what was measured, and not what was so."""
        return ()


@dataclass(frozen=True)
class Replay:
    """A data set of real patients; each value counts as received when it was observed."""

    source: str
    path: Path
    selection: Selection

    def evaluations(self, pack: Pack, share: tuple[int, int]) -> Iterator[Evaluation]:
        """Each message as the alert flow would judge it."""
        events = source_named(self.source).events(self.path, self.selection, Tally())
        mine: Iterable[tuple[int, Message]] = (one for one in timed(events) if _of(one[1]["patient_id"], share))
        return evaluations(mine, arms(pack), pack.label)

    def episodes(self) -> tuple[Episode, ...]:
        """None are labelled."""
        return ()


def run(history: History, pack: Pack, *, acknowledged_after_s: float | None, processes: int | None = None) -> Outcome:
    """Try a pack on a history, in a process for each core. They end with this one, however it ends."""
    shares = processes or os.cpu_count() or 1
    asked = [(history, pack, acknowledged_after_s, (number, shares)) for number in range(shares)]
    if shares == 1:
        return _share(*asked[0])
    # A SIGTERM would leave no block, and the processes to themselves.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    try:
        with ProcessPoolExecutor(shares, mp_context=get_context("spawn")) as pool:
            try:
                first, *others = [done.result() for done in [pool.submit(_share, *one) for one in asked]]
            except BaseException:
                for process in active_children():
                    process.terminate()
                raise
    finally:
        signal.signal(signal.SIGTERM, before)
    for other in others:
        first.add(other)
    return first


def _share(history: History, pack: Pack, acknowledged_after_s: float | None, share: tuple[int, int]) -> Outcome:
    trial = Trial(pack, acknowledged_after_s=acknowledged_after_s)
    trial.run(history.evaluations(pack, share))
    return trial.end(history.episodes())


def _of(patient_id: str, share: tuple[int, int]) -> bool:
    return share[1] == 1 or crc32(patient_id.encode()) % share[1] == share[0]


def _of_readings(run: regenerate.Run, limits: Arms, pack: str, number: int, shares: int) -> Iterator[Evaluation]:
    """Evaluations of a run's readings: most are normal in every signal, which numpy sees for all patients at once."""
    patients = regenerate.patients(run)
    codes = tuple(signal_by_name()[name].code for name in SIGNALS)
    all_normal: list[BandName] = ["normal"] * len(codes)
    ranges = _normal_ranges(limits, codes, {patient.unit for patient in patients})
    low = np.array([ranges[patient.unit][0] for patient in patients])
    high = np.array([ranges[patient.unit][1] for patient in patients])
    offset = 0
    for cycle in regenerate.readings(run):
        rows = len(cycle.at_ms)
        within = (cycle.values >= low[:rows]) & (cycle.values <= high[:rows])
        normal: list[bool] = np.all(within, axis=1).tolist()
        instants, values = cycle.at_ms.tolist(), cycle.values.tolist()
        for row in range(number, rows, shares):
            offset += 1
            patient = patients[row]
            if normal[row]:
                readings = tuple(map(Reading, codes, all_normal, values[row]))
            else:
                readings = _readings(codes, values[row], limits, patient.unit)
            place = patient.patient_id, patient.device_id, patient.unit, patient.bed
            yield _evaluation(place, instants[row], readings, normal[row], pack, offset, "simulator")


def _normal_ranges(
    limits: Arms, codes: tuple[str, ...], units: Iterable[str]
) -> dict[str, tuple[list[float], list[float]]]:
    """The least and the greatest value of each signal that is normal, by care unit."""
    found = {}
    for unit in units:
        low, high = [], []
        for code in codes:
            by_unit = limits.get(code, {None: ()})
            its = by_unit.get(unit, by_unit[None])
            low.append(max((arm.bound for arm in its if arm.operator == "<"), default=-np.inf))
            high.append(min((arm.bound for arm in its if arm.operator == ">"), default=np.inf))
        found[unit] = low, high
    return found


def _readings(codes: Iterable[str], values: Iterable[float], limits: Arms, unit: str | None) -> tuple[Reading, ...]:
    """Values that are known to be usable, each with its band."""
    found = ((code, value, band_of(limits, code, value, unit)) for code, value in zip(codes, values, strict=True))
    return tuple([Reading(code, band.band, value, band.rule, band.limit) for code, value, band in found])


def _evaluation(
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
