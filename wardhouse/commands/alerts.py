"""``ward alerts``: what is open, and what was."""

import logging
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from lakehouse.datadir import DataDir

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
    from lakehouse.reader import TableMissingError
    from lakehouse.topics import ALERT_STATE
    from wardhouse.broker import bootstrap_servers
    from wardhouse.errors import failures

    settings, folder = Settings(), data_dir(data)
    with failures(TopicError, StateError):
        try:
            found = _from_states(newest(bootstrap_servers(settings, folder), settings.topic(ALERT_STATE)).values())
        except TopicError as unreachable:
            try:
                found = _from_gold(folder)
            except TableMissingError:
                raise unreachable from None
            typer.echo("no broker answers: these are the alerts of gold.alert_event", err=True)
    shown = [
        alert
        for alert in found
        if patient in (None, alert["patient_id"]) and (resolved or alert["state"] != "resolved")
    ]
    for alert in sorted(shown, key=lambda one: (_PRIORITY.index(one["priority"]), one["observed_at"])):
        typer.echo(orjson.dumps(alert) if as_json else _line(alert))
    if not shown:
        typer.echo("no alerts", err=True)


@app.command()
def show(
    alert: Annotated[str, typer.Argument(help="An alert_id, or enough of its beginning to name one alert.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a transition.")] = False,
    data: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Show every transition of one alert with the value, limit, rule and message behind it, from gold.alert_event."""
    import orjson

    from lakehouse.reader import TableMissingError, query
    from wardhouse.errors import Failure, failures

    whole = "SELECT * FROM gold.alert_event WHERE starts_with(alert_id, $id) ORDER BY alert_id, sequence"
    with failures(TableMissingError):
        events = query(data_dir(data), whole, {"id": alert}).to_pylist()
        if not events:
            raise Failure(f"no alert {alert} in gold.alert_event: it lands half a minute after it was raised")
        if names := sorted({event["alert_id"] for event in events} - {events[0]["alert_id"]}):
            raise Failure(f"{alert} begins the ids of {len(names) + 1} alerts: give more of it")
    if as_json:
        for event in events:
            typer.echo(orjson.dumps(event))
        return
    for line in _story(events):
        typer.echo(line)


def _story(events: list[dict[str, Any]]) -> "Iterator[str]":
    """The alert, then a line a transition: when it was seen, when it was told, and by what."""
    first = events[0]
    place = " ".join(filter(None, (first["location_unit"], first["location_bed"])))
    yield f"{first['title']} ({first['priority']}, {first['category']}), rule {first['rule_id']} of {first['pack']}"
    yield f"patient {first['patient_id']}{f', {place}' if place else ''}, device {first['device_id'] or 'unknown'}"
    yield f"alert {first['alert_id']}"
    for event in events:
        value = "" if event["value"] is None else f"{event['value']:g}"
        limit = "" if event["limit_value"] is None else f" (limit {event['limit_value']:g})"
        yield (
            f"  {_instant(event['observed_at'])}  {event['state']:<8}  {event['reason'] or ''}: {value}{limit}"
            f", message {event['message_id']}, told {_instant(event['emitted_at'])}"
        )


def _instant(at: "datetime | None") -> str:
    return "unknown" if at is None else f"{at:%Y-%m-%d %H:%M:%S}Z"


def _from_states(values: "Iterable[bytes]") -> list[dict[str, Any]]:
    from alerting.state import decode

    return [
        {
            "alert_id": alert.alert_id,
            "patient_id": stored.patient.patient_id,
            "rule_id": alert.definition.rule_id,
            "title": alert.definition.title,
            "priority": alert.definition.priority,
            "state": alert.state.value,
            "limit_value": alert.limit,
            "observed_at": alert.opened_at,
        }
        for stored in map(decode, values)
        for alert in stored.patient.alerts.values()
    ]


def _from_gold(data: "DataDir") -> list[dict[str, Any]]:
    """The last event of each alert, with the instant of its first."""
    from lakehouse.reader import query

    last = (
        "SELECT alert_id, any_value(patient_id) AS patient_id, any_value(rule_id) AS rule_id,"
        " any_value(title) AS title, any_value(priority) AS priority, max_by(state, sequence) AS state,"
        " any_value(limit_value) AS limit_value,"
        " epoch_ms(min_by(observed_at, sequence)) AS observed_at FROM gold.alert_event GROUP BY alert_id"
    )
    found: list[dict[str, Any]] = query(data, last).to_pylist()
    return found


def _line(alert: dict[str, Any]) -> str:
    from datetime import UTC, datetime

    since = datetime.fromtimestamp(alert["observed_at"] / 1000, UTC)
    limit = "" if alert["limit_value"] is None else f"limit {alert['limit_value']:g}"
    return (
        f"{alert['priority']:<6}  {alert['state']:<8}  {alert['patient_id']:<20}  {alert['title']:<28}  {limit:<10}"
        f"  since {since:%Y-%m-%d %H:%M:%S}Z  {alert['alert_id']}"
    )
