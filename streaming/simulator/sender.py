"""Sends what the simulation makes, each record when it is due, and writes down what became of it."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from lakehouse import progress
from streaming.producer import Counts, Delivery, Producer
from streaming.simulator.lines import Line
from streaming.simulator.simulation import Note, Options, Record, Simulation
from streaming.simulator.truth import TruthFile

Summary = dict[str, Any]
"""The last line of the truth, as a dictionary."""

_log = logging.getLogger(__name__)

_TICK_S = 0.02
"""Records of a fiftieth of a second go out together: at 1,000 a second that is twenty a request, which costs sender,
broker and reader a third of what requests of single records cost, and no reader can tell."""

_LINGER_MS = 20
"""Measured at 1,000 messages/s: 0.12 cores, with 10 ms 0.16. A tick waits for the next one at most."""

_LONGEST_NAP_S = 0.25
"""How soon a stop is seen when nothing is due."""

_AT_ONCE = 500
"""How many records are sent before looking up again, when behind: some tens of milliseconds."""

_TRUTH_EVERY_S = 0.5
_PROGRESS_EVERY_S = 5.0

_FLUSH_S = 60.0
"""How long the end of a run waits for the broker to acknowledge what is on its way; it may have to come back first."""

_STOP_FLUSH_S = 20.0
"""The same for a run that is told to stop: whoever told it waits."""


@dataclass(frozen=True)
class Limits:
    """When a run ends by itself: ``duration`` in seconds, ``messages`` counts records on the topic of vital signs."""

    duration: float | None = None
    messages: int | None = None


@dataclass
class _Tally:
    """What is counted while sending."""

    faults: Counter[str] = field(default_factory=Counter)
    topics: Counter[str] = field(default_factory=Counter)
    expected: Counter[str] = field(default_factory=Counter)
    quarantined: Counter[str] = field(default_factory=Counter)
    observations: int = 0
    not_sent: int = 0
    episodes: int = 0
    transients: int = 0
    taken: int = 0
    held_sent: int = 0
    ended_s: float = 0.0
    behind_s: float = 0.0
    most_behind_s: float = 0.0


def run(
    options: Options,
    bootstrap_servers: str,
    truth_folder: Path,
    progress_file: Path,
    *,
    limits: Limits = Limits(),
    topics: Mapping[str, str] | None = None,
    stopping: Callable[[], bool] = lambda: False,
    on_ready: Callable[[], None] = lambda: None,
) -> Summary:
    """Simulate until a limit is reached or ``stopping`` answers true, and return the summary of the truth.

    ``topics`` maps declared topic names to a site's own. A broker that goes away is waited for; what was due meanwhile
    is sent when it is back. Raises ProducerError and TruthError; what was acknowledged is in the truth then as well.
    """
    with (
        Producer(bootstrap_servers, client_id="ward-simulator", linger_ms=_LINGER_MS) as producer,
        TruthFile(truth_folder, options.run) as truth,
    ):
        sender = Sender(options, truth, progress_file, topics or {})
        producer.on_delivery = sender.delivered
        on_ready()
        return sender.run(producer, limits, stopping)


class Sender:
    """One run: paces the records of a simulation by a clock, ``clock`` and ``sleep`` in seconds."""

    def __init__(
        self,
        options: Options,
        truth: TruthFile,
        progress_file: Path,
        topics: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._options = options
        self._truth = truth
        self._progress_file = progress_file
        self._topics = topics
        self._clock = clock
        self._sleep = sleep
        self._tally = _Tally()
        self._truth_at = self._progress_at = 0.0
        self._before = Counts(0, 0, 0)

    def run(self, producer: Producer, limits: Limits, stopping: Callable[[], bool]) -> Summary:
        """Send until the end, then wait for every acknowledgement. Raises ProducerError, TruthError."""
        simulation = Simulation(self._options)
        self._truth.add(_header(self._options, limits, self._topics))
        complete = False
        try:
            self._pace(simulation.records(limits.duration, limits.messages), producer, stopping)
            self._send_held(simulation, producer)
            producer.flush(_STOP_FLUSH_S if stopping() else _FLUSH_S)
            complete = True
        except BaseException:
            producer.abort()
            raise
        finally:
            summary = self._summary(producer, complete)
            self._truth.add(summary)
            self._truth.flush()
            self._report(producer, 0.0)
        return summary

    def delivered(self, delivery: Delivery) -> None:
        """Write down what became of one record."""
        line: Line = delivery.token
        if delivery.error is not None:
            self._truth.add({**line, "type": "failed", "error": str(delivery.error)})
            return
        line["partition"] = delivery.partition
        line["offset"] = delivery.offset
        self._truth.add(line)
        self._count(line)

    def _count(self, line: Line) -> None:
        tally = self._tally
        tally.topics[line["topic"]] += 1
        if line["type"] != "message":
            return
        tally.expected[line["expect"]] += 1
        if line["expect"] == "parsed":
            tally.observations += line["observations"]
            tally.quarantined.update(line.get("quarantined", {}))

    def _pace(self, items: Iterator[Record | Note], producer: Producer, stopping: Callable[[], bool]) -> None:
        began = self._clock()
        item = next(items, None)
        while item is not None and not stopping():
            elapsed = self._clock() - began
            at_once = _AT_ONCE
            while item is not None and item.due <= elapsed and at_once and producer.has_room:
                self._send(item, producer)
                self._tally.taken += 1
                item = next(items, None)
                at_once -= 1
            producer.settle()
            self._tally.behind_s = max(0.0, elapsed - item.due) if item is not None else 0.0
            self._tally.most_behind_s = max(self._tally.most_behind_s, self._tally.behind_s)
            self._housekeeping(elapsed, producer)
            if item is not None and at_once:
                self._sleep(_nap(elapsed, item.due))
        self._tally.ended_s = self._clock() - began

    def _send(self, item: Record | Note, producer: Producer) -> None:
        fault = item.line.get("fault")
        if fault is not None:
            self._tally.faults[fault] += 1
        if isinstance(item, Record):
            producer.send(self._topics.get(item.topic, item.topic), item.key, item.value, item.line)
            return
        self._truth.add(item.line)
        match item.line["type"]:
            case "episode":
                self._tally.episodes += 1
            case "transient":
                self._tally.transients += 1
            case _:
                self._tally.not_sent += 1

    def _send_held(self, simulation: Simulation, producer: Producer) -> None:
        """After a stop: what faults hold back, as long as that does not mean waiting for a broker that is away."""
        for record in simulation.held():
            if not producer.has_room:
                return
            self._send(record, producer)
            self._tally.held_sent += 1

    def _housekeeping(self, elapsed: float, producer: Producer) -> None:
        if elapsed - self._truth_at >= _TRUTH_EVERY_S:
            self._truth_at = elapsed
            self._truth.flush()
        if elapsed - self._progress_at >= _PROGRESS_EVERY_S:
            self._report(producer, elapsed - self._progress_at)
            self._progress_at = elapsed

    def _report(self, producer: Producer, interval: float) -> None:
        counts = producer.counts
        rate = round((counts.sent - self._before.sent) / interval, 1) if interval else 0.0
        if interval and producer.pending and counts.acknowledged == self._before.acknowledged:
            _log.warning("the broker has taken nothing for %.0f s; %d records wait for it", interval, producer.pending)
        self._before = counts
        record = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "run": self._options.run,
            "patients": self._options.patients,
            **counts._asdict(),
            "rate": rate,
            "behind_s": round(self._tally.behind_s, 3),
            "episodes": self._tally.episodes,
            "transients": self._tally.transients,
            "faults": dict(self._tally.faults),
        }
        progress.append(self._progress_file, record)

    def _summary(self, producer: Producer, complete: bool) -> Summary:
        tally = self._tally
        return {
            "type": "summary",
            "run": self._options.run,
            "complete": complete,
            **producer.counts._asdict(),
            "acknowledged_by_topic": dict(tally.topics),
            "expected": dict(tally.expected),
            "observations": tally.observations,
            "quarantined": dict(tally.quarantined),
            "faults": dict(tally.faults),
            "not_sent": tally.not_sent,
            "episodes": tally.episodes,
            "transients": tally.transients,
            # Where the run ended, so that it can be made again (regenerate.py).
            "taken": tally.taken,
            "held_sent": tally.held_sent,
            "ended_s": round(tally.ended_s, 3),
            "most_behind_s": round(tally.most_behind_s, 3),
            "cpu_s": round(time.process_time(), 2),
        }


def _nap(elapsed: float, due: float) -> float:
    """Seconds until the tick after the next record is due, so that one request takes a whole tick's records."""
    ticks = max(int(elapsed / _TICK_S) + 1, int(due / _TICK_S) + 1)
    # Rounding may find the tick of now again.
    return min(max(ticks * _TICK_S - elapsed, _TICK_S / 20), _LONGEST_NAP_S)


def _header(options: Options, limits: Limits, topics: Mapping[str, str]) -> Line:
    return {
        "type": "run",
        "run": options.run,
        "seed": options.seed,
        "start": options.start.astimezone(UTC).isoformat(),
        "patients": options.patients,
        "cadence_s": options.cadence,
        "rate": options.rate,
        "episodes_per_hour": options.episodes_per_hour,
        "transients_per_hour": options.transients_per_hour,
        "fault_rates": {name: rate for name, rate in options.fault_rates.items() if rate},
        "unit_beds": None if options.beds is None else dict(options.beds),
        "duration_s": limits.duration,
        "messages": limits.messages,
        # Another one may draw other numbers from the same seed.
        "numpy": np.__version__,
        "topics": dict(topics),
    }
