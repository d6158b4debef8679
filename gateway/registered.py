"""Records whose schema is in a registry, as Confluent's serializers write them: a 0, four bytes of number, the payload.

Avro, Protocol Buffers and JSON are read. What comes out is the record by its field names; whether that is a device
message is judged where all messages are judged, in silver.
"""

import io
import struct
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, Protocol

import orjson

from gateway.schema_registry import Schema

Read = Callable[[bytes], dict[str, Any]]

_HEAD = struct.Struct(">bI")
_MAIN = "wardhouse_registered.proto"
"""The name of the schema itself among those that it refers to."""


class UndecodableError(ValueError):
    """A record is not what its schema says, or has none; the text says why, without what is in it."""


class Schemas(Protocol):
    """Whoever has schemas by their number: a Registry."""

    def schema(self, number: int) -> Schema:
        """The schema of a number. Raises RegistryAwayError and UnknownSchemaError."""


class Decoder:
    """Records as their field names have them."""

    def __init__(self, registry: Schemas) -> None:
        self._registry = registry
        self._readers: dict[int, Read] = {}

    def decode(self, value: bytes | None) -> dict[str, Any]:
        """The record. Raises UndecodableError, RegistryAwayError, and UnknownSchemaError, which may not stay so."""
        if value is None or len(value) < _HEAD.size:
            raise UndecodableError("too short to carry the number of a schema")
        magic, number = _HEAD.unpack_from(value)
        if magic:
            raise UndecodableError("does not begin with 0 and the number of a schema")
        try:
            read = self._readers.get(number) or self._reader(number)
            return read(value[_HEAD.size :])
        except UndecodableError as error:
            raise UndecodableError(f"schema {number}: {error}") from error

    def _reader(self, number: int) -> Read:
        schema = self._registry.schema(number)
        try:
            reader = _READERS[schema.kind](schema)
        except UndecodableError as error:
            reader = _refusing(str(error))
        self._readers[number] = reader
        return reader


def _refusing(why: str) -> Read:
    """Of a schema that is none: what it is not is found out once."""

    def read(_: bytes) -> dict[str, Any]:
        raise UndecodableError(why)

    return read


def _json(_: Schema) -> Read:
    return _read_json


def _read_json(payload: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise UndecodableError(f"not JSON: {error}") from error
    if not isinstance(found, dict):
        raise UndecodableError("not a JSON object")
    return found


def _avro(schema: Schema) -> Read:
    import fastavro
    from fastavro.schema import SchemaParseException

    named: dict[str, Any] = {}
    try:
        for text in schema.references.values():
            fastavro.parse_schema(orjson.loads(text), named_schemas=named)
        parsed = fastavro.parse_schema(orjson.loads(schema.text), named_schemas=named)
    except (SchemaParseException, ValueError, KeyError, TypeError) as error:
        raise UndecodableError(f"no schema of Avro: {error}") from error

    def read(payload: bytes) -> dict[str, Any]:
        stream = io.BytesIO(payload)
        try:
            found = fastavro.schemaless_reader(stream, parsed, None)
        except Exception as error:
            raise UndecodableError(f"not Avro of this schema: {type(error).__name__}") from error
        if stream.read(1):
            raise UndecodableError("more bytes than Avro of this schema has")
        if not isinstance(found, dict):
            raise UndecodableError("not a record")
        return {name: _plain(one) for name, one in found.items() if one is not None}

    return read


def _plain(value: Any) -> Any:
    """Without fields that are null: Avro's way of leaving one out."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items() if one is not None}
    return [_plain(one) for one in value] if isinstance(value, list) else value


def _protobuf(schema: Schema) -> Read:
    from google.protobuf import descriptor_pool, json_format, message_factory
    from google.protobuf.message import DecodeError

    pool = descriptor_pool.DescriptorPool()
    files = compiled(schema)
    for file in files.file:
        pool.Add(file)
    main = next(file for file in files.file if file.name == _MAIN)

    def read(payload: bytes) -> dict[str, Any]:
        path, begin = _path(payload)
        name, messages = main.package, main.message_type
        try:
            for index in path:
                name, messages = f"{name}.{messages[index].name}".lstrip("."), messages[index].nested_type
            kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
            found = kind.FromString(payload[begin:])
        except (IndexError, DecodeError) as error:
            raise UndecodableError("not a message of this schema") from error
        # A field without presence that is not there would be a 0 that nobody measured: it stays away.
        return dict(json_format.MessageToDict(found, preserving_proto_field_name=True))

    return read


def compiled(schema: Schema) -> Any:
    """The descriptors of a schema of Protocol Buffers and of all it refers to, as protoc gives them."""
    import grpc_tools
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from grpc_tools import protoc

    own = Path(grpc_tools.__file__).with_name("_proto")
    with tempfile.TemporaryDirectory() as name, redirect_stderr(io.StringIO()):
        folder = Path(name).resolve()
        for file, text in {**schema.references, _MAIN: schema.text}.items():
            place = (folder / file).resolve()
            if not place.is_relative_to(folder):
                raise UndecodableError(f"its reference {file} is no name of a file")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
        out = folder / "descriptors"
        asked = ["protoc", f"-I{folder}", f"-I{own}", "--include_imports", f"--descriptor_set_out={out}", _MAIN]
        if protoc.main(asked):
            raise UndecodableError("no schema of Protocol Buffers that protoc compiles")
        return FileDescriptorSet.FromString(out.read_bytes())


def _path(payload: bytes) -> tuple[list[int], int]:
    """Which message of the file it is: its place, then among the messages inside that; and where the message begins."""
    count, at = _varint(payload, 0)
    if not count:
        # What is written for the first message of a file, nearly always the only one.
        return [0], at
    path = []
    for _ in range(count):
        index, at = _varint(payload, at)
        path.append(index)
    if not path or min(path) < 0:
        raise UndecodableError("names no message of its schema")
    return path, at


def _varint(payload: bytes, at: int) -> tuple[int, int]:
    """A number in zigzag, and the place behind it."""
    number = shift = 0
    while True:
        if at >= len(payload) or shift > 28:
            raise UndecodableError("ends within the number of its message")
        byte = payload[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return (number >> 1) ^ -(number & 1), at


_READERS: dict[str, Callable[[Schema], Read]] = {"AVRO": _avro, "JSON": _json, "PROTOBUF": _protobuf}
