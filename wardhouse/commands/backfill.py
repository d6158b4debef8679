"""``ward backfill``: history from published files, by the same way as what is live."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse.datadir import DataDir
from wardhouse.reading import SourceName, interrupted_by_sigterm, summary, telling
from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir

if TYPE_CHECKING:
    from lakehouse.sources.source import Event, Tally
    from lakehouse.spool import Lines


def backfill(
    source: Annotated[SourceName, typer.Option(help="The layout of the files.")],
    files: Annotated[Path, typer.Option("--path", help="The data set's folder, or one file: csv, csv.gz, parquet.")],
    since: Annotated[str | None, typer.Option("--from", help="Values from this instant on, RFC 3339.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Values before this instant, RFC 3339.")] = None,
    subjects: Annotated[str | None, typer.Option(help="Only these subject ids (or file names), by comma.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why, for whoever asks later.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would land, and as what.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write all counts as JSON.")] = None,
    path: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Land published files in bronze, silver and gold; what has landed before is left out. Needs no broker."""
    import itertools

    from lakehouse.message import ContractError
    from lakehouse.sources.registry import source_named
    from lakehouse.sources.source import Selection, SourceError, Tally
    from wardhouse.backfill import Request, run
    from wardhouse.durations import instant
    from wardhouse.errors import failures
    from wardhouse.landing import StoppedError
    from wardhouse.signals import stop_on_signals

    selection = Selection(
        subjects=frozenset(subjects.split(",")) if subjects else None,
        since=instant(since) if since else None,
        until=instant(until) if until else None,
    )
    data, tally = data_dir(path), Tally()
    waiting: dict[str, int] = {}

    def so_far() -> str:
        text = f"{tally.rows_read:,} rows read, {tally.messages:,} messages made"
        remaining = ", ".join(f"{flow} {count:,}" for flow, count in dict(waiting).items())
        return text + (f"; still to land: {remaining}" if remaining else "")

    with failures(SourceError, ContractError, OSError), telling(so_far):
        events = source_named(source).events(files, selection, tally, data.root / "scratch")
        # The file is read to its end before the first event: one that is damaged starts and writes nothing.
        with interrupted_by_sigterm():
            first = next(events, None)
        found = itertools.chain([first] if first else [], events)
        if dry_run:
            _dry_run(found, source.value, data, tally, report)
            return
        with stop_on_signals() as stop:
            try:
                request = Request(source.value, files, selection, reason)
                landed = run(request, found, tally, Settings(), data, stop, waiting)
            except StoppedError:
                typer.echo("ward: stopped before all had landed; run the same command again", err=True)
                raise typer.Exit(1) from None
    for line in summary(tally, tally.messages, tally.observations, "made"):
        typer.echo(line)
    counts = (
        ("new in bronze", landed.written),
        ("were there already", landed.already_there),
        ("observations in silver", landed.observations),
        ("in quarantine", landed.quarantined),
        ("dead letters", landed.dead_letters),
    )
    for what, count in counts:
        typer.echo(f"{count:>13,}  {what}")
    _write(
        report,
        run_id=landed.run_id,
        topics=landed.topics,
        written=landed.written,
        already_there=landed.already_there,
        observations_total=landed.observations,
        quarantined_total=landed.quarantined,
        dead_letters_total=landed.dead_letters,
        **tally.as_report(),
    )


def _dry_run(events: "Iterable[Event]", source: str, data: DataDir, tally: "Tally", report: Path | None) -> None:
    from lakehouse.session import build_session
    from lakehouse.spool import parts
    from streaming.backfill import judged

    known: dict[str, Lines] = {}
    spark = build_session("wardhouse-backfill", Settings().jars, memory="2g")
    try:
        fates = sum((judged(spark, part) for part in parts(events, source, known, data)), Counter())
    finally:
        spark.stop()
    for line in summary(tally, tally.messages, tally.observations, "made"):
        typer.echo(line)
    typer.echo(f"{sum(map(len, known.values())):>13,}  messages that bronze has already")
    for fate, count in fates.most_common():
        typer.echo(f"{count:>13,}  would be: {fate}")
    _write(report, dry_run=True, would_be=dict(fates.most_common()), **tally.as_report())


def _write(report: Path | None, **counts: Any) -> None:
    import orjson

    if report is not None:
        report.write_bytes(orjson.dumps(counts, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
