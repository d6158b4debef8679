"""Starting, watching, restarting and stopping the processes of a local stack, and measuring what they use.

Each component is a ``ward`` command in a process group of its own, with its output in ``<data dir>/logs/NAME.log``. It
says by its state file when it serves. Nothing here knows what a component does.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Literal, Self

import psutil

from lakehouse.datadir import DataDir
from wardhouse.component import SUPERVISOR_VARIABLE, State, read_state
from wardhouse.errors import Failure

LOG_LINES_SHOWN = 12
_REASON = "ward: "
_REASON_WITHIN_LINES = 500
LOG_BYTES_KEPT = 20_000_000
"""A log that is longer when its component starts becomes NAME.log.1, and a fresh one begins."""
LEAST_FREE_BYTES = 32_000_000
"""Enough to end a batch and write checkpoints. On a full disk every component dies in the middle of something."""
ShownState = Literal["starting", "ready", "paused", "running", "restarting", "stopped"]
"""``running`` is a command that ends by itself and serves nobody."""
_POLL_S = 0.1
_NEWBORN_S = 2.0
"""By then a new process runs its own program: Java starts small ones, and each would count as a second Java. The system
tells births to a second only."""
_KILL_WAIT_S = 5.0
_GONE_POLL_S = 0.02


class GaveUp(Failure):
    """A component could not be started, died more often than it may (with its last log lines), or the disk is full."""


class Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """Somebody asked to stop while something was waited for."""


@dataclass(frozen=True)
class Program:
    """One component: its name, as in its state file, and how it is run. Times in seconds."""

    name: str
    command: tuple[str, ...]
    nice: int = 0
    ready_s: float = 180.0
    """How long it may take until it serves."""
    stop_s: float = 20.0
    """How long it may take to end after SIGTERM before it is killed."""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RestartPolicy:
    """How a component that dies is started again: after 1, 2, 4 .. 30 s, and not for a sixth time in ten minutes."""

    first_s: float = 1.0
    longest_s: float = 30.0
    most: int = 5
    within_s: float = 600.0


def restart_delay(deaths: Sequence[float], policy: RestartPolicy) -> float | None:
    """Seconds to wait after the last of these deaths (instants in seconds, oldest first); None: no more restarts."""
    recent = sum(1 for death in deaths if deaths[-1] - death < policy.within_s)
    if recent > policy.most:
        return None
    return float(min(policy.first_s * 2 ** (recent - 1), policy.longest_s))


@dataclass(frozen=True)
class Condition:
    """How a component is: what a person is shown."""

    name: str
    state: ShownState
    pid: int | None
    address: str | None
    restarts: int
    rss_mb: float
    cpu_s: float


@dataclass
class _Child:
    program: Program
    process: subprocess.Popen[bytes] | None = None
    deaths: list[float] = field(default_factory=list)
    restart_at: float | None = None
    was_ready: bool = False
    log_begins_at: int = 0
    """Where in the log this life of it begins, in bytes."""
    ends_by_itself: bool = False
    family: dict[int, psutil.Process] = field(default_factory=dict)
    """Every process it was seen to have started, so that none outlives it."""
    rss_bytes: int = 0
    cpu_s: float = 0.0
    cpu_s_before: float = 0.0
    """Processor seconds of its earlier lives."""


class Supervisor:
    """The running components of one stack. As a context manager it kills, at the end, whatever was not stopped before.

    ``tell`` gets a line, or several, for a person whenever something happens that was not asked for.
    """

    def __init__(
        self,
        data: DataDir,
        tell: Callable[[str], None],
        policy: RestartPolicy = RestartPolicy(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._data = data
        self._tell = tell
        self._policy = policy
        self._clock = clock
        self._children: dict[str, _Child] = {}
        self.peak_rss_mb: dict[str, float] = {}
        """By component, this process among them: resident memory when all together held the most ``measure`` saw."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()

    def start(self, *programs: Program) -> None:
        """Start components, without waiting for them."""
        for program in programs:
            child = self._children.setdefault(program.name, _Child(program))
            self._launch(child)

    def wait_ready(self, stop: Event) -> None:
        """Block until every component serves. Raises GaveUp for one that dies or takes too long, and Interrupted."""
        begun = self._clock()
        while waiting := [child for child in self._children.values() if not self._is_ready(child)]:
            for child in waiting:
                if child.process is not None and child.process.poll() is not None:
                    raise GaveUp(self._why(child, f"{child.program.name} did not start"))
                if self._clock() - begun > child.program.ready_s:
                    name, limit = child.program.name, child.program.ready_s
                    raise GaveUp(self._why(child, f"{name} was not ready within {limit:g} s"))
            if stop.wait(_POLL_S):
                raise Interrupted

    def check(self) -> None:
        """Look after every component once: tell of deaths, start again what is due. Raises GaveUp."""
        if shutil.disk_usage(self._data.root).free < LEAST_FREE_BYTES:
            least = LEAST_FREE_BYTES // 1_000_000
            raise GaveUp(
                f"less than {least} MB are left on the disk of {self._data.root}: free some space, then start again;"
                " what had not landed yet is in Kafka and lands then"
            )
        now = self._clock()
        for child in self._children.values():
            if child.process is None:
                if child.restart_at is not None and now >= child.restart_at:
                    self._launch(child)
            elif (code := child.process.poll()) is not None:
                self._bury(child, code, now)
            else:
                self._is_ready(child)

    def stop(self, *names: str) -> None:
        """End components together: SIGTERM, time to finish, then SIGKILL, also for processes that they have left."""
        children = [self._children[name] for name in names if name in self._children]
        begun = self._clock()
        for child in children:
            child.restart_at = None
            if child.process is not None:
                self._note_family(child)
                with contextlib.suppress(ProcessLookupError):
                    child.process.send_signal(signal.SIGTERM)
        for child in children:
            if child.process is None:
                continue
            try:
                child.process.wait(max(0.1, child.program.stop_s - (self._clock() - begun)))
            except subprocess.TimeoutExpired:
                self._tell(f"{child.program.name} did not stop within {child.program.stop_s:g} s and was killed")
            self._end(child)

    def kill(self) -> None:
        """End everything at once."""
        for child in self._children.values():
            child.restart_at = None
            if child.process is not None:
                self._note_family(child)
                self._end(child)

    def run(self, program: Program, stop: Event) -> int:
        """Run a command to its end and return its exit code. Raises Interrupted, the command ended by then."""
        child = self._children.setdefault(program.name, _Child(program, ends_by_itself=True))
        self._launch(child)
        try:
            while child.process is not None and (code := child.process.poll()) is None:
                if stop.wait(_POLL_S):
                    raise Interrupted
        finally:
            self.stop(program.name)
        return code or 0

    def measure(self) -> None:
        """Note memory and processor time of every component with all its processes; call it about once a second."""
        owner = {process.pid: child for child, process in self._live()}
        sums = {pid: [0, 0.0] for pid in owner}
        me, begun = psutil.Process(), time.time()
        parents = {}
        family = me.children(recursive=True)
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                parents[process.pid] = process.ppid()
        for process in family:
            root = _root(process.pid, parents, owner)
            if root is None:
                continue
            with contextlib.suppress(psutil.NoSuchProcess):
                with process.oneshot():
                    times = process.cpu_times()
                    # Between its birth and its first program a child is its parent, memory included.
                    if process.pid == root or process.create_time() < begun - _NEWBORN_S:
                        sums[root][0] += process.memory_info().rss
                # What ended and was waited for counts with its parent.
                sums[root][1] += times.user + times.system + times.children_user + times.children_system
                owner[root].family[process.pid] = process
        for pid, (rss, cpu) in sums.items():
            owner[pid].rss_bytes, owner[pid].cpu_s = int(rss), max(owner[pid].cpu_s, cpu)
        for child in owner.values():
            child.family = {pid: process for pid, process in child.family.items() if process.is_running()}
        used = {"up": me.memory_info().rss / 1e6} | {
            owner[pid].program.name: rss / 1e6 for pid, (rss, _) in sums.items()
        }
        self.peak_rss_mb = max(self.peak_rss_mb, used, key=lambda each: sum(each.values()))

    def conditions(self) -> tuple[Condition, ...]:
        """How every component is, in the order of their start."""
        return tuple(self._condition(child) for child in tuple(self._children.values()))

    def cpu_seconds(self) -> dict[str, float]:
        """Processor seconds that each component has used so far, earlier lives included, and this process (``up``)."""
        used = {name: round(child.cpu_s_before + child.cpu_s, 2) for name, child in tuple(self._children.items())}
        mine = psutil.Process().cpu_times()
        return {**used, "up": round(mine.user + mine.system, 2)}

    def _live(self) -> list[tuple[_Child, subprocess.Popen[bytes]]]:
        """Components that have a process just now; a view may ask while another thread starts and stops."""
        found = [(child, child.process) for child in tuple(self._children.values())]
        return [(child, process) for child, process in found if process is not None]

    def log(self, name: str) -> Path:
        """Where a component's output goes."""
        return self._data.logs / f"{name}.log"

    def _launch(self, child: _Child) -> None:
        program = child.program
        path = self.log(program.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > LOG_BYTES_KEPT:
            path.replace(path.with_name(f"{path.name}.1"))
        prefix = ("nice", "-n", str(program.nice)) if program.nice else ()
        with path.open("ab") as log:
            child.log_begins_at = log.tell()
            child.process = subprocess.Popen(
                [*prefix, *program.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A group of its own: a Ctrl-C in the terminal is for us alone, and we stop things in order.
                start_new_session=True,
                env={
                    **os.environ,
                    "PYTHONUNBUFFERED": "1",
                    SUPERVISOR_VARIABLE: str(os.getpid()),
                    **program.environment,
                },
            )
        child.restart_at, child.was_ready = None, False
        child.cpu_s_before, child.cpu_s, child.rss_bytes = child.cpu_s_before + child.cpu_s, 0.0, 0

    def _bury(self, child: _Child, code: int, now: float) -> None:
        name = child.program.name
        self._end(child)
        child.deaths.append(now)
        delay = restart_delay(child.deaths, self._policy)
        what = f"{name} ended ({_how(code)})"
        if delay is None:
            raise GaveUp(self._why(child, f"{what}, after {len(child.deaths) - 1} restarts"))
        child.restart_at = now + delay
        self._tell(self._why(child, f"{what}, and starts again in {delay:g} s"))

    def _end(self, child: _Child) -> None:
        """Kill what is left of a component: its group, and processes it started that made groups of their own."""
        process, child.process = child.process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for relative in child.family.values():
            # psutil compares the start of the process as well: a later one of the same id is left alone.
            with contextlib.suppress(psutil.NoSuchProcess):
                relative.kill()
        process.wait()
        _wait_gone(child.family.values(), _KILL_WAIT_S)
        child.family.clear()
        child.rss_bytes = 0

    def _note_family(self, child: _Child) -> None:
        assert child.process is not None  # noqa: S101 - callers have looked
        with contextlib.suppress(psutil.NoSuchProcess):
            for relative in psutil.Process(child.process.pid).children(recursive=True):
                child.family[relative.pid] = relative

    def _is_ready(self, child: _Child) -> bool:
        if not child.was_ready and child.process is not None:
            state = read_state(self._data, child.program.name)
            child.was_ready = state is not None and state.state == "ready" and state.pid == child.process.pid
        return child.was_ready

    def _condition(self, child: _Child) -> Condition:
        process = child.process
        state = read_state(self._data, child.program.name) if process is not None else None
        shown: ShownState
        if process is None:
            shown = "stopped" if child.restart_at is None else "restarting"
        else:
            shown = _shown(state) if state else "running" if child.ends_by_itself else "starting"
        return Condition(
            name=child.program.name,
            state=shown,
            pid=process.pid if process else None,
            address=state.address if state else None,
            restarts=len(child.deaths),
            rss_mb=child.rss_bytes / 1e6,
            cpu_s=child.cpu_s_before + child.cpu_s,
        )

    def _why(self, child: _Child, what: str) -> str:
        """What happened, in the component's own words where its command gave a reason, else with its last log lines."""
        path = self.log(child.program.name)
        if reason := _reason(last_lines(path, _REASON_WITHIN_LINES, child.log_begins_at)):
            return f"{what}: {reason}"
        lines = last_lines(path, LOG_LINES_SHOWN, child.log_begins_at)
        shown = "".join(f"\n    {line}" for line in lines)
        return f"{what}. The end of {path}:{shown}"


def _reason(lines: list[str]) -> str:
    """The last reason that a command gave, with the lines indented below it; empty where it gave none.

    A Java machine that is brought to its end by it may say a lot afterwards.
    """
    at = max((number for number, line in enumerate(lines) if line.startswith(_REASON)), default=None)
    if at is None:
        return ""
    more = takewhile(lambda line: line.startswith("    "), lines[at + 1 :])
    return "\n".join([lines[at].removeprefix(_REASON), *more])


def last_lines(path: Path, count: int, since: int = 0) -> list[str]:
    """The last lines of a text file, which may be long, from byte ``since`` on; none where there is no such file."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(since, file.tell() - 500 * count))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-count:]


def _wait_gone(processes: Iterable[psutil.Process], within_s: float) -> None:
    """Wait until none of them runs, at most so long.

    Not by ``psutil.wait_procs``: where a thread has got the id of a process that ended long ago, newer systems have an
    error for it, which psutil hands on.
    """
    deadline = time.monotonic() + within_s
    while any(process.is_running() for process in processes) and time.monotonic() < deadline:
        time.sleep(_GONE_POLL_S)


def _root(pid: int, parents: Mapping[int, int], roots: Iterable[int]) -> int | None:
    known = set(roots)
    seen: int | None = pid
    while seen is not None and seen not in known:
        seen = parents.get(seen)
    return seen


def _shown(state: State) -> ShownState:
    return "paused" if state.paused else state.state


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
