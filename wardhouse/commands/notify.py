"""``ward notify``: delivers notifications by mail, webhook and whatever else apprise knows."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wardhouse.operations import OPERATIONS, send
from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir

if TYPE_CHECKING:
    from alerting.channels import Destinations

ChannelsOption = Annotated[
    Path | None,
    typer.Option("--channels", help="Channels file: who is told by which way. Or set WARD_CHANNELS."),
]


def notify(
    data: DataDirOption = DEFAULT_DATA_DIR,
    channels: ChannelsOption = None,
    check: Annotated[bool, typer.Option("--check", help="Check the channels file, show it without secrets.")] = False,
    test: Annotated[str | None, typer.Option(help="Send a test message by this channel.", metavar="CHANNEL")] = None,
    say: Annotated[str | None, typer.Option(help="Send this text instead, by --channel; no patient is meant.")] = None,
    channel: Annotated[str, typer.Option(help="The channel of --say.")] = OPERATIONS,
) -> None:
    """Tell people what the router decides to tell, until it is stopped (Ctrl-C or SIGTERM)."""
    from alerting.channels import ChannelsError, load
    from wardhouse.errors import Failure, failures

    with failures(ChannelsError):
        settings = Settings()
        file = channels or settings.channels
        if file is None:
            raise Failure("no channels file: give --channels FILE or set WARD_CHANNELS; docs/notification.md shows one")
        destinations = load(file, os.environ)
        if check:
            _show(destinations)
        elif test is not None:
            send(
                destinations,
                test,
                "Test of Wardhouse",
                "A test. No patient is concerned.",
                about="test",
                say=typer.echo,
            )
        elif say is not None:
            send(destinations, channel, "Wardhouse", say, about="operations", say=typer.echo)
        else:
            _run(settings, data, destinations)


def _run(settings: Settings, path: Path, destinations: "Destinations") -> None:
    import logging
    import platform
    from zlib import crc32

    from alerting.notifier import NotifierError, Topics, run
    from wardhouse.broker import bootstrap_servers
    from wardhouse.component import component
    from wardhouse.errors import failures
    from wardhouse.logs import teller
    from wardhouse.signals import stop_on_signals

    # The client logs every attempt to reach a broker that is away; the notifier says once that it is.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    folder = data_dir(path)
    with failures(NotifierError), component(folder, "notify") as running, stop_on_signals() as stop:
        run(
            bootstrap_servers=bootstrap_servers(settings, folder),
            topics=Topics.of(settings.topics()),
            destinations=destinations,
            progress_file=folder.progress("alert_notify"),
            stop=stop,
            on_ready=running.ready,
            # A data dir has one notifier at a time: after a crash the next one is known for the same.
            member=f"notify-{crc32(f'{platform.node()} {folder.root}'.encode()):08x}",
            say=teller("notify"),
        )


def _show(destinations: "Destinations") -> None:
    from alerting.channels import service

    for destination in destinations.values():
        services = ", ".join(service(url) or "unknown" for url in destination.urls)
        typer.echo(
            f"{destination.name}: {services};"
            f" {destination.per_minute} a minute, then a digest every {destination.digest_s:g} s;"
            f" given up after {destination.give_up_s:g} s"
        )
