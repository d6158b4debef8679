"""``ward quality``: check the tables against their declarations and the hand-written rules."""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir

if TYPE_CHECKING:
    from expectations.runner import Result

app = typer.Typer(help="Data quality: hold the tables against what they promise.", no_args_is_help=True)


@app.callback()
def _root() -> None:
    pass


@app.command("run")
def run(
    path: DataDirOption = DEFAULT_DATA_DIR,
    live: Annotated[
        bool | None,
        typer.Option(
            "--live/--no-live",
            help="Whether the stream is meant to run, so that an old or thin intake is a fault. By default: if one runs"
            " on this data dir.",
        ),
    ] = None,
    hours: Annotated[float | None, typer.Option("--hours", help="Check only rows this recent.", min=0)] = None,
    run_id: Annotated[str | None, typer.Option(help="Name of this run; by default the time of its start.")] = None,
    memory: Annotated[str, typer.Option(help="Java heap.")] = "1g",
) -> None:
    """Check every table, keep the results in quality.validation_result; exit code 1 where a rule is broken."""
    from datetime import UTC, datetime

    from expectations import runner
    from lakehouse.reader import TableMissingError
    from lakehouse.session import SessionError, build_session
    from lakehouse.topics import VITALS
    from wardhouse.component import read_state
    from wardhouse.errors import failures

    settings, data, now = Settings(), data_dir(path), datetime.now(UTC)
    if live is None:
        live = any(read_state(data, name) for name in ("stream", "stream-lakehouse"))
    with failures(SessionError, TableMissingError, runner.ValidationError):
        versions = runner.pin(data, runner.to_check(data, live=live))
        spark = build_session("wardhouse-quality", settings.jars, memory=memory, lake=data.lake)
        try:
            results = runner.run(
                spark,
                data,
                now,
                versions,
                run_id=run_id or now.isoformat(),
                topic=settings.topic(VITALS),
                live=live,
                window=None if hours is None else timedelta(hours=hours),
            )
        finally:
            spark.stop()
    show(results)
    if not all(result.success for result in results):
        raise typer.Exit(1)


@app.command("docs")
def docs(
    path: DataDirOption = DEFAULT_DATA_DIR,
    runs: Annotated[
        int | None, typer.Option("--runs", help="How many of the newest runs to show; 48 by default.", min=1)
    ] = None,
) -> None:
    """Build the site of the newest runs (Data Docs) in the data dir, and print its first page."""
    from expectations import data_docs
    from lakehouse.reader import TableMissingError
    from wardhouse.errors import failures

    with failures(TableMissingError, data_docs.DataDocsError):
        typer.echo(data_docs.build(data_dir(path), data_docs.RUNS if runs is None else runs))


def show(results: "Sequence[Result]") -> None:
    """Print one line a table and, under it, one for each rule that is broken."""
    from expectations.verdict import NO_VERDICT

    for table_name in dict.fromkeys(result.table_name for result in results):
        of_table = [result for result in results if result.table_name == table_name]
        broken = [result for result in of_table if not result.success]
        verdict = "FAIL" if broken else "ok  "
        open_ = sum((result.detail or "").startswith(NO_VERDICT) for result in of_table)
        held = f"{len(of_table) - len(broken)} of {len(of_table)} rules hold"
        few = f" ({open_} without a verdict: too little to judge by)" if open_ else ""
        typer.echo(f"{verdict} {table_name:<32} {held}{few}, version {of_table[0].table_version}")
        for result in broken:
            rows = "" if result.unexpected_count is None else f": {result.unexpected_count:,} rows"
            typer.echo(f"       {result.expectation}{f': {result.detail}' if result.detail else rows}")
