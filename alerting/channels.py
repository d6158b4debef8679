"""The channels file: by which ways a ward is told, as YAML that is checked whole before it is used.

A channel is a name that rule packs and the router use (``nurse``) and the apprise URLs behind it. URLs hold secrets:
nothing here puts one into a text, and ``${NAME}`` in a URL is taken from the environment, so that the file needs none.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from lakehouse.strict_yaml import StrictLoader

_Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
_UnitName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._/-]*$")]
_Urls = Annotated[tuple[SecretStr, ...], Field(min_length=1)]

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_PUBLIC_PARAMETERS = frozenset({"smtp", "from", "to", "name", "mode", "method", "format", "overflow", "cto", "rto"})
"""Parts of a URL's query that errors may show: hosts, addresses and switches."""
_SHORTEST_SECRET = 4
"""Shorter texts are left in errors: taking every "a" out would leave nothing to read."""


class ChannelsError(ValueError):
    """A channels file cannot be used; each line of the text names file, channel and field, and never a URL."""


class Channel(BaseModel):
    """One way to tell somebody.

    ``units`` replaces the URLs for patients of single care units. ``per_minute`` messages at most are sent one by one,
    what comes beyond is told together every ``digest_s`` seconds; what was not delivered ``give_up_s`` seconds after it
    came is given up.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    urls: _Urls
    units: dict[_UnitName, _Urls] = {}
    per_minute: Annotated[int, Field(strict=True, ge=1)] = 30
    digest_s: Annotated[float, Field(strict=True, gt=0, le=3600)] = 60
    give_up_s: Annotated[float, Field(strict=True, gt=0, le=86_400)] = 900


class ChannelsFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    channels: Annotated[dict[_Name, Channel], Field(min_length=1)]


@dataclass(frozen=True)
class Url:
    """One apprise URL whose secrets are known: it is never shown."""

    text: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)

    def redacted(self, text: str) -> str:
        """The text without what is secret of this URL."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


@dataclass(frozen=True)
class Destination:
    """One channel as patients of one care unit are told by it; ``unit`` is None for all units without their own URLs.

    What it may send and how long it tries are the channel's: see :class:`Channel`.
    """

    channel: str
    unit: str | None
    urls: tuple[Url, ...]
    per_minute: int
    digest_s: float
    give_up_s: float

    @property
    def name(self) -> str:
        """The channel, and the unit where it has URLs of its own."""
        return f"{self.channel} in {self.unit}" if self.unit else self.channel


Destinations = Mapping[tuple[str, str | None], Destination]
"""By channel and care unit; None stands for every unit that the channel does not name."""


def find(destinations: Destinations, channel: str, unit: str | None) -> Destination | None:
    """Where a channel tells of a patient of this unit; None where there is no such channel."""
    return destinations.get((channel, unit)) or destinations.get((channel, None))


def load(path: Path, environment: Mapping[str, str]) -> Destinations:
    """The destinations that a channels file declares. Raises ChannelsError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ChannelsError(f"{path}: cannot be read: {type(error).__name__}") from error
    return parse(text, str(path), environment)


def parse(text: str, origin: str, environment: Mapping[str, str]) -> Destinations:
    """The destinations of a YAML text; ``origin`` is its name in errors. Raises ChannelsError."""
    try:
        declared = ChannelsFile.model_validate(yaml.load(text, StrictLoader))  # noqa: S506 - a SafeLoader without repeats
    except yaml.MarkedYAMLError as error:
        # Without the text around it, which may be a URL.
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ChannelsError(f"{origin}: not readable as YAML{line}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ChannelsError(f"{origin}: not readable as YAML: {type(error).__name__}") from None
    except ValidationError as error:
        raise ChannelsError("\n".join(_lines(error, origin))) from None
    except (RecursionError, ValueError) as error:
        # What looks like a date and is none, or is nested too deeply. Without the text, which may be a URL.
        raise ChannelsError(f"{origin}: not readable as YAML: {type(error).__name__}") from None
    problems: list[str] = []
    found = {
        (name, unit): _destination(name, channel, unit, f"{origin}: channel {name}", environment, problems)
        for name, channel in declared.channels.items()
        for unit in (None, *channel.units)
    }
    if problems:
        raise ChannelsError("\n".join(problems))
    return found


def service(url: Url) -> str | None:
    """What kind of service a URL names, and its host where that is no secret; None where apprise knows none."""
    plugin = _plugin(url.text)
    if plugin is None:
        return None
    host = f" at {plugin.host}" if _has_public_host(plugin) else ""
    return f"{plugin.service_name}{host}"


def _destination(
    name: str, channel: Channel, unit: str | None, origin: str, environment: Mapping[str, str], problems: list[str]
) -> Destination:
    urls = channel.units[unit] if unit is not None else channel.urls
    where = f"{origin}: {'urls' if unit is None else f'units.{unit}'}"
    made = [_url(one.get_secret_value(), f"{where}.{n}", environment, problems) for n, one in enumerate(urls)]
    return Destination(
        name, unit, tuple(one for one in made if one), channel.per_minute, channel.digest_s, channel.give_up_s
    )


def _url(template: str, where: str, environment: Mapping[str, str], problems: list[str]) -> Url | None:
    missing = [variable for variable in _VARIABLE.findall(template) if not environment.get(variable)]
    if missing:
        problems.append(f"{where}: not set in the environment: {', '.join(dict.fromkeys(missing))}")
        return None
    if whole := _VARIABLE.fullmatch(template.strip()):
        text, given = environment[whole[1]], [environment[whole[1]]]
    else:
        given = [environment[variable] for variable in _VARIABLE.findall(template)]
        # A password may hold what means something else in a URL.
        text = _VARIABLE.sub(lambda match: quote(environment[match[1]], safe=""), template)
    plugin = _plugin(text)
    if plugin is None:
        problems.append(f"{where}: not a URL that apprise can use; `apprise --details` lists them")
        return None
    return Url(text, tuple(_secrets(text, given, public_host=_has_public_host(plugin))))


def _plugin(text: str) -> Any:
    import logging

    from apprise import Apprise

    # It logs what it does not understand, and that may be a secret.
    logger = logging.getLogger("apprise")
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return Apprise.instantiate(text)


def _has_public_host(plugin: Any) -> bool:
    """Whether the URL's host is one: other services keep a token in its place."""
    token = plugin.template_tokens.get("host")
    return bool(token) and not token.get("private") and bool(plugin.host)


def _secrets(text: str, given: list[str], *, public_host: bool) -> list[str]:
    """Every part of a URL that must not be shown, longest first, as it stands there and decoded."""
    try:
        parts = urlsplit(text)
        host = [] if public_host else [parts.netloc.rpartition("@")[2]]
    except ValueError:
        return [text]
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    query = [value for name, value in parse_qsl(parts.query) if name not in _PUBLIC_PARAMETERS]
    found = [text, *given, *host, user, password, *parts.path.split("/"), *query]
    variants = {one for part in found for one in (part, unquote(part), quote(part, safe=""))}
    return sorted((one for one in variants if len(one) >= _SHORTEST_SECRET), key=len, reverse=True)


def _lines(error: ValidationError, origin: str) -> Iterator[str]:
    for part in error.errors(include_url=False, include_input=False):
        location = [str(step) for step in part["loc"] if step != "[key]"]
        where = origin
        if location[:1] == ["channels"] and len(location) > 1:
            where += f": channel {location[1]}"
            location = location[2:]
        if location:
            where += f": {'.'.join(location)}"
        yield f"{where}: {part['msg']}"
