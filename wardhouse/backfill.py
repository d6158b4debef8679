"""A backfill as one piece of work: read a published file, hand it to the lakehouse, wait until all of it has landed."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from lakehouse import record, spool
from lakehouse.datadir import DataDir
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
from wardhouse.component import component
from wardhouse.landing import COMPONENT, StoppedError, application, fresh_run, land
from wardhouse.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa


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


@dataclass(frozen=True)
class Request:
    """What is to be read, and why."""

    source: str
    path: Path
    selection: Selection
    reason: str | None = None


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
    with component(data, COMPONENT), application(settings, data) as lakehouse, _recorded(data, request, found) as said:
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
    with component(data, COMPONENT):
        tables = found.tables(request.source, {}, data, stop)
        return spool.split(tables, Spool(data).buckets / fresh_run(), buckets, found.as_report)


@dataclass
class _Said:
    """What the record of a run will say when it ends."""

    run_id: str
    status: str = ""
    more: dict[str, Any] = field(default_factory=dict)


@contextmanager
def _recorded(data: DataDir, request: Request, found: Found) -> Iterator[_Said]:
    """Record that a run has started, and how it has ended."""
    said = _Said(fresh_run())
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
