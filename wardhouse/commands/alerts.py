"""``ward alerts``: what is open, and what was."""

import logging
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

app = typer.Typer(help="Alerts.", no_args_is_help=True)

_PRIORITY = ("high", "medium", "low")


@app.callback()
def _group() -> None:
    # The client logs every failed attempt to connect; the command says it in one line.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)


@app.command("list")
def list_alerts(
    patient: Annotated[str | None, typer.Argument(help="Only this patient.")] = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="Resolved alerts too: the last of each rule.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    data: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Show open alerts: from the router's state, or from gold.alert_event where no broker runs."""
    import orjson

    from alerting.compacted import TopicError, newest
    from alerting.state import StateError
    from lakehouse.tables import ALERT_EVENT
    from lakehouse.topics import ALERT_STATE
    from wardhouse.broker import bootstrap_servers
    from wardhouse.errors import failures

    settings, folder = Settings(), data_dir(data)
    with failures(TopicError, StateError):
        try:
            found = _from_states(newest(bootstrap_servers(settings, folder), settings.topic(ALERT_STATE)).values())
        except TopicError:
            table = folder.table(ALERT_EVENT)
            if not (table / "_delta_log").exists():
                raise
            typer.echo("no broker answers: these are the alerts of gold.alert_event", err=True)
            found = _from_gold(table)
    shown = [
        alert
        for alert in found
        if patient in (None, alert["patient_id"]) and (resolved or alert["state"] != "resolved")
    ]
    for alert in sorted(shown, key=lambda one: (_PRIORITY.index(one["priority"]), one["observed_at"])):
        typer.echo(orjson.dumps(alert) if as_json else _line(alert))
    if not shown:
        typer.echo("no alerts", err=True)


def _from_states(values: "Iterable[bytes]") -> list[dict[str, Any]]:
    from alerting.state import decode

    return [
        {
            "alert_id": alert.alert_id,
            "patient_id": state.patient_id,
            "rule_id": alert.definition.rule_id,
            "title": alert.definition.title,
            "priority": alert.definition.priority,
            "state": alert.state.value,
            "limit_value": alert.limit,
            "observed_at": alert.opened_at,
        }
        for state in map(decode, values)
        for alert in state.alerts.values()
    ]


def _from_gold(table: "Path") -> list[dict[str, Any]]:
    """The last event of each alert, with the instant of its first."""
    import duckdb
    from deltalake import DeltaTable

    events = DeltaTable(str(table)).to_pyarrow_table()  # noqa: F841 - read by the query
    rows = duckdb.execute(
        "SELECT alert_id, any_value(patient_id), any_value(rule_id), any_value(title), any_value(priority),"
        " max_by(state, sequence), any_value(limit_value), epoch_ms(min_by(observed_at, sequence))"
        " FROM events GROUP BY alert_id"
    ).fetchall()
    names = ("alert_id", "patient_id", "rule_id", "title", "priority", "state", "limit_value", "observed_at")
    return [dict(zip(names, row, strict=True)) for row in rows]


def _line(alert: dict[str, Any]) -> str:
    from datetime import UTC, datetime

    since = datetime.fromtimestamp(alert["observed_at"] / 1000, UTC)
    limit = "" if alert["limit_value"] is None else f"limit {alert['limit_value']:g}"
    return (
        f"{alert['priority']:<6}  {alert['state']:<8}  {alert['patient_id']:<20}  {alert['title']:<28}  {limit:<10}"
        f"  since {since:%Y-%m-%d %H:%M:%S}Z  {alert['alert_id']}"
    )
