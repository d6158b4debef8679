"""``ward dashboard``: the pages people look at."""

from pathlib import Path
from typing import Annotated

import typer

from wardhouse.settings import DASHBOARD_PORT, DEFAULT_DATA_DIR, GATEWAY_PORT, DataDirOption, Settings, data_dir

_USUAL_GATEWAY = f"http://127.0.0.1:{GATEWAY_PORT}"


def dashboard(
    data: DataDirOption = DEFAULT_DATA_DIR,
    port: Annotated[
        int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)
    ] = DASHBOARD_PORT,
    gateway: Annotated[
        str | None, typer.Option(help="URL of the gateway; the one that runs on the data dir where it is left out.")
    ] = None,
    gateway_key: Annotated[
        Path | None,
        typer.Option(
            envvar="WARD_DASHBOARD_KEY_FILE", help="File with a key of the scope read, where keys are wanted."
        ),
    ] = None,
    links_only: Annotated[
        bool, typer.Option("--links-only", help="Show nothing but what `ward link` gives links to.")
    ] = False,
) -> None:
    """Show wards and patients in the browser."""
    from dashboard import server
    from dashboard.desk import Brokers
    from lakehouse.topics import AUDIT
    from wardhouse.audit import sending
    from wardhouse.broker import bootstrap_servers
    from wardhouse.component import component, read_state
    from wardhouse.errors import failures
    from wardhouse.oidc import of_pages, streamlit_secrets

    settings, where = Settings(), data_dir(data)
    with failures(server.PortTakenError):
        running_gateway = read_state(where, "gateway")
        live = gateway or (running_gateway.address if running_gateway else None) or _USUAL_GATEWAY
        brokers = Brokers(bootstrap_servers(settings, where), settings.topics())
        chosen = port or server.free_port()
        address = f"http://{server.HOST}:{chosen}"
        with component(where, "dashboard", address) as running:

            def ready() -> None:
                running.ready()
                typer.echo(f"dashboard: {address}")

            secrets = streamlit_secrets(settings, where, address)
            entry = "link" if links_only else "login" if secrets else "open"
            entrance = server.Entrance(entry, secrets, gateway_key, of_pages(settings))
            with sending(where, brokers.servers, settings.topic(AUDIT)):
                server.run(where, live, brokers, chosen, ready, entrance, settings.mlflow_tracking_uri)
