"""``ward replay``: real patients from published files, as the messages a device would send."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse.datadir import DataDir
from wardhouse.reading import SourceName, interrupted_by_sigterm, resource_summary, summary, telling
from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir

if TYPE_CHECKING:
    from lakehouse.sources.source import Event, Tally
    from streaming.replay import Pace, Sent


def replay(
    source: Annotated[SourceName, typer.Option(help="The layout of the files.")],
    files: Annotated[Path, typer.Option("--path", help="The data set's folder, or one file: csv, csv.gz, parquet.")],
    speed: Annotated[float, typer.Option(min=0, help="Times real speed; 0: as fast as it lands.")] = 60.0,
    longest_pause: Annotated[float, typer.Option(min=0, help="Seconds that a pause lasts at most.")] = 5.0,
    subjects: Annotated[str | None, typer.Option(help="Only these subject ids (or file names), by comma.")] = None,
    limit: Annotated[int | None, typer.Option(min=0, help="Send no more messages than this.")] = None,
    landing_timeout: Annotated[float, typer.Option(help="Seconds to wait for the last message to land.")] = 900.0,
    report: Annotated[Path | None, typer.Option(help="Write what was read, sent and left out as JSON.")] = None,
    path: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Replay real patients into the stack that runs on the data dir, or one started for it; ends when all landed."""
    import itertools
    import logging

    from lakehouse.message import ContractError
    from lakehouse.sources.registry import source_named
    from lakehouse.sources.source import Selection, SourceError, Tally
    from streaming.producer import ProducerError
    from streaming.replay import Pace, Sent
    from wardhouse.errors import failures

    settings, data = Settings(), data_dir(path)
    selection = Selection(subjects=frozenset(subjects.split(",")) if subjects else None, limit=limit)
    tally, resource_tally, sent, landed = Tally(), Tally(), Sent(), True
    waiting: dict[str, int] = {}
    # A broker that is away is told once, by the producer's error, and not ten times a second by its client.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)

    def so_far() -> str:
        text = f"{tally.rows_read:,} rows read, {sent.messages:,} messages sent"
        remaining = ", ".join(f"{flow} {count:,}" for flow, count in dict(waiting).items())
        return text + (f"; still to land: {remaining}" if remaining else "")

    with failures(SourceError, ProducerError, ContractError, OSError), telling(so_far):
        reader = source_named(source)
        events = reader.events(files, selection, tally, data.root / "scratch")
        # The file is read to its end before the first event: one that is damaged starts no stack and sends nothing.
        with interrupted_by_sigterm():
            first = next(events, None)
        if first is not None:
            everything = itertools.chain([first], events)
            resources = reader.resources(files, selection, resource_tally)
            pace = Pace(speed, longest_pause)
            landed = _send(resources, everything, settings, data, pace, sent, landing_timeout, waiting)
        if report is not None:
            written = {"source": source.value, "path": str(files), "speed": speed, "landed": landed}
            _write_report(report, written, tally, resource_tally, sent)
    for line in (*summary(tally, sent.messages, sent.observations, "sent"), *resource_summary(resource_tally, "sent")):
        typer.echo(line)
    if sent.stopped:
        typer.echo("ward: stopped before the end; run the same command again, repeats are removed", err=True)
    elif not landed:
        typer.echo(f"ward: not all has landed within {landing_timeout:g} s: see ward status", err=True)
    if sent.stopped or not landed:
        raise typer.Exit(1)


def _send(
    resources: "Iterable[Event]",
    events: "Iterable[Event]",
    settings: Settings,
    data: DataDir,
    pace: "Pace",
    sent: "Sent",
    landing_timeout: float,
    waiting: dict[str, int],
) -> bool:
    """Send all resources, then all events into the data dir's stack and wait for them; whether all landed in time.

    Where the simulator sends into it too, its records are not waited for, nor are alerts.

    ``waiting`` is kept at what each flow still has to take.
    """
    from lakehouse.topics import CLINICAL_RESOURCE, VITALS
    from streaming.producer import Producer
    from streaming.replay import run, send_resources
    from wardhouse.broker import bootstrap_servers
    from wardhouse.component import read_state
    from wardhouse.signals import stop_on_signals
    from wardhouse.status import wait_until_landed, wait_until_stored
    from wardhouse.topics import end_offsets
    from wardhouse.up import running_stack

    def replaced(remaining: dict[str, int]) -> None:
        waiting.clear()
        waiting.update(remaining)

    with stop_on_signals() as stop, running_stack(settings, data, stop):
        with Producer(bootstrap_servers(settings, data), client_id="replay") as producer:
            send_resources(resources, producer, settings.topic(CLINICAL_RESOURCE), stop=stop, sent=sent)
            run(events, producer, settings.topic(VITALS), pace=pace, stop=stop, sent=sent)
            topics = [settings.topic(VITALS), settings.topic(CLINICAL_RESOURCE)]
            ends = end_offsets(bootstrap_servers(settings, data), topics)
        if read_state(data, "simulator"):
            return wait_until_stored(settings, data, ends, landing_timeout, stop=stop, tell=replaced)
        return wait_until_landed(settings, data, landing_timeout, stop=stop, tell=replaced)


def _write_report(
    path: Path, head: Mapping[str, object], tally: "Tally", resource_tally: "Tally", sent: "Sent"
) -> None:
    import orjson

    # rows_left: read but not looked at, because somebody stopped the replay.
    rows = {"rows_left": tally.rows_read - tally.accounted, **tally.as_report()}
    report = {**head, **sent.as_report(), **rows, "resources": resource_tally.as_report()}
    path.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
