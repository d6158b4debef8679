"""The faults: what is done to the stack, and what must have caught up with it by when."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import orjson
from kafka import KafkaProducer
from kafka.admin import NewPartitions

from bench.chaos import damage
from bench.chaos.client import message
from bench.chaos.stack import Stack, until
from lakehouse.topics import VITALS
from wardhouse.topics import administration, end_offsets

LAKEHOUSE, ALERTS, ROUTER = "stream-lakehouse", "stream-alerts", "router"
GOAL_S = 30.0
ALERT_GOAL_S = 45.0
"""Of the alert flow, which repeats a minute and a half when it starts."""
EVERYTHING = ("stored", "evaluated", "routed", "told", "acknowledging")
_PAUSE_S = 10.0
_POISON_SHARE = 0.1
_POISON_S = 20.0
_NOTICED_S = 60.0
"""By then the death of a process has been seen by whoever stands above it."""
_DISK_LEFT = 16 * 1024 * 1024


@dataclass(frozen=True)
class Fault:
    """One way to break the stack.

    ``act`` breaks it and answers once the fault itself is over; ``awaits`` names the probes that must then hold, and
    ``component`` what must serve. ``goal_s`` is for the 95th percentile of recovery; None where people are needed.
    """

    name: str
    does: str
    act: Callable[[Stack], None]
    awaits: tuple[str, ...]
    goal_s: float | None = GOAL_S
    component: str | None = None
    """Killed by the fault: its supervisor starts it again, but not for a sixth time in ten minutes."""
    stops: bool = False
    """The stack is stopped and started by it: a start of everything is in the time."""
    last: bool = False
    """It cannot be undone, so nothing comes after it."""


def kill(name: str, stack: Stack) -> None:
    """SIGKILL to a component's own process or, where it has one, to its Java machine alone."""
    before = stack.pid(name)
    process, *_ = stack.processes(name)
    java = stack.java(name)
    (java if java is not None and stack.chance.random() < 0.5 else process).kill()
    stack.wait(lambda: stack.pid(name) != before, _NOTICED_S)


def stand_still(name: str, stack: Stack) -> None:
    """SIGSTOP to a component with all its processes for ten seconds, as a machine that swaps or a slow reader does."""
    processes = stack.processes(name)
    for process in processes:
        process.suspend()
    time.sleep(_PAUSE_S)
    for process in processes:
        process.resume()


def poison(stack: Stack) -> None:
    """For twenty seconds one message in ten is none."""
    kinds = (
        b"{",
        b"",
        None,
        b"\xff\xfe{}",
        b"[" * 10_000,
        b"x" * 900_000,
        b'{"schema_version": 1, "observations": "none"}',
        orjson.dumps(message("poison", 1)).replace(b"80.0", b"NaN"),
    )
    _send(stack, (stack.chance.choice(kinds) for _ in range(_count(stack))))


def next_schema(stack: Stack) -> None:
    """For twenty seconds one message in ten is of schema version 2, which nobody knows yet."""
    _send(stack, (orjson.dumps(message(f"next/{number}", number, 2)) for number in range(_count(stack))))


def fill_disk(stack: Stack) -> None:
    """The file system of the data dir runs full; ``ward up`` stops by itself, and is started when there is space."""
    filler = stack.data.root.parent / "filler"
    space = os.statvfs(filler.parent)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize - _DISK_LEFT)
    try:
        code, said = stack.ended(_NOTICED_S * 3), stack.last_words(1)
    finally:
        filler.unlink()
    damage.require(code == 1 and "free some space" in said, f"a full disk is not named: {said}")
    stack.start()


def more_partitions(stack: Stack) -> None:
    """The topic ``vitals`` gets a partition more while everything runs."""
    with administration(stack.bootstrap) as client:
        client.create_partitions({stack.settings.topic(VITALS): NewPartitions(VITALS.partitions + 1)})
    # The senders look once in five minutes which partitions there are; this one is fresh.
    ends = partial(_end_of_new, stack)
    _send(stack, (orjson.dumps(message(f"wider/{number}", number)) for number in range(_count(stack))))
    until(lambda: ends() > 0, _NOTICED_S)


def _end_of_new(stack: Stack) -> int:
    topic = stack.settings.topic(VITALS)
    return end_offsets(stack.bootstrap, [topic]).get((topic, VITALS.partitions), 0)


def _send(stack: Stack, values: Iterator[bytes | None]) -> None:
    every_s = 1 / (stack.load.rate * _POISON_SHARE)
    servers = stack.bootstrap.split(",")
    with closing(KafkaProducer(bootstrap_servers=servers, acks="all", max_request_size=2_000_000)) as producer:
        for number, value in enumerate(values):
            producer.send(stack.settings.topic(VITALS), key=b"chaos/%d" % number, value=value)
            time.sleep(every_s)
        producer.flush()


def _count(stack: Stack) -> int:
    return round(stack.load.rate * _POISON_SHARE * _POISON_S)


def _kill(component: str, awaits: tuple[str, ...], goal_s: float = GOAL_S) -> Fault:
    does = "SIGKILL to its process or its Java machine"
    return Fault(f"kill {component}", does, partial(kill, component), awaits, goal_s, component)


FAULTS = (
    _kill(LAKEHOUSE, ("stored",)),
    _kill(ALERTS, ("evaluated",), ALERT_GOAL_S),
    _kill(ROUTER, ("routed",)),
    _kill("broker", EVERYTHING, ALERT_GOAL_S),
    _kill("gateway", ("acknowledging",)),
    _kill("notify", ("told",)),
    Fault("broker stands still", "SIGSTOP for 10 s", partial(stand_still, "broker"), EVERYTHING, ALERT_GOAL_S),
    Fault("slow reader", "the router stands still for 10 s", partial(stand_still, ROUTER), ("routed",)),
    Fault("poison", "one message in ten is garbage for 20 s", poison, ("stored", "evaluated", "routed")),
    Fault("schema version 2", "one message in ten for 20 s", next_schema, ("stored", "evaluated", "routed")),
    Fault("disk full", "a file takes all space but 16 MB", fill_disk, EVERYTHING, None, stops=True),
    *(Fault(one.name, one.does, partial(damage.mended, one), EVERYTHING, None, stops=True) for one in damage.DAMAGES),
    Fault("more partitions", "vitals gets a third", more_partitions, ("stored", "evaluated"), ALERT_GOAL_S, last=True),
)
"""In the order in which a run does them; kills come first, mixed."""


@contextmanager
def small_disk(place: Path, size_mb: int) -> Iterator[bool]:
    """Mount a file system of its own on a folder; whether that may be done here."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, check=False)
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "--lazy", str(place)], check=True)
