"""A backfill as one piece of work: read a published file, hand it to the lakehouse, wait until all of it has landed."""

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from lakehouse import record
from lakehouse.datadir import DataDir
from lakehouse.reader import connect
from lakehouse.sources.source import Event, Selection, Tally
from lakehouse.spool import Lines, Spool, parts
from lakehouse.tables import BACKFILL_RUN, DEAD_LETTER, DEVICE_MESSAGE, OBSERVATION, OBSERVATION_QUARANTINE
from wardhouse import __version__
from wardhouse.component import component
from wardhouse.landing import COMPONENT, StoppedError, application, fresh_run, land
from wardhouse.settings import Settings


@dataclass(frozen=True)
class Request:
    """What is to be read, and why."""

    source: str
    path: Path
    selection: Selection
    reason: str | None = None


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
    run_id = fresh_run()
    known: dict[str, Lines] = {}
    with component(data, COMPONENT), application(settings, data) as lakehouse:
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
