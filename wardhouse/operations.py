"""Telling those who run the system what fails in it: on stderr, and by a channel of the channels file."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from wardhouse.errors import Failure
from wardhouse.settings import Settings

if TYPE_CHECKING:
    from alerting.channels import Destinations

OPERATIONS = "operations"
"""The channel of those who run the system."""


def teller(settings: Settings, channels: Path | None) -> Callable[[str], None]:
    """A function that tells a text on stderr, and by the channel of operations where there is a channels file.

    Raises ChannelsError for a file that cannot be used, and Failure where it has no such channel.
    """
    from alerting.channels import load

    file = channels or settings.channels
    destinations = None if file is None else load(file, os.environ)
    if destinations is not None:
        of_channel(destinations, OPERATIONS)

    def tell(text: str) -> None:
        typer.echo(f"ward: {text}", err=True)
        if destinations is None:
            return
        try:
            send(destinations, OPERATIONS, "Wardhouse", text, about="operations", say=lambda _: None)
        except Failure as failure:
            typer.echo(f"ward: nobody was told: {failure}", err=True)

    return tell


def of_channel(destinations: "Destinations", channel: str) -> "Destinations":
    """The destinations of a channel. Raises Failure where it has none."""
    found = {name: one for name, one in destinations.items() if one.channel == channel}
    if not found:
        known = ", ".join(dict.fromkeys(one.channel for one in destinations.values()))
        raise Failure(f"no channel {channel} in the channels file; there are {known}")
    return found


def send(
    destinations: "Destinations", channel: str, title: str, body: str, *, about: str, say: Callable[[str], None]
) -> None:
    """Send a text by every URL of a channel; receivers of JSON find ``about`` as a field. Raises Failure."""
    from alerting.apprise_sender import Text, sender

    problems = []
    for destination in of_channel(destinations, channel).values():
        text = Text(title, body, "low", {about: True})
        failed = sender(destination)(text, tuple(range(len(destination.urls))))
        problems += [f"{destination.name}, url {number + 1}: {error}" for number, error in failed.items()]
        say(f"{destination.name}: {len(destination.urls) - len(failed)} of {len(destination.urls)} sent")
    if problems:
        raise Failure("; ".join(problems))
