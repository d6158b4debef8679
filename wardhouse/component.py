"""What a running component says of itself: ``<data dir>/run/NAME.json``, which ``ward up`` and ``ward status`` read.

Every command that runs until it is stopped does its work inside :func:`component`::

    with component(data_dir(path), "router", address=None) as running:
        router.run(..., on_ready=running.ready)

While the block runs the component's name is taken on that data dir, and leaving the block frees it. The block itself
must end on SIGTERM and SIGINT.
"""

import fcntl
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import psutil

from lakehouse.datadir import DataDir
from wardhouse.errors import Failure

SUPERVISOR_VARIABLE = "WARD_SUPERVISOR"
"""Process id of the ``ward up`` that started this component; set by it alone."""

_SUPERVISOR_CHECK_S = 1.0


@dataclass(frozen=True)
class State:
    """One component as its state file has it. ``started_at`` is what ``process_start`` says of its process."""

    name: str
    state: Literal["starting", "ready"]
    pid: int
    started_at: float
    address: str | None = None
    paused: bool = False
    """Whether it stands still because somebody asked for a pause."""

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return find_process(self.pid, self.started_at) is not None


class Running:
    """The component inside its block: tell here when it serves."""

    def __init__(self, path: Path, state: State) -> None:
        self._path = path
        self._state = state

    def ready(self, address: str | None = None) -> None:
        """Say that the component serves; ``address`` where it was not known before (a port chosen by the system)."""
        self._become(replace(self._state, state="ready", address=address or self._state.address))

    def paused(self, paused: bool) -> None:
        """Say that the component stands still, or goes on."""
        self._become(replace(self._state, paused=paused))

    def _become(self, state: State) -> None:
        self._state = state
        write_state(self._path, state)


def process_start(pid: int) -> float:
    """When a process started; with its id, what tells it from every other. Raises psutil.NoSuchProcess.

    Ticks since the machine's start on Linux, epoch seconds elsewhere: to be compared, not to be shown. The time of day
    would not do, since setting the clock moves what the system says of processes that run already.
    """
    if not Path("/proc/self/stat").exists():
        return float(psutil.Process(pid).create_time())
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        raise psutil.NoSuchProcess(pid) from None
    # Field 22; the second one is the program's name in brackets, and may itself hold blanks and brackets.
    return float(stat.rpartition(")")[2].split()[19])


def find_process(pid: int, started_at: float) -> psutil.Process | None:
    """The process with this id that started at this instant; None where it is gone, or a later one has its id."""
    try:
        process = psutil.Process(pid)
        same = process.status() != psutil.STATUS_ZOMBIE and process_start(pid) == started_at
    except psutil.NoSuchProcess:
        return None
    return process if same else None


def state_file(data: DataDir, name: str) -> Path:
    """Where a component's state is kept."""
    return data.run / f"{name}.json"


def write_state(path: Path, state: State) -> None:
    """Replace a state file in one step: a reader sees the old or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(json.dumps(asdict(state)), encoding="utf-8")
    fresh.replace(path)


def read_state(data: DataDir, name: str) -> State | None:
    """The component's state, or None where it does not run: no file, or a file that a killed process left behind."""
    try:
        state = State(**json.loads(state_file(data, name).read_text(encoding="utf-8")))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return None
    return state if state.alive else None


def states(data: DataDir) -> tuple[State, ...]:
    """Every component that runs on this data dir, by name."""
    names = sorted(path.stem for path in data.run.glob("[!.]*.json"))
    return tuple(state for name in names if (state := read_state(data, name)) is not None)


@contextmanager
def component(data: DataDir, name: str, address: str | None = None) -> Iterator[Running]:
    """Take the component's name on this data dir, say that it starts, and free the name at the end.

    Started by ``ward up``, it also gets a SIGTERM of its own when that process is gone, so that nothing outlives it.
    Raises Failure where the component already runs, or where the data dir cannot be written.
    """
    path = state_file(data, name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A lock of the kernel's: it cannot outlive the process, and two starts at once cannot both have it.
        lock = path.with_suffix(".lock").open("a")
    except OSError as error:
        raise Failure(
            f"cannot write the data dir {data.root}: {error.strerror}; choose another with --data-dir"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = read_state(data, name)
            known = f" (process {other.pid})" if other else ""
            raise Failure(f"{name} already runs on {data.root}{known}: stop it, or use another --data-dir") from None
        pid = os.getpid()
        state = State(name, "starting", pid, process_start(pid), address)
        write_state(path, state)
        _stop_with_supervisor()
        try:
            yield Running(path, state)
        finally:
            path.unlink(missing_ok=True)


def _stop_with_supervisor() -> None:
    supervisor = os.environ.get(SUPERVISOR_VARIABLE)
    if supervisor is None:
        return

    def watch() -> None:
        while psutil.pid_exists(int(supervisor)):
            time.sleep(_SUPERVISOR_CHECK_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="supervisor-watch", daemon=True).start()
