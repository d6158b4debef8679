"""``ward edge``: a ward's own machine between its monitors and the gateway."""

from pathlib import Path
from typing import Annotated

import typer

from wardhouse.settings import DEFAULT_DATA_DIR, EDGE_PORT, DataDirOption, data_dir

_MIB = 1024 * 1024


def edge(
    upstream: Annotated[
        str, typer.Option(envvar="WARD_EDGE_UPSTREAM", help="Address of the gateway, such as https://ward.example.")
    ],
    upstream_key_file: Annotated[
        Path,
        typer.Option(
            envvar="WARD_EDGE_UPSTREAM_KEY_FILE",
            help="File with a key of that gateway of the scope ingest, and nothing else; read anew when it changes.",
        ),
    ],
    spool: Annotated[
        Path,
        typer.Option(
            envvar="WARD_EDGE_SPOOL", help="Folder that holds messages until upstream has them; each edge has its own."
        ),
    ],
    data: DataDirOption = DEFAULT_DATA_DIR,
    spool_limit: Annotated[
        int,
        typer.Option(
            envvar="WARD_EDGE_SPOOL_LIMIT",
            help="The most that the spool holds, in MiB; then senders are told to come back, and nothing is dropped.",
            min=1,
        ),
    ] = 1024,
    upstream_ca: Annotated[
        Path | None,
        typer.Option(
            envvar="WARD_EDGE_UPSTREAM_CA",
            help="Certificates that upstream's must lead to, PEM. Left out: those of the machine.",
        ),
    ] = None,
    rules: Annotated[
        str,
        typer.Option(
            envvar="WARD_EDGE_RULES",
            help="Rule pack whose limits are evaluated while upstream is away: a name that comes with ward, or a file.",
        ),
    ] = "adult",
    local_after: Annotated[
        float,
        typer.Option(
            envvar="WARD_EDGE_LOCAL_AFTER",
            help="Seconds without upstream after which limits are evaluated here.",
            min=0,
        ),
    ] = 10.0,
    host: Annotated[
        str, typer.Option(help="Address to listen on; but loopback only with --require-key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = EDGE_PORT,
    require_key: Annotated[
        bool,
        typer.Option(
            "--require-key", envvar="WARD_EDGE_REQUIRE_KEY", help="Want a key even before the first one is made."
        ),
    ] = False,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            envvar="WARD_EDGE_ALLOWED_HOSTS", help="Name under which it is called from elsewhere; may be repeated."
        ),
    ] = None,
    tls_certificate: Annotated[
        Path | None,
        typer.Option(envvar="WARD_EDGE_TLS_CERTIFICATE", help="Certificate chain, PEM; with it, HTTPS is served."),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(envvar="WARD_EDGE_TLS_KEY", help="The certificate's private key, PEM.")
    ] = None,
    behind_tls_proxy: Annotated[
        bool,
        typer.Option(
            "--behind-tls-proxy",
            envvar="WARD_EDGE_BEHIND_TLS_PROXY",
            help="A proxy before it ends TLS, and nobody else reaches it.",
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Do not print local alerts.")] = False,
) -> None:
    """Take device messages on a ward's machine, keep them on its disk, and send them on in order.

    While the gateway upstream cannot be reached, limits are evaluated here: GET /api/local/alerts.
    """
    from datetime import UTC, datetime, timedelta

    from alerting.pack import PackError, load
    from gateway import edge, keys, server
    from gateway.guard import Access
    from gateway.refused import Refusals
    from gateway.spool import Spool, SpoolError
    from gateway.upstream import UpstreamError, target
    from wardhouse.component import component
    from wardhouse.errors import failures
    from wardhouse.logs import shower, teller

    def clock() -> datetime:
        return datetime.now(UTC)

    where, folder = data_dir(data), spool.resolve()
    with failures(server.ListenError, SpoolError, UpstreamError, PackError, keys.KeysUnreadableError):
        pack = load(rules)
        before = target(upstream, upstream_key_file.resolve(), upstream_ca)
        access = Access(keys.Keys(keys.file_of(where), clock), required=require_key)
        tls = server.tls(tls_certificate, tls_key)
        server.check_exposure(host, authenticated=access.asked, encrypted=tls is not None or behind_tls_proxy)
        listener = server.listen(host, port)
        address = server.address(listener, tls)
        with component(where, "edge", address) as running:
            application = edge.create_app(
                where,
                before,
                spool=Spool(folder, spool_limit * _MIB),
                pack=pack,
                clock=clock,
                refusals=Refusals(folder / "refused", spool_limit * _MIB),
                tell=(lambda _: None) if quiet else shower("edge", "local  "),
                say=teller("edge"),
                access=access,
                hosts=allowed_host or (),
                local_after=timedelta(seconds=local_after),
            )
            typer.echo(f"edge: {address} (documentation at {address}/docs), upstream {before.url}")
            server.run(application, listener, running.ready, tls)
