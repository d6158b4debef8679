"""``ward router``: opens and resolves alerts."""

from typing import Annotated

import typer

from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir


def router(
    data: DataDirOption = DEFAULT_DATA_DIR,
    rules: Annotated[
        str, typer.Option(help="Rule pack: the name of one that comes with ward, or a .yaml file.")
    ] = "adult",
    quiet: Annotated[bool, typer.Option("--quiet", help="Do not print alerts.")] = False,
) -> None:
    """Turn evaluations into alerts and print them, until it is stopped (Ctrl-C or SIGTERM)."""
    import logging
    import platform
    from zlib import crc32

    from alerting.pack import PackError, load
    from alerting.router import RouterError, Topics, run
    from wardhouse.broker import bootstrap_servers
    from wardhouse.component import component
    from wardhouse.errors import failures
    from wardhouse.logs import shower, teller
    from wardhouse.signals import stop_on_signals

    # The client logs every attempt to reach a broker that is away; the router says once that it is.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    folder, settings = data_dir(data), Settings()
    with failures(PackError, RouterError):
        pack = load(rules)
        with component(folder, "router") as running, stop_on_signals() as stop:
            run(
                bootstrap_servers=bootstrap_servers(settings, folder),
                topics=Topics.of(settings.topics()),
                pack=pack,
                progress_file=folder.progress("alert_router"),
                stop=stop,
                on_ready=running.ready,
                show=None if quiet else shower("router"),
                # A data dir has one router at a time: after a crash the next one is known for the same.
                member=f"router-{crc32(f'{platform.node()} {folder.root}'.encode()):08x}",
                say=teller("router"),
            )
