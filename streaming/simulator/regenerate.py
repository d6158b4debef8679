"""What a run of the simulator sent, made again without Kafka: from its options, or from the truth that it left.

The messages are those of the run, in the order and at the instants at which they were due to be sent: what a reader of
the topic received if sender and broker kept up. A broker that was away, or a sender that was behind, is not in it.
"""

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lakehouse import progress
from lakehouse.message import Message
from streaming.simulator.cohort import Floats, Patient
from streaming.simulator.episodes import Episode
from streaming.simulator.faults import Sending
from streaming.simulator.instants import epoch_ms
from streaming.simulator.simulation import Begun, Cycle, Happening, Options, Record, Sent, Simulation
from streaming.simulator.transients import Transient

_log = logging.getLogger(__name__)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RegenerateError(ValueError):
    """The run cannot be made again; the text says why."""


@dataclass(frozen=True)
class Stop:
    """Where a run was stopped: after ``taken`` records and notes, and ``held_sent`` of what faults had held back.

    Those went out ``at`` seconds after the start.
    """

    taken: int
    held_sent: int = 0
    at: float = 0.0


@dataclass(frozen=True)
class Run:
    """One run: its options, the limits that it was given (see Simulation.records), and where it was stopped.

    Without limit and stop it does not end.
    """

    options: Options
    duration: float | None = None
    messages: int | None = None
    stop: Stop | None = None

    @property
    def ends(self) -> bool:
        """Whether there is a last message."""
        return any(end is not None for end in (self.duration, self.messages, self.stop))


@dataclass(frozen=True, slots=True)
class EpisodeLabel:
    """One episode. Instants in epoch milliseconds; it is cut short where the run ends."""

    patient_id: str
    location_unit: str
    kind: str
    severity: float
    from_ms: int
    plateau_from_ms: int
    plateau_to_ms: int
    to_ms: int
    expected_rules: tuple[str, ...]
    """Rules of the default adult pack that every reading of the plateau breaks."""


@dataclass(frozen=True, slots=True)
class TransientLabel:
    """One transient: harmless, so no rule is expected. ``extreme`` is the nadir or the peak, in the signal's unit."""

    patient_id: str
    location_unit: str
    signal: str
    from_ms: int
    to_ms: int
    extreme: float


Label = EpisodeLabel | TransientLabel


class Readings(NamedTuple):
    """One cycle: what each patient's monitor reads, once.

    ``at_ms`` has an instant (epoch ms) a patient, ``values`` a row a patient and a column a signal (cohort.SIGNALS),
    both in the order of ``patients``. The last cycle of a run has fewer rows where the run ends in its midst.
    """

    at_ms: NDArray[np.int64]
    values: Floats
    begun: tuple[Label, ...]
    """Episodes and transients whose first message is in this cycle, in the order of ``patients``."""


def of_truth(path: Path) -> Run:
    """The run that wrote a truth file.

    A run that was killed has no summary; then it is what was sent, but for about its last second. Raises
    RegenerateError where there is no truth.
    """
    header = next(progress.read(path), None)
    if header is None or header.get("type") != "run":
        raise RegenerateError(f"{path} is not the truth of a run: it does not begin with a line of type run")
    if header["numpy"] != np.__version__:
        _log.warning(
            "%s was made with numpy %s; this is %s, and may draw others", path, header["numpy"], np.__version__
        )
    return Run(_options(header), header["duration_s"], header["messages"], _stop(path))


def patients(run: Run) -> tuple[Patient, ...]:
    """Who is simulated."""
    return Simulation(run.options).cohort.patients


def records(run: Run) -> Iterator[tuple[int, Record]]:
    """Instant (epoch ms) and record of every record on the topic of vital signs, byte for byte, dead letters too."""
    simulation = Simulation(run.options)
    in_ms = _clock(run.options.start)
    for happening in _happenings(run, simulation):
        made = simulation.written(happening)
        if isinstance(made, Record):
            yield in_ms(made.due), made


def messages(run: Run, told: Callable[[Label], None] | None = None) -> Iterator[tuple[int, Message]]:
    """Instant at which it is received (epoch ms) and message, for every record that can be parsed.

    Faults are applied: what dropped out is absent, what became a dead letter is left out (``records`` has it), and a
    value that is not finite is a float that is not. ``told`` is called with each episode and transient, before its
    patient's first message in it. A message is the caller's own, except for its ``location``, which others share.
    """
    simulation = Simulation(run.options)
    in_ms = _clock(run.options.start)
    for happening in _happenings(run, simulation):
        if isinstance(happening, Sent):
            message = _parsed(happening.content)
            if message is not None:
                yield in_ms(happening.due), message
        elif told is not None and isinstance(happening, Begun):
            told(_label(simulation, happening.what))


def readings(run: Run) -> Iterator[Readings]:
    """The readings of a run without faults as arrays: what ``messages`` carries, at a fraction of the cost.

    Raises RegenerateError where the run has faults.
    """
    if _has_faults(run):
        raise RegenerateError("a run with faults has no plain readings: take its messages")
    simulation = Simulation(run.options)
    left = _Left(run)
    for cycle in simulation.cycles():
        rows = left.take(cycle)
        labels = tuple(_label(simulation, what) for what in cycle.begun if what.patient < rows)
        if rows:
            yield Readings(epoch_ms(run.options.start, cycle.at[:rows]), cycle.values[:rows], labels)
        if rows < len(cycle.at):
            return


def labels(run: Run) -> tuple[Label, ...]:
    """Every episode and transient of a run that ends, in the order in which they begin to be seen.

    Raises RegenerateError for one that does not end.
    """
    if not run.ends:
        raise RegenerateError("a run without an end has no last episode: give it a duration or a number of messages")
    if run.stop is None and not _has_faults(run):
        return tuple(label for cycle in readings(run) for label in cycle.begun)
    # Faults add to what is counted, and a stop may come between an episode and its first message.
    simulation = Simulation(run.options)
    begun = (happening for happening in _happenings(run, simulation) if isinstance(happening, Begun))
    return tuple(_label(simulation, happening.what) for happening in begun)


class _Left:
    """How much of a run without faults is left to come, cycle by cycle."""

    def __init__(self, run: Run) -> None:
        self._duration = np.inf if run.duration is None else run.duration
        self._messages = np.inf if run.messages is None else run.messages
        self._taken = np.inf if run.stop is None else run.stop.taken - _resources(run)

    def take(self, cycle: Cycle) -> int:
        """How many of the cycle's messages, from the first, are still of the run."""
        # A patient's notes stand before the patient's message.
        items = np.ones(len(cycle.at))
        np.add.at(items, [what.patient for what in cycle.begun], 1)
        taken = np.cumsum(items)
        within = (cycle.at < self._duration) & (taken <= self._taken)
        rows = int(min(np.count_nonzero(within), self._messages))
        self._messages -= rows
        self._taken -= taken[rows - 1] if rows else 0
        return rows


def _happenings(run: Run, simulation: Simulation) -> Iterator[Happening]:
    happenings = simulation.happenings(run.duration, run.messages)
    if run.stop is None:
        yield from happenings
        return
    wanted = run.stop.taken - _resources(run)
    # The sender had one more in its hand than it sent, and what that held back is among what it sent at the end.
    for number, happening in enumerate(happenings):
        if number >= wanted:
            break
        yield happening
    for sent in islice(simulation.held_back(), run.stop.held_sent):
        yield sent._replace(due=min(sent.due, run.stop.at))


def _has_faults(run: Run) -> bool:
    return any(run.options.fault_rates.values())


def _resources(run: Run) -> int:
    """Patients and encounters, which go out first."""
    return 2 * run.options.patients


def _parsed(content: Message | Sending) -> Message | None:
    if not isinstance(content, Sending):
        return content
    if content.value is None or content.expect.startswith("dead_letter:"):
        return None
    # This parser takes NaN and 1e400, as the stream's does.
    message: Message = json.loads(content.value)
    return message


def _clock(start: datetime) -> Callable[[float], int]:
    """Seconds after the start as epoch milliseconds, as ``epoch_ms`` gives them, for one instant at a time."""
    start_us = (start - _EPOCH) // timedelta(microseconds=1)
    return lambda due: (start_us + round(due * 1e6)) // 1000


def _label(simulation: Simulation, begun: Episode | Transient) -> Label:
    patient, start = simulation.cohort.patients[begun.patient], simulation.options.start
    if isinstance(begun, Transient):
        began, end = epoch_ms(start, np.array([begun.start, begun.end])).tolist()
        return TransientLabel(patient.patient_id, patient.unit, begun.movement.signal, began, end, begun.extreme)
    instants = np.array([begun.start, begun.plateau, begun.recovery, begun.end])
    began, plateau, recovery, end = epoch_ms(start, instants).tolist()
    return EpisodeLabel(
        patient.patient_id,
        patient.unit,
        begun.kind.name,
        round(begun.severity, 3),
        began,
        plateau,
        recovery,
        end,
        begun.kind.expected_rules,
    )


def _options(header: progress.Record) -> Options:
    return Options(
        start=datetime.fromisoformat(header["start"]),
        patients=header["patients"],
        cadence=header["cadence_s"],
        seed=header["seed"],
        episodes_per_hour=header["episodes_per_hour"],
        fault_rates=header["fault_rates"],
        beds=header["unit_beds"],
        transients_per_hour=header["transients_per_hour"],
    )


def _stop(path: Path) -> Stop:
    summary = progress.last(path)
    if summary is not None and summary["type"] == "summary":
        return Stop(summary["taken"], summary["held_sent"], summary["ended_s"])
    # A line for each record and note, but for the header.
    return Stop(taken=sum(1 for _ in progress.read(path)) - 1)
