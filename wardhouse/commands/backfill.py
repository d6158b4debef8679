"""``ward backfill``: history from published files, by the same way as what is live."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse.datadir import DataDir
from wardhouse.reading import SourceName, interrupted_by_sigterm, resource_summary, summary, telling
from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir

if TYPE_CHECKING:
    from lakehouse.spool import Lines
    from wardhouse.backfill import Found


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
    from wardhouse.backfill import Found, Request, StoppedError, run
    from wardhouse.durations import instant
    from wardhouse.errors import failures
    from wardhouse.signals import stop_on_signals

    selection = Selection(
        subjects=frozenset(subjects.split(",")) if subjects else None,
        since=instant(since) if since else None,
        until=instant(until) if until else None,
    )
    data, tally, resource_tally = data_dir(path), Tally(), Tally()
    waiting: dict[str, int] = {}

    def so_far() -> str:
        rows = tally.rows_read + resource_tally.rows_read
        text = f"{rows:,} rows read, {tally.messages + resource_tally.messages:,} messages made"
        remaining = ", ".join(f"{flow} {count:,}" for flow, count in dict(waiting).items())
        return text + (f"; still to land: {remaining}" if remaining else "")

    with failures(SourceError, ContractError, OSError), telling(so_far):
        reader = source_named(source)
        events = reader.events(files, selection, tally, data.root / "scratch")
        # The file is read to its end before the first event: one that is damaged starts and writes nothing.
        with interrupted_by_sigterm():
            first = next(events, None)
        found = Found(
            itertools.chain([first] if first else [], events),
            tally,
            reader.resources(files, selection, resource_tally),
            resource_tally,
        )
        if dry_run:
            _dry_run(found, source.value, data, report)
            return
        with stop_on_signals() as stop:
            try:
                request = Request(source.value, files, selection, reason)
                landed = run(request, found, Settings(), data, stop, waiting)
            except StoppedError:
                typer.echo("ward: stopped before all had landed; run the same command again", err=True)
                raise typer.Exit(1) from None
    _say_found(found)
    counts = (
        ("new in bronze", landed.written + landed.resources_written),
        ("were there already", landed.already_there + landed.resources_already_there),
        ("observations in silver", landed.observations),
        ("in quarantine", landed.quarantined),
        ("dead letters", landed.dead_letters),
        ("patients", landed.patients),
        ("encounters", landed.encounters),
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
        resources_written=landed.resources_written,
        resources_already_there=landed.resources_already_there,
        patients_total=landed.patients,
        encounters_total=landed.encounters,
        **found.as_report(),
    )


def _say_found(found: "Found") -> None:
    for line in (
        *summary(found.tally, found.tally.messages, found.tally.observations, "made"),
        *resource_summary(found.resource_tally, "made"),
    ):
        typer.echo(line)


def _dry_run(found: "Found", source: str, data: DataDir, report: Path | None) -> None:
    from lakehouse.session import build_session
    from lakehouse.spool import parts, resource_parts
    from streaming.backfill import judged

    known: dict[str, Lines] = {}
    # Each is encoded, and so held against its contract.
    new_resources = sum(part.num_rows for part in resource_parts(found.resources, source, known, data))
    spark = build_session("wardhouse-backfill", Settings().jars, memory="2g")
    try:
        fates = sum((judged(spark, part) for part in parts(found.events, source, known, data)), Counter())
    finally:
        spark.stop()
    _say_found(found)
    typer.echo(f"{sum(map(len, known.values())):>13,}  messages and resources that bronze has already")
    for fate, count in (*fates.most_common(), ("patient or encounter", new_resources)):
        typer.echo(f"{count:>13,}  would be: {fate}")
    would_be = {**fates, "patient or encounter": new_resources}
    _write(report, dry_run=True, would_be=would_be, **found.as_report())


def _write(report: Path | None, **counts: Any) -> None:
    import orjson

    if report is not None:
        report.write_bytes(orjson.dumps(counts, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
