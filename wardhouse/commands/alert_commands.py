"""What people do about alerts: acknowledge, silence and unsilence. ``ward alerts`` holds these commands."""

from typing import TYPE_CHECKING, Annotated

import typer

from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from alerting.command import Silence
    from alerting.compacted import Following, Record
    from alerting.lifecycle import Alert
    from alerting.state import Patient
    from lakehouse.datadir import DataDir

By = Annotated[str | None, typer.Option(help="Who does it; your login name unless given.")]
Wait = Annotated[float, typer.Option("--wait", help="Seconds to wait for the router to take it.", min=0)]
Rules = Annotated[str | None, typer.Option(help="Rule pack to check with, instead of the one in force.")]

_NOT_TAKEN = (
    "the router has not taken it yet. It stays on alert.command, and a router takes it when it runs: see `ward status`"
)


def ack(
    alert: Annotated[str, typer.Argument(help="An alert_id, or enough of its beginning to name one alert.")],
    by: By = None,
    note: Annotated[str | None, typer.Option(help="What to say about it.")] = None,
    wait: Wait = 10.0,
    data: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Acknowledge an alert: somebody is taking care of it, and it is not escalated further."""
    from contextlib import closing

    from alerting.command import Acknowledge, encode
    from alerting.compacted import Following, TopicError, last_values, put
    from alerting.lifecycle import State
    from alerting.orders import fresh_id, now_ms, why_not_acknowledged
    from alerting.state import StateError
    from lakehouse.topics import ALERT_COMMAND, ALERT_STATE
    from wardhouse.alerts import patients
    from wardhouse.broker import bootstrap_servers
    from wardhouse.errors import Failure, failures

    settings, folder, who = Settings(), data_dir(data), login(by)
    with failures(TopicError, StateError):
        servers = bootstrap_servers(settings, folder)
        with closing(Following(servers, settings.topic(ALERT_STATE))) as states:
            patient, found = named(patients(last_values(states.records()).values()), alert)
            what = f"{found.definition.title} of {patient.patient_id} ({found.alert_id})"
            reason = why_not_acknowledged(found)
            if found.state is State.ACKNOWLEDGED:
                typer.echo(f"{what} {reason}{_by_whom(settings, folder, found.alert_id)}")
                return
            if reason is not None:
                raise Failure(f"{what} {reason}")
            command = Acknowledge(fresh_id(), now_ms(), who, patient.patient_id, found.alert_id, note)
            put(servers, settings.topic(ALERT_COMMAND), {patient.patient_id.encode(): encode(command)})

            def is_taken(after: "Mapping[str, Patient]") -> bool:
                return _state(after[patient.patient_id], found.alert_id) not in _UNANSWERED

            if not wait_until(states, {patient.patient_id: patient}, is_taken, wait):
                raise Failure(f"acknowledged {what} as {who}, but {_NOT_TAKEN}")
    typer.echo(f"acknowledged {what} as {who}")


_UNANSWERED = frozenset({"active", "escalated", "silenced", "latched"})


def silence(
    reason: Annotated[str, typer.Option(help="Why; whoever asks why nobody was told is told this.")],
    patient: Annotated[str | None, typer.Option(help="Alerts of this patient, system/value.")] = None,
    rule: Annotated[str | None, typer.Option(help="Alerts of this rule.")] = None,
    unit: Annotated[str | None, typer.Option(help="Alerts of this care unit.")] = None,
    lasting: Annotated[str | None, typer.Option("--for", help="For so long: 30m, 2h.")] = None,
    until: Annotated[str | None, typer.Option(help="Until this instant: 2026-01-31T12:00:00Z.")] = None,
    by: By = None,
    long: Annotated[bool, typer.Option("--long", help="It may last longer than 24 h.")] = False,
    rules: Rules = None,
    wait: Wait = 10.0,
    data: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Tell nobody of some alerts for a time: of a patient, a rule, a unit, or of what several of these say together."""
    from contextlib import closing

    from alerting.answers import matching
    from alerting.command import Silence, encode
    from alerting.compacted import Following, TopicError, last_values, put
    from alerting.orders import fresh_id, now_ms
    from alerting.pack import PackError
    from alerting.state import StateError
    from alerting.words import count, instant
    from lakehouse.topics import ALERT_COMMAND, ALERT_STATE
    from wardhouse.alerts import patients
    from wardhouse.broker import bootstrap_servers
    from wardhouse.errors import Failure, failures

    if not (patient or rule or unit):
        raise typer.BadParameter("give --patient, --rule, --unit or several of them")
    if not reason.strip():
        raise typer.BadParameter("--reason: say why")
    settings, folder, at, who = Settings(), data_dir(data), now_ms(), login(by)
    ends = _ends(at, lasting, until, long=long)
    with failures(TopicError, StateError, PackError):
        if rule:
            _check_rule(settings, folder, rule, rules)
        servers = bootstrap_servers(settings, folder)
        with closing(Following(servers, settings.topic(ALERT_STATE))) as states:
            known = {one.patient_id: one for one in patients(last_values(states.records()).values())}
            made = Silence(fresh_id(), at, who, reason, ends, patient, rule, unit)
            muted = {one.patient_id: _sounding(one, made, at) for one in known.values()}
            put(servers, settings.topic(ALERT_COMMAND), {made.command_id.encode(): encode(made)})
            typer.echo(
                f"silence {made.command_id} of {matching(made)} until {instant(ends)}:"
                f" mutes {count(sum(map(len, muted.values())), 'open alert')}"
            )

            def is_taken(after: "Mapping[str, Patient]") -> bool:
                return not any(_still_sounds(after[name], ids) for name, ids in muted.items() if ids)

            if not wait_until(states, known, is_taken, wait):
                raise Failure(_NOT_TAKEN)


def unsilence(
    silence_id: Annotated[str, typer.Argument(metavar="ID", help="A silence's id, or enough of its beginning.")],
    by: By = None,
    reason: Annotated[str | None, typer.Option(help="Why it ends before its time.")] = None,
    data: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """End a silence before its time: what it muted is told again."""
    from alerting.answers import matching
    from alerting.command import Unsilence, encode, silences_at
    from alerting.compacted import TopicError, put
    from alerting.orders import fresh_id, now_ms
    from lakehouse.topics import ALERT_COMMAND
    from wardhouse.alerts import commands
    from wardhouse.broker import bootstrap_servers
    from wardhouse.errors import Failure, failures

    settings, folder, who = Settings(), data_dir(data), login(by)
    with failures(TopicError):
        servers, topic = bootstrap_servers(settings, folder), settings.topic(ALERT_COMMAND)
        holding = silences_at(now_ms(), commands(settings, folder)).of
        found = [one for one in holding if one.command_id.startswith(silence_id)]
        if not found:
            raise Failure(f"no silence {silence_id} is in force: `ward alerts silences` shows those that are")
        if len(found) > 1:
            raise Failure(f"{silence_id} begins the ids of {len(found)} silences: give more of it")
        command = Unsilence(fresh_id(), now_ms(), who, found[0].command_id, reason)
        # The key of the silence itself: the two stay in order.
        put(servers, topic, {found[0].command_id.encode(): encode(command)})
    typer.echo(f"silence {found[0].command_id} of {matching(found[0])} is over, by {who}")


def silences(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    data: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Show the silences that are in force: what they mute, until when, who made them and why."""
    from dataclasses import asdict

    import orjson

    from alerting.answers import silenced
    from alerting.command import silences_at
    from alerting.compacted import TopicError
    from alerting.orders import now_ms
    from wardhouse.alerts import commands
    from wardhouse.errors import failures

    with failures(TopicError):
        found = silences_at(now_ms(), commands(Settings(), data_dir(data))).of
    for one in sorted(found, key=lambda silence: silence.until):
        typer.echo(orjson.dumps(asdict(one)) if as_json else silenced(one))
    if not found:
        typer.echo("no silences", err=True)


# Shared


def login(by: str | None) -> str:
    """Who gives a command: the name given, else that of the login."""
    import getpass

    if by is not None and by.strip():
        return by.strip()
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise typer.BadParameter("nobody is logged in by a name here: say who with --by") from error


def named(known: "Iterable[Patient]", beginning: str) -> "tuple[Patient, Alert]":
    """The one alert whose id begins so. Raises Failure where there is none, or more than one."""
    from wardhouse.errors import Failure

    found = [
        (patient, alert)
        for patient in known
        for alert in patient.alerts.values()
        if alert.alert_id.startswith(beginning)
    ]
    if not found:
        raise Failure(f"no alert {beginning} in the router's state: `ward alerts list` shows those that are open")
    if len(found) > 1:
        raise Failure(f"{beginning} begins the ids of {len(found)} alerts: give more of it")
    return found[0]


def wait_until(
    states: "Following",
    known: "Mapping[str, Patient]",
    condition: "Callable[[Mapping[str, Patient]], bool]",
    within_s: float,
) -> bool:
    """Follow the router's states until they are as wanted; whether they were in time."""
    now = dict(known)
    if condition(now):
        return True
    for record in states.coming(within_s):
        _take(now, record)
        if condition(now):
            return True
    return False


def _by_whom(settings: Settings, folder: "DataDir", alert_id: str) -> str:
    from alerting.command import acknowledgers
    from wardhouse.alerts import commands

    who = acknowledgers(commands(settings, folder)).get(alert_id)
    return f", by {who}" if who else ""


def _take(now: "dict[str, Patient]", record: "Record") -> None:
    from wardhouse.alerts import patients

    for patient in patients([record.value] if record.value is not None else []):
        now[patient.patient_id] = patient


def _state(patient: "Patient", alert_id: str) -> str | None:
    states = (alert.state.value for alert in patient.alerts.values() if alert.alert_id == alert_id)
    return next(states, None)


def _sounding(patient: "Patient", silence: "Silence", now: int) -> frozenset[str]:
    """The ids of a patient's alerts that tell somebody now, and that the silence mutes."""
    from alerting.lifecycle import SOUNDING

    return frozenset(
        alert.alert_id
        for rule_id, alert in patient.alerts.items()
        if alert.state in SOUNDING and silence.mutes(patient.patient_id, rule_id, patient.location_unit, now)
    )


def _still_sounds(patient: "Patient", alert_ids: frozenset[str]) -> bool:
    from alerting.lifecycle import SOUNDING

    return any(alert.state in SOUNDING and alert.alert_id in alert_ids for alert in patient.alerts.values())


def _ends(at: int, lasting: str | None, until: str | None, *, long: bool) -> int:
    """When a silence ends (epoch ms). Raises BadParameter."""
    from alerting.orders import LongSilenceError, PastEndError, check_end
    from wardhouse.durations import instant, seconds

    if (lasting is None) is (until is None):
        raise typer.BadParameter("give --for or --until")
    ends = at + round(seconds(lasting) * 1000) if lasting else round(instant(until or "").timestamp() * 1000)
    try:
        check_end(at, ends, long=long)
    except PastEndError as error:
        raise typer.BadParameter(f"--until: {until} has passed") from error
    except LongSilenceError as error:
        raise typer.BadParameter(f"{error}: confirm with --long") from error
    return ends


def _check_rule(settings: Settings, data: "DataDir", rule: str, rules: str | None) -> None:
    from wardhouse.errors import Failure
    from wardhouse.in_force import in_force

    pack = in_force(settings, data, rules).pack
    if pack.rule(rule) is None:
        raise Failure(f"{rule}: {pack.label} has no such rule; it has {', '.join(one.id for one in pack.rules)}")
