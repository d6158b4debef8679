"""``ward broker``: the embedded Kafka broker."""

from typing import Annotated

import typer

from wardhouse.settings import DEFAULT_BROKER_PORT, DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir


def broker(
    data: DataDirOption = DEFAULT_DATA_DIR,
    port: Annotated[int, typer.Option(help="Port that clients use; 0 takes a free one.")] = DEFAULT_BROKER_PORT,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 is every one of this machine.")
    ] = "127.0.0.1",
    advertised_host: Annotated[str | None, typer.Option(help="Name under which clients elsewhere reach it.")] = None,
) -> None:
    """Run the embedded Kafka broker until it is stopped (Ctrl-C or SIGTERM)."""
    from wardhouse.broker import serve
    from wardhouse.errors import failures
    from wardhouse.signals import stop_on_signals

    with failures(), stop_on_signals() as stop:
        serve(
            Settings(),
            data_dir(data),
            stop,
            port=port,
            host=host,
            advertised_host=advertised_host,
            on_ready=lambda address: typer.echo(f"broker serves at {address}"),
        )
