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
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Protocol

import numpy as np

from alerting.bands import Arms, BandName, arms
from alerting.evaluation import Evaluation, Reading
from alerting.lab import Episode, Outcome, Trial
from alerting.minutes import banded, evaluation, of_share
from alerting.offline import evaluations
from alerting.pack import Pack
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
            mine = (one for one in regenerate.messages(self.run) if of_share(one[1]["patient_id"], share))
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
class Replay:
    """A data set of real patients; each value counts as received when it was observed."""

    source: str
    path: Path
    selection: Selection

    def evaluations(self, pack: Pack, share: tuple[int, int]) -> Iterator[Evaluation]:
        """Each message as the alert flow would judge it."""
        events = source_named(self.source).events(self.path, self.selection, Tally())
        mine: Iterable[tuple[int, Message]] = (one for one in timed(events) if of_share(one[1]["patient_id"], share))
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
                readings = banded(codes, values[row], limits, patient.unit)
            place = patient.patient_id, patient.device_id, patient.unit, patient.bed
            yield evaluation(place, instants[row], readings, normal[row], pack, offset, "simulator")


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
