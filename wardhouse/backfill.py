"""A backfill as one piece of work: read a published file, hand it to the lakehouse, wait until all of it has landed.

The lakehouse application that runs on the data dir takes the rows up; where none runs, one without Kafka is started for
as long as it takes.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

import orjson

from lakehouse import pause, pipeline, record
from lakehouse.checkpoint import files_read
from lakehouse.datadir import DataDir
from lakehouse.pipeline import BACKFILL, EARLY_WARNING_SCORE
from lakehouse.reader import connect
from lakehouse.sources.source import Event, Selection, Tally
from lakehouse.spool import Lines, Spool, parts
from lakehouse.tables import BACKFILL_RUN, DEAD_LETTER, DEVICE_MESSAGE, OBSERVATION, OBSERVATION_QUARANTINE
from wardhouse import __version__
from wardhouse.component import Running, component, read_state
from wardhouse.errors import Failure
from wardhouse.pausing import LAKEHOUSE, lakehouse_state
from wardhouse.settings import Settings
from wardhouse.status import newest_data, versions_behind

_FLOWS = (BACKFILL, pipeline.OBSERVATION, EARLY_WARNING_SCORE)
_POLL_S = 1.0
_START_S = 120.0


class StoppedError(Exception):
    """Somebody asked to stop before all had landed. The same command goes on where it ended."""


@dataclass(frozen=True)
class Request:
    """What is to be read, and why."""

    source: str
    path: Path
    selection: Selection
    reason: str | None = None


@dataclass
class Application:
    """The lakehouse application that takes up what is spooled. ``scores``: whether its scores are worth waiting for."""

    scores: bool
    check: Callable[[], None]


@contextmanager
def application(settings: Settings, data: DataDir) -> Iterator[Application]:
    """The one that runs on the data dir, or one started for the block. Raises Failure where it fails or is paused."""
    if pause.asked(data):
        raise Failure(f"the lakehouse is paused: `ward stream resume --data-dir {data.root}`, then give this again")
    if running := lakehouse_state(data):
        # Its scores come every five minutes.
        yield Application(scores=False, check=partial(_runs, data, running.name))
        return
    with component(data, LAKEHOUSE) as started, _started(settings, data, started) as check:
        yield Application(scores=True, check=check)


def _runs(data: DataDir, name: str) -> None:
    if not read_state(data, name):
        raise Failure(f"{name} has ended before all had landed: run the same command again")


@contextmanager
def _started(settings: Settings, data: DataDir, started: Running) -> Iterator[Callable[[], None]]:
    from lakehouse.session import SessionError
    from streaming.application import StreamError, run
    from streaming.config import StreamConfig
    from wardhouse.commands.stream import CORES, MEMORY
    from wardhouse.commands.stream import Application as Which

    config = StreamConfig(
        data=data,
        bootstrap="",
        topics=settings.topics(),
        jars=settings.jars,
        cores=CORES[Which.LAKEHOUSE],
        memory=MEMORY[Which.LAKEHOUSE],
    )
    # Nothing is live: a batch begins when there is something for it.
    flows = tuple(replace(flow, trigger=timedelta(seconds=1)) for flow in _FLOWS)
    stop, ready = threading.Event(), threading.Event()
    failed: list[Exception] = []

    def work() -> None:
        try:
            run("backfill", flows, config, stop, ready.set, started.paused)
        except (SessionError, StreamError) as error:
            failed.append(error)
        finally:
            ready.set()

    def check() -> None:
        if failed:
            raise Failure(str(failed[0])) from failed[0]
        if not thread.is_alive():
            raise Failure("the lakehouse application has ended before all had landed: run the same command again")

    thread = threading.Thread(target=work, name=LAKEHOUSE)
    thread.start()
    try:
        ready.wait(_START_S)
        check()
        started.ready()
        yield check
    finally:
        stop.set()
        thread.join()


def land(data: DataDir, lakehouse: Application, stop: threading.Event, waiting: dict[str, int]) -> None:
    """Block until all that is spooled is in bronze, silver and gold, then empty the spool.

    ``waiting`` says meanwhile what each flow has not taken: files, or versions of a table.
    Raises StoppedError where ``stop`` is set before, Failure where the application ends.
    """
    spool, silver, scores = Spool(data), pipeline.OBSERVATION, EARLY_WARNING_SCORE
    taken = partial(files_read, data.checkpoint(BACKFILL))
    _until(lambda: {BACKFILL.name: len(spool.files() - taken())}, lakehouse, stop, waiting)
    newest = newest_data(data, DEVICE_MESSAGE)
    _until(lambda: {silver.name: versions_behind(data, silver, newest)}, lakehouse, stop, waiting)
    if lakehouse.scores:
        newest = newest_data(data, OBSERVATION)
        _until(lambda: {scores.name: versions_behind(data, scores, newest)}, lakehouse, stop, waiting)
    spool.clear()


def _until(
    left: Callable[[], dict[str, int]], lakehouse: Application, stop: threading.Event, waiting: dict[str, int]
) -> None:
    while any((now := left()).values()):
        waiting.update(now)
        lakehouse.check()
        if stop.wait(_POLL_S):
            raise StoppedError
    waiting.clear()


@dataclass
class Landed:
    """What tables have of the files of a backfill: rows by bronze's topics, and what became of them."""

    run_id: str
    topics: tuple[str, ...] = ()
    written: int = 0
    already_there: int = 0
    observations: int = 0
    quarantined: int = 0
    dead_letters: int = 0


def count(data: DataDir, run_id: str, known: dict[str, Lines]) -> Landed:
    """Count what the tables have of these files; ``known`` are the lines that bronze had before."""
    topics, tables = tuple(sorted(known)), (DEVICE_MESSAGE, OBSERVATION, OBSERVATION_QUARANTINE, DEAD_LETTER)
    with connect(data, tables) as database:
        rows = [
            database.sql(
                f"SELECT count(*) FROM {table.full_name} WHERE topic IN (SELECT unnest($topics))",  # noqa: S608
                params={"topics": list(topics)},
            ).fetchall()[0][0]
            for table in tables
        ]
    there = sum(map(len, known.values()))
    return Landed(run_id, topics, rows[0] - there, there, *rows[1:])


def run(
    request: Request,
    events: Iterable[Event],
    tally: Tally,
    settings: Settings,
    data: DataDir,
    stop: threading.Event,
    waiting: dict[str, int],
) -> Landed:
    """Land these events of the source; ``waiting`` says meanwhile how much of what has not. Raises as :func:`land`."""
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{token_hex(3)}"
    known: dict[str, Lines] = {}
    with component(data, "backfill"), application(settings, data) as lakehouse:
        say = partial(_record, data, request, run_id, tally)
        say("started")
        try:
            # What a run that was killed has left is in bronze before it is asked what that has.
            land(data, lakehouse, stop, waiting)
            Spool(data).put(run_id, parts(_until_stopped(events, stop), request.source, known, data))
            land(data, lakehouse, stop, waiting)
        except StoppedError:
            say("stopped")
            raise
        except Exception as error:
            say("failed", error=str(error))
            raise
        landed = count(data, run_id, known)
        say("landed", topics=list(landed.topics), written=landed.written, already_there=landed.already_there)
    return landed


def _until_stopped(events: Iterable[Event], stop: threading.Event) -> Iterator[Event]:
    for event in events:
        if stop.is_set():
            raise StoppedError
        yield event


def _record(data: DataDir, request: Request, run_id: str, tally: Tally, status: str, **more: Any) -> None:
    selection = request.selection
    row = {
        "run_id": run_id,
        "status": status,
        "recorded_at": datetime.now(UTC),
        "source": request.source,
        "path": str(request.path),
        "since": selection.since,
        "until": selection.until,
        "subjects": sorted(selection.subjects) if selection.subjects is not None else None,
        "reason": request.reason,
        "code_version": __version__,
        "rows_read": tally.rows_read,
        "counts": orjson.dumps(tally.as_report()).decode(),
        **more,
    }
    record.add(data, BACKFILL_RUN, [row])
