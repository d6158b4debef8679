"""``ward gateway``: vital signs in and out over HTTP, FHIR and HL7 v2."""

import re
from datetime import tzinfo
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir

_MIB = 1024 * 1024


def _zone(name: str | None) -> tzinfo | None:
    try:
        return None if name is None else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise typer.BadParameter(
            f"{name} is no time zone: give a name such as Europe/Berlin", param_hint="--zone"
        ) from error


def _system(name: str | None) -> str | None:
    if name is not None and not re.fullmatch(r"[^/]{1,64}", name):
        raise typer.BadParameter("1 to 64 letters without a slash", param_hint="--patient-system")
    return name


def gateway(
    data: DataDirOption = DEFAULT_DATA_DIR,
    host: Annotated[str, typer.Option(help="Loopback address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 8000,
    mllp_port: Annotated[
        int, typer.Option(help="Port for HL7 v2 over MLLP; 0 takes no HL7 v2.", min=0, max=65535)
    ] = 2575,
    patient_system: Annotated[
        str | None,
        typer.Option(
            envvar="WARD_GATEWAY_PATIENT_SYSTEM",
            help="First half of every patient id (system/value) from FHIR and HL7 v2. Left out: fhir, and what PID-3"
            " names as its assigner.",
        ),
    ] = None,
    zone: Annotated[
        str | None,
        typer.Option(
            envvar="WARD_GATEWAY_ZONE",
            help="Time zone of times that say none, such as Europe/Berlin. Left out: they are refused.",
        ),
    ] = None,
    spool: Annotated[
        Path | None,
        typer.Option(
            envvar="WARD_GATEWAY_SPOOL",
            help="Folder that takes messages while the broker is away. Left out: senders are told to come back.",
        ),
    ] = None,
    spool_limit: Annotated[
        int, typer.Option(envvar="WARD_GATEWAY_SPOOL_LIMIT", help="The most that the spool holds, in MiB.", min=1)
    ] = 1024,
) -> None:
    """Take device messages, FHIR and HL7 v2, and answer with latest vitals and history; documentation at /docs."""
    from datetime import UTC, datetime

    from gateway import app, server
    from gateway.site import Site
    from gateway.spool import Spool, SpoolError
    from wardhouse.broker import bootstrap_servers
    from wardhouse.component import component
    from wardhouse.errors import failures

    settings = Settings()
    where = data_dir(data)
    site = Site(_system(patient_system), _zone(zone))
    with failures(server.ListenError, SpoolError):
        servers = bootstrap_servers(settings, where)
        listener = server.listen(host, port)
        mllp_listener = server.listen(host, mllp_port, "--mllp-port") if mllp_port else None
        address = server.address(listener)
        with component(where, "gateway", address) as running:
            application = app.create_app(
                where,
                bootstrap_servers=servers,
                clock=lambda: datetime.now(UTC),
                topics=settings.topics(),
                site=site,
                spool=Spool(spool.resolve(), spool_limit * _MIB) if spool else None,
                mllp_listener=mllp_listener,
            )
            typer.echo(f"gateway: {address} (documentation at {address}/docs)")
            if mllp_listener is not None:
                typer.echo(f"gateway: HL7 v2 over MLLP on port {mllp_listener.getsockname()[1]}")
            server.run(application, listener, running.ready)
