"""A schema registry with Confluent's interface (theirs, Apicurio, Karapace): schemas by the number in a record."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

import httpx

Kind = Literal["AVRO", "JSON", "PROTOBUF"]
_KINDS: Mapping[str, Kind] = {"AVRO": "AVRO", "JSON": "JSON", "PROTOBUF": "PROTOBUF"}
_TIMEOUT_S = 10.0
_MOST_REFERENCES = 100
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class RegistryError(ValueError):
    """What was given for the registry does not serve; the text says what to do."""


class RegistryAwayError(Exception):
    """The registry does not answer, or not as one; the text says how. It is asked again."""


class UnknownSchemaError(Exception):
    """The registry has no such schema, or one of a kind that is not read here; the text says which."""


@dataclass(frozen=True)
class Schema:
    """A schema as it was registered; ``references`` are the texts that it names, those first that others name."""

    kind: Kind
    text: str
    references: Mapping[str, str] = field(default_factory=dict)


class Registry:
    """Asks a registry for schemas, once for each: what a number means never changes.

    ``url`` is the one to which ``/schemas/ids/1`` is added. Raises RegistryError.
    """

    def __init__(
        self, url: str, *, user: str | None = None, password_file: Path | None = None, ca: Path | None = None
    ) -> None:
        asked = urlsplit(url)
        if asked.scheme not in {"http", "https"} or not asked.hostname:
            raise RegistryError(
                f"--registry {url} is no address: give one such as https://registry.example/apis/ccompat/v7"
            )
        if asked.username is not None:
            raise RegistryError("--registry holds a user: give --registry-user and --registry-password-file")
        if (user is None) != (password_file is None):
            raise RegistryError("--registry-user and --registry-password-file go together")
        if user is not None and asked.scheme == "http" and asked.hostname not in _LOOPBACK:
            raise RegistryError(f"will not send a password to {asked.hostname} in clear: give an address with https")
        self._schemas: dict[int, Schema] = {}
        self._client = httpx.Client(
            base_url=url.rstrip("/") + "/",
            auth=None if user is None or password_file is None else (user, _password(password_file)),
            verify=True if ca is None else _authorities(ca),
            timeout=_TIMEOUT_S,
            headers={"Accept": "application/vnd.schemaregistry.v1+json, application/json"},
        )

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def schema(self, number: int) -> Schema:
        """The schema of a number. Raises RegistryAwayError and UnknownSchemaError."""
        if number not in self._schemas:
            found = self._asked(f"schemas/ids/{number}")
            kind = _KINDS.get(found.get("schemaType") or "AVRO")
            if kind is None:
                raise UnknownSchemaError(f"schema {number} is of kind {found['schemaType']}, which is not read here")
            references: dict[str, str] = {}
            self._take_references(found, references)
            self._schemas[number] = Schema(kind, found["schema"], references)
        return self._schemas[number]

    def _take_references(self, found: Mapping[str, Any], taken: dict[str, str]) -> None:
        for one in found.get("references") or ():
            if one["name"] in taken:
                continue
            if len(taken) >= _MOST_REFERENCES:
                raise UnknownSchemaError(f"more than {_MOST_REFERENCES} schemas are referenced")
            named = self._asked(f"subjects/{quote(one['subject'], safe='')}/versions/{one['version']}")
            self._take_references(named, taken)
            taken[one["name"]] = named["schema"]

    def _asked(self, path: str) -> dict[str, Any]:
        try:
            answer = self._client.get(path)
            if answer.status_code == httpx.codes.NOT_FOUND:
                raise UnknownSchemaError(f"the registry has no {path}")
            found = answer.raise_for_status().json()
        except httpx.HTTPStatusError as error:
            raise RegistryAwayError(f"the registry answers {error.response.status_code} to {path}") from error
        except (httpx.HTTPError, ValueError) as error:
            raise RegistryAwayError(f"the registry does not answer: {error or type(error).__name__}") from error
        if not isinstance(found, dict) or not isinstance(found.get("schema"), str):
            raise RegistryAwayError(f"what answers {path} is no schema registry")
        return found


def _password(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RegistryError(f"--registry-password-file {file} cannot be read: {error}") from error


def _authorities(file: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=file)
    except (OSError, ssl.SSLError) as error:
        raise RegistryError(f"--registry-ca {file} holds no certificates: {error}") from error
