"""``ward report``: trends of care units as files, for people who look at a week and not at a screen."""

import json
import os
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from lakehouse.datadir import DataDir
from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir

if TYPE_CHECKING:
    from alerting.channels import Destinations
    from dashboard.period import Period
    from dashboard.trend_report import Report

CHANNEL = "reports"
"""The channel of the channels file by which reports are sent; its ``units`` say who gets which."""

app = typer.Typer(help="Reports: trends of care units as PDF and CSV.", no_args_is_help=True)

WeekOption = Annotated[
    str | None, typer.Option("--week", help="ISO week, such as 2026-W47; by default the last that is over.")
]
FromOption = Annotated[
    str | None, typer.Option("--from", help="First day, such as 2026-11-16, instead of --week.", metavar="DAY")
]
ToOption = Annotated[str | None, typer.Option("--to", help="Last day, which belongs to it.", metavar="DAY")]
ZoneOption = Annotated[str, typer.Option(help="Time zone of days and hours, such as Europe/London.")]


@app.command("trend")
def trend(
    unit: Annotated[str | None, typer.Option(help="The care unit; `ward report units` lists them.")] = None,
    every: Annotated[bool, typer.Option("--all", help="A report for each unit.")] = False,
    week: WeekOption = None,
    first: FromOption = None,
    last: ToOption = None,
    zone: ZoneOption = "UTC",
    out: Annotated[
        Path | None, typer.Option(help="Folder for the files; by default `reports` in the data dir.")
    ] = None,
    rules: Annotated[str, typer.Option(help="Rule pack, by name or path, whose limits are held against.")] = "adult",
    mail: Annotated[bool, typer.Option("--mail", help=f"Send each report by the channel {CHANNEL}.")] = False,
    mail_if_set: Annotated[
        bool, typer.Option("--mail-if-set", help="The same where the channels file has that channel, else say so.")
    ] = False,
    channels: Annotated[
        Path | None, typer.Option(help="Channels file, as of `ward notify`; WARD_CHANNELS where it is left out.")
    ] = None,
    path: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Write the weekly report of a unit: vital signs, coverage, NEWS2, alerts, against the week before.

    A PDF to read and a CSV with every figure in it. The same tables give the same CSV, byte for byte.
    """
    from alerting import pack
    from alerting.channels import ChannelsError
    from dashboard.period import PeriodError
    from lakehouse.reader import TableMissingError
    from wardhouse.errors import Failure, failures

    if every is (unit is not None):
        raise typer.BadParameter("give --unit UNIT or --all")
    now = datetime.now(UTC)
    with failures(PeriodError, TableMissingError, ChannelsError, pack.PackError):
        period = _period(week, first, last, zone, now)
        # Before the work, so that a mistake in it does not come after minutes.
        destinations = _destinations(channels, mail, mail_if_set)
        data = data_dir(path)
        reports = _reports(data, period, rules, unit)
        folder = (out or data.reports).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        problems = []
        for report in reports:
            files = _write(report, folder, now)
            typer.echo(_said(report, files))
            if destinations is not None:
                problems += _send(report, files, destinations, now)
        if problems:
            raise Failure("; ".join(problems))


@app.command("units")
def units_(
    week: WeekOption = None,
    first: FromOption = None,
    last: ToOption = None,
    zone: ZoneOption = "UTC",
    as_json: Annotated[bool, typer.Option("--json", help="As one line of JSON.")] = False,
    path: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """The care units that are known: of this period, of the newest day, of any alert or stay."""
    from dashboard import trends
    from dashboard.period import PeriodError
    from lakehouse.reader import TableMissingError
    from wardhouse.errors import failures

    with failures(PeriodError, TableMissingError):
        found = trends.units(data_dir(path), _period(week, first, last, zone, datetime.now(UTC)))
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    for unit in found:
        typer.echo(unit)
    if not found:
        typer.echo("no unit is known: no message of the newest day, no alert and no stay names one", err=True)


def _period(week: str | None, first: str | None, last: str | None, zone: str, now: datetime) -> "Period":
    """What was asked for. Raises PeriodError and BadParameter."""
    from dashboard import period

    try:
        place = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise typer.BadParameter(f"{zone}: give a time zone such as Europe/London") from error
    if (first is None) is not (last is None) or (week is not None and first is not None):
        raise typer.BadParameter("give --week, or --from and --to")
    if first is not None and last is not None:
        return period.Period(_day(first), _day(last), place)
    return period.last_week(now, place) if week is None else period.week(week, place)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text}: give a day such as 2026-11-16") from error


def _destinations(channels: Path | None, mail: bool, mail_if_set: bool) -> "Destinations | None":
    """Where reports are sent, None for nowhere. Raises Failure where they must be sent and cannot."""
    from alerting.channels import load
    from wardhouse.errors import Failure

    if not (mail or mail_if_set):
        return None
    file = channels or Settings().channels
    found = {} if file is None else load(file, os.environ)
    if (CHANNEL, None) in found:
        return found
    why = "no channels file: give --channels FILE or set WARD_CHANNELS" if file is None else f"no channel {CHANNEL}"
    if mail:
        raise Failure(f"{why}; docs/reports.md shows one")
    typer.echo(f"ward: not sent: {why}", err=True)
    return None


def _reports(data: DataDir, period: "Period", rules: str, unit: str | None) -> "list[Report]":
    """The report of a unit, or of each. Raises Failure for a unit that nobody knows."""
    from alerting import pack
    from dashboard.trend_report import Report
    from dashboard.trends import trends
    from wardhouse.errors import Failure

    chosen = pack.load(rules)
    found = trends(data, {"reported": period, "before": period.before}, chosen.limits, only=unit)
    if unit is not None and unit not in found.units:
        known = ", ".join(found.units) or "none yet"
        raise Failure(f"no unit {unit} is known; known: {known}")
    if not found.units:
        raise Failure("no unit is known: no message of the newest day, no alert and no stay names one")
    return [Report(name, period, found, chosen.label) for name in (found.units if unit is None else (unit,))]


def _write(report: "Report", folder: Path, now: datetime) -> tuple[Path, Path]:
    from dashboard import trend_report

    pdf, csv = folder / f"{report.file_name}.pdf", folder / f"{report.file_name}.csv"
    for file, content in ((pdf, trend_report.pdf(report, now)), (csv, trend_report.csv(report))):
        # A reader of the folder never meets half a file.
        draft = file.with_name(f".{file.name}.{os.getpid()}")
        draft.write_bytes(content)
        draft.replace(file)
    return pdf, csv


def _said(report: "Report", files: tuple[Path, Path]) -> str:
    what = "nothing is stored of it, and that is what it says" if report.is_empty else f"{len(report.frame):,} figures"
    return f"{report.unit}, {report.period.name}: {what}: {files[0]}, {files[1].name}"


def _send(report: "Report", files: tuple[Path, Path], destinations: "Destinations", now: datetime) -> list[str]:
    """Send one report to those of its unit; what went wrong, in words without secrets."""
    from alerting.apprise_sender import Text, sender
    from alerting.channels import find
    from dashboard.trend_report import letter

    destination = find(destinations, CHANNEL, report.unit)
    if destination is None:
        return [f"no channel {CHANNEL}"]
    title = f"{report.unit}: trends {report.period.name}"
    text = Text(title, letter(report, now), "low", {"report": report.file_name}, files)
    failed = sender(destination)(text, tuple(range(len(destination.urls))))
    sent = len(destination.urls) - len(failed)
    typer.echo(f"{report.unit}: {sent} of {len(destination.urls)} sent by {destination.name}")
    return [f"{report.unit}, {destination.name}, url {number + 1}: {error}" for number, error in failed.items()]
