"""``ward anomalies``: what was unusual for a patient, and what only an artefact of a sensor."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, data_dir

if TYPE_CHECKING:
    from lakehouse.models.anomaly import Finding


def anomalies(
    patient: Annotated[str, typer.Argument(help="A patient, as system/value.")],
    path: DataDirOption = DEFAULT_DATA_DIR,
    since: Annotated[str, typer.Option(help="From so long ago on (24h), or from an instant.")] = "24h",
    until: Annotated[
        str | None, typer.Option(help="Up to this instant, as 2026-01-31T12:00:00Z; left out, now.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="An object a line.")] = False,
) -> None:
    """Show stretches in which a signal was far from what is usual for this patient, and artefacts of sensors.

    For whoever looks back: nobody is called by them, and rules of the ward do not know them.
    """
    import orjson

    from lakehouse.reader import TableMissingError
    from lakehouse.stored_anomalies import series
    from wardhouse.durations import back, instant
    from wardhouse.errors import failures

    end = instant(until) if until else datetime.now(UTC)
    with failures(TableMissingError):
        found = series(data_dir(path), patient, back(since, end), end)
    for one in found:
        typer.echo(orjson.dumps(one._asdict()) if json else _line(one))
    if not found and not json:
        typer.echo(f"nothing unusual is stored of {patient} in this span")


def _line(one: "Finding") -> str:
    from lakehouse.vocabulary import signal_by_code

    signal = signal_by_code().get(one.code)
    name = signal.display if signal else one.code
    minutes = (one.end - one.begin).total_seconds() / 60
    return f"{one.begin:%Y-%m-%d %H:%M}Z  {minutes:4.0f} min  {name}: {one.words}"
