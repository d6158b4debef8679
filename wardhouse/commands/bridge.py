"""``ward bridge``: device messages from a topic whose records have schemas of a registry."""

from pathlib import Path
from typing import Annotated

import typer

from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir

_PANEL = "Schema registry"


def bridge(
    topic: Annotated[str, typer.Argument(help="Topic to read: records of Avro, Protocol Buffers or JSON.")],
    registry: Annotated[
        str,
        typer.Option(
            envvar="WARD_REGISTRY",
            metavar="URL",
            help="Its address, up to where schemas/ids/1 begins.",
            rich_help_panel=_PANEL,
        ),
    ],
    data: DataDirOption = DEFAULT_DATA_DIR,
    registry_user: Annotated[
        str | None, typer.Option(envvar="WARD_REGISTRY_USER", help="User there.", rich_help_panel=_PANEL)
    ] = None,
    registry_password_file: Annotated[
        Path | None,
        typer.Option(envvar="WARD_REGISTRY_PASSWORD_FILE", help="File with the password.", rich_help_panel=_PANEL),
    ] = None,
    registry_ca: Annotated[
        Path | None,
        typer.Option(envvar="WARD_REGISTRY_CA", help="Certificates of who signs it, PEM.", rich_help_panel=_PANEL),
    ] = None,
) -> None:
    """Send what a topic holds on to vitals as device messages, until it is stopped (Ctrl-C or SIGTERM)."""
    import logging
    import platform
    from contextlib import closing
    from zlib import crc32

    from gateway.bridge import BridgeError, run
    from gateway.refused import Refusals
    from gateway.registered import Decoder
    from gateway.schema_registry import Registry, RegistryError
    from lakehouse.topics import VITALS
    from wardhouse.broker import bootstrap_servers
    from wardhouse.component import component
    from wardhouse.errors import failures
    from wardhouse.logs import teller
    from wardhouse.signals import stop_on_signals

    # The client logs every attempt to reach a broker that is away; the bridge says once that it is.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    settings, folder = Settings(), data_dir(data)
    with (
        failures(BridgeError, RegistryError),
        closing(
            Registry(registry, user=registry_user, password_file=registry_password_file, ca=registry_ca)
        ) as schemas,
        component(folder, f"bridge-{topic}") as running,
        stop_on_signals() as stop,
    ):
        run(
            bootstrap_servers=bootstrap_servers(settings, folder),
            reads=topic,
            writes=settings.topic(VITALS),
            decoder=Decoder(schemas),
            refusals=Refusals(folder.refused),
            stop=stop,
            on_ready=running.ready,
            # A data dir has one bridge of a topic at a time: after a crash the next one is known for the same.
            member=f"bridge-{crc32(f'{platform.node()} {folder.root} {topic}'.encode()):08x}",
            say=teller("bridge"),
        )
