"""The sinks file: which tables go to which databases, as YAML that is checked whole before anything is opened.

Passwords are in files of their own, so the sinks file holds no secret.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lakehouse.sinks.series import keeps
from lakehouse.strict_yaml import StrictLoader
from lakehouse.table import Table
from lakehouse.tables import ALERT, ALERT_EVENT, EARLY_WARNING_SCORE, OBSERVATION_QUARANTINE, TABLES, VITAL_SIGN_MINUTE

LAYERS = ("silver", "gold")
"""Layers that may be copied: bronze is raw bytes, and the others are about the stack itself."""

DEFAULT_TABLES = (VITAL_SIGN_MINUTE, EARLY_WARNING_SCORE, ALERT, ALERT_EVENT)

_Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
_Database = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$")]


class SinksError(ValueError):
    """A sinks file cannot be used; each line of the text names file, sink and field."""


class Kind(StrEnum):
    """The databases that there are sinks for."""

    POSTGRESQL = "postgresql"
    MYSQL = "mysql"
    """MySQL and MariaDB."""
    INFLUXDB = "influxdb"
    """InfluxDB 1, by its line protocol."""
    MONGODB = "mongodb"
    CASSANDRA = "cassandra"


_PORTS = {
    Kind.POSTGRESQL: 5432,
    Kind.MYSQL: 3306,
    Kind.INFLUXDB: 8086,
    Kind.MONGODB: 27017,
    Kind.CASSANDRA: 9042,
}


@dataclass(frozen=True)
class Sink:
    """One database and what it gets.

    ``ca`` holds the certificates that the server's must lead to, PEM; None is those of the machine. ``user`` is None
    where the server asks for none, which only InfluxDB may.
    """

    name: str
    kind: Kind
    host: str
    port: int
    database: str
    user: str | None
    password: str = field(repr=False)
    tables: tuple[Table, ...]
    tls: bool
    ca: Path | None = None

    @property
    def address(self) -> str:
        """Where it is, for people: nothing of it is secret."""
        return f"{self.kind} {self.database} at {self.host}:{self.port}"


class _Declared(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kind: Kind
    host: Annotated[str, Field(min_length=1)]
    port: Annotated[int, Field(strict=True, ge=1, le=65535)] | None = None
    database: _Database
    user: Annotated[str, Field(min_length=1)] | None = None
    password_file: Path | None = None
    tables: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    tls: Annotated[bool, Field(strict=True)] = True
    tls_ca: Path | None = None


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    sinks: Annotated[dict[_Name, _Declared], Field(min_length=1)]


def load(path: Path) -> tuple[Sink, ...]:
    """The sinks that a file declares; files that it names are found from its own folder. Raises SinksError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SinksError(f"{path}: cannot be read: {type(error).__name__}") from error
    try:
        declared = _File.model_validate(yaml.load(text, StrictLoader))  # noqa: S506 - a SafeLoader without repeats
    except yaml.YAMLError as error:
        raise SinksError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        raise SinksError("\n".join(_lines(error, path))) from None
    except (RecursionError, ValueError) as error:
        # What looks like a date and is none, or is nested too deeply.
        raise SinksError(f"{path}: not readable as YAML: {error}") from None
    problems: list[str] = []
    found = [_sink(name, one, path, problems) for name, one in declared.sinks.items()]
    if problems:
        raise SinksError("\n".join(problems))
    return tuple(found)


def _sink(name: str, declared: _Declared, path: Path, problems: list[str]) -> Sink:
    found: list[str] = []
    folder = path.resolve().parent
    password = _password(declared, folder, found)
    if declared.kind is not Kind.INFLUXDB and declared.user is None:
        found.append("user: missing; a user of its own that owns nothing else is best")
    if not declared.tls and not _is_here(declared.host):
        found.append(f"tls: false would send patients' values and the password readably to {declared.host}")
    ca = folder / declared.tls_ca if declared.tls_ca else None
    if ca is not None:
        _read(ca, "tls_ca", found)
    tables = tuple(_tables(declared, found))
    problems += [f"{path}: sink {name}: {problem}" for problem in found]
    return Sink(
        name=name,
        kind=declared.kind,
        host=declared.host,
        port=declared.port or _PORTS[declared.kind],
        database=declared.database,
        user=declared.user,
        password=password,
        tables=tables,
        tls=declared.tls,
        ca=ca,
    )


def _password(declared: _Declared, folder: Path, problems: list[str]) -> str:
    if declared.password_file is None:
        return ""
    file = folder / declared.password_file
    text = _read(file, "password_file", problems)
    if text is not None and not text.strip():
        problems.append(f"password_file: {file} is empty")
    return (text or "").strip()


def _read(file: Path, what: str, problems: list[str]) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        problems.append(f"{what}: {file} cannot be read: {type(error).__name__}")
        return None


def _is_here(host: str) -> bool:
    """Whether what is sent to this host stays on the machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _tables(declared: _Declared, problems: list[str]) -> Iterator[Table]:
    known = {table.full_name: table for table in TABLES if table.layer in LAYERS}
    if declared.tables is None:
        yield from (table for table in DEFAULT_TABLES if declared.kind is not Kind.INFLUXDB or keeps(table))
        return
    for name in dict.fromkeys(declared.tables):
        table = known.get(name)
        if table is None:
            problems.append(f"tables: {name} is none of {', '.join(known)}")
        elif declared.kind is Kind.INFLUXDB and not keeps(table):
            series = ", ".join(one.full_name for one in known.values() if keeps(one))
            problems.append(f"tables: InfluxDB keeps series, and {name} has no instant in its key; these do: {series}")
        elif declared.kind is Kind.MYSQL and table == OBSERVATION_QUARANTINE:
            problems.append(f"tables: {name} may hold NaN, for which MySQL has no value")
        else:
            yield table


def _lines(error: ValidationError, path: Path) -> Iterator[str]:
    for part in error.errors(include_url=False, include_input=False):
        location = [str(step) for step in part["loc"] if step != "[key]"]
        where = str(path)
        if location[:1] == ["sinks"] and len(location) > 1:
            where += f": sink {location[1]}"
            location = location[2:]
        if location:
            where += f": {'.'.join(location)}"
        yield f"{where}: {part['msg']}"
