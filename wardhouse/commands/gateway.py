"""``ward gateway``: vital signs in and out over HTTP, FHIR, HL7 v2 and MQTT."""

import re
from datetime import tzinfo
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from wardhouse.settings import DEFAULT_DATA_DIR, GATEWAY_PORT, MLLP_PORT, DataDirOption, Settings, data_dir

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
    host: Annotated[
        str, typer.Option(help="Address to listen on; but loopback only with --require-key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = GATEWAY_PORT,
    mllp_port: Annotated[
        int, typer.Option(help="Port for HL7 v2 over MLLP, on loopback; 0 takes no HL7 v2.", min=0, max=65535)
    ] = MLLP_PORT,
    mqtt_host: Annotated[
        str | None,
        typer.Option(
            envvar="WARD_GATEWAY_MQTT_HOST", help="MQTT broker to read device messages from. Left out: none is."
        ),
    ] = None,
    mqtt_port: Annotated[
        int | None,
        typer.Option(
            envvar="WARD_GATEWAY_MQTT_PORT",
            help="Its port. Left out: 8883 with --mqtt-ca, else 1883.",
            min=1,
            max=65535,
            show_default=False,
        ),
    ] = None,
    mqtt_topic: Annotated[
        list[str] | None,
        typer.Option(
            envvar="WARD_GATEWAY_MQTT_TOPICS",
            help="Topic to read, such as 'monitors/#'; may be repeated.",
            show_default="monitors/#",
        ),
    ] = None,
    mqtt_client_id: Annotated[
        str,
        typer.Option(
            envvar="WARD_GATEWAY_MQTT_CLIENT_ID",
            help="Name under which the broker keeps what this gateway has not acknowledged; each gateway has its own.",
        ),
    ] = "wardhouse-gateway",
    mqtt_ca: Annotated[
        Path | None,
        typer.Option(
            envvar="WARD_GATEWAY_MQTT_CA",
            help="Certificates that the broker's must lead to, PEM; with it, TLS is spoken.",
        ),
    ] = None,
    mqtt_user: Annotated[str | None, typer.Option(envvar="WARD_GATEWAY_MQTT_USER", help="User at the broker.")] = None,
    mqtt_password_file: Annotated[
        Path | None,
        typer.Option(
            envvar="WARD_GATEWAY_MQTT_PASSWORD_FILE", help="File with that user's password, and nothing else."
        ),
    ] = None,
    require_key: Annotated[
        bool,
        typer.Option(
            "--require-key", envvar="WARD_GATEWAY_REQUIRE_KEY", help="Want a key even before the first one is made."
        ),
    ] = False,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            envvar="WARD_GATEWAY_ALLOWED_HOSTS", help="Name under which it is called from elsewhere; may be repeated."
        ),
    ] = None,
    tls_certificate: Annotated[
        Path | None,
        typer.Option(envvar="WARD_GATEWAY_TLS_CERTIFICATE", help="Certificate chain, PEM; with it, HTTPS is served."),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(envvar="WARD_GATEWAY_TLS_KEY", help="The certificate's private key, PEM.")
    ] = None,
    behind_tls_proxy: Annotated[
        bool,
        typer.Option(
            "--behind-tls-proxy",
            envvar="WARD_GATEWAY_BEHIND_TLS_PROXY",
            help="A proxy before it ends TLS, and nobody else reaches it.",
        ),
    ] = False,
    rate: Annotated[
        float,
        typer.Option(envvar="WARD_GATEWAY_RATE", help="Requests a second for each key; twice that at once.", min=1),
    ] = 500.0,
    pseudonym_key: Annotated[
        Path | None,
        typer.Option(
            envvar="WARD_PSEUDONYM_KEY_FILE",
            help="Secret of 32 bytes or more outside the data dir: cohort tables of the scope research are"
            " de-identified by it.",
        ),
    ] = None,
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

    from gateway import app, keys, mqtt, server
    from gateway.guard import Access
    from gateway.oidc import Tokens
    from gateway.rate import Rate
    from gateway.site import Site
    from gateway.spool import Spool, SpoolError
    from lakehouse.deidentify import KeyFileError, read_key
    from lakehouse.export import check_key_place
    from wardhouse.broker import bootstrap_servers
    from wardhouse.component import component
    from wardhouse.errors import failures
    from wardhouse.oidc import provider

    settings = Settings()
    where = data_dir(data)
    site = Site(_system(patient_system), _zone(zone))

    def clock() -> datetime:
        return datetime.now(UTC)

    with failures(server.ListenError, mqtt.SourceError, SpoolError, KeyFileError, keys.KeysUnreadableError):
        known = provider(settings)
        access = Access(
            keys.Keys(keys.file_of(where), clock), Tokens(known) if known else None, require_key, Rate(rate, 2 * rate)
        )
        if pseudonym_key is not None:
            check_key_place(pseudonym_key, where, where.root)
        pseudonyms = None if pseudonym_key is None else read_key(pseudonym_key)
        tls = server.tls(tls_certificate, tls_key)
        server.check_exposure(host, authenticated=access.asked, encrypted=tls is not None or behind_tls_proxy)
        source = None
        if mqtt_host is not None:
            source = mqtt.source(
                mqtt_host,
                mqtt_port,
                tuple(mqtt_topic or ("monitors/#",)),
                mqtt_client_id,
                ca=mqtt_ca,
                user=mqtt_user,
                password_file=mqtt_password_file,
            )
        servers = bootstrap_servers(settings, where)
        listener = server.listen(host, port)
        mllp_listener = server.listen(server.loopback_of(host), mllp_port, "--mllp-port") if mllp_port else None
        address = server.address(listener, tls)
        with component(where, "gateway", address) as running:
            application = app.create_app(
                where,
                bootstrap_servers=servers,
                clock=clock,
                topics=settings.topics(),
                site=site,
                access=access,
                hosts=allowed_host or (),
                pseudonyms=pseudonyms,
                spool=Spool(spool.resolve(), spool_limit * _MIB) if spool else None,
                mllp_listener=mllp_listener,
                mqtt_source=source,
            )
            typer.echo(f"gateway: {address} (documentation at {address}/docs)")
            if mllp_listener is not None:
                typer.echo(f"gateway: HL7 v2 over MLLP on port {mllp_listener.getsockname()[1]}")
            if source is not None:
                typer.echo(f"gateway: MQTT from {source.host}:{source.port}, topics {', '.join(source.topics)}")
            server.run(application, listener, running.ready, tls)
