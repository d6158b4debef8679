"""``ward plan`` and ``ward apply``: what is declared against what is there."""

from typing import TYPE_CHECKING

import typer

from lakehouse.datadir import DataDir
from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir

if TYPE_CHECKING:
    from wardhouse.plan import Step


def plan(path: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Show how tables, topics and checkpoints differ from the declarations; exit code 2 where something does."""
    from wardhouse.errors import failures

    settings, data = Settings(), data_dir(path)
    with failures():
        differences = [*_table_lines(data), *_topic_lines(settings, data)]
        for line in [*differences, *_checkpoint_lines(data)]:
            typer.echo(line)
    if differences:
        raise typer.Exit(2)
    typer.echo("tables and topics are as declared")


def apply(path: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Make tables and topics as declared; exit code 1 where a difference needs a person's decision."""
    from lakehouse.pipeline import check
    from lakehouse.session import SessionError, build_session
    from lakehouse.tables import TABLES
    from lakehouse.topics import declared
    from wardhouse.broker import bootstrap_servers
    from wardhouse.component import component
    from wardhouse.errors import Failure, failures
    from wardhouse.plan import apply_tables, table_steps
    from wardhouse.topics import ensure

    settings, data = Settings(), data_dir(path)
    with failures(SessionError), component(data, "apply"):
        check()
        # Topics first: a broker that does not answer is known before a Java machine is started for the tables.
        for name in ensure(bootstrap_servers(settings, data), declared(settings.partitions), settings.topic_names):
            typer.echo(f"done: topic {name}: created")
        steps = table_steps(data, TABLES)
        if any(step.statement for step in steps):
            spark = build_session("wardhouse-apply", settings.jars, lake=data.lake)
            try:
                apply_tables(spark, steps)
            finally:
                spark.stop()
        for step in steps:
            typer.echo(f"{'done' if step.statement else 'left'}: {step.kind} {step.name}: {step.found}")
        if left := [step for step in steps if not step.statement]:
            raise Failure(f"{len(left)} differences need a decision: no statement mends them without losing data")
    typer.echo("tables and topics are as declared")


def _table_lines(data: DataDir) -> list[str]:
    from lakehouse.pipeline import check
    from lakehouse.tables import TABLES
    from wardhouse.plan import table_steps

    check()
    return [f"{_sign(step)} {step.kind} {step.name}: {step.found}" for step in table_steps(data, TABLES)]


def _sign(step: "Step") -> str:
    return "apply " if step.statement else "decide"


def _topic_lines(settings: Settings, data: DataDir) -> list[str]:
    from lakehouse.topics import declared
    from wardhouse.broker import bootstrap_servers
    from wardhouse.topics import differences

    found = differences(bootstrap_servers(settings, data), declared(settings.partitions), settings.topic_names)
    return [f"{'apply ' if item.setting == 'topic' else 'decide'} topic {item}" for item in found]


def _checkpoint_lines(data: DataDir) -> tuple[str, ...]:
    from lakehouse.pipeline import FLOWS
    from wardhouse.plan import checkpoint_lines

    return checkpoint_lines(data, FLOWS)
