"""Records to messages or to the reason why they are none."""

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from random import Random

import pytest

from lakehouse.message import encode, schema
from lakehouse.transforms.message import DEAD_LETTER_REASONS, MAX_MESSAGE_BYTES, parse
from tests.fixtures.vitals import encoded, heart_rate, message

GOOD = encoded()


@pytest.fixture(scope="module")
def reasons(records):
    """The reason (None for a message) and the detail of each value, in order."""

    def make(*values: bytes | None) -> list[tuple[str | None, str | None]]:
        rows = parse(records(*values)).orderBy("offset").select("dead_letter_reason", "dead_letter_detail")
        return [tuple(row) for row in rows.collect()]

    return make


def test_every_reason_is_found_and_says_what_to_look_at(reasons):
    long_id = "x" * 300_000
    cases = [
        (None, "tombstone", None),
        (b"", "empty", None),
        (encoded(message_id=long_id), "oversized", f"{len(encoded(message_id=long_id))} bytes"),
        (GOOD.replace(b"mrn", b"m\xe9n"), "not_utf8", None),
        (GOOD[:60], "malformed_json", GOOD[:60].decode()),
        (encoded(observations="none"), "wrong_type", encoded(observations="none").decode()[:120]),
        (encoded(schema_version=2), "unknown_schema_version", "2"),
        (encoded(device_id=..., status=None), "missing_field", "device_id, status"),
        (encoded(*[heart_rate()] * 257), "too_many_observations", "257"),
        (encoded(observed_at="2026-03-01T12:00:00"), "bad_timestamp", "2026-03-01T12:00:00"),
        (encoded(patient_id="mrn-1"), "invalid_patient_id", "mrn-1"),
    ]

    assert reasons(*(value for value, _, _ in cases)) == [(reason, detail) for _, reason, detail in cases]
    assert [reason for _, reason, _ in cases] == list(DEAD_LETTER_REASONS)


def test_a_record_is_one_json_value_and_nothing_else(reasons):
    whole = [GOOD, b" \r\n\t" + GOOD + b"\n "]
    broken = [
        GOOD + GOOD,
        GOOD + b"\n" + GOOD,
        GOOD + b"," + GOOD,
        GOOD + b" xyz",
        GOOD + b"}",
        GOOD + b"]",
        GOOD + b"]}",
        GOOD + b', "status": "final"',
        GOOD + b"\x00",
        GOOD[1:],
        GOOD[:-1],
        b" \n",
        b"\xef\xbb\xbf" + GOOD,
        b"xyz " + GOOD,
        GOOD.replace(b'"', b"'"),
        GOOD.replace(b"72.0", b"072"),
        GOOD[:-1] + b', "more": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ]

    assert [reason for reason, _ in reasons(*whole)] == [None] * len(whole)
    assert [reason for reason, _ in reasons(*broken)] == ["malformed_json"] * len(broken)


def test_json_that_is_no_object_is_of_the_wrong_type(reasons):
    values = [b"null", b"12", b"true", b'"text"', b"[]", b"[" + GOOD + b"]"]
    assert [reason for reason, _ in reasons(*values)] == ["wrong_type"] * len(values)


def test_a_field_of_another_type_is_named_so_and_not_guessed_at(reasons):
    texts = ("message_id", "patient_id", "encounter_id", "device_id", "source")
    wrong = [
        *(message(**{name: value}) for name in texts for value in ({"a": "a/b"}, ["a/b"], {}, [])),
        *(message(schema_version=value) for value in ("1", 1.5, True, 10**12, [1])),
        *(message(location=value) for value in ("ICU", "", 5, ["ICU"], {"unit": {"a": 1}}, {"bed": ["a"]})),
        *(message(device_status=value) for value in ("on", {"battery": "80"}, {"lead_off": "true"}, {"lead_off": 1})),
        *(message(observations=value) for value in ({"code": "8867-4"}, "text", "", 5, [5], ["text"])),
        *(message(heart_rate(value)) for value in ("72", "", True, [72], {"number": 72})),
    ]
    found = reasons(*(json.dumps(value).encode() for value in wrong))
    assert [(value, reason) for value, (reason, _) in zip(wrong, found, strict=True) if reason != "wrong_type"] == []


def test_a_number_where_a_text_belongs_is_taken_as_its_text_and_a_brace_in_a_text_is_no_json(records):
    rows = parse(records(encoded(message_id=12, device_id="{3F25-04E0}", source="[ICU] 3")))
    found = rows.selectExpr("dead_letter_reason", "message.message_id", "message.device_id", "message.source").collect()
    assert [tuple(row) for row in found] == [(None, "12", "{3F25-04E0}", "[ICU] 3")]


def test_a_missing_empty_or_null_field_is_missing(reasons):
    required = ("message_id", "patient_id", "device_id", "source", "observed_at", "status")
    cases = [(encoded(**{name: empty}), name) for name in required for empty in (..., None, "")]
    cases += [(encoded(schema_version=empty), "schema_version") for empty in (..., None)]
    cases += [(encoded(observations=empty), "observations") for empty in (..., None, [])]
    cases += [(b"{}", ", ".join(("schema_version", *required, "observations")))]

    assert reasons(*(value for value, _ in cases)) == [("missing_field", name) for _, name in cases]


def test_another_schema_version_is_named_whatever_else_it_lacks(reasons):
    assert reasons(encoded(schema_version=7, status=..., observed_at="now", patient_id="1")) == [
        ("unknown_schema_version", "7")
    ]


def test_an_instant_is_rfc_3339_with_an_offset_and_of_a_year_that_can_be(records):
    instants = {
        "2026-03-01T12:00:00Z": "2026-03-01 12:00:00",
        "2026-03-01T12:00:00+01:00": "2026-03-01 11:00:00",
        "2026-03-01T00:30:00+05:45": "2026-02-28 18:45:00",
        "2026-03-01T12:00:00-00:00": "2026-03-01 12:00:00",
        "2026-03-01T12:00:00.5Z": "2026-03-01 12:00:00.5",
        "2026-03-01T12:00:00.123456-03:00": "2026-03-01 15:00:00.123456",
        "2026-03-01T12:00:00.123456789Z": "2026-03-01 12:00:00.123456",
        "2150-06-30T23:59:59Z": "2150-06-30 23:59:59",
        "1900-01-01T00:00:00+14:00": "1899-12-31 10:00:00",
        "2999-12-31T23:59:59-14:00": "3000-01-01 13:59:59",
    }
    refused = [
        "2026-03-01T12:00:00", "2026-03-01 12:00:00Z", "2026-03-01T12:00+01:00", "2026-03-01T12:00:00+0100",
        "2026-03-01T12:00:00+25:00", "2026-03-01T12:00:00 UTC+01:00", "2026-03-01T12:00:00.Z", "2026-03-01T12:00:00,5Z",
        "2026-02-30T12:00:00Z", "2026-03-01T24:00:00Z", "2026-03-01T12:00:60Z", " 2026-03-01T12:00:00Z",
        "2026-03-01T12:00:00Z ", "2026-3-1T12:00:00.000Z", "T12:00:00.0000000000Z", "today", "1772366400000",
        "0001-01-01T00:00:00+14:00", "1899-12-31T23:59:59Z", "3000-01-01T00:00:00Z", "9999-12-31T23:59:59-10:00",
        "12026-03-01T12:00:00Z", "+12026-03-01T12:00:00Z", "-2026-03-01T12:00:00Z",
    ]  # fmt: skip
    values = [encoded(observed_at=text) for text in (*instants, *refused)]
    values += [encoded(recorded_at=text) for text in (*instants, *refused, "")]

    rows = (
        parse(records(*values))
        .orderBy("offset")
        .selectExpr("CAST(observed_instant AS STRING)", "CAST(recorded_instant AS STRING)", "dead_letter_reason")
    )

    observed = "2026-03-01 12:00:00"
    assert [tuple(row) for row in rows.collect()] == [
        *((instant, None, None) for instant in instants.values()),
        *((None, None, "bad_timestamp") for _ in refused),
        *((observed, instant, None) for instant in instants.values()),
        *((observed, None, "bad_timestamp") for _ in (*refused, "")),
    ]


def test_a_patient_id_is_what_the_contract_says(reasons):
    ids = ["mrn/1", "a/b/c", "a/b/", "urn:oid:1.2/x y", "mrn", "/1", "mrn/", "/", "//", "a//"]
    allowed = re.compile(schema()["properties"]["patient_id"]["pattern"])
    expected = [None if allowed.match(name) else "invalid_patient_id" for name in ids]
    assert [reason for reason, _ in reasons(*(encoded(patient_id=name) for name in ids))] == expected


def test_the_largest_message_is_parsed_and_one_byte_more_is_not(reasons):
    room = MAX_MESSAGE_BYTES - len(encoded(message_id=""))
    sizes = [encoded(message_id="x" * room), encoded(message_id="x" * (room + 1))]
    assert [len(value) for value in sizes] == [MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES + 1]
    assert reasons(*sizes, encoded(*[heart_rate()] * 256)) == [
        (None, None),
        ("oversized", f"{MAX_MESSAGE_BYTES + 1} bytes"),
        (None, None),
    ]


def some_message(random: Random) -> dict:
    """Any message that the contract accepts."""

    def text(most: int) -> str:
        return "".join(
            random.choice("aZ09 /.-{}[]'\"\\°é漢😀\n\t\x01") for _ in range(random.randint(1, min(most, 20)))
        )

    def instant() -> str:
        zone = timezone(timedelta(minutes=random.randint(-14 * 60, 14 * 60)))
        at = datetime(1901, 1, 1, tzinfo=zone) + timedelta(microseconds=random.randrange(34_000_000_000_000_000))
        return at.replace(microsecond=random.choice([0, at.microsecond])).isoformat()

    def some(**fields: object) -> dict:
        return {name: value for name, value in fields.items() if random.random() < 0.5}

    def observation() -> dict:
        value = random.choice([0.0, -1.0, 72.0, 36.6, 5e-324, 1.7976931348623157e308, random.uniform(-1e6, 1e6)])
        given = {"value": value} if random.random() < 0.8 else {"value_code": text(64)}
        texts = some(unit=text(64), source_code=text(128), source_unit=text(64), record_id=text(256))
        return {"code": text(64), **given, **texts}

    return {
        "schema_version": 1,
        "message_id": text(128),
        "patient_id": f"a{text(128)}".translate({ord("/"): "-", ord("\n"): " "}) + f"/b{text(128)}".replace("\n", " "),
        "device_id": text(256),
        "source": text(128),
        "observed_at": instant(),
        "status": random.choice(schema()["properties"]["status"]["enum"]),
        "observations": [observation() for _ in range(random.randint(1, 5))],
        **some(
            encounter_id=text(256),
            recorded_at=instant(),
            location=some(unit=text(128), bed=text(128)),
            device_status=some(battery=random.uniform(0, 100), lead_off=random.random() < 0.5),
        ),
    }


def test_what_the_contract_accepts_is_parsed_and_comes_out_as_it_was_sent(records):
    random = Random(20260301)
    sent = [some_message(random) for _ in range(300)]

    parsed = parse(records(*(encode(one) for one in sent))).orderBy("offset")
    rows = parsed.selectExpr(
        "dead_letter_reason", "unix_micros(observed_instant) AS at", "to_json(message) AS text"
    ).collect()

    assert [row["dead_letter_reason"] for row in rows] == [None] * len(sent)
    assert [json.loads(row["text"]) for row in rows] == sent
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert [row["at"] for row in rows] == [
        (datetime.fromisoformat(one["observed_at"]) - epoch) // timedelta(microseconds=1) for one in sent
    ]
