"""A backfill as one piece of work: read a published file, hand it to the lakehouse, wait until all of it has landed.

The lakehouse application that runs on the data dir takes the rows up; where none runs, one without Kafka is started for
as long as it takes.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import orjson

from lakehouse import pipeline, record, spool
from lakehouse.checkpoint import files_read
from lakehouse.datadir import DataDir
from lakehouse.pipeline import BACKFILL, EARLY_WARNING_SCORE
from lakehouse.reader import connect
from lakehouse.sources.source import Event, Selection, Tally
from lakehouse.spool import Lines, Spool
from lakehouse.table import Table
from lakehouse.tables import (
    BACKFILL_RUN,
    DEAD_LETTER,
    DEVICE_MESSAGE,
    ENCOUNTER,
    OBSERVATION,
    OBSERVATION_QUARANTINE,
    PATIENT,
)
from lakehouse.topics import RESOURCE_FILES
from wardhouse import __version__
from wardhouse.component import component, read_state
from wardhouse.errors import Failure
from wardhouse.settings import Settings
from wardhouse.status import newest_data, versions_behind

if TYPE_CHECKING:
    import pyarrow as pa

APPLICATION = "stream-lakehouse"
_FLOWS = (BACKFILL, pipeline.OBSERVATION, EARLY_WARNING_SCORE)
_POLL_S = 1.0
_START_S = 120.0


@dataclass
class Found:
    """What a source has: messages, records of resources, and what became of the rows of each while they are read.

    Or what a ``bucket`` has, whose rows were read before.
    """

    events: Iterable[Event] = ()
    tally: Tally = field(default_factory=Tally)
    resources: Iterable[Event] = ()
    resource_tally: Tally = field(default_factory=Tally)
    bucket: Path | None = None

    def tables(
        self, source: str, known: dict[str, Lines], data: DataDir, stop: threading.Event
    ) -> Iterator["pa.Table"]:
        """Everything that bronze has not, as records for it; ``known`` is as in :func:`lakehouse.spool.parts`."""
        if self.bucket is not None:
            return spool.fresh(self.bucket, known, data)
        return chain(
            spool.resource_parts(_until_stopped(self.resources, stop), source, known, data),
            spool.parts(_until_stopped(self.events, stop), source, known, data),
        )

    def as_report(self) -> dict[str, Any]:
        """The counts, as JSON has them; of a bucket those of all its files."""
        if self.bucket is not None:
            return spool.split_from(self.bucket)
        return {**self.tally.as_report(), "resources": self.resource_tally.as_report()}


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
    """The one that runs on the data dir, or one started for the block. Raises Failure where it fails."""
    for name in (APPLICATION, "stream"):
        if read_state(data, name):
            # Its scores come every five minutes.
            yield Application(scores=False, check=partial(_runs, data, name))
            return
    with component(data, APPLICATION) as running, _started(settings, data, running.ready) as check:
        yield Application(scores=True, check=check)


def _runs(data: DataDir, name: str) -> None:
    if not read_state(data, name):
        raise Failure(f"{name} has ended before all had landed: run the same command again")


@contextmanager
def _started(settings: Settings, data: DataDir, on_ready: Callable[[], None]) -> Iterator[Callable[[], None]]:
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
            run("backfill", flows, config, stop, ready.set)
        except (SessionError, StreamError) as error:
            failed.append(error)
        finally:
            ready.set()

    def check() -> None:
        if failed:
            raise Failure(str(failed[0])) from failed[0]
        if not thread.is_alive():
            raise Failure("the lakehouse application has ended before all had landed: run the same command again")

    thread = threading.Thread(target=work, name=APPLICATION)
    thread.start()
    try:
        ready.wait(_START_S)
        check()
        on_ready()
        yield check
    finally:
        stop.set()
        thread.join()


def land(data: DataDir, lakehouse: Application, stop: threading.Event, waiting: dict[str, int]) -> None:
    """Block until all that is spooled is in bronze, silver and gold, then empty the spool.

    ``waiting`` says meanwhile what each flow has not taken: files, or versions of a table.
    Raises StoppedError where ``stop`` is set before, Failure where the application ends.
    """
    spooled, silver, scores = Spool(data), pipeline.OBSERVATION, EARLY_WARNING_SCORE
    taken = partial(files_read, data.checkpoint(BACKFILL))
    _until(lambda: {BACKFILL.name: len(spooled.files() - taken())}, lakehouse, stop, waiting)
    newest = newest_data(data, DEVICE_MESSAGE)
    _until(lambda: {silver.name: versions_behind(data, silver, newest)}, lakehouse, stop, waiting)
    if lakehouse.scores:
        newest = newest_data(data, OBSERVATION)
        _until(lambda: {scores.name: versions_behind(data, scores, newest)}, lakehouse, stop, waiting)
    spooled.clear()


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
    """What tables have of the files of a backfill: rows by bronze's topics, and what became of them.

    ``written`` and ``already_there`` are of messages, ``resources_`` of patients and encounters.
    """

    run_id: str
    topics: tuple[str, ...] = ()
    written: int = 0
    already_there: int = 0
    observations: int = 0
    quarantined: int = 0
    dead_letters: int = 0
    resources_written: int = 0
    resources_already_there: int = 0
    patients: int = 0
    encounters: int = 0


def count(data: DataDir, run_id: str, known: dict[str, Lines]) -> Landed:
    """Count what the tables have of these files; ``known`` are the lines that bronze had before."""
    of_resources = [topic for topic in known if f"/{RESOURCE_FILES}/" in topic]
    of_messages = [topic for topic in known if topic not in of_resources]
    before, resources_before = (sum(len(known[topic]) for topic in topics) for topics in (of_messages, of_resources))
    counted = (DEVICE_MESSAGE, OBSERVATION, OBSERVATION_QUARANTINE, DEAD_LETTER, PATIENT, ENCOUNTER)
    with connect(data, counted) as database:

        def rows(table: Table, *topics: str) -> int:
            sql = f"SELECT count(*) FROM {table.full_name} WHERE topic IN (SELECT unnest($topics))"  # noqa: S608
            return int(database.sql(sql, params={"topics": list(topics)}).fetchall()[0][0])

        return Landed(
            run_id,
            tuple(sorted(known)),
            written=rows(DEVICE_MESSAGE, *of_messages) - before,
            already_there=before,
            observations=rows(OBSERVATION, *of_messages),
            quarantined=rows(OBSERVATION_QUARANTINE, *of_messages),
            dead_letters=rows(DEAD_LETTER, *known),
            resources_written=rows(DEVICE_MESSAGE, *of_resources) - resources_before,
            resources_already_there=resources_before,
            patients=rows(PATIENT, *of_resources),
            encounters=rows(ENCOUNTER, *of_resources),
        )


def run(
    request: Request,
    found: Found,
    settings: Settings,
    data: DataDir,
    stop: threading.Event,
    waiting: dict[str, int],
) -> Landed:
    """Land what was found; ``waiting`` says meanwhile how much of it has not landed. Raises as :func:`land`."""
    known: dict[str, Lines] = {}
    with component(data, "backfill"), application(settings, data) as lakehouse, _recorded(data, request, found) as said:
        # What a run that was killed has left is in bronze before it is asked what that has.
        land(data, lakehouse, stop, waiting)
        Spool(data).put(said.run_id, found.tables(request.source, known, data, stop))
        land(data, lakehouse, stop, waiting)
        if found.bucket is not None:
            spool.empty(found.bucket)
        landed = count(data, said.run_id, known)
        said.status = "landed"
        said.more = {
            "topics": list(landed.topics),
            "written": landed.written + landed.resources_written,
            "already_there": landed.already_there + landed.resources_already_there,
        }
    return landed


def split(request: Request, found: Found, data: DataDir, stop: threading.Event, buckets: int) -> list[Path]:
    """Part what was found by patient, to be landed bucket by bucket; the folders of the buckets.

    Raises StoppedError where ``stop`` is set before.
    """
    with component(data, "backfill"):
        tables = found.tables(request.source, {}, data, stop)
        return spool.split(tables, Spool(data).buckets / _run_id(), buckets, found.as_report)


def _run_id() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{token_hex(3)}"


@dataclass
class _Said:
    """What the record of a run will say when it ends."""

    run_id: str
    status: str = ""
    more: dict[str, Any] = field(default_factory=dict)


@contextmanager
def _recorded(data: DataDir, request: Request, found: Found) -> Iterator[_Said]:
    """Record that a run has started, and how it has ended."""
    said = _Said(_run_id())
    say = partial(_record, data, request, said.run_id, found)
    say("started")
    try:
        yield said
    except StoppedError:
        say("stopped")
        raise
    except Exception as error:
        say("failed", error=str(error))
        raise
    say(said.status, **said.more)


def _until_stopped(events: Iterable[Event], stop: threading.Event) -> Iterator[Event]:
    for event in events:
        if stop.is_set():
            raise StoppedError
        yield event


def _record(data: DataDir, request: Request, run_id: str, found: Found, status: str, **more: Any) -> None:
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
        "rows_read": found.tally.rows_read + found.resource_tally.rows_read,
        "counts": orjson.dumps(found.as_report()).decode(),
        **more,
    }
    record.add(data, BACKFILL_RUN, [row])
