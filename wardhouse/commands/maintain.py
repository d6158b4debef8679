"""``ward maintain``: old rows, small files, and files that nobody needs."""

from typing import TYPE_CHECKING, Annotated

import typer

from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir

if TYPE_CHECKING:
    from lakehouse.maintenance import Maintained


def maintain(
    path: DataDirOption = DEFAULT_DATA_DIR,
    table: Annotated[
        list[str] | None, typer.Option(help="Only this table, such as silver.observation; may be given repeatedly.")
    ] = None,
    keep: Annotated[str, typer.Option(help="How long files stay that only older versions need.")] = "30d",
    pause: Annotated[
        bool, typer.Option("--pause", help="Pause a lakehouse that runs meanwhile; alerts go on.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done.")] = False,
    memory: Annotated[str, typer.Option(help="Java heap.")] = "2g",
) -> None:
    """Delete rows that a table need not keep, join and cluster small files, and vacuum what no kept version needs.

    The lakehouse application stands still meanwhile: pause it before, or give --pause.
    """
    from contextlib import nullcontext
    from datetime import timedelta

    from lakehouse.cluster import ClusterError
    from lakehouse.session import SessionError
    from wardhouse.cluster import SLOTS, cluster_of
    from wardhouse.component import component
    from wardhouse.durations import seconds
    from wardhouse.errors import failures
    from wardhouse.maintenance import run, wanted
    from wardhouse.pausing import moving, paused_for
    from wardhouse.status import utc_now

    settings, data, now = Settings(), data_dir(path), utc_now()
    kept, cluster = timedelta(seconds=seconds(keep)), cluster_of(settings, SLOTS)
    with (
        failures(SessionError, ClusterError),
        component(data, "maintain"),
        paused_for(data, "ward maintain", now) if pause and not dry_run else nullcontext(),
        moving(data, "ward maintain", now) if not dry_run else nullcontext(),
    ):
        tables = wanted(data, table)
        for done in run(data, tables, kept, now, jars=settings.jars, memory=memory, dry_run=dry_run, cluster=cluster):
            typer.echo(_line(done, dry_run=dry_run))


def _line(done: "Maintained", *, dry_run: bool) -> str:
    size = f"{done.bytes / 1e6:,.1f} MB"
    if dry_run:
        return f"{done.table:<32} {done.files:,} files, {size}; would delete {done.expired_rows:,} rows"
    return (
        f"{done.table:<32} {done.files_before:,} -> {done.files:,} files, {size};"
        f" {done.expired_rows:,} rows deleted, {done.vacuumed_files:,} files vacuumed"
    )
