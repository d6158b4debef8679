"""Keeps sinks up to date with the tables: each in a thread of its own, so that none waits for another.

How far a sink has a table is kept in the sink itself: this process keeps nothing, and may be killed at any point.
"""

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lakehouse import progress
from lakehouse.datadir import DataDir
from lakehouse.delta_log import LogError
from lakehouse.reader import TableMissingError
from lakehouse.sinks.changes import BehindError, UnreadableError, behind, next_step, opened
from lakehouse.sinks.declaration import Sink
from lakehouse.sinks.store import StoppedError, Store, StoreError, open_store
from lakehouse.table import Table

POLL_S = 2.0
"""How often tables are looked at for a new version; gold has one every ten seconds at most."""
_RECORD_EVERY = timedelta(seconds=30)
"""While nothing comes: that it is still there."""
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
"""Between two tries of a database that does not answer; the first waits are shorter."""


@dataclass
class Counts:
    """What a copier did since it started, and what keeps it from going on: by table, or by the sink's own name."""

    steps: int = 0
    written: int = 0
    problems: dict[str, str] = field(default_factory=dict)


class Copier:
    """Keeps one sink up to date."""

    def __init__(
        self,
        sink: Sink,
        data: DataDir,
        *,
        stop: threading.Event,
        say: Callable[[str], None],
        clock: Callable[[], datetime],
        open_store: Callable[[Sink], Store] = open_store,
        poll_s: float = POLL_S,
        first_wait_s: float = FIRST_WAIT_S,
    ) -> None:
        self._sink = sink
        self._data = data
        self._stop = stop
        self._say = say
        self._clock = clock
        self._open = open_store
        self._poll_s = poll_s
        self._first_wait_s = first_wait_s
        self._recorded: datetime | None = None
        self.counts = Counts()

    def run(self) -> bool:
        """Copy until ``stop`` is set, through whatever the database does meanwhile; whether nothing is wrong then."""
        wait_s = self._first_wait_s
        while not self._stop.is_set():
            try:
                with closing(self._open(self._sink)) as store:
                    store.prepare()
                    self._note(self._sink.name, None)
                    wait_s = self._first_wait_s
                    self._keep(store)
            except StoreError as error:
                self._note(self._sink.name, str(error))
                self._stop.wait(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            except StoppedError:
                break
        return not self.counts.problems

    def once(self) -> bool:
        """Copy what there is, and end; whether the sink has everything."""
        try:
            with closing(self._open(self._sink)) as store:
                store.prepare()
                while self._round(store):
                    pass
                self._record(store)
        except StoreError as error:
            self._note(self._sink.name, str(error))
        except StoppedError:
            return False
        return not self.counts.problems

    def _keep(self, store: Store) -> None:
        while not self._stop.is_set():
            moved = self._round(store)
            if moved or self._recorded is None or self._clock() - self._recorded >= _RECORD_EVERY:
                self._record(store)
            if not moved:
                self._stop.wait(self._poll_s)

    def _round(self, store: Store) -> bool:
        """One step of each table; whether there was any."""
        moved = [self._take(store, table) for table in self._sink.tables]
        return any(moved)

    def _take(self, store: Store, table: Table) -> bool:
        name = table.full_name
        try:
            step = next_step(self._data, table, store.position(table))
            if step is None:
                self._note(name, None)
                return False
            if step.before is None:
                self._say(f"{self._sink.name}: loading {name}, version {step.after.version}")
            with opened(self._data, step) as rows:
                store.apply(step, rows, self._pulse)
        except BehindError as error:
            self._note(name, f"{error}: `ward sink --rebuild {self._sink.name}` has it loaded again")
            return False
        except TableMissingError:
            self._note(name, f"{name} is not in {self._data.root} yet; it is taken when it is")
            return False
        except (UnreadableError, LogError) as error:
            self._note(name, str(error))
            return False
        self.counts.steps += 1
        self._note(name, None)
        return True

    def _pulse(self, rows: int) -> None:
        self.counts.written += rows
        if self._stop.is_set():
            raise StoppedError

    def _note(self, about: str, problem: str | None) -> None:
        """Keep what is wrong, and say it when it begins, changes or ends."""
        before = self.counts.problems.pop(about, None)
        if problem is not None:
            self.counts.problems[about] = problem
        if problem != before:
            self._say(f"{self._sink.name}: {problem or f'{about} goes on'}")
            if problem is not None:
                self._append(None)

    def _record(self, store: Store) -> None:
        self._recorded = self._clock()
        self._append(sum(behind(self._data, table, store.position(table)) for table in self._sink.tables))

    def _append(self, lag: int | None) -> None:
        """A line of progress: what operations see in metrics. ``lag`` is in versions of tables."""
        line = {
            "at": self._clock().isoformat(),
            "records": self.counts.written,
            "steps": self.counts.steps,
            "problems": len(self.counts.problems),
            "error": next(iter(self.counts.problems.values()), None),
        }
        progress.append(self._data.progress(f"sink_{self._sink.name}"), line | ({} if lag is None else {"lag": lag}))


def run(
    copiers: tuple[Copier, ...], stop: threading.Event, on_ready: Callable[[], None], *, once: bool = False
) -> bool:
    """Run every copier until ``stop`` is set, or ``once``: then, whether every sink has everything."""
    with ThreadPoolExecutor(len(copiers), thread_name_prefix="sink") as pool:
        running = [pool.submit(copier.once if once else copier.run) for copier in copiers]
        on_ready()
        # A fault of the program in one ends them all, loudly: a sink that stands still in silence is worse.
        wait(running, return_when=FIRST_EXCEPTION)
        stop.set()
        return all(future.result() for future in running)
