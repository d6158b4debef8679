"""What topics and gold tell of alerts, for the commands of people: states, commands, who was told, which pack."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import typer

from alerting.command import Sent, Silence, sent
from alerting.compacted import TopicError, whole
from alerting.pack import Pack, PackError, load
from alerting.state import Patient, readable
from alerting.words import count
from lakehouse.datadir import DataDir
from lakehouse.topics import ALERT_COMMAND
from wardhouse.broker import bootstrap_servers
from wardhouse.in_force import in_force_or_started_with
from wardhouse.settings import Settings


def patients(values: Iterable[bytes]) -> list[Patient]:
    """The patients in records of alert.state. Raises StateError.

    Those that another version of ward wrote are left out, and that is said.
    """
    found, others = readable(values)
    if others:
        typer.echo(f"left out: {count(others, 'patient')} in states of another version of ward", err=True)
    return found


def commands(settings: Settings, data: DataDir) -> list[Sent]:
    """Every command that alert.command holds, oldest first. Raises TopicError."""
    records = whole(bootstrap_servers(settings, data), settings.topic(ALERT_COMMAND))
    return sent((record.value, record.at) for record in records)


def silences_by_id(settings: Settings, data: DataDir) -> dict[str, Silence] | None:
    """Every silence that alert.command holds, over or not; None where no broker answers."""
    try:
        given = commands(settings, data)
    except TopicError:
        return None
    return {one.command.command_id: one.command for one in given if isinstance(one.command, Silence)}


def pack_of(settings: Settings, data: DataDir, label: str, rules: str | None) -> Pack | None:
    """The pack of a label where it can be had, else the one in force or another version of it; None: there is none.

    ``rules`` names another one instead. Raises PackError where that cannot be used.
    """
    if rules is not None:
        return load(rules)
    found = list(_candidates(settings, data, label))
    return next((pack for pack in found if pack.label == label), found[0] if found else None)


def _candidates(settings: Settings, data: DataDir, label: str) -> Iterator[Pack]:
    candidates: tuple[Callable[[], Pack], ...] = (
        partial(_in_force, settings, data),
        partial(load, label.split("@")[0]),
    )
    for candidate in candidates:
        try:
            yield candidate()
        except PackError as error:
            # Its words are wanted, and not more: the answer says which pack they are of.
            typer.echo(f"not used for its words: {error}", err=True)


def _in_force(settings: Settings, data: DataDir) -> Pack:
    return in_force_or_started_with(settings, data).pack
