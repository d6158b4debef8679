"""Commands of people on alerts, as topic ``alert.command`` carries them: acknowledge, silence, unsilence.

Each names who and why. Routers read the topic whole: a command that is seen twice changes nothing the second time.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, NamedTuple

import orjson
from pydantic import Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass as checked

SCHEMA_VERSION = 1

_Text = Annotated[str, Field(min_length=1)]
_Instant = Annotated[int, Field(strict=True, gt=0)]


class CommandError(ValueError):
    """A record is no command, or one that cannot be; the text says why."""


@checked(frozen=True, slots=True)
class Acknowledge:
    """Somebody takes an alert on. ``at`` is when (epoch ms)."""

    command_id: _Text
    at: _Instant
    by: _Text
    patient_id: _Text
    alert_id: _Text
    note: str | None = None
    command: Literal["acknowledge"] = "acknowledge"


@checked(frozen=True, slots=True)
class Silence:
    """Alerts of a patient, rule or unit, or of what several of them say together, tell nobody until an instant."""

    command_id: _Text
    at: _Instant
    by: _Text
    note: _Text
    until: _Instant
    patient_id: _Text | None = None
    rule_id: _Text | None = None
    location_unit: _Text | None = None
    command: Literal["silence"] = "silence"

    @model_validator(mode="after")
    def _is_bounded(self) -> "Silence":
        if self.patient_id is None and self.rule_id is None and self.location_unit is None:
            raise ValueError("a silence needs a patient, a rule or a unit")
        if self.until <= self.at:
            raise ValueError("until: a silence must end after it begins")
        return self

    def mutes(self, patient_id: str, rule_id: str, location_unit: str | None, now: int) -> bool:
        """Whether it holds for an alert now."""
        return (
            now < self.until
            and self.patient_id in (None, patient_id)
            and self.rule_id in (None, rule_id)
            and self.location_unit in (None, location_unit)
        )


@checked(frozen=True, slots=True)
class Unsilence:
    """A silence ends before its time."""

    command_id: _Text
    at: _Instant
    by: _Text
    silence_id: _Text
    note: str | None = None
    command: Literal["unsilence"] = "unsilence"


Command = Acknowledge | Silence | Unsilence
_Discriminated = Annotated[Acknowledge | Silence | Unsilence, Field(discriminator="command")]
_COMMAND: TypeAdapter[Any] = TypeAdapter(_Discriminated)


def encode(command: Command) -> bytes:
    """The record value of topic ``alert.command``."""
    record = {"schema_version": SCHEMA_VERSION, **asdict(command)}
    return orjson.dumps({name: value for name, value in record.items() if value is not None})


def decode(value: bytes | None) -> Command:
    """The command in a record. Raises CommandError."""
    try:
        record: dict[str, Any] = orjson.loads(value or b"")
        version = record.pop("schema_version", None)
        if version != SCHEMA_VERSION:
            raise CommandError(f"schema_version {version}, wanted {SCHEMA_VERSION}")
        command: Command = _COMMAND.validate_python(record)
        return command
    except ValidationError as error:
        where = ("{}: {}".format(".".join(map(str, part["loc"])), part["msg"]) for part in error.errors())
        raise CommandError(f"not a command: {'; '.join(where)}") from error
    except (orjson.JSONDecodeError, AttributeError, TypeError) as error:
        raise CommandError(f"not a command: {error}") from error


@dataclass(frozen=True, slots=True)
class Silences:
    """The silences that hold at some instant, and the ids of those that were ended: the end may be read first."""

    of: tuple[Silence, ...] = ()
    ended: frozenset[str] = frozenset()

    def after(self, command: Silence | Unsilence, now: int) -> "Silences":
        """The silences after a command, without those that are over."""
        kept = tuple(one for one in self.of if one.until > now)
        if isinstance(command, Unsilence):
            of = tuple(one for one in kept if one.command_id != command.silence_id)
            return Silences(of, self.ended | {command.silence_id})
        known = self.ended | {one.command_id for one in kept}
        if command.until <= now or command.command_id in known:
            return Silences(kept, self.ended)
        return Silences((*kept, command), self.ended)

    def holding(self, patient_id: str, rule_id: str, location_unit: str | None, now: int) -> str | None:
        """The id of a silence that mutes an alert now, or None."""
        for one in self.of:
            if one.mutes(patient_id, rule_id, location_unit, now):
                return one.command_id
        return None


class Sent(NamedTuple):
    """A command, and when the broker had it (epoch ms)."""

    at: int
    command: Command


def sent(records: Iterable[tuple[bytes | None, int]]) -> list[Sent]:
    """The commands in records (value, instant). What is none is left out: routers say and count it."""
    found = []
    for value, at in records:
        with suppress(CommandError):
            found.append(Sent(at, decode(value)))
    return found


def silences_at(now: int, given: Iterable[Sent]) -> Silences:
    """The silences that hold at an instant after these commands, in their order."""
    silences = Silences()
    for at, command in given:
        if not isinstance(command, Acknowledge):
            silences = silences.after(command, at)
    return Silences(tuple(one for one in silences.of if one.until > now))


def acknowledgers(given: Iterable[Sent]) -> dict[str, str]:
    """Who acknowledged, by alert id: the first who did."""
    found: dict[str, str] = {}
    for one in given:
        if isinstance(one.command, Acknowledge):
            found.setdefault(one.command.alert_id, one.command.by)
    return found
