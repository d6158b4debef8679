"""``ward link``: one patient's page for somebody, for a time."""

from typing import Annotated

import typer

from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir

_USUAL_DASHBOARD = "http://127.0.0.1:8501"


def link(
    patient: Annotated[str, typer.Option(help="Patient id, system/value.")],
    lasting: Annotated[str, typer.Option("--for", help="For so long: 8h, 2d; or until 2026-01-31T12:00:00Z.")],
    dashboard: Annotated[
        str | None, typer.Option(help="URL of the dashboard; the one that runs on the data dir where it is left out.")
    ] = None,
    data: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Print a link to the page Patient, of one patient, that ends by itself; making and opening it is audited."""
    from datetime import UTC, datetime

    from alerting.compacted import TopicError
    from lakehouse.audit import Event, note
    from lakehouse.link import make
    from lakehouse.topics import AUDIT
    from wardhouse.audit import send_notes
    from wardhouse.broker import bootstrap_servers
    from wardhouse.commands.alert_commands import login
    from wardhouse.component import read_state
    from wardhouse.durations import ahead
    from wardhouse.errors import Failure, failures

    settings, where, now = Settings(), data_dir(data), datetime.now(UTC)
    until = ahead(lasting, now)
    with failures():
        if until <= now:
            raise Failure(f"{lasting} has passed: give a time that is to come")
        token = make(where, patient, until)
        detail = f"until {until:%Y-%m-%dT%H:%M:%SZ}"
        note(where, Event("ward", "local", login(None), "make a link", "done", patient, detail=detail))
        try:
            send_notes(where, bootstrap_servers(settings, where), settings.topic(AUDIT))
        except TopicError:
            typer.echo("no broker answers: the audit record waits on the disk for the dashboard to send it", err=True)
        running = read_state(where, "dashboard")
        address = dashboard or (running.address if running else None) or _USUAL_DASHBOARD
    typer.echo(f"{address.rstrip('/')}/?link={token}")
