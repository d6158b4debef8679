"""``ward snapshot``: tables pinned for research, with a proof of what they contain."""

from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse.datadir import DataDir
from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, data_dir

if TYPE_CHECKING:
    from lakehouse.snapshot import Manifest

app = typer.Typer(help="Snapshots: tables pinned for research, checked bit for bit.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="The snapshot.", metavar="NAME")]

_ATTEMPTS = 6
_PAUSE_S = 5.0
"""A batch writes silver, then gold some seconds later: between the two there is nothing to pin."""


@app.command("create")
def create(
    name: NameArgument,
    table: Annotated[
        list[str] | None, typer.Option("--table", help="Only this table, such as silver.observation; repeat for more.")
    ] = None,
    path: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Pin tables as they stand: all, or those named. Later writes, rewrites and VACUUM take nothing from it."""
    from lakehouse.reader import TableMissingError
    from lakehouse.snapshot import SnapshotError
    from wardhouse.errors import failures

    with failures(SnapshotError, TableMissingError, ValueError):
        manifest = _settled(data_dir(path), name, table or [])
    _show(manifest)


def _settled(data: DataDir, name: str, tables: list[str]) -> "Manifest":
    """The snapshot, tried again for as long as a batch may be between silver and gold."""
    from datetime import UTC, datetime

    from lakehouse import snapshot
    from wardhouse.snapshots import configuration, software

    made_by, made_with = software(), configuration()
    for attempt in range(_ATTEMPTS):
        try:
            now = datetime.now(UTC)
            return snapshot.create(data, name, now, software=made_by, configuration=made_with, tables=tables)
        except snapshot.UnsettledError:
            if attempt == _ATTEMPTS - 1:
                raise
            sleep(_PAUSE_S)
    raise AssertionError("unreachable: the last attempt returns or raises")


@app.command("list")
def list_(path: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Every snapshot, the oldest first."""
    from lakehouse.snapshot import SnapshotError, snapshots
    from wardhouse.errors import failures

    with failures(SnapshotError):
        found = snapshots(data_dir(path))
    for manifest in found:
        typer.echo(
            f"{manifest.created_at:%Y-%m-%d %H:%M}Z  {len(manifest.tables):>3} tables {manifest.rows:>15,} rows"
            f"  {manifest.digest[:12]}  {manifest.name}"
        )
    if not found:
        typer.echo("no snapshots: `ward snapshot create NAME` makes one")


@app.command("show")
def show(
    name: NameArgument,
    bibtex: Annotated[bool, typer.Option("--bibtex", help="Only the reference, as BibTeX.")] = False,
    path: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """What a snapshot contains, what it was made by, and how to cite it."""
    from lakehouse.snapshot import SnapshotError, load
    from wardhouse.errors import failures

    with failures(SnapshotError):
        manifest = load(data_dir(path), name)
    if bibtex:
        typer.echo(manifest.citation["bibtex"])
        return
    _show(manifest)
    for part, value in {**manifest.software, **manifest.configuration}.items():
        typer.echo(f"{part:<20} {value}")
    typer.echo(f"cite as: {manifest.citation['plain']}")


def _show(manifest: "Manifest") -> None:
    typer.echo(f"snapshot {manifest.name}, {manifest.created_at:%Y-%m-%d %H:%M}Z, digest {manifest.digest}")
    for pin in manifest.tables:
        typer.echo(f"{pin.name:<32} version {pin.version:>6} {pin.rows:>15,} rows  {pin.digest[:12]}")


@app.command("verify")
def verify(
    name: NameArgument,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Also build the marts anew, by dbt, from what is pinned. Needs Java.")
    ] = False,
    memory: Annotated[str, typer.Option(help="Java heap of --rebuild.")] = "1g",
    path: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Hold a snapshot against its manifest, and what is derived against what it is derived from; exit code 1 where not.

    Compared are columns, rows and content of each table. Minutes are derived anew from the pinned observations.
    """
    from lakehouse import snapshot
    from lakehouse.session import SessionError
    from wardhouse.errors import failures
    from wardhouse.snapshots import made_otherwise, rebuilt

    data = data_dir(path)
    with failures(snapshot.SnapshotError, SessionError):
        manifest = snapshot.load(data, name)
        found = snapshot.verify(data, manifest)
        if rebuild and not found:
            found = rebuilt(data, manifest, memory)
    for difference in found:
        typer.echo(f"FAIL {difference.table}: {difference.what}")
    for remark in made_otherwise(manifest):
        typer.echo(f"note {remark}")
    if found:
        raise typer.Exit(1)
    typer.echo(f"ok   {len(manifest.tables)} tables, {manifest.rows:,} rows, digest {manifest.digest}")


@app.command("export")
def export(
    name: NameArgument,
    to: Annotated[Path, typer.Option("--to", help="A new folder: a Parquet file for each table, and a manifest.")],
    deidentify: Annotated[
        bool, typer.Option("--deidentify", help="Pseudonyms, shifted dates, grouped ages, no small cells.")
    ] = False,
    key_file: Annotated[
        Path | None, typer.Option("--key-file", help="The secret of --deidentify, 32 bytes or more; never written.")
    ] = None,
    table: Annotated[
        list[str] | None, typer.Option("--table", help="Only this table of the snapshot; repeat for more.")
    ] = None,
    path: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Write a snapshot's silver, gold and marts as Parquet. Without --deidentify the rows still name their patients."""
    from lakehouse import export as exports
    from lakehouse.deidentify import KeyFileError, read_key
    from lakehouse.privacy import PrivacyError
    from lakehouse.snapshot import SnapshotError, load
    from wardhouse.errors import failures

    if deidentify is (key_file is None):
        raise typer.BadParameter("--deidentify and --key-file go together")
    data = data_dir(path)
    with failures(SnapshotError, PrivacyError, KeyFileError, LookupError):
        if key_file is not None:
            exports.check_key_place(key_file, data, to)
        key = None if key_file is None else read_key(key_file)
        made = exports.export(data, load(data, name), to.resolve(), key, table or [])
    for file in made.tables:
        left_out = f", {file.left_out:,} small cells left out" if file.left_out else ""
        typer.echo(f"{file.file:<40} {file.rows:>15,} rows{left_out}")
    for table_name in made.not_exported:
        typer.echo(f"{table_name:<40} never leaves")
