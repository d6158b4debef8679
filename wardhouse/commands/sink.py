"""``ward sink``: keeps databases that a site has already up to date with gold and silver."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, data_dir

if TYPE_CHECKING:
    from lakehouse.datadir import DataDir
    from lakehouse.sinks.declaration import Sink


def sink(
    config: Annotated[
        Path, typer.Option("--config", envvar="WARD_SINKS", help="Sinks file: which tables go to which databases.")
    ],
    data: DataDirOption = DEFAULT_DATA_DIR,
    once: Annotated[bool, typer.Option("--once", help="Copy what there is and end; 1 where a sink lacks any.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Try connection and rights, show how far each is.")] = False,
    rebuild: Annotated[
        str | None, typer.Option(help="Have this sink loaded again, by the ward sink that runs or the next.")
    ] = None,
) -> None:
    """Copy tables of silver and gold to databases that a site has, until it is stopped (Ctrl-C or SIGTERM)."""
    from lakehouse.sinks.declaration import SinksError, load
    from lakehouse.sinks.store import StoreError
    from wardhouse.errors import failures

    with failures(SinksError, StoreError):
        sinks, folder = load(config), data_dir(data)
        if check:
            _check(sinks, folder)
        elif rebuild is not None:
            _rebuild(sinks, rebuild)
        else:
            _run(sinks, folder, once=once)


def _run(sinks: "tuple[Sink, ...]", folder: "DataDir", *, once: bool) -> None:
    from datetime import UTC, datetime

    from lakehouse.sinks.copier import Copier, run
    from wardhouse.component import component
    from wardhouse.signals import stop_on_signals

    def utc_now() -> datetime:
        return datetime.now(UTC)

    def say(text: str) -> None:
        typer.echo(f"sink: {text}", err=True)

    with component(folder, "sink") as running, stop_on_signals() as stop:
        copiers = tuple(Copier(one, folder, stop=stop, say=say, clock=utc_now) for one in sinks)
        complete = run(copiers, stop, running.ready, once=once)
    if once:
        for one, copier in zip(sinks, copiers, strict=True):
            typer.echo(f"{one.name}: {copier.counts.written} rows in {copier.counts.steps} steps")
        if not complete:
            raise typer.Exit(1)


def _check(sinks: "tuple[Sink, ...]", folder: "DataDir") -> None:
    """Say of each sink whether it can be used; exit code 1 where one cannot."""
    from contextlib import closing

    from lakehouse.sinks.changes import behind
    from lakehouse.sinks.store import StoreError, open_store

    failed = False
    for one in sinks:
        typer.echo(f"{one.name}: {one.address}")
        try:
            with closing(open_store(one)) as store:
                for line in store.check():
                    typer.echo(f"  {line}")
                store.prepare()
                for table in one.tables:
                    at = store.position(table)
                    where = f"version {at.version}" if at else "not loaded"
                    typer.echo(f"  {table.full_name}: {where}, {behind(folder, table, at)} versions to take")
        except StoreError as error:
            failed = True
            typer.echo(f"  {error}", err=True)
    if failed:
        raise typer.Exit(1)


def _rebuild(sinks: "tuple[Sink, ...]", name: str) -> None:
    from contextlib import closing

    from lakehouse.sinks.store import open_store
    from wardhouse.errors import Failure

    found = next((one for one in sinks if one.name == name), None)
    if found is None:
        raise Failure(f"no sink {name} in the sinks file; there are {', '.join(one.name for one in sinks)}")
    with closing(open_store(found)) as store:
        store.prepare()
        store.forget(found.tables)
    typer.echo(f"{name}: {len(found.tables)} tables are loaded again; what is there stays until then")
