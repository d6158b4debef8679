"""What is found unusual on the simulator's labelled stream, and what is known for an artefact.

    python -m bench anomaly [--patients 30] [--hours 24]

Patients of one reading a second, with episodes of illness and harmless transients, whose labels the simulator gives;
into their readings go artefacts at known times: a heart rate that stands still, a pulse oximeter that is off, and
knocks that throw a signal out for five seconds. Findings are held against both.
"""

import argparse
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np

from lakehouse.models.anomaly import ARTEFACTS, Finding, Kind, findings
from lakehouse.vocabulary import signal_by_name
from streaming.simulator.cohort import SIGNALS
from streaming.simulator.regenerate import EpisodeLabel, Label, Run, TransientLabel, patients, readings
from streaming.simulator.simulation import Options

START = datetime(2026, 1, 1, tzinfo=UTC)
SECONDS = 60
_ARTEFACT_MINUTES = 10
_KNOCK_S = 5
_LASTING_MS = 3 * 60_000
_EACH_HOURS = 4
"""An artefact of each kind, each patient, so often."""


class Placed(NamedTuple):
    """An artefact that was put in. Minutes of the run, the second not within."""

    kind: Kind
    patient: int
    code: str
    first: int
    after: int


def stream(count: int, hours: float, seed: int) -> tuple[np.ndarray[Any, Any], list[Label], list[str]]:
    """Readings by second, patient and signal; episodes and transients; and the patients' ids."""
    options = Options(START, count, 1.0, seed=seed, episodes_per_hour=0.1, transients_per_hour=1.0)
    run = Run(options, duration=hours * 3600)
    cycles = [cycle for cycle in readings(run) if len(cycle.values) == count]
    labels = [label for cycle in cycles for label in cycle.begun]
    return np.array([cycle.values for cycle in cycles]), labels, [one.patient_id for one in patients(run)]


def spoil(values: np.ndarray[Any, Any], episodes: Iterable[EpisodeLabel], ids: list[str], seed: int) -> list[Placed]:
    """Put artefacts into the readings, in place, outside episodes."""
    chance = np.random.default_rng(seed)
    ill: list[list[tuple[int, int]]] = [[] for _ in ids]
    for one in episodes:
        ill[ids.index(one.patient_id)].append((_minute(one.from_ms), _minute(one.to_ms) + 1))
    placed: list[Placed] = []
    codes = [signal_by_name()[name].code for name in SIGNALS]
    kinds = ((Kind.FLAT_LINE, "heart_rate"), (Kind.SENSOR_OFF, "spo2"), (Kind.MOTION, "heart_rate"))
    for patient in range(len(ids)):
        for begin in range(60, len(values) // SECONDS - 60, _EACH_HOURS * 60):
            for number, (kind, name) in enumerate(kinds):
                length = 1 if kind is Kind.MOTION else _ARTEFACT_MINUTES
                first = begin + 70 * number + int(chance.integers(0, 40))
                if first + length >= len(values) // SECONDS or any(
                    first - 5 < after and from_ < first + length + 5 for from_, after in ill[patient]
                ):
                    continue
                column = SIGNALS.index(name)
                _put(values, kind, patient, column, first * SECONDS, length * SECONDS, chance)
                placed.append(Placed(kind, patient, codes[column], first, first + length))
    return placed


def _put(
    values: np.ndarray[Any, Any],
    kind: Kind,
    patient: int,
    column: int,
    at: int,
    length: int,
    chance: np.random.Generator,
) -> None:
    if kind is Kind.FLAT_LINE:
        values[at : at + length, patient, column] = values[at, patient, column]
    elif kind is Kind.SENSOR_OFF:
        values[at : at + length, patient, column] = np.nan
    else:
        knock = at + int(chance.integers(5, SECONDS - _KNOCK_S - 5))
        values[knock : knock + _KNOCK_S, patient, column] += chance.uniform(60, 120)


def minutes(values: np.ndarray[Any, Any], patient: int) -> Iterator[dict[str, Any]]:
    """The readings of a patient as rows of gold.vital_sign_minute."""
    for column, name in enumerate(SIGNALS):
        code = signal_by_name()[name].code
        by_minute = values[: len(values) // SECONDS * SECONDS, patient, column].reshape(-1, SECONDS)
        for number, row in enumerate(by_minute):
            known = row[~np.isnan(row)]
            if known.size:
                yield {
                    "code": code,
                    "minute": START + timedelta(minutes=number),
                    "mean": float(known.mean()),
                    "min": float(known.min()),
                    "max": float(known.max()),
                    "first": float(known[0]),
                    "last": float(known[-1]),
                }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=30)
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    values, labels, ids = stream(given.patients, given.hours, given.seed)
    episodes = [one for one in labels if isinstance(one, EpisodeLabel)]
    transients = [one for one in labels if isinstance(one, TransientLabel)]
    placed = spoil(values, episodes, ids, given.seed)
    found: list[list[Finding]] = []
    took = 0.0
    for patient in range(len(ids)):
        rows = list(minutes(values, patient))
        began = time.monotonic()
        found.append(findings(rows))
        took += time.monotonic() - began
    show(found, episodes, placed, ids, given.hours)
    for kind in (Kind.MOTION, Kind.UNUSUAL):
        told = sum(
            any(
                one.kind is kind and one.code == signal_by_name()[each.signal].code and _meets(_span(one), _time(each))
                for one in found[ids.index(each.patient_id)]
            )
            for each in transients
        )
        print(f"harmless transients: {len(transients)}, called {kind}: {told}")
    print(f"{1000 * took / len(ids):.0f} ms a patient of {given.hours:g} hours")


def show(
    found: list[list[Finding]], episodes: list[EpisodeLabel], placed: list[Placed], ids: list[str], hours: float
) -> None:
    """Print what was found of what there was."""
    unusual = [[_span(one) for one in of if one.kind is Kind.UNUSUAL] for of in found]
    # Before a baseline is there nothing can be unusual.
    lasting = [
        one for one in episodes if one.plateau_to_ms - one.plateau_from_ms >= _LASTING_MS and _minute(one.from_ms) > 60
    ]
    heard = sum(
        any(_meets(span, (_minute(one.from_ms), _minute(one.to_ms) + 1)) for span in unusual[ids.index(one.patient_id)])
        for one in lasting
    )
    ill = [
        [(_minute(one.from_ms), _minute(one.to_ms) + 60) for one in episodes if one.patient_id == name] for name in ids
    ]
    outside = sum(not any(_meets(span, time_) for time_ in ill[p]) for p, spans in enumerate(unusual) for span in spans)
    days = len(ids) * hours / 24
    print(f"episodes whose height lasts three minutes or more: {len(lasting)}, of which an unusual value told {heard}")
    print(f"unusual outside episodes and the hour after: {outside}, {outside / days:.1f} a patient-day")
    for kind in ARTEFACTS:
        mine = [one for one in placed if one.kind is kind]
        told = [(p, one) for p, of in enumerate(found) for one in of if one.kind is kind]
        known = sum(any(_same(p, one, each) for p, one in told) for each in mine)
        right = sum(any(_same(p, one, each) for each in mine) for p, one in told)
        wild = sum(any(_meets(span, (each.first, each.after)) for span in unusual[each.patient]) for each in mine)
        print(f"{kind}: {len(mine)} put in, {known} known; told {len(told)}, right {right}; called unusual {wild}")


def _time(one: Label) -> tuple[int, int]:
    return _minute(one.from_ms), _minute(one.to_ms) + 1


def _minute(at_ms: int) -> int:
    return int((at_ms / 1000 - START.timestamp()) // 60)


def _span(one: Finding) -> tuple[int, int]:
    return _minute(int(one.begin.timestamp() * 1000)), _minute(int(one.end.timestamp() * 1000))


def _meets(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _same(patient: int, one: Finding, placed: Placed) -> bool:
    return patient == placed.patient and one.code == placed.code and _meets(_span(one), (placed.first, placed.after))


if __name__ == "__main__":
    main()
