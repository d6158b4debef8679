"""``ward backfill``: history from published files, by the same way as what is live."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse.datadir import DataDir
from wardhouse.reading import SourceName, interrupted_by_sigterm, resource_summary, summary, telling
from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir

if TYPE_CHECKING:
    from lakehouse.sources.source import Selection
    from lakehouse.spool import Lines
    from wardhouse.backfill import Found


def backfill(
    source: Annotated[SourceName, typer.Option(help="The layout of the files.")],
    files: Annotated[
        Path, typer.Option("--path", help="The data set's folder, one file (csv, csv.gz, parquet), or a bucket.")
    ],
    since: Annotated[str | None, typer.Option("--from", help="Values from this instant on, RFC 3339.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Values before this instant, RFC 3339.")] = None,
    subjects: Annotated[str | None, typer.Option(help="Only these subject ids (or file names), by comma.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why, for whoever asks later.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would land, and as what.")] = False,
    split: Annotated[
        int | None,
        typer.Option(min=1, max=1000, help="Only part it by patient into so many buckets, each landed by --path."),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write all counts as JSON.")] = None,
    path: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Land published files in bronze, silver and gold; what has landed before is left out. Needs no broker."""
    from lakehouse.message import ContractError
    from lakehouse.sources.source import Selection, SourceError
    from wardhouse import backfill as work
    from wardhouse.durations import instant
    from wardhouse.errors import failures
    from wardhouse.landing import StoppedError
    from wardhouse.signals import stop_on_signals

    selection = Selection(
        subjects=frozenset(subjects.split(",")) if subjects else None,
        since=instant(since) if since else None,
        until=instant(until) if until else None,
    )
    data, found = data_dir(path), work.Found()
    waiting: dict[str, int] = {}

    def so_far() -> str:
        rows = found.tally.rows_read + found.resource_tally.rows_read
        made = found.tally.messages + found.resource_tally.messages
        text = f"bucket {found.bucket.name}" if found.bucket else f"{rows:,} rows read, {made:,} messages made"
        remaining = ", ".join(f"{flow} {count:,}" for flow, count in dict(waiting).items())
        return text + (f"; still to land: {remaining}" if remaining else "")

    with failures(SourceError, ContractError, OSError), telling(so_far):
        _open(found, source, files, selection, data, only_read=dry_run or split is not None)
        request = work.Request(source.value, files, selection, reason)
        if dry_run:
            _dry_run(found, source.value, data, report)
            return
        with stop_on_signals() as stop:
            try:
                if split is not None:
                    buckets = work.split(request, found, data, stop, split)
                    _say_split(found, buckets, report)
                    return
                landed = work.run(request, found, Settings(), data, stop, waiting)
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


def _open(
    found: "Found", source: SourceName, files: Path, selection: "Selection", data: DataDir, *, only_read: bool
) -> None:
    """Find what the files have. They are read to their end before the first event: a damaged one writes nothing."""
    import itertools

    from lakehouse.sources.registry import source_named
    from lakehouse.sources.source import Selection
    from lakehouse.spool import is_bucket

    if is_bucket(files):
        if selection != Selection() or only_read:
            text = "a bucket is landed as it is: select, split and try before, on the files"
            raise typer.BadParameter(text, param_hint="--path")
        found.bucket = files
        return
    reader = source_named(source)
    events = reader.events(files, selection, found.tally, data.root / "scratch")
    with interrupted_by_sigterm():
        first = next(events, None)
    found.events = itertools.chain([first] if first else [], events)
    found.resources = reader.resources(files, selection, found.resource_tally)


def _say_split(found: "Found", buckets: list[Path], report: Path | None) -> None:
    import orjson

    _say_found(found)
    # The last line, for whoever lands them one after the other.
    typer.echo(orjson.dumps([str(bucket) for bucket in buckets]).decode())
    _write(report, buckets=[str(bucket) for bucket in buckets], **found.as_report())


def _say_found(found: "Found") -> None:
    if found.bucket is not None:
        return
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
    spark = build_session("wardhouse-backfill", Settings().jars, memory="2g", lake=data.lake)
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
