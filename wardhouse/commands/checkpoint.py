"""``ward checkpoint``: how far the streams have come, backups, and ways back."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse.datadir import DataDir
from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir

if TYPE_CHECKING:
    from rich.table import Table

    from wardhouse.backup import Restoration
    from wardhouse.checkpoints import Standing
    from wardhouse.rewind import Generation

app = typer.Typer(help="Checkpoints of the streams: lag, backups, and ways back.", no_args_is_help=True)

YesOption = Annotated[bool, typer.Option("--yes", help="Do it; without, only tell what would happen.")]


@app.command("list")
def list_(
    path: DataDirOption = DEFAULT_DATA_DIR,
    json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
    max_lag: Annotated[
        int | None, typer.Option(min=0, help="Fail where a flow is further behind: records, versions or files.")
    ] = None,
    max_age: Annotated[
        str | None, typer.Option(help="Fail where a flow that is behind has committed nothing for so long (90s, 15m).")
    ] = None,
) -> None:
    """Show how far each query has come; with a limit, exit code 1 and a line for each that is behind it."""
    from dataclasses import asdict

    import orjson
    from rich.console import Console

    from wardhouse.broker import bootstrap_servers
    from wardhouse.checkpoints import breaches, standings
    from wardhouse.durations import seconds
    from wardhouse.errors import Failure, failures
    from wardhouse.status import utc_now

    settings, data = Settings(), data_dir(path)
    allowed_s = seconds(max_age) if max_age else None
    with failures():
        if not data.checkpoints.is_dir():
            raise Failure(f"{data.root} has no checkpoints yet: `ward stream --data-dir {data.root}` makes them")
        bootstrap = bootstrap_servers(settings, data)
        answers, found = standings(settings, data, bootstrap, utc_now())
    broken = breaches(found, max_lag, allowed_s)
    if json:
        document = {
            "bootstrap": bootstrap if answers else None,
            "flows": [asdict(one) for one in found],
            "breaches": broken,
        }
        typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    else:
        Console().print(_table(found))
        if not answers:
            typer.echo(f"no broker answers at {bootstrap}: the lag of what reads Kafka is not known", err=True)
    for line in broken:
        typer.echo(line, err=True)
    if broken:
        raise typer.Exit(1)


@app.command()
def backup(
    name: Annotated[str | None, typer.Argument(help="Its name; the time by default.")] = None,
    path: DataDirOption = DEFAULT_DATA_DIR,
    pause: Annotated[
        bool, typer.Option("--pause", help="Pause a lakehouse that runs, for as long as it takes.")
    ] = False,
) -> None:
    """Copy all checkpoints of the lakehouse and note the versions of its tables, while it stands still."""
    from contextlib import nullcontext

    from wardhouse.backup import make
    from wardhouse.component import component
    from wardhouse.errors import failures
    from wardhouse.pausing import paused_for
    from wardhouse.status import utc_now

    data, now = data_dir(path), utc_now()
    with failures(), component(data, "checkpoint"), paused_for(data, "backup", now) if pause else nullcontext():
        made = make(data, name or f"{now:%Y%m%dT%H%M%SZ}", now)
    counts = f"{len(made.generations)} checkpoints, {len(made.versions)} table versions"
    typer.echo(f"backup {made.name}: {counts}, in {data.backups / made.name}")


@app.command()
def backups(path: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Show the backups of this data dir; exit code 1 where one is damaged."""
    from wardhouse.backup import BackupError, names, read

    data, damaged = data_dir(path), False
    for name in names(data):
        try:
            made = read(data, name)
        except BackupError as error:
            damaged = True
            typer.echo(f"{name}  {error}", err=True)
        else:
            typer.echo(f"{name}  made {made.made_at} by ward {made.code_version}, {len(made.generations)} checkpoints")
    if damaged:
        raise typer.Exit(1)


@app.command()
def rewind(
    flow: Annotated[str, typer.Argument(help="The flow, as `ward checkpoint list` names it.")],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="beginning; a batch: 17; an instant: 2026-01-31T12:00:00Z; offsets: vitals-0=500,vitals-1=480; or a"
            " table's: version=12.",
        ),
    ],
    path: DataDirOption = DEFAULT_DATA_DIR,
    yes: YesOption = False,
) -> None:
    """Let a flow read again from there, by a new generation of its checkpoint."""
    from contextlib import nullcontext

    from wardhouse import rewind as rewinding
    from wardhouse.commands.verify import broker_at
    from wardhouse.component import component
    from wardhouse.errors import failures
    from wardhouse.pausing import moving
    from wardhouse.status import utc_now

    settings, data, now = Settings(), data_dir(path), utc_now()
    command = f"ward checkpoint rewind {flow} --to {to} --yes"
    with (
        failures(),
        component(data, "checkpoint"),
        moving(data, command, now) if yes else nullcontext(),
        broker_at(settings, data) as bootstrap,
    ):
        made = rewinding.plan(data, flow, rewinding.target(to), bootstrap, settings.topics())
        _show((made,))
        if yes:
            rewinding.carry_out(made, command, now)
    _end(data, yes)


@app.command()
def restore(
    name: Annotated[str, typer.Argument(help="The backup, as `ward checkpoint backups` names it.")],
    path: DataDirOption = DEFAULT_DATA_DIR,
    keep: Annotated[
        list[str] | None, typer.Option(help="A flow that stays as it is, with its tables; may be given repeatedly.")
    ] = None,
    yes: YesOption = False,
    memory: Annotated[str, typer.Option(help="Java heap.")] = "1g",
) -> None:
    """Bring the tables back to a backup's versions, and let every flow go on from there."""
    from contextlib import nullcontext

    from lakehouse.session import SessionError
    from wardhouse import backup as backing
    from wardhouse.commands.verify import broker_at
    from wardhouse.component import component
    from wardhouse.errors import failures
    from wardhouse.pausing import moving
    from wardhouse.rewind import lakehouse_flow
    from wardhouse.status import utc_now

    settings, data, now = Settings(), data_dir(path), utc_now()
    kept = tuple(keep or ())
    command = " ".join(["ward checkpoint restore", name, *(f"--keep {flow}" for flow in kept), "--yes"])
    with (
        failures(SessionError),
        component(data, "checkpoint"),
        moving(data, command, now) if yes else nullcontext(),
        broker_at(settings, data) as bootstrap,
    ):
        for flow in kept:
            lakehouse_flow(flow)
        planned = backing.plan(data, backing.read(data, name), kept, bootstrap, settings.topics())
        _show_tables(data, planned)
        _show(planned.generations)
        if yes:
            _restore(settings.jars, memory, data, planned)
    _end(data, yes)


def _restore(jars: Path, memory: str, data: DataDir, planned: "Restoration") -> None:
    from lakehouse.session import build_session
    from wardhouse.backup import restore as do
    from wardhouse.status import utc_now

    spark = build_session("wardhouse-restore", jars, memory=memory, lake=data.lake)
    try:
        do(spark, data, planned, utc_now())
    finally:
        spark.stop()


def _show(generations: "tuple[Generation, ...]") -> None:
    for made in generations:
        typer.echo(f"{made.flow.name}: generation {made.folder.name}")
        for line in made.lines:
            typer.echo(f"    {line}")


def _show_tables(data: DataDir, planned: "Restoration") -> None:
    from lakehouse.reader import open_table

    for step in planned.tables:
        typer.echo(f"{step.table.full_name}: version {open_table(data, step.table).version()} back to {step.version}")


def _end(data: DataDir, done: bool) -> None:
    from lakehouse import pause
    from wardhouse.pausing import lakehouse_state

    state = lakehouse_state(data)
    if not done:
        running = state is not None and not state.paused
        typer.echo("nothing was changed: --yes does it" + (", after `ward stream pause`" if running else ""))
    elif pause.asked(data):
        typer.echo("done: `ward stream resume` lets the flows go on from there")
    else:
        typer.echo("done: the next start of the stream goes on from there")


def _table(found: "tuple[Standing, ...]") -> "Table":
    from rich.table import Table

    from wardhouse.terminal import number

    names = ("flow", "generation", "batch", "in flight", "lag", "", "last commit s")
    table = Table(*names, box=None, header_style="bold", pad_edge=False)
    for one in found:
        in_flight = "yes" if one.in_flight else "no"
        batch = "-" if one.batch is None else str(one.batch)
        table.add_row(one.flow, str(one.generation), batch, in_flight, number(one.lag), one.unit, number(one.age_s))
    return table
