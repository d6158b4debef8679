"""``ward alerts simulate``: a rule pack tried on history, beside another."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, data_dir

if TYPE_CHECKING:
    from datetime import datetime

    from alerting.lab import Outcome
    from alerting.pack import Pack
    from wardhouse.lab import History


class SourceName(StrEnum):
    """What a pack is tried on."""

    TRUTH = "truth"
    GOLD = "gold"
    REPLAY = "replay"


PLAIN = "plain"
_PICTURES = (".svg", ".png")


def simulate(
    rules: Annotated[str, typer.Option(help="The pack to try: a name or a .yaml file.")] = "adult",
    against: Annotated[
        list[str] | None, typer.Option(help="Another beside it; 'plain' tells every crossing of a limit at once.")
    ] = None,
    source: Annotated[
        SourceName, typer.Option(help="Simulated with labels, the lakehouse, or a data set.")
    ] = SourceName.TRUTH,
    since: Annotated[str | None, typer.Option("--from", help="gold, replay: first instant, RFC 3339.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="gold, replay: up to this instant, RFC 3339.")] = None,
    path: Annotated[Path | None, typer.Option(help="truth: a truth file; replay: the data set.")] = None,
    data_set: Annotated[str, typer.Option(help="replay: monitor-csv, mimic-iii or mimic-iv.")] = "mimic-iv",
    patients: Annotated[int, typer.Option(help="truth without --path: patients to simulate.", min=1)] = 30,
    hours: Annotated[float, typer.Option(help="truth without --path: for how long.", min=0.01)] = 6,
    cadence: Annotated[float, typer.Option(help="truth without --path: seconds between messages.", min=0.1)] = 1,
    episodes: Annotated[float, typer.Option(help="truth without --path: episodes an hour and patient.", min=0)] = 0.5,
    transients: Annotated[
        float, typer.Option(help="truth without --path: harmless dips and peaks an hour and patient.", min=0, max=200)
    ] = 6,
    seed: Annotated[int, typer.Option(help="truth without --path: the seed.")] = 1,
    limit: Annotated[
        list[str] | None, typer.Option(help="RULE=LIMIT or RULE=LIMIT/DELAY: --rules with that beside it; repeat it.")
    ] = None,
    acknowledged_after: Annotated[
        float, typer.Option(help="Seconds after which somebody acknowledges what was told.", min=0)
    ] = 60,
    processes: Annotated[
        int | None, typer.Option(help="How many at once; one for each core by default.", min=1)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Write a picture, .svg or .png.")] = None,
    data: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Try a rule pack on history, with others side by side: alerts, notifications, what is found and what is false."""
    import orjson

    from alerting.lab import fewer, summary, table
    from alerting.pack import PackError
    from lakehouse.reader import TableMissingError
    from lakehouse.sources.source import SourceError
    from streaming.simulator.regenerate import RegenerateError
    from wardhouse.errors import Failure, failures
    from wardhouse.lab import run

    with failures(PackError, TableMissingError, SourceError, RegenerateError):
        if plot is not None and plot.suffix not in _PICTURES:
            raise Failure(f"--plot {plot}: a picture is one of {', '.join(_PICTURES)}")
        packs = _packs(rules, against or [], limit or [])
        if source is SourceName.TRUTH:
            history = _truth(path, patients, hours * 3600, cadence, seed, episodes, transients)
        else:
            history = _stored(source, path, data_set, since, until, data)
        outcomes: list[Outcome] = []
        for pack in packs:
            typer.echo(f"trying {pack.label} ...", err=True)
            outcomes.append(run(history, pack, acknowledged_after_s=acknowledged_after, processes=processes))
    summaries = [summary(outcome) for outcome in outcomes]
    compared = {one.pack: fewer(outcomes[0], one) for one in outcomes[1:]}
    if plot is not None:
        _plot(outcomes, plot)
    if as_json:
        typer.echo(orjson.dumps({"packs": summaries, "fewer_notifications": compared}, option=orjson.OPT_INDENT_2))
        return
    _print([("", *(one.pack for one in summaries)), *table(summaries)])
    for name, share in compared.items():
        if share is not None:
            typer.echo(
                f"{outcomes[0].pack} tells {abs(share):.0%} {'less' if share >= 0 else 'more'} often than {name}"
            )


def _packs(rules: str, against: list[str], changes: list[str]) -> "list[Pack]":
    from alerting.lab import plain, with_limits
    from alerting.pack import load
    from wardhouse.errors import Failure

    pack = load(rules)
    found = [pack]
    for text in changes:
        rule_id, _, values = text.partition("=")
        changed, _, delay = values.partition("/")
        rule = pack.rule(rule_id)
        if rule is None or rule.kind != "limit":
            raise Failure(f"--limit {text}: {pack.label} has no limit rule {rule_id}")
        try:
            other = with_limits(
                pack, rule_id, limit=float(changed) if changed else None, delay_s=float(delay) if delay else None
            )
        except ValueError as error:
            raise Failure(f"--limit {text}: {error}") from error
        found.append(other.model_copy(update={"name": f"{pack.name}+{text}"}))
    return [*found, *(plain(pack) if name == PLAIN else load(name) for name in against)]


def _truth(
    path: Path | None, patients: int, duration_s: float, cadence: float, seed: int, episodes: float, transients: float
) -> "History":
    from datetime import UTC, datetime

    from streaming.simulator.regenerate import Run, of_truth
    from streaming.simulator.simulation import Options
    from wardhouse.lab import Truth

    if path is not None:
        return Truth(of_truth(path))
    options = Options(
        # A fixed day: the same command gives the same figures.
        start=datetime(2026, 1, 1, tzinfo=UTC),
        patients=patients,
        cadence=cadence,
        seed=seed,
        episodes_per_hour=episodes,
        transients_per_hour=transients,
    )
    return Truth(Run(options, duration=duration_s))


def _stored(
    source: SourceName, path: Path | None, data_set: str, since: str | None, until: str | None, data: Path
) -> "History":
    from datetime import UTC, datetime, timedelta

    from alerting.minutes import Gold
    from lakehouse.sources.registry import source_named
    from lakehouse.sources.source import Selection
    from wardhouse.errors import Failure
    from wardhouse.lab import Replay

    first, last = _instant("--from", since), _instant("--to", until)
    if source is SourceName.GOLD:
        now = datetime.now(UTC)
        return Gold(data_dir(data), first or now - timedelta(days=1), last or now)
    if path is None:
        raise Failure("--source replay needs --path, the folder or file of the data set")
    try:
        source_named(data_set)
    except KeyError as error:
        raise Failure(str(error.args[0])) from error
    return Replay(data_set, path, Selection(since=first, until=last))


def _instant(option: str, text: str | None) -> "datetime | None":
    from datetime import UTC, datetime

    from wardhouse.errors import Failure

    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise Failure(f"{option} {text}: not an instant such as 2026-01-31T12:00:00Z") from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _print(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for first, *others in rows:
        cells = (text.rjust(width) for text, width in zip(others, widths[1:], strict=True))
        typer.echo("  ".join((first.ljust(widths[0]), *cells)).rstrip())


def _plot(outcomes: "list[Outcome]", path: Path) -> None:
    """Alerts by rule and pack, and notifications, as bars."""
    import altair as alt

    rows = [
        {
            "pack": outcome.pack,
            "rule": rule,
            "priority": priority,
            "per bed and day": count / max(outcome.bed_ms / 86_400_000, 1e-9),
        }
        for outcome in outcomes
        for (rule, priority, _), count in outcome.alerts.items()
    ]
    rows += [
        {
            "pack": outcome.pack,
            "rule": "(notifications)",
            "priority": "told",
            "per bed and day": outcome.notifications / max(outcome.bed_ms / 86_400_000, 1e-9),
        }
        for outcome in outcomes
    ]
    chart = (
        alt.Chart(alt.InlineData(values=rows), title="Alerts and notifications per bed and day")
        .mark_bar()
        .encode(
            y=alt.Y("rule:N", sort="-x", title=None),
            x=alt.X("per bed and day:Q"),
            yOffset="pack:N",
            color=alt.Color("pack:N"),
            tooltip=["pack:N", "rule:N", "priority:N", "per bed and day:Q"],
        )
    )
    chart.save(str(path))
