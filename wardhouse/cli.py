"""The command ``ward``: every component, and everything a person or a DAG does, is one of its commands."""

import errno
import os
import sys

import typer

from lakehouse.checkpoint import CheckpointError
from lakehouse.delta_log import LogError
from lakehouse.kafka_access import AccessError
from lakehouse.storage import trouble
from lakehouse.stores import StorageError
from wardhouse import logs
from wardhouse.commands import (
    acl,
    airflow,
    alerts,
    anomalies,
    audit,
    backfill,
    bridge,
    broker,
    checkpoint,
    dashboard,
    dbt,
    docs,
    ecg,
    edge,
    gateway,
    keys,
    lab,
    limits,
    link,
    maintain,
    model,
    notify,
    plan,
    quality,
    quarantine,
    replay,
    report,
    risk,
    router,
    rules,
    score,
    simulate,
    sink,
    snapshot,
    spark,
    status,
    storage,
    stream,
    trace,
    up,
    verify,
)
from wardhouse.errors import Failure

app = typer.Typer(
    name="ward",
    help="A hospital's vital signs, from the bedside monitor to the research table. Not a medical device.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_WHOLE = "The whole"
_COMPONENTS = "Components"
_WARD = "On the ward"
_DATA = "Data"

app.command("up", rich_help_panel=_WHOLE)(up.up)
app.add_typer(keys.app, name="keys", rich_help_panel=_WHOLE)
app.add_typer(storage.app, name="storage", rich_help_panel=_WHOLE)
app.command("status", rich_help_panel=_WHOLE)(status.status)
app.command("verify", rich_help_panel=_WHOLE)(verify.verify)
app.command("audit", rich_help_panel=_WHOLE)(audit.audit)
app.command("plan", rich_help_panel=_WHOLE)(plan.plan)
app.command("apply", rich_help_panel=_WHOLE)(plan.apply)
app.command("acl", rich_help_panel=_WHOLE)(acl.acl)

app.command("broker", rich_help_panel=_COMPONENTS)(broker.broker)
app.command("stream", rich_help_panel=_COMPONENTS)(stream.stream)
app.command("router", rich_help_panel=_COMPONENTS)(router.router)
app.command("notify", rich_help_panel=_COMPONENTS)(notify.notify)
app.command("trace", rich_help_panel=_COMPONENTS)(trace.trace)
app.command("risk", rich_help_panel=_COMPONENTS)(risk.risk)
app.command("gateway", rich_help_panel=_COMPONENTS)(gateway.gateway)
app.command("bridge", rich_help_panel=_COMPONENTS)(bridge.bridge)
app.command("edge", rich_help_panel=_COMPONENTS)(edge.edge)
app.command("sink", rich_help_panel=_COMPONENTS)(sink.sink)
app.command("dashboard", rich_help_panel=_COMPONENTS)(dashboard.dashboard)
app.command("airflow", rich_help_panel=_COMPONENTS)(airflow.airflow)
app.command("simulate", rich_help_panel=_COMPONENTS)(simulate.simulate)
app.add_typer(spark.app, name="spark", rich_help_panel=_COMPONENTS)

alerts.app.command()(lab.simulate)
app.add_typer(alerts.app, name="alerts", rich_help_panel=_WARD)
app.add_typer(limits.app, name="limits", rich_help_panel=_WARD)
app.add_typer(rules.app, name="rules", rich_help_panel=_WARD)

app.command("link", rich_help_panel=_WARD)(link.link)

app.command("score", rich_help_panel=_DATA)(score.score)
app.command("anomalies", rich_help_panel=_DATA)(anomalies.anomalies)
app.command("replay", rich_help_panel=_DATA)(replay.replay)
app.command("backfill", rich_help_panel=_DATA)(backfill.backfill)
app.add_typer(checkpoint.app, name="checkpoint", rich_help_panel=_DATA)
app.command("maintain", rich_help_panel=_DATA)(maintain.maintain)
app.add_typer(quality.app, name="quality", rich_help_panel=_DATA)
app.add_typer(ecg.app, name="ecg", rich_help_panel=_DATA)
app.add_typer(snapshot.app, name="snapshot", rich_help_panel=_DATA)
app.add_typer(model.app, name="model", rich_help_panel=_DATA)
app.add_typer(quarantine.app, name="quarantine", rich_help_panel=_DATA)
app.add_typer(report.app, name="report", rich_help_panel=_DATA)
# Everything after `ward dbt` is dbt's own.
app.command("dbt", rich_help_panel=_DATA, context_settings=dbt.CONTEXT)(dbt.dbt)
app.command("docs", rich_help_panel=_DATA)(docs.docs)


_DISK_ERRORS = {
    errno.ENOSPC: "the disk is full: free some space, then start again; what had landed is safe",
    errno.EDQUOT: "the disk quota is used up: free some space, then start again; what had landed is safe",
    errno.EROFS: "the file system is read-only: give --data-dir a place that can be written",
    errno.ENOTDIR: "a file stands where a folder must be: give --data-dir another place",
    errno.EACCES: "no permission: give --data-dir a place that this user can write",
}


def main() -> None:
    """Entry point of the command."""
    try:
        logs.begin(os.environ)
        app()
    except (AccessError, CheckpointError, Failure, LogError, StorageError) as error:
        typer.echo(f"ward: {error}", err=True)
        sys.exit(1)
    except Exception as error:
        if told := trouble(error):
            typer.echo(f"ward: {told}", err=True)
            sys.exit(1)
        if not isinstance(error, OSError) or error.errno not in _DISK_ERRORS:
            raise
        place = f"{error.filename}: " if error.filename else ""
        typer.echo(f"ward: {place}{_DISK_ERRORS[error.errno]}", err=True)
        sys.exit(1)
