"""``ward dbt``: dbt over the tables of a data dir.

dbt-spark's session method uses whatever Spark session its process has. So the session is opened here, in the same
process, with an in-memory catalog in which every Delta table under the data dir is named as its folder is,
``silver.observation``: the folder stays the only truth. There is no Hive metastore whose paths go stale when a data dir
is moved, and no Derby database that lets in one process at a time.
"""

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse.datadir import DataDir
from lakehouse.pipeline import flow_named
from lakehouse.tables import OBSERVATION, TABLES
from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakehouse.lineage import Parent, Sender

PROJECT = Path(__file__).resolve().parents[2] / "dbt_project"

SOURCES = tuple(table for table in TABLES if table.layer in ("silver", "gold"))
"""The declared tables that models may read: dbt_project/models/staging/sources.yml is made from them."""

FRESH = {OBSERVATION.full_name: timedelta(days=1)}
"""What `ward dbt source freshness` holds: models are built each night, and vital signs come at every hour of the day.
Admissions and alerts may well be missing for a day."""

CONTEXT = {"ignore_unknown_options": True, "allow_extra_args": True}
"""Context settings to register the command with: what it does not know itself is dbt's."""

SESSION = "session"
"""The target of the project's profile that runs in this process; it is the default."""

_WITHOUT_SPARK = ("parse", "ls", "list", "clean", "deps")


def dbt(
    arguments: Annotated[list[str], typer.Argument(help="dbt's own command and options.", metavar="build|test|...")],
    path: DataDirOption = DEFAULT_DATA_DIR,
    memory: Annotated[str, typer.Option(help="Java heap.")] = "1g",
) -> None:
    """Run dbt over the tables of the data dir: `ward dbt build`, `ward dbt ls --select marts`, ...

    With `--target server` it runs on a Spark Thrift server instead. Exit codes are dbt's: 1 where a model or a test
    fails, 2 where dbt itself cannot go on.
    """
    from lakehouse.lineage import LineageError, parent, sender
    from lakehouse.reader import TableMissingError, open_table
    from lakehouse.session import SessionError
    from wardhouse.errors import Failure, failures

    settings, data = Settings(), data_dir(path)
    with failures(TableMissingError, SessionError, LineageError):
        if not (PROJECT / "dbt_project.yml").exists():
            raise Failure(f"no dbt project in {PROJECT}: `ward dbt` runs from a checkout of the project")
        os.environ.update(environment(data))
        if arguments[0] in _WITHOUT_SPARK:
            raise typer.Exit(invoke(arguments))
        if _target(arguments) != SESSION:
            # Its catalog has the tables, its session is its own.
            raise typer.Exit(invoke(arguments))
        open_table(data, OBSERVATION)
        lineage, started_by = sender(), parent()
        spark = open_session(settings, data, memory)
    begun = datetime.now(UTC)
    try:
        code = invoke(arguments)
    finally:
        spark.stop()
    if lineage is not None:
        _tell(lineage, data, begun, started_by)
    raise typer.Exit(code)


def _tell(lineage: "Sender", data: DataDir, begun: datetime, started_by: "Parent | None") -> None:
    """Tell of the models that were built since then."""
    from lakehouse.lineage import Places
    from wardhouse.dbt_lineage import events

    for one in events(Path(environment(data)["DBT_TARGET_PATH"]), Places(data), begun, started_by):
        lineage.send(one)
    lineage.close(within_s=30)


def _target(arguments: list[str]) -> str:
    """The target that the options choose, as dbt reads them; the last counts."""
    found = SESSION
    for option, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if option in ("--target", "-t"):
            found = following
        elif option.startswith("--target="):
            found = option.removeprefix("--target=")
    return found


def environment(data: DataDir) -> dict[str, str]:
    """What dbt reads from the environment: where the project is, where its tables, logs and artefacts go."""
    return {
        "WARD_DATA_DIR": str(data.root),
        "WARD_LAKE": str(data.lake),
        "DBT_PROJECT_DIR": str(PROJECT),
        "DBT_PROFILES_DIR": str(PROJECT),
        "DBT_TARGET_PATH": str(data.root / "dbt" / "target"),
        "DBT_LOG_PATH": str(data.logs / "dbt"),
        "DBT_USE_COLORS": str(sys.stdout.isatty()),
    }


def open_session(settings: Settings, data: DataDir, memory: str) -> "SparkSession":
    """The session of this process, with every Delta table of the data dir in its catalog. Raises SessionError."""
    from lakehouse.session import build_session

    # Where Spark makes an empty folder for each schema; every table has a place of its own.
    warehouse = {"spark.sql.warehouse.dir": str(data.root / "dbt" / "warehouse")}
    spark = build_session("wardhouse-dbt", settings.jars, memory=memory, conf=warehouse, lake=data.lake)
    # dbt asks for the session anew with every statement, and Spark warns each time that it has one already.
    spark.sparkContext.setLogLevel("ERROR")
    register(spark, data)
    return spark


def register(spark: "SparkSession", data: DataDir) -> None:
    """Name every Delta table under the data dir in the session's catalog, as LAYER.NAME.

    What models read and the data dir lacks is made, empty: where only history was backfilled, no alert ever rang.
    """
    from lakehouse import delta

    for table in TABLES:
        if table.full_name in flow_named("cohorts").reads:
            delta.create(spark, table, data.table(table))
    for log in data.table_root.glob("*/*/_delta_log"):
        layer, name = log.parts[-3:-1]
        spark.sql(f"CREATE SCHEMA IF NOT EXISTS `{layer}`")
        spark.sql(f"CREATE TABLE IF NOT EXISTS `{layer}`.`{name}` USING DELTA LOCATION '{log.parent.as_uri()}'")


def invoke(arguments: list[str]) -> int:
    """Run dbt in this process, printing as it goes, and answer its exit code."""
    from dbt.cli.main import dbtRunner

    result = dbtRunner().invoke(arguments)
    if result.exception is not None:
        typer.echo(f"dbt: {result.exception}", err=True)
        return 2
    return 0 if result.success else 1
