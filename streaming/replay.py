"""Replay: messages of a source to the topic of vital signs, at the pace at which they were observed or a multiple."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from lakehouse.message import encode, encode_resource, key
from lakehouse.sources.source import Event
from streaming.producer import Producer


@dataclass(frozen=True)
class Pace:
    """How fast observed time passes: ``speed`` 60 sends an hour in a minute; 0 does not wait at all.

    No pause is longer than ``longest_pause_s`` seconds: dates of de-identified patients lie decades apart.
    """

    speed: float = 60.0
    longest_pause_s: float = 5.0


@dataclass
class Sent:
    """What went out. ``stopped`` says that the rest was not sent because somebody asked to stop."""

    messages: int = 0
    observations: int = 0
    resources: int = 0
    pauses_cut: int = 0
    stopped: bool = False
    elapsed_s: float = 0.0

    def as_report(self) -> dict[str, Any]:
        """The counts, as JSON has them."""
        return {
            "messages_sent": self.messages,
            "observations_sent": self.observations,
            "resources_sent": self.resources,
            "pauses_cut": self.pauses_cut,
            "stopped": self.stopped,
            "elapsed_s": round(self.elapsed_s, 3),
            "messages_per_s": round(self.messages / self.elapsed_s, 1) if self.elapsed_s else None,
        }


def pauses(events: Iterable[Event], pace: Pace, sent: Sent) -> Iterator[tuple[float, Event]]:
    """Each event with the seconds to let pass since the one before; cut pauses are counted in ``sent``."""
    before: datetime | None = None
    for event in events:
        if pace.speed <= 0:
            yield 0.0, event
            continue
        at = datetime.fromisoformat(event.message["observed_at"])
        passed = (at - before if before is not None else timedelta()).total_seconds() / pace.speed
        before = at
        if passed > pace.longest_pause_s:
            sent.pauses_cut += 1
        # A source gives events in order; a clock that went back all the same is no reason to hurry.
        yield max(0.0, min(passed, pace.longest_pause_s)), event


def run(
    events: Iterable[Event],
    producer: Producer,
    topic: str,
    *,
    pace: Pace,
    stop: threading.Event,
    sent: Sent | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Sent:
    """Send every event to ``topic``, keyed by patient, until there are no more or ``stop`` is set, and flush.

    ``sent`` is counted up on the way, for whoever shows progress. Raises ContractError, ProducerError.
    """
    sent = sent if sent is not None else Sent()
    began = due = clock()
    for pause, event in pauses(events, pace, sent):
        due += pause
        ahead = due - clock()
        if stop.wait(ahead) if ahead > 0 else stop.is_set():
            sent.stopped = True
            break
        producer.send(topic, key(event.message), encode(event.message))
        sent.messages += 1
        sent.observations += len(event.message["observations"])
    producer.flush()
    sent.elapsed_s = clock() - began
    return sent


def send_resources(
    resources: Iterable[Event], producer: Producer, topic: str, *, stop: threading.Event, sent: Sent
) -> None:
    """Send records of resources as fast as it goes, until there are no more or ``stop`` is set, and flush.

    Raises ContractError, ProducerError.
    """
    for resource in resources:
        if stop.is_set():
            sent.stopped = True
            break
        producer.send(topic, key(resource.message), encode_resource(resource.message))
        sent.resources += 1
    producer.flush()
