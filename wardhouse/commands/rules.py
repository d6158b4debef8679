"""``ward rules``: rule packs."""

import logging
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir

if TYPE_CHECKING:
    from datetime import datetime

    from alerting.compacted import Following
    from alerting.in_force import InForce
    from alerting.pack import Pack
    from lakehouse.datadir import DataDir

app = typer.Typer(help="Rule packs: what raises an alert, and who is told.", no_args_is_help=True)

_TAKES_S = 20.0
"""How long a pack may take: the alert flow starts anew for it, within seconds, and the router reports every five."""
_LOOK_S = 0.5
_SURELY_TAKEN_S = 1.0
"""A report of the router that is so much younger than the record was made with it: it looks many times a second."""

_LEAST_S = 2.0
"""The alert flow is looked at for so long even where the router took all the time."""

By = Annotated[str | None, typer.Option(help="Who decided it; your login name unless given.")]
Reason = Annotated[str | None, typer.Option(help="Why, for whoever asks later.")]
Wait = Annotated[float, typer.Option("--wait", help="Seconds to wait for router and alert flow to take it.", min=0)]


@app.callback()
def _group() -> None:
    # The client logs every failed attempt to connect; the command says it in one line.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)


@app.command()
def check(
    packs: Annotated[
        list[str] | None, typer.Argument(help="Names or .yaml files; without any, all that come with ward.")
    ] = None,
) -> None:
    """Check rule packs; each error names file, rule and field."""
    from alerting.pack import PackError, load, names

    broken = False
    for name in packs or names():
        try:
            pack = load(name)
        except PackError as error:
            broken = True
            typer.echo(f"ward: {error}", err=True)
        else:
            units = f", own limits in {', '.join(pack.units)}" if pack.units else ""
            typer.echo(f"{pack.label}: {len(pack.rules)} rules{units}")
    if broken:
        raise typer.Exit(1)


@app.command()
def diff(
    old: Annotated[str, typer.Argument(help="A pack's name or .yaml file.")],
    new: Annotated[str, typer.Argument(help="Another one.")],
) -> None:
    """Show what changes from one pack to another; exit code 1 where something does."""
    from alerting.pack import PackError, load
    from alerting.pack_diff import differences
    from wardhouse.errors import failures

    with failures(PackError):
        lines = differences(load(old), load(new))
    for line in lines:
        typer.echo(line)
    if lines:
        raise typer.Exit(1)
    typer.echo("the same rules")


@app.command()
def show(
    pack: Annotated[
        str | None, typer.Argument(help="A pack's name or .yaml file; without it the one in force.")
    ] = None,
    data: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Show the rules of a pack in words: what each watches, for how long, who is told, and why."""
    from alerting.compacted import TopicError
    from alerting.pack import PackError, load
    from alerting.words import described
    from wardhouse.errors import failures
    from wardhouse.in_force import in_force

    with failures(PackError, TopicError):
        if pack is not None:
            shown = load(pack)
            typer.echo(f"{shown.label}: {shown.title}, {len(shown.rules)} rules")
        else:
            found = in_force(Settings(), data_dir(data))
            shown = found.pack
            typer.echo(f"{shown.label}: {shown.title}, {len(shown.rules)} rules; {_since(found)}")
    for rule in shown.rules:
        typer.echo()
        for line in described(shown, rule):
            typer.echo(line)


def _since(found: "InForce") -> str:
    from alerting.words import instant

    if found.applied is None:
        return f"in force: {found.told_by}"
    who = f" by {found.applied.by}" if found.applied.by else ""
    why = f": {found.applied.reason}" if found.applied.reason else ""
    return f"in force since {instant(found.applied.at)}{who}{why}"


@app.command("apply")
def apply_pack(
    pack: Annotated[str, typer.Argument(help="A pack's name or .yaml file.")],
    by: By = None,
    reason: Reason = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    wait: Wait = _TAKES_S,
    data: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Put a pack in force without a restart: check it, show what changes, and wait until it is taken."""
    from datetime import UTC, datetime

    from alerting import rules_in_force
    from alerting.compacted import TopicError, put
    from alerting.pack import PackError, parse, read
    from alerting.pack_diff import differences
    from lakehouse.topics import ALERT_RULES
    from wardhouse.broker import bootstrap_servers
    from wardhouse.commands.alert_commands import login
    from wardhouse.errors import Failure, failures

    settings, folder = Settings(), data_dir(data)
    with failures(PackError, TopicError):
        text, origin = read(pack)
        new, old = parse(text, origin), _old(settings, folder)
        if new == old:
            typer.echo(f"{new.label} is in force already")
            return
        for line in differences(old, new) if old is not None else ():
            typer.echo(line)
        if old is not None and new.label == old.label:
            raise Failure(f"{new.label} is in force with other rules: raise the version, since alerts name it")
        before = old.label if old is not None else "what the router runs"
        if dry_run:
            typer.echo(f"{new.label} could be put in force in place of {before}")
            return
        at, servers = datetime.now(UTC), bootstrap_servers(settings, folder)
        record = rules_in_force.encode(text, at=at, by=login(by), reason=reason)
        put(servers, settings.topic(ALERT_RULES), {rules_in_force.KEY: record})
        typer.echo(f"{new.label} is applied in place of {before}")
        _wait(settings, folder, at, new.label, wait)


def _old(settings: Settings, folder: "DataDir") -> "Pack | None":
    """The pack in force; None, and why, where only its name is known."""
    from alerting.in_force import UnknownPackError
    from wardhouse.in_force import in_force

    try:
        return in_force(settings, folder).pack
    except UnknownPackError as unknown:
        typer.echo(f"not compared with what is in force: {unknown}", err=True)
        return None


@app.command()
def reset(
    wait: Wait = _TAKES_S,
    data: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Take back the pack that was applied: router and alert flow go on with the one that they were started with."""
    from datetime import UTC, datetime

    from alerting import rules_in_force
    from alerting.compacted import TopicError, newest, put
    from lakehouse.topics import ALERT_RULES
    from wardhouse.broker import bootstrap_servers
    from wardhouse.errors import failures

    settings, folder = Settings(), data_dir(data)
    with failures(TopicError):
        servers, topic = bootstrap_servers(settings, folder), settings.topic(ALERT_RULES)
        if rules_in_force.KEY not in newest(servers, topic):
            typer.echo("no pack is applied: router and alert flow run what they were started with")
            return
        at = datetime.now(UTC)
        put(servers, topic, {rules_in_force.KEY: None})
        typer.echo("the pack that was applied is taken back")
        _wait(settings, folder, at, None, wait)


def _wait(settings: Settings, folder: "DataDir", since: "datetime", label: str | None, within_s: float) -> None:
    """Say when router and alert flow have taken a pack (None: any); exit code 1 where one of them has not."""
    import time
    from contextlib import closing

    from alerting.compacted import Following
    from lakehouse.topics import ALERT_EVALUATIONS
    from wardhouse.broker import bootstrap_servers

    deadline = time.monotonic() + within_s
    routed = _router_takes(folder, since, label, deadline)
    typer.echo(f"router: {routed} is in force" if routed else _ROUTER_SILENT, err=not routed)
    wanted = label or routed
    if wanted is None:
        raise typer.Exit(1)
    servers = bootstrap_servers(settings, folder)
    with closing(Following(servers, settings.topic(ALERT_EVALUATIONS), from_end=True)) as evaluations:
        seen = _flow_takes(evaluations, wanted, max(deadline - time.monotonic(), _LEAST_S))
    typer.echo(f"alert flow: {_flow_words(seen, wanted)}", err=seen != wanted)
    if not routed or seen != wanted:
        raise typer.Exit(1)


_ROUTER_SILENT = "router: it has not said so yet; it takes the pack when it runs on this data dir: see `ward status`"


def _router_takes(folder: "DataDir", since: "datetime", label: str | None, deadline: float) -> str | None:
    """The label of the pack that the router on this data dir says is in force since then; None: not in time."""
    import time
    from datetime import datetime

    from lakehouse import progress
    from lakehouse.pipeline import ALERT_ROUTER

    while True:
        said: dict[str, Any] = progress.last(folder.progress(ALERT_ROUTER.name)) or {}
        if "pack" in said:
            age = (datetime.fromisoformat(said["at"]) - since).total_seconds()
            if age >= _SURELY_TAKEN_S and label in (None, said["pack"]):
                return str(said["pack"])
        if time.monotonic() >= deadline:
            return None
        time.sleep(_LOOK_S)


def _flow_takes(evaluations: "Following", wanted: str, within_s: float) -> str | None:
    """The pack of the evaluations that come: the wanted one as soon as one has it, else the last; None: none came."""
    from alerting.evaluation import EvaluationError, decode

    seen = None
    for record in evaluations.coming(within_s):
        try:
            seen = decode(record.value).pack
        except EvaluationError:
            # Whatever else is on the topic says nothing of the pack.
            continue
        if seen == wanted:
            break
    return seen


def _flow_words(seen: str | None, wanted: str) -> str:
    if seen is None:
        return "no message was evaluated meanwhile, so that it cannot be told; it takes the pack when it runs"
    return f"it evaluates with {seen}" if seen == wanted else f"it still evaluates with {seen}: see `ward status`"
