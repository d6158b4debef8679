"""``ward limits``: the limits of one patient, in force at once."""

import logging
from typing import Annotated

import typer

from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir

app = typer.Typer(help="A patient's own alert limits.", no_args_is_help=True)

Patient = Annotated[str, typer.Argument(help="Patient id, system/value.")]
Rules = Annotated[
    str | None,
    typer.Option(help="Rule pack whose limits are replaced: a name or a .yaml file; the one in force by default."),
]


@app.callback()
def _group() -> None:
    # The client logs every failed attempt to connect; the command says it in one line.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)


@app.command("set")
def set_limits(
    patient: Patient,
    signal: Annotated[str, typer.Argument(help="Signal, such as heart_rate or spo2.")],
    high: Annotated[float | None, typer.Option(help="Alert above this value, in the signal's unit.")] = None,
    low: Annotated[float | None, typer.Option(help="Alert below this value, in the signal's unit.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why, for whoever asks later.")] = None,
    by: Annotated[str | None, typer.Option(help="Who decided it.")] = None,
    rules: Rules = None,
    data: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Replace the pack's limits of one signal for one patient; a side that is not given stays as it is."""
    from dataclasses import replace
    from datetime import UTC, datetime

    from alerting import limits
    from alerting.compacted import TopicError, newest, put
    from alerting.pack import PackError
    from lakehouse.topics import ALERT_LIMIT
    from lakehouse.vocabulary import signal_by_name
    from wardhouse.broker import bootstrap_servers
    from wardhouse.errors import Failure, failures
    from wardhouse.in_force import in_force

    if high is None and low is None:
        raise typer.BadParameter("give --high, --low or both")
    with failures(PackError, TopicError, limits.LimitError):
        known = signal_by_name()
        if signal not in known:
            raise Failure(f"{signal}: no such signal; known: {', '.join(known)}")
        settings, folder = Settings(), data_dir(data)
        servers, topic = bootstrap_servers(settings, folder), settings.topic(ALERT_LIMIT)
        own = limits.OwnLimits(
            patient, known[signal].code, high, low, round(datetime.now(UTC).timestamp() * 1000), by, reason
        )
        record_key = limits.key(patient, own.code)
        pack, before = in_force(settings, folder, rules).pack, newest(servers, topic).get(record_key)
        if before is not None:
            earlier = limits.decode(record_key, before)[2]
            if earlier is not None:
                own = replace(
                    own,
                    high=earlier.high if high is None else high,
                    low=earlier.low if low is None else low,
                    reason=reason or earlier.reason,
                )
        limits.with_own(pack, [own])
        put(servers, topic, {record_key: limits.encode(own)})
    typer.echo(f"{patient}: {signal}: {_words(own.low, own.high)}, in force from now on")


@app.command("list")
def list_limits(
    patient: Annotated[str | None, typer.Argument(help="Only this patient.")] = None,
    data: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Show own limits in force."""
    from alerting import limits
    from alerting.compacted import TopicError, newest
    from lakehouse.topics import ALERT_LIMIT
    from lakehouse.vocabulary import signal_by_code
    from wardhouse.broker import bootstrap_servers
    from wardhouse.errors import failures

    settings = Settings()
    with failures(TopicError, limits.LimitError):
        records = newest(bootstrap_servers(settings, data_dir(data)), settings.topic(ALERT_LIMIT))
        found = [own for key, value in sorted(records.items()) if (own := limits.decode(key, value)[2]) is not None]
    shown = [own for own in found if patient in (None, own.patient_id)]
    for own in shown:
        notes = "  ".join(text for text in (own.set_by, own.reason) if text)
        name = signal_by_code()[own.code].name if own.code in signal_by_code() else own.code
        typer.echo(f"{own.patient_id}  {name}  {_words(own.low, own.high)}  {notes}".rstrip())
    if not shown:
        typer.echo("no own limits", err=True)


@app.command("clear")
def clear_limits(
    patient: Patient,
    signal: Annotated[str | None, typer.Argument(help="Only this signal.")] = None,
    data: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Take a patient's own limits back: those of the pack are in force again."""
    from alerting import limits
    from alerting.compacted import TopicError, newest, put
    from lakehouse.topics import ALERT_LIMIT
    from lakehouse.vocabulary import signal_by_name
    from wardhouse.broker import bootstrap_servers
    from wardhouse.errors import Failure, failures

    settings = Settings()
    with failures(TopicError, limits.LimitError):
        if signal is not None and signal not in signal_by_name():
            raise Failure(f"{signal}: no such signal; known: {', '.join(signal_by_name())}")
        servers, topic = bootstrap_servers(settings, data_dir(data)), settings.topic(ALERT_LIMIT)
        code = signal_by_name()[signal].code if signal else None
        named = {key: limits.decode(key, value)[:2] for key, value in newest(servers, topic).items()}
        gone = [key for key, (whose, of) in named.items() if whose == patient and code in (None, of)]
        if not gone:
            raise Failure(f"{patient} has no own limits{f' of {signal}' if signal else ''}")
        put(servers, topic, dict.fromkeys(gone))
    typer.echo(f"{patient}: the limits of the rule pack are in force again")


@app.command()
def propose(
    patient: Patient,
    hours: Annotated[float, typer.Option(help="Window of gold that counts, up to the patient's newest minute.")] = 24,
    age: Annotated[int | None, typer.Option(help="Age in years.", min=0)] = None,
    condition: Annotated[
        list[str] | None, typer.Option(help="A known condition, such as hypercapnia; repeat it.")
    ] = None,
    data: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Propose limits from a patient's own baseline, within hard safety limits. Nothing is applied."""
    from datetime import timedelta

    from alerting import adaptive
    from lakehouse.reader import TableMissingError, query
    from lakehouse.vocabulary import signal_by_code
    from wardhouse.errors import Failure, failures

    with failures(adaptive.ProfileError, TableMissingError):
        known = adaptive.profiles()
        if unknown := sorted(set(condition or ()) - set(adaptive.conditions(known))):
            raise Failure(f"--condition {unknown[0]}: known are {', '.join(adaptive.conditions(known))}")
        folder = data_dir(data)
        newest = query(
            folder,
            "SELECT max(minute) AS at FROM gold.vital_sign_minute WHERE patient_id = $patient",
            {"patient": patient},
        ).to_pylist()[0]["at"]
        if newest is None:
            raise Failure(f"{patient} has no values in gold.vital_sign_minute")
        minutes = query(
            folder,
            "SELECT code, list(mean) AS means FROM gold.vital_sign_minute"
            " WHERE patient_id = $patient AND minute > $since GROUP BY code ORDER BY code",
            {"patient": patient, "since": newest - timedelta(hours=hours)},
        ).to_pylist()
        names = {code: signal.name for code, signal in signal_by_code().items()}
        found = [adaptive.baseline(names[row["code"]], row["means"]) for row in minutes if row["code"] in names]
        baselines = [one for one in found if one is not None]
        proposals = adaptive.propose(baselines, adaptive.bounds_of(known, age=age, condition=condition or ()))
    for row in minutes:
        name = names.get(row["code"], row["code"])
        if len(row["means"]) < adaptive.LEAST_MINUTES:
            typer.echo(
                f"{name}: {len(row['means'])} minutes, too few for a baseline ({adaptive.LEAST_MINUTES})", err=True
            )
    for one in proposals:
        its = one.baseline
        bounded = (
            "" if one.wanted == one.limit else f", {one.wanted:g} without the bounds of profile {one.profile.name}"
        )
        typer.echo(
            f"{its.signal}: {one.side} {one.limit:g}{bounded}; usual {its.median:.4g}, spread {its.spread:.2g},"
            f" {its.minutes} minutes"
        )
        typer.echo(
            f"  ward limits set {patient} {its.signal} --{one.side} {one.limit:g} --reason 'own baseline' --by WHO"
        )
    typer.echo("nothing is applied: a clinician decides", err=True)


def _words(low: float | None, high: float | None) -> str:
    sides = (f"below {low:g}" if low is not None else "", f"above {high:g}" if high is not None else "")
    return "alert " + " or ".join(side for side in sides if side)
