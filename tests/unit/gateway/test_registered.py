from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway import ingest
from gateway.bridge import message
from gateway.registered import Decoder, UndecodableError
from gateway.schema_registry import Registry, RegistryError, Schema
from lakehouse.topics import MAX_RECORD_BYTES
from tests.fixtures import registered, vitals

_WHOLE = vitals.message(
    vitals.heart_rate(0.0, source_code="220045", source_unit="bpm", record_id="r1"),
    {"code": "80288-4", "value_code": "A"},
    encounter_id="visit/7",
    location={"unit": "ICU", "bed": "7"},
    observed_at="2026-03-01T12:00:00.123456Z",
    recorded_at="2026-03-01T12:00:01Z",
    device_status={"battery": 80.0, "lead_off": False},
)
_NESTED = """{"type": "record", "name": "N", "fields": [
    {"name": "patient_id", "type": "string"}, {"name": "x", "type": "PART"}
]}"""
_OUTER = """syntax = "proto3"; import "parts/part.proto";
message First { message Inner { Part part = 1; } Inner inner = 1; }
message Second { string patient_id = 1; Part part = 2; bytes raw = 3; }"""
_SCHEMAS = registered.Schemas(
    {
        1: Schema("AVRO", registered.AVRO),
        2: Schema("PROTOBUF", registered.PROTOBUF),
        3: Schema("JSON", "{}"),
        4: Schema("AVRO", _NESTED, {"PART": '{"type": "enum", "name": "PART", "symbols": ["A", "B"]}'}),
        5: Schema("PROTOBUF", _OUTER, {"parts/part.proto": 'syntax = "proto3"; message Part { int64 n = 1; }'}),
        6: Schema("AVRO", "{"),
        7: Schema("PROTOBUF", "message"),
        8: Schema("AVRO", '"string"'),
        9: Schema("AVRO", '{"type": "record", "name": "B", "fields": [{"name": "x", "type": "bytes"}]}'),
        10: Schema("PROTOBUF", registered.PROTOBUF, {"../../outside.proto": 'syntax = "proto3";'}),
    }
)


_TOO_LARGE = registered.head(3) + b'{"a":"%s"}' % (b"x" * MAX_RECORD_BYTES)
_SIGN_ON = {"user": "me", "password_file": Path("/no")}


@pytest.fixture
def decoder() -> Decoder:
    return Decoder(_SCHEMAS)


@pytest.mark.parametrize("written", [registered.avro, registered.protobuf])
@pytest.mark.parametrize("given", [vitals.message(), _WHOLE])
def test_a_message_of_our_schemas_is_the_same_message_and_keeps_the_contract(
    decoder: Decoder, written: Any, given: dict[str, Any]
) -> None:
    number = 1 if written is registered.avro else 2
    key, value = message(decoder, b"other", written(number, given))

    assert (key, orjson.loads(value)) == (b"mrn/1", given)
    assert ingest.check([orjson.loads(value)])[1] == []


def test_json_goes_on_as_it_is_and_a_record_without_a_patient_keeps_its_key(decoder: Decoder) -> None:
    assert message(decoder, b"k", registered.head(3) + b'{"a":[1,null]}') == (b"k", b'{"a":[1,null]}')


def test_schemas_that_name_others_are_read(decoder: Decoder) -> None:
    assert decoder.decode(registered.head(4) + b"\x02p\x02") == {"patient_id": "p", "x": "B"}
    # Second of its file; then the message within the first.
    assert decoder.decode(registered.head(5) + b"\x02\x02" + b"\x0a\x01p\x12\x02\x08\x07") == {
        "patient_id": "p",
        "part": {"n": "7"},
    }
    assert decoder.decode(registered.head(5) + b"\x04\x00\x00" + b"\x0a\x02\x08\x07") == {"part": {"n": "7"}}


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "too short to carry the number of a schema"),
        (b"\0\0\0\0", "too short"),
        (vitals.encoded(), "does not begin with 0 and the number of a schema"),
        (registered.head(1) + b"\x02", "schema 1: not Avro of this schema: "),
        (registered.avro(1, vitals.message()) + b"!", "schema 1: more bytes than Avro of this schema has"),
        (registered.head(2), "schema 2: ends within the number of its message"),
        (registered.head(2) + b"\xff" * 9, "schema 2: ends within the number of its message"),
        (registered.head(2) + b"\x00\xff", "schema 2: not a message of this schema"),
        (registered.head(2) + b"\x02\x20", "schema 2: not a message of this schema"),
        (registered.head(2) + b"\x02\x01", "schema 2: names no message of its schema"),
        (registered.head(2) + b"\x01", "schema 2: names no message of its schema"),
        (registered.head(3) + b"[]", "schema 3: not a JSON object"),
        (registered.head(3) + b"{", "schema 3: not JSON: "),
        pytest.param(_TOO_LARGE, "larger than 2097152 bytes as JSON", id="too large"),
        (registered.head(6) + b"x", "schema 6: no schema of Avro: "),
        (registered.head(7) + b"\0", "schema 7: no schema of Protocol Buffers that protoc compiles"),
        (registered.head(8) + b"\x02x", "schema 8: not a record"),
        (registered.head(9) + b"\x02x", "holds what JSON cannot: "),
        (registered.head(10) + b"\0", "schema 10: its reference ../../outside.proto is no name of a file"),
    ],
)
def test_what_cannot_be_decoded_says_why(decoder: Decoder, value: bytes | None, why: str) -> None:
    for _ in range(2):
        with pytest.raises(UndecodableError, match=f"^{why}"):
            message(decoder, None, value)


@pytest.mark.parametrize(
    ("url", "more", "told"),
    [
        ("registry:8081", {}, "--registry registry:8081 is no address"),
        ("http://me:secret@registry", {}, "--registry holds a user"),  # pragma: allowlist secret
        ("http://registry", {"user": "me"}, "--registry-user and --registry-password-file go together"),
        (
            "http://registry",
            _SIGN_ON,
            "will not send a password to registry in clear",
        ),
        (
            "https://registry",
            _SIGN_ON,
            "--registry-password-file /no cannot be read",
        ),
        ("https://registry", {"ca": Path("/no")}, "--registry-ca /no holds no certificates"),
    ],
)
def test_a_registry_that_cannot_be_used_is_refused_with_the_option_to_mend(
    url: str, more: dict[str, Any], told: str
) -> None:
    with pytest.raises(RegistryError, match=f"^{told}"):
        Registry(url, **more)
