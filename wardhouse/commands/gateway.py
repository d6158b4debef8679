"""``ward gateway``: vital signs in and out over HTTP."""

from typing import Annotated

import typer

from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir


def gateway(
    data: DataDirOption = DEFAULT_DATA_DIR,
    host: Annotated[str, typer.Option(help="Loopback address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 8000,
) -> None:
    """Take device messages by REST and answer with latest vitals and history; documentation at /docs."""
    from datetime import UTC, datetime

    from gateway import app, server
    from lakehouse.topics import ALERT_EVALUATIONS, VITALS
    from wardhouse.broker import bootstrap_servers
    from wardhouse.component import component
    from wardhouse.errors import failures

    settings = Settings()
    where = data_dir(data)
    with failures(server.ListenError):
        servers = bootstrap_servers(settings, where)
        listener = server.listen(host, port)
        address = server.address(listener)
        with component(where, "gateway", address) as running:
            application = app.create_app(
                where,
                bootstrap_servers=servers,
                clock=lambda: datetime.now(UTC),
                vitals_topic=settings.topic(VITALS),
                evaluations_topic=settings.topic(ALERT_EVALUATIONS),
            )
            typer.echo(f"gateway: {address} (documentation at {address}/docs)")
            server.run(application, listener, running.ready)
