"""``ward quarantine``: what is in quarantine, mended with its provenance, or sent again as it was."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from lakehouse.correction import Correction, Row
    from lakehouse.datadir import DataDir
    from lakehouse.quarantine import DeviceDay, Filters
    from wardhouse.quarantine import Request, Sent

app = typer.Typer(help="Quarantine: what is in it and why; mend it, or send it again.", no_args_is_help=True)

_CONSTRAINT = "Only values that break this constraint."
_SHOWN = 10
_MOST = 10_000
"""Values that are sent at once: they are held in memory, and more than that is worth a look in between."""

Constraint = Annotated[str | None, typer.Option("--constraint", help=_CONSTRAINT)]
Device = Annotated[str | None, typer.Option(help="Only values of this device_id.")]
Source = Annotated[str | None, typer.Option(help="Only values of this source.")]
Code = Annotated[str | None, typer.Option(help="Only values with this code.")]
Since = Annotated[str | None, typer.Option(help="Received from this instant on, RFC 3339.")]
Until = Annotated[str | None, typer.Option(help="Received before this instant, RFC 3339.")]
Ids = Annotated[
    list[str] | None, typer.Argument(metavar="ID..", help="observation_ids, or enough of their beginnings.")
]
Most = Annotated[int, typer.Option("--limit", help="At most so many values, those received first.", min=1)]
By = Annotated[str | None, typer.Option(help="Who decides it; your login name unless given.")]
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]


@app.command("list")
def list_quarantine(
    constraint: Annotated[str | None, typer.Option("--reason", "--constraint", help=_CONSTRAINT)] = None,
    device: Device = None,
    source: Source = None,
    code: Code = None,
    since: Since = None,
    until: Until = None,
    by: Annotated[str, typer.Option(help="Count by these, by comma.")] = "reason,source,device,code",
    limit: Annotated[int, typer.Option(help="At most so many lines.", min=1)] = 20,
    as_json: Json = False,
    path: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Count what is in quarantine by reason and more, what of it is open, and say how the error budget stands.

    Open is an observation that no later version has settled: it waits for a fix, a replay or its source.
    """
    import orjson

    from lakehouse.quarantine import DEFAULT_LIMIT, GROUPS, counts
    from lakehouse.reader import TableMissingError
    from wardhouse.errors import failures

    groups = [name.strip() for name in by.split(",") if name.strip()]
    if unknown := sorted(set(groups) - set(GROUPS)):
        raise typer.BadParameter(f"--by: {', '.join(unknown)}; known: {', '.join(GROUPS)}")
    filters, data = _filters(constraint, device, source, code, since, until), data_dir(path)
    with failures(TableMissingError):
        (total,) = counts(data, filters, ())
        found, days = counts(data, filters, groups), _budget(data, 7)
    if as_json:
        typer.echo(orjson.dumps({"total": total, "groups": found, "budget": [_as_json(day) for day in days]}))
        return
    for group in found[:limit]:
        typer.echo(
            f"{group['rows']:>11,}  {group['open']:>11,} open  " + "  ".join(str(group[name]) for name in groups)
        )
    if len(found) > limit:
        typer.echo(f"  and {len(found) - limit:,} lines more: --limit, --by")
    of = f"{total['rows']:,} values of {total['observations']:,} observations in quarantine"
    typer.echo(f"{of}, {total['open']:,} of them open")
    typer.echo(_standing(days, DEFAULT_LIMIT, 7))


@app.command()
def budget(
    limit: Annotated[
        str | None, typer.Option(help="Share of a device's values of one day that may be at fault.")
    ] = None,
    days: Annotated[int, typer.Option(help="Days up to and with today, UTC.", min=1)] = 7,
    as_json: Json = False,
    path: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Hold what each device sent on each day against the error budget; exit code 1 where one exceeds it."""
    import orjson

    from lakehouse.quarantine import DEFAULT_LIMIT
    from lakehouse.reader import TableMissingError
    from wardhouse.errors import failures

    share = DEFAULT_LIMIT if limit is None else _share(limit)
    with failures(TableMissingError):
        found = _budget(data_dir(path), days)
    over = [day for day in found if day.exceeds(share)]
    if as_json:
        shown = [{**_as_json(day), "exceeds": day.exceeds(share)} for day in found]
        typer.echo(orjson.dumps({"limit": share, "days": days, "device_days": shown}))
    else:
        for day in over:
            typer.echo(_day_line(day))
        typer.echo(_standing(found, share, days))
    if over:
        raise typer.Exit(1)


@app.command()
def show(
    observation: Annotated[str, typer.Argument(metavar="ID", help="An observation_id, or enough of its beginning.")],
    as_json: Json = False,
    path: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Show one quarantined observation: every version, what each breaks, the record it came from, and its fixes."""
    from dataclasses import asdict

    import orjson

    from lakehouse.quarantine import NotInQuarantineError, named, story
    from lakehouse.reader import TableMissingError
    from wardhouse.errors import failures

    data = data_dir(path)
    with failures(TableMissingError, NotInQuarantineError):
        told = story(data, named(data, observation))
    if as_json:
        typer.echo(orjson.dumps(asdict(told), default=_bytes))
        return
    newest = told.versions[0]
    typer.echo(f"{newest['observation_id'].hex()}  {'open' if told.is_open else 'settled'}")
    typer.echo(
        f"{newest['patient_id']}, {newest['device_id']} of {newest['source']}, {newest['observed_at']:{_INSTANT}}"
    )
    for version in told.versions:
        for line in _version_lines(version):
            typer.echo(line)
    for fix in told.fixes:
        typer.echo(f"{fix['action']} by {fix['actor']} at {fix['recorded_at']:{_INSTANT}}: {fix['reason']}")
        typer.echo(f"    {fix['before']} -> {fix['after']}")


@app.command()
def fix(
    reason: Annotated[str, typer.Option(help="Why; it is kept with the correction.")],
    by: Annotated[str, typer.Option(help="Who decides it.")],
    ids: Ids = None,
    constraint: Constraint = None,
    device: Device = None,
    source: Source = None,
    code: Annotated[str | None, typer.Option("--of-code", help="Only values with this code.")] = None,
    since: Since = None,
    until: Until = None,
    to_code: Annotated[
        str | None, typer.Option("--code", help="The code that it should have: LOINC, or a name.")
    ] = None,
    unit: Annotated[str | None, typer.Option(help="The unit that its value is in.")] = None,
    value: Annotated[float | None, typer.Option(help="The value that it should have.")] = None,
    scale: Annotated[float | None, typer.Option(help="What its value is to be multiplied by.")] = None,
    value_code: Annotated[str | None, typer.Option(help="The coded value that it should have.")] = None,
    entered_in_error: Annotated[bool, typer.Option("--entered-in-error", help="It was no value: withdraw it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Send it. Without this, only tell what would be sent.")] = False,
    limit: Most = _MOST,
    path: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Mend open values and send them through bronze to silver as corrections; what was mended is left out."""
    from lakehouse.correction import Change, ChangeError
    from wardhouse.quarantine import Request

    filters = _filters(constraint, device, source, code, since, until)
    if not (ids or filters.given):
        raise typer.BadParameter("say which values: ids, --constraint, --device, --source, --of-code, --since, --until")
    if not (reason.strip() and by.strip()):
        raise typer.BadParameter("--reason: say why; --by: say who")
    try:
        change = Change(_code(to_code), _unit(unit), value, scale, value_code, entered_in_error)
    except ChangeError as error:
        raise typer.BadParameter(str(error)) from None
    if not change.given:
        raise typer.BadParameter(
            "say what changes: --code, --unit, --value, --scale, --value-code or --entered-in-error;"
            " `ward quarantine replay` sends values as they are"
        )
    data = data_dir(path)
    request = Request(_with_ids(filters, ids, data), change, by.strip(), reason.strip(), limit)
    sent = _carry_out(request, data, dry_run=not yes)
    if not yes and sent.plan.corrections:
        typer.echo("nothing was sent: give --yes to send it")
    if sent.plan.refused and not sent.plan.corrections:
        raise typer.Exit(1)


@app.command()
def replay(
    ids: Ids = None,
    constraint: Constraint = None,
    device: Device = None,
    source: Source = None,
    code: Code = None,
    since: Since = None,
    until: Until = None,
    reason: Annotated[str, typer.Option(help="Why.")] = "judged again by the vocabulary and constraints of today",
    by: By = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be sent.")] = False,
    limit: Most = _MOST,
    path: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Send open values again as they were, where today's vocabulary and constraints take them."""
    from lakehouse.correction import Change
    from wardhouse.commands.alert_commands import login
    from wardhouse.quarantine import Request

    data, filters = data_dir(path), _filters(constraint, device, source, code, since, until)
    request = Request(_with_ids(filters, ids, data), Change(), login(by), reason, limit)
    _carry_out(request, data, dry_run=dry_run)


# Shared

_INSTANT = "%Y-%m-%dT%H:%M:%SZ"


def _filters(
    constraint: str | None,
    device: str | None,
    source: str | None,
    code: str | None,
    since: str | None,
    until: str | None,
) -> "Filters":
    from lakehouse.quarantine import Filters
    from lakehouse.tables import OBSERVATION
    from wardhouse.durations import instant

    known = [declared.name for declared in OBSERVATION.constraints]
    if constraint is not None and constraint not in known:
        raise typer.BadParameter(f"{constraint} is not a constraint; known: {', '.join(known)}")
    first, last = instant(since) if since else None, instant(until) if until else None
    return Filters(constraint, device, source, code, first, last)


def _with_ids(filters: "Filters", ids: "Sequence[str] | None", data: "DataDir") -> "Filters":
    from dataclasses import replace

    from lakehouse.quarantine import NotInQuarantineError, named
    from lakehouse.reader import TableMissingError
    from wardhouse.errors import failures

    with failures(TableMissingError, NotInQuarantineError):
        return replace(filters, ids=tuple(named(data, one) for one in ids or ()))


def _code(text: str | None) -> str | None:
    from lakehouse.vocabulary import signal_by_code, signal_by_name

    if text is None or text in signal_by_code():
        return text
    if (signal := signal_by_name().get(text)) is None:
        raise typer.BadParameter(f"--code: no signal {text}; known: {', '.join(signal_by_name())}, or their codes")
    return signal.code


def _unit(text: str | None) -> str | None:
    from lakehouse.vocabulary import converted, unit_by_text

    if text is not None and converted(None, text)[1] is None:
        raise typer.BadParameter(f"--unit: {text} is not in the vocabulary; known: {', '.join(unit_by_text())}")
    return text


def _share(text: str) -> float:
    """5% or 0.05 as 0.05. Raises BadParameter."""
    try:
        share = float(text.strip().removesuffix("%")) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise typer.BadParameter(f"--limit: {text}: give a share such as 5% or 0.05")
    return share


def _carry_out(request: "Request", data: "DataDir", *, dry_run: bool) -> "Sent":
    """Plan or send, and tell what became of it."""
    from lakehouse.reader import TableMissingError
    from wardhouse.errors import failures
    from wardhouse.landing import StoppedError
    from wardhouse.quarantine import Sent, plan, send
    from wardhouse.reading import telling
    from wardhouse.signals import stop_on_signals
    from wardhouse.status import utc_now

    waiting: dict[str, int] = {}

    def so_far() -> str:
        remaining = ", ".join(f"{flow} {count:,}" for flow, count in dict(waiting).items())
        return f"still to land: {remaining}" if remaining else "looking at what is open"

    with failures(TableMissingError):
        if dry_run:
            sent = Sent(plan(data, request, utc_now()))
        else:
            with telling(so_far), stop_on_signals() as stop:
                try:
                    sent = send(request, Settings(), data, stop, waiting)
                except StoppedError:
                    typer.echo("ward: stopped before all had landed; run the same command again", err=True)
                    raise typer.Exit(1) from None
        _tell(sent, request, data)
    return sent


def _tell(sent: "Sent", request: "Request", data: "DataDir") -> None:
    from collections import Counter

    from lakehouse.quarantine import counts
    from wardhouse.errors import Failure

    planned = sent.plan
    for one in planned.corrections[:_SHOWN]:
        typer.echo(_change_line(one))
    if (more := len(planned.corrections) - _SHOWN) > 0:
        typer.echo(f"  and {more:,} more")
    for why, count in Counter(why for _, why in planned.refused).most_common():
        example = next(row for row, reason in planned.refused if reason == why)
        typer.echo(f"cannot be sent, {count:,} values such as {_name(example)}: {why}", err=True)
    if len(planned.corrections) + len(planned.refused) == request.limit:
        typer.echo(f"there may be more than --limit {request.limit:,}: run it again", err=True)
    if not (planned.corrections or planned.refused):
        (matching,) = counts(data, request.filters, ())
        if request.filters.given and not matching["rows"]:
            raise Failure("nothing in quarantine matches: `ward quarantine list` shows what there is")
        typer.echo(f"nothing is open: {matching['observations']:,} observations match, all settled; nothing was sent")
    elif sent.topic is not None:
        typer.echo(f"{len(planned.corrections):,} sent as {sent.topic}: {_landed(sent)}")
    else:
        typer.echo(f"{len(planned.corrections):,} can be sent, {len(planned.refused):,} cannot")


def _landed(sent: "Sent") -> str:
    parts = (
        (sent.valid, "valid in silver.observation"),
        (sent.withdrawn, "withdrawn"),
        (sent.quarantined, "in quarantine again: is the running stream older than the vocabulary?"),
    )
    return ", ".join(f"{count:,} {what}" for count, what in parts if count)


def _name(row: "Row") -> str:
    return str(row["observation_id"].hex()[:12])


def _change_line(one: "Correction") -> str:
    row, withdrawn = one.row, one.message["status"] == "entered-in-error"
    becomes = "withdrawn" if withdrawn else f"{_reading(one.after)}, valid"
    anew = " as another observation" if one.another else ""
    what = f"{_reading(one.before)} ({', '.join(row['failed_constraints'])})"
    return f"{_name(row)}  {row['device_id']}  {row['observed_at']:{_INSTANT}}  {what} -> {becomes}{anew}"


def _reading(observation: "Mapping[str, Any]") -> str:
    value = observation.get("value")
    shown = f"{value:g}" if value is not None else observation.get("value_code") or "no value"
    return " ".join(str(part) for part in (observation.get("code"), shown, observation.get("unit")) if part)


def _version_lines(version: "Mapping[str, Any]") -> "list[str]":
    from lakehouse.tables import OBSERVATION

    words = {constraint.name: constraint.comment for constraint in OBSERVATION.constraints}
    as_sent = {"code": version["code"], "value": version["source_value"], "unit": version["source_unit"]}
    reading = _reading({**as_sent, "value_code": version["value_code"]})
    verdict = "in quarantine" if version["failed_constraints"] else "valid"
    lines = [f"{version['recorded_at']:{_INSTANT}}  {reading}  {version['status']}, {verdict}, {version['message_id']}"]
    lines += [f"    {name}: {words.get(name, 'no longer declared')}" for name in version["failed_constraints"]]
    if "raw" in version:
        raw = "bronze no longer has it" if version["raw"] is None else version["raw"].decode(errors="replace")
        lines.append(f"    {version['topic']}, partition {version['partition']}, offset {version['offset']}: {raw}")
    return lines


def _bytes(value: Any) -> str:
    """Ids as hexadecimal digits, records as text."""
    return str(value.hex() if len(value) == 16 else value.decode(errors="replace"))


def _budget(data: "DataDir", days: int) -> "list[DeviceDay]":
    from datetime import timedelta

    from lakehouse.quarantine import error_budget
    from wardhouse.status import utc_now

    now: datetime = utc_now()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return error_budget(data, midnight - timedelta(days=days - 1), midnight + timedelta(days=1))


def _as_json(day: "DeviceDay") -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(day), "share": day.share}


def _day_line(day: "DeviceDay") -> str:
    reasons = ", ".join(f"{name} {count / day.observations:.2%}" for name, count in day.reasons.items())
    of = f"{day.faults:,} of {day.observations:,} values"
    return f"{day.day}  {day.device_id} of {day.source}  {day.share:.2%} at fault, {of}: {reasons}"


def _standing(days: "Sequence[DeviceDay]", limit: float, of_days: int) -> str:
    observations, faults = sum(day.observations for day in days), sum(day.faults for day in days)
    share = faults / observations if observations else 0.0
    over = sum(day.exceeds(limit) for day in days)
    which = f"{over:,} of {len(days):,} days of devices exceed" if over else "no device exceeds"
    spent = f"{faults:,} of {observations:,} values at fault ({share:.2%})"
    return f"error budget of {of_days} days: {spent}; {which} {limit * 100:g} %"
