"""``ward stream pause`` and ``ward stream resume``: the applications that write tables stand still, alerts go on.

The request is a file of the data dir (lakehouse/pause.py), which the applications follow: it outlasts a kill.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from lakehouse import pause
from lakehouse.datadir import DataDir
from lakehouse.session import SessionError
from wardhouse.component import State, read_state
from wardhouse.errors import Failure

LAKEHOUSE = "stream-lakehouse"
LAKEHOUSES = (LAKEHOUSE, "stream")
"""The lakehouse application in a process of its own, and both applications in one."""
WAVEFORM = "stream-waveform"
WRITERS = (*LAKEHOUSES, WAVEFORM)
"""Every process that writes tables as a stream."""
TIMEOUT_S = 300.0
"""A batch of a backlog takes a minute or two, and the flows wait for theirs together."""
_POLL_S = 0.5


def lakehouse_state(data: DataDir) -> State | None:
    """The process that runs the lakehouse application on this data dir."""
    return next((state for name in LAKEHOUSES if (state := read_state(data, name))), None)


def writers(data: DataDir) -> tuple[State, ...]:
    """The processes that write tables as a stream on this data dir."""
    return tuple(state for name in WRITERS if (state := read_state(data, name)))


def pause_stream(data: DataDir, reason: str, now: datetime, timeout_s: float = TIMEOUT_S) -> None:
    """Ask for a pause and wait until it is effective. Raises Failure where nothing runs, or it takes too long."""
    if not writers(data):
        raise Failure(f"no stream runs on {data.root}: there is nothing to pause")
    pause.ask(data, reason, now)
    in_time = _wait(data, lambda states: all(state.paused for state in states), timeout_s)
    if not in_time:
        raise Failure(
            f"the stream is still in a batch after {timeout_s:g} s. It pauses when that has ended (`ward status` shows"
            " it), unless `ward stream resume` takes the pause back"
        )


def resume_stream(data: DataDir, timeout_s: float = TIMEOUT_S) -> bool:
    """End the pause; whether a stream runs that has gone on.

    Raises Failure where there is no pause, and while checkpoints are being moved.
    """
    asked, running = pause.asked(data), writers(data)
    if asked is None:
        raise Failure(
            f"no stream is paused on {data.root}" if running else f"no stream runs on {data.root}, or is paused"
        )
    if asked.unfinished:
        raise Failure(f"`{asked.unfinished}` is under way or was cut off: let it end, or give it again; then resume")
    pause.end(data)
    if not running:
        return False
    if not _wait(data, _go_on, timeout_s):
        raise Failure(f"the stream has not gone on after {timeout_s:g} s: see {data.logs}")
    return True


def require_still(data: DataDir) -> None:
    """Raise Failure where an application that writes tables runs and is not paused."""
    for state in writers(data):
        if state.paused:
            continue
        raise Failure(f"{state.name} runs: `ward stream pause --data-dir {data.root}`, then give this again")


@contextmanager
def paused_for(data: DataDir, reason: str, now: datetime) -> Iterator[None]:
    """A pause for the block, after which the stream goes on: not where it was paused before, or does not run."""
    if pause.asked(data) or not writers(data):
        yield
        return
    try:
        pause_stream(data, reason, now)
        yield
    finally:
        pause.end(data)
        _wait(data, _go_on, TIMEOUT_S)


@contextmanager
def moving(data: DataDir, command: str, now: datetime) -> Iterator[None]:
    """Let no flow of the lakehouse start in the block, nor after it where the block was cut off.

    A Failure, or a session that cannot start, says that nothing was moved. Raises Failure where the lakehouse runs, or
    where another command was cut off.
    """
    require_still(data)
    before = pause.asked(data)
    if before and before.unfinished not in (None, command):
        raise Failure(f"`{before.unfinished}` was cut off: give it again first")
    pause.ask(data, command, now)
    pause.mark(data, command)
    try:
        # A stream that has started in between has seen no pause.
        require_still(data)
        yield
    except (Failure, SessionError):
        if before:
            pause.mark(data, before.unfinished)
        else:
            pause.end(data)
        raise
    if before is None or before.reason == command:
        pause.end(data)
    else:
        pause.mark(data, None)


def _go_on(states: tuple[State, ...]) -> bool:
    return not any(state.paused for state in states)


def _wait(data: DataDir, reached: Callable[[tuple[State, ...]], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not reached(writers(data)):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
