"""``ward alerts``: what is open, what was and why, and what people do about it."""

import logging
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wardhouse.commands import alert_commands
from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir

if TYPE_CHECKING:
    from lakehouse.datadir import DataDir

app = typer.Typer(help="Alerts: what is open, why, who was told; acknowledge and silence.", no_args_is_help=True)
app.command("ack")(alert_commands.ack)
app.command("silence")(alert_commands.silence)
app.command("unsilence")(alert_commands.unsilence)
app.command("silences")(alert_commands.silences)


@app.callback()
def _group() -> None:
    # The client logs every failed attempt to connect; the command says it in one line.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)


@app.command("list")
def list_alerts(
    patient: Annotated[str | None, typer.Argument(help="Only this patient.")] = None,
    unit: Annotated[str | None, typer.Option(help="Only this care unit.")] = None,
    state: Annotated[list[str] | None, typer.Option(help="Only this state, open or not; may be repeated.")] = None,
    technical: Annotated[
        bool | None, typer.Option("--technical/--physiological", help="Only what devices say of themselves, or not.")
    ] = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="Ended alerts too: the last of each rule.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    data: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Show open alerts: from the router's state, or from gold.alert_event where no broker runs.

    Technical alarms come after the others, under a heading of their own.
    """
    from alerting.inbox import urgency
    from alerting.lifecycle import OPEN, State
    from alerting.state import StateError
    from wardhouse.errors import failures

    if unknown := sorted(set(state or ()) - set(State)):
        raise typer.BadParameter(f"--state: {', '.join(unknown)}; known: {', '.join(State)}")
    with failures(StateError):
        found = _alerts(Settings(), data_dir(data))
    category = {None: None, True: "technical", False: "physiological"}[technical]
    wanted = frozenset(state) if state else frozenset(State) if resolved else OPEN
    shown = [
        alert
        for alert in found
        if patient in (None, alert["patient_id"])
        and unit in (None, alert["location_unit"])
        and category in (None, alert["category"])
        and alert["state"] in wanted
    ]
    _show(sorted(shown, key=urgency), as_json=as_json)


def _show(alerts: list[dict[str, Any]], *, as_json: bool) -> None:
    import orjson

    headed = False
    for alert in alerts:
        if alert["category"] == "technical" and not (headed or as_json):
            typer.echo("technical alarms: what devices say of themselves")
            headed = True
        typer.echo(orjson.dumps(alert) if as_json else _line(alert))
    if not alerts:
        typer.echo("no alerts", err=True)


def _alerts(settings: Settings, folder: "DataDir") -> list[dict[str, Any]]:
    """The last alert of each patient and rule. Raises StateError; a Failure where neither broker nor gold has any."""
    from alerting.command import acknowledgers
    from alerting.compacted import TopicError, newest
    from alerting.inbox import from_gold, from_states
    from lakehouse.reader import TableMissingError
    from lakehouse.topics import ALERT_STATE
    from wardhouse.alerts import commands, patients
    from wardhouse.broker import bootstrap_servers
    from wardhouse.errors import Failure

    try:
        states = newest(bootstrap_servers(settings, folder), settings.topic(ALERT_STATE)).values()
        given = commands(settings, folder)
    except TopicError as unreachable:
        try:
            found = from_gold(folder)
        except TableMissingError:
            raise Failure(str(unreachable)) from None
        typer.echo("no broker answers: these are the alerts of gold.alert_event", err=True)
        return found
    return from_states(patients(states), acknowledgers(given))


@app.command()
def show(
    alert: Annotated[str, typer.Argument(help="An alert_id, or enough of its beginning to name one alert.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a transition.")] = False,
    data: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Show every transition of one alert with the value, limit, rule and message behind it, from gold.alert_event."""
    import orjson

    from alerting.answers import story
    from lakehouse.reader import TableMissingError
    from wardhouse.errors import failures

    with failures(TableMissingError):
        events = _events(data_dir(data), alert)
    for line in map(orjson.dumps, events) if as_json else story(events):
        typer.echo(line)


@app.command()
def explain(
    alert: Annotated[str, typer.Argument(help="An alert_id, or enough of its beginning to name one alert.")],
    rules: Annotated[str | None, typer.Option(help="Rule pack with the rule's words, if not the one in force.")] = None,
    data: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Explain one alert: why it fired, what became of it, who was told, who acknowledged it, what muted it."""
    from alerting.answers import explanation
    from alerting.pack import PackError
    from alerting.stored import tellings
    from lakehouse.reader import TableMissingError
    from wardhouse.alerts import pack_of, silences_by_id
    from wardhouse.errors import failures

    settings, folder = Settings(), data_dir(data)
    with failures(TableMissingError, PackError):
        events = _events(folder, alert)
        told = tellings(folder, [events[0]["alert_id"]])
        pack = pack_of(settings, folder, events[0]["pack"], rules)
        silences = silences_by_id(settings, folder)
        lines = explanation(
            events, told.notifications, told.deliveries, pack=pack, silences=silences, missing=told.missing
        )
    for line in lines:
        typer.echo(line)


@app.command("why-not")
def why_nobody_was_told(
    patient: Annotated[str, typer.Argument(help="Patient id, system/value.")],
    rule: Annotated[str, typer.Argument(help="Rule id, such as spo2-low: `ward rules show` lists them.")],
    time: Annotated[str, typer.Argument(help="When, such as 2026-01-31T12:00:00Z.")],
    rules: Annotated[str | None, typer.Option(help="Rule pack to judge by, if not the one in force.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object: kind and lines.")] = False,
    data: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Say why nobody was told of a rule at a time (or who was): no data, no breach, too short, muted, not delivered."""
    from datetime import UTC, datetime

    import orjson

    from alerting.pack import PackError
    from alerting.why_not import Question, why_not
    from wardhouse.durations import instant
    from wardhouse.errors import failures
    from wardhouse.why_not import gather

    question = Question(patient, rule, round(instant(time).timestamp() * 1000))
    with failures(PackError):
        answer = why_not(question, gather(Settings(), data_dir(data), question, rules, datetime.now(UTC)))
    if as_json:
        typer.echo(orjson.dumps({"kind": answer.kind, "lines": answer.lines}))
        return
    for line in answer.lines:
        typer.echo(line)


def _events(data: "DataDir", alert: str) -> list[dict[str, Any]]:
    """The transitions of the one alert whose id begins so. Raises Failure and TableMissingError."""
    from lakehouse.reader import query
    from wardhouse.errors import Failure

    whole = "SELECT * FROM gold.alert_event WHERE starts_with(alert_id, $id) ORDER BY alert_id, sequence"
    events: list[dict[str, Any]] = query(data, whole, {"id": alert}).to_pylist()
    if not events:
        raise Failure(f"no alert {alert} in gold.alert_event: it lands half a minute after it was raised")
    if names := sorted({event["alert_id"] for event in events} - {events[0]["alert_id"]}):
        raise Failure(f"{alert} begins the ids of {len(names) + 1} alerts: give more of it")
    return events


def _line(alert: dict[str, Any]) -> str:
    from alerting.message_text import clean
    from alerting.words import instant

    limit = "" if alert["limit_value"] is None else f"limit {alert['limit_value']:g}"
    moved_by = alert["acknowledged_by"] or alert["muted_by"]
    parts = (f"step {alert['step']}" if alert["step"] else "", f"by {clean(moved_by)}" if moved_by else "")
    notes = ", ".join(filter(None, parts))
    return (
        f"{alert['priority']:<6}  {alert['state']:<12}  {clean(alert['patient_id']):<20}  {alert['title']:<28}"
        f"  {limit:<10}  since {instant(alert['observed_at'])}  {notes:<20}  {alert['alert_id']}"
    )
