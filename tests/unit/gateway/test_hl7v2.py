from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import hl7v2
from gateway.hl7v2 import Header, RejectedError
from gateway.hl7v2_records import records
from gateway.site import Site
from lakehouse.topics import CLINICAL_RESOURCE, VITALS

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BERLIN = Site(zone=ZoneInfo("Europe/Berlin"))

HEAD = r"MSH|^~\&|MON|ICU-7|WARD|HOSP|20260301130002+0100||ORU^R01^ORU_R01|M-1|P|2.6"
PATIENT = r"PID|1||ssn^^^US^SS~4711^^^HOSP^MR||FAMILY^GIVEN^Q||19500203|F"
VISIT = "PV1|1|I|ICU^^7||||||||||||||||V-9"
ORDER = "OBR|1|p-1|f-1|monitoring|||20260301130000+0100"


def text(*segments: str) -> bytes:
    return "\r".join(segments).encode() + b"\r"


def obx(*fields: str) -> str:
    return "|".join(["OBX", "1", *fields])


def heart_rate(value: str = "118", status: str = "F", at: str = "") -> str:
    return obx(
        "NM",
        "147842^MDC_ECG_HEART_RATE^MDC",
        "1.1",
        value,
        "264864^MDC_DIM_BEAT_PER_MIN^MDC",
        *[""] * 4,
        status,
        "",
        "",
        at,
    )


def sent(raw: bytes, site: Site | None = None) -> list[Any]:
    return [orjson.loads(record.value) for record in records(hl7v2.read(raw), site or Site(), NOON)]


def readings(*segments: str) -> list[dict[str, Any]]:
    """What OBX give, without what tells them apart."""
    messages = sent(text(HEAD, PATIENT, ORDER, *segments))
    found = [{"status": m["status"], **one} for m in messages for one in m["observations"]]
    return [{name: value for name, value in one.items() if name != "record_id"} for one in found]


def refusal(raw: bytes, site: Site | None = None) -> tuple[str, str]:
    with pytest.raises(RejectedError) as caught:
        sent(raw, site)
    return caught.value.code, str(caught.value)


def test_the_values_of_one_instant_are_one_device_message() -> None:
    raw = text(
        HEAD,
        PATIENT,
        VISIT,
        ORDER,
        heart_rate(),
        obx("NM", "8480-6^systolic^LN", "", "16.0", "kPa", *[""] * 4, "F"),
        heart_rate("121", at="20260301130001.5+0100"),
    )

    common = {
        "schema_version": 1,
        "patient_id": "HOSP/4711",
        "encounter_id": "HOSP/V-9",
        "device_id": "MON",
        "source": "ICU-7",
        "location": {"unit": "ICU", "bed": "7"},
        "recorded_at": "2026-03-01T12:00:02Z",
        "status": "final",
    }
    rate = {"code": "8867-4", "unit": "MDC_DIM_BEAT_PER_MIN", "source_code": "147842", "record_id": "f-1/8867-4/1.1"}
    assert sent(raw) == [
        {
            **common,
            "message_id": "hl7/MON/ICU-7/M-1/0",
            "observed_at": "2026-03-01T12:00:00Z",
            "observations": [
                {**rate, "value": 118.0},
                {"code": "8480-6", "value": 16.0, "unit": "kPa", "record_id": "f-1/8480-6/"},
            ],
        },
        {
            **common,
            "message_id": "hl7/MON/ICU-7/M-1/1",
            "observed_at": "2026-03-01T12:00:01.500000Z",
            "observations": [{**rate, "value": 121.0}],
        },
    ]


def test_the_same_message_gives_the_same_records_whenever_it_comes() -> None:
    message = hl7v2.read(text(HEAD, PATIENT, ORDER, heart_rate()))

    assert records(message, Site(), NOON) == records(message, Site(), NOON.replace(day=2))


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("F", {"status": "final", "value": 118.0}),
        ("P", {"status": "preliminary", "value": 118.0}),
        ("R", {"status": "preliminary", "value": 118.0}),
        ("C", {"status": "corrected", "value": 118.0}),
        ("W", {"status": "entered-in-error", "value": 118.0}),
        ("D", {"status": "entered-in-error", "value": 118.0}),
        ("X", {"status": "final", "value_code": "absent:X"}),
        ("I", {"status": "final", "value_code": "absent:I"}),
    ],
)
def test_obx_11_is_the_status_of_a_value(status: str, expected: dict[str, Any]) -> None:
    (found,) = readings(heart_rate(status=status))

    assert {name: found[name] for name in ("status", "value", "value_code") if name in found} == expected


def test_a_correction_is_a_version_of_the_same_value() -> None:
    (first,) = sent(text(HEAD, PATIENT, ORDER, heart_rate()))
    (second,) = sent(text(HEAD.replace("M-1", "M-2"), PATIENT, ORDER, heart_rate("81", "C")))

    identity = ("patient_id", "device_id", "source", "observed_at")
    assert [first[name] for name in identity] == [second[name] for name in identity]
    assert first["observations"][0]["record_id"] == second["observations"][0]["record_id"]
    assert (first["message_id"], second["message_id"]) == ("hl7/MON/ICU-7/M-1/0", "hl7/MON/ICU-7/M-2/0")


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        (obx("SN", "8867-4^^LN", "", "^118", "bpm"), {"code": "8867-4", "value": 118.0, "unit": "bpm"}),
        (obx("SN", "8867-4^^LN", "", "=^118", "bpm"), {"code": "8867-4", "value": 118.0, "unit": "bpm"}),
        (obx("SN", "8867-4^^LN", "", ">^300", "bpm"), {"code": "8867-4", "value_code": ">300"}),
        (obx("CWE", "67775-7^^LN", "", "x^Responds to voice^L"), {"code": "67775-7", "value_code": "V"}),
        (obx("ST", "67775-7^^LN", "", "Alert"), {"code": "67775-7", "value_code": "A"}),
        (obx("NM", "8867-4^^LN", "", "", "bpm"), {"code": "8867-4", "value_code": "absent:unknown"}),
        (obx("NM", "8867-4^^LN", "", '""', "bpm"), {"code": "8867-4", "value_code": "absent:unknown"}),
        (
            obx("NM", "HF^^L^8867-4^^LN", "", "80", "?^beats/min"),
            {"code": "8867-4", "value": 80.0, "unit": "beats/min"},
        ),
        (obx("NM", "XX^odd^L", "", "1e3"), {"code": "XX", "value_code": "1e3"}),
        (
            obx("TX", "note^^L", "", r"low \T\ slow\.br\\X41C39F\ " + "x" * 90),
            {"code": "note", "value_code": ("low & slow\nA\u00df " + "x" * 90)[:64]},
        ),
    ],
)
def test_a_value_goes_as_it_is_meant(segment: str, expected: dict[str, Any]) -> None:
    assert readings(segment) == [{"status": "final", **expected}]


def test_repeated_values_stay_apart_and_segments_that_say_nothing_are_nothing() -> None:
    structure = "OBX|1||69965^MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS^MDC|1.0.0.0|||||||X"
    found = readings(structure, heart_rate("60~120"), "OBX|2|TX|||||||||F")

    assert [one["value"] for one in found] == [60.0, 120.0]


@pytest.mark.parametrize("separator", ["\r", "\n", "\r\n", "\r\n\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_lines_and_byte_order_marks_are_taken_as_they_come(separator: str, mark: bytes) -> None:
    raw = mark + separator.join([HEAD, PATIENT, ORDER, heart_rate(), ""]).encode()

    assert sent(raw) == sent(text(HEAD, PATIENT, ORDER, heart_rate()))


@pytest.mark.parametrize(
    ("charset", "encoding"),
    [("", "utf-8"), ("UNICODE UTF-8", "utf-8"), ("8859/1", "latin-1"), ("8859/15", "iso8859-15")],
)
def test_msh_18_names_the_charset(charset: str, encoding: str) -> None:
    head = f"{HEAD.replace('ORU^R01^ORU_R01', 'ADT^A08')}||||||{charset}"
    raw = "\r".join([head, PATIENT.replace("FAMILY", "F\u00e4mily")]).encode(encoding)

    assert sent(raw)[0]["resource"]["name"] == [{"family": "F\u00e4mily", "given": ["GIVEN", "Q"]}]


def test_a_time_without_an_offset_is_that_of_msh_7_else_of_the_site_else_refused() -> None:
    order = ORDER.replace("+0100", "")
    silent = text(HEAD.replace("+0100", ""), PATIENT, order, heart_rate())

    (by_message,) = sent(text(HEAD.replace("+0100", "-0530"), PATIENT, order, heart_rate()), BERLIN)
    (by_site,) = sent(silent, BERLIN)
    (summer,) = sent(silent.replace(b"20260301", b"20260701"), BERLIN)

    assert by_message["observed_at"] == "2026-03-01T18:30:00Z"
    assert (by_site["observed_at"], summer["observed_at"]) == ("2026-03-01T12:00:00Z", "2026-07-01T11:00:00Z")
    code, said = refusal(silent)
    assert (code, said[:38]) == ("AE", "OBR-7: the time 20260301130000 has no ")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", ("AR", "the message does not begin with a segment MSH")),
        (b"MSH|", ("AR", "the message does not begin with a segment MSH")),
        (b"MSHaaaaaaaa", ("AR", "MSH-1 and MSH-2 do not name the separators")),
        (text(HEAD.replace("^~", "^^")), ("AR", "MSH-1 and MSH-2 do not name the separators")),
        (text(HEAD.replace("R01", "R03")), ("AR", "ORU^R03 is not taken: ADT^A01, ADT^A02, ADT^A03, ADT^A08, ORU^R01")),
        (text(HEAD.replace("2.6", "3.0")), ("AR", "version 3.0 is not taken: 2.x is")),
        (text(HEAD.replace("M-1", "")), ("AR", "MSH-10, the message control id, is empty")),
        (
            text(HEAD + "||||||8859/1").replace(b"8859/1", b"JIS X"),
            ("AE", "MSH-18 names the charset JIS X, which is not read"),
        ),
        (text(HEAD, PATIENT) + b"\xff", ("AE", f"byte {len(text(HEAD, PATIENT))} is not UTF-8, as MSH-18 is empty")),
        (text(HEAD), ("AE", "there is no segment PID")),
        (text(HEAD, "PID|1"), ("AE", "PID-3, the patient's identifier, is empty")),
        (text(HEAD, PATIENT), ("AE", "no OBX holds a value")),
        (text(HEAD, PATIENT, heart_rate()), ("AE", "OBX 1 has no time: neither OBX-14 nor OBR-7")),
        (
            text(HEAD, PATIENT, ORDER, heart_rate(status="?")),
            ("AE", "OBX-11, the status, is ?: one of HL7 table 0085 is needed"),
        ),
        (
            text(HEAD, PATIENT, ORDER, heart_rate("", "D")),
            ("AE", "OBX 1 withdraws a value (OBX-11) that OBX-5 does not name"),
        ),
        (text(HEAD, PATIENT, heart_rate(at="noon")), ("AE", "OBX-14: noon is no time: YYYYMMDDHHMMSS+ZZZZ is")),
        (
            text(HEAD.replace("ORU^R01^ORU_R01", "ADT^A01"), PATIENT, "PV1|1|I"),
            ("AE", "PV1-19, the visit number, is empty: nothing else names the encounter"),
        ),
    ],
)
def test_what_cannot_be_taken_is_told_why(raw: bytes, expected: tuple[str, str]) -> None:
    assert refusal(raw) == expected


def test_an_admission_is_a_patient_and_an_encounter() -> None:
    head = HEAD.replace("ORU^R01^ORU_R01", "ADT^A01^ADT_A01")
    visit = f"{VISIT}{'|' * 25}202603011030+0100".replace("PV1|1|I|ICU^^7|", "PV1|1|I|ICU^^7|URGENT")
    raw = text(head, "EVN|A01|202603011031+0100", PATIENT, visit)

    found = records(hl7v2.read(raw), Site("hospital"), NOON)

    assert [(one.topic, one.key) for one in found] == [(CLINICAL_RESOURCE.name, b"hospital/4711")] * 2
    envelope = {
        "schema_version": 1,
        "patient_id": "hospital/4711",
        "source": "ICU-7",
        "recorded_at": "2026-03-01T09:31:00Z",
    }
    kinds = "http://terminology.hl7.org/CodeSystem/v2-0203"
    assert [orjson.loads(one.value) for one in found] == [
        {
            **envelope,
            "resource": {
                "resourceType": "Patient",
                "id": "4711",
                "identifier": [
                    {
                        "value": "ssn",
                        "type": {"coding": [{"system": kinds, "code": "SS"}]},
                        "assigner": {"display": "US"},
                    },
                    {
                        "value": "4711",
                        "type": {"coding": [{"system": kinds, "code": "MR"}]},
                        "assigner": {"display": "HOSP"},
                    },
                ],
                "name": [{"family": "FAMILY", "given": ["GIVEN", "Q"]}],
                "gender": "female",
                "birthDate": "1950-02-03",
            },
        },
        {
            **envelope,
            "resource": {
                "resourceType": "Encounter",
                "id": "V-9",
                "status": "in-progress",
                "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
                "type": [{"text": "URGENT"}],
                "subject": {"reference": "Patient/4711"},
                "period": {"start": "2026-03-01T09:30:00Z"},
                "location": [{"location": {"display": "ICU, 7"}}],
            },
        },
    ]


def test_a_discharge_ends_the_encounter_when_it_says_so_else_when_it_was_recorded() -> None:
    head = HEAD.replace("ORU^R01^ORU_R01", "ADT^A03")
    died = VISIT + "|" * 17 + "20" + "|" * 9 + "20260301110000+0100"

    (_, by_event) = sent(text(head, "EVN||20260301120000+0100", PATIENT, VISIT))
    (_, by_visit) = sent(text(head, PATIENT, died))
    (_, moved) = sent(text(head.replace("A03", "A02"), PATIENT, VISIT))

    assert (by_event["resource"]["status"], by_event["resource"]["period"]) == (
        "finished",
        {"end": "2026-03-01T11:00:00Z"},
    )
    assert by_visit["resource"]["period"] == {"end": "2026-03-01T10:00:00Z"}
    assert by_visit["resource"]["hospitalization"]["dischargeDisposition"]["coding"][0]["code"] == "exp"
    assert (moved["resource"]["status"], "period" in moved["resource"]) == ("in-progress", False)


def test_an_answer_turns_sender_and_receiver_round_and_gives_the_reason() -> None:
    header = hl7v2.read(text(HEAD, PATIENT)).header

    taken = hl7v2.acknowledgement(header, "AA", NOON).decode().split("\r")
    refused = hl7v2.acknowledgement(header, "AE", NOON, "a|b\r\nc").decode().split("\r")

    assert taken == [
        r"MSH|^~\&|WARD|HOSP|MON|ICU-7|20260301120000+0000||ACK^R01^ACK|M-1|P|2.6||||||UNICODE UTF-8",
        "MSA|AA|M-1",
        "",
    ]
    assert refused[1:] == [r"MSA|AE|M-1|a\F\b c", r"ERR|||207^^HL70357|E||||a\F\b c", ""]


def test_an_escape_sequence_cannot_ask_for_more_than_it_is() -> None:
    assert readings(obx("TX", "note^^L", "", "a\\.sp999999999\\b")) == [
        {"status": "final", "code": "note", "value_code": "ab"}
    ]


@given(st.text(alphabet="\\.XFSTRE0123456789spbr&|^~A", max_size=40))
def test_any_escape_sequence_is_read_within_its_length(escaped: str) -> None:
    assert len(hl7v2.unescape(escaped, Header())) <= len(escaped)


FIELDS = st.lists(st.text(alphabet='A1^~\\&|. +-XF"\u00e4', max_size=12), max_size=22).map("|".join)


SEGMENTS = st.sampled_from(["PID", "PV1", "OBR", "OBX", "EVN", "Z"]).flatmap(
    lambda name: FIELDS.map(lambda fields: f"{name}|{fields}")
)


@given(st.lists(SEGMENTS, max_size=5), st.sampled_from(["ORU^R01", "ADT^A01"]))
def test_whatever_stands_in_a_message_it_is_taken_or_refused(segments: list[str], kind: str) -> None:
    head = HEAD.replace("ORU^R01^ORU_R01", kind)
    for raw in (text(head, *segments), text(head, PATIENT, VISIT, ORDER, *segments)):
        assert code(raw) in ("AA", "AE", "AR")


def code(raw: bytes) -> str:
    """How a message is answered."""
    try:
        return "AA" if sent(raw, BERLIN) else "nothing"
    except RejectedError as error:
        return error.code


@given(st.binary(max_size=60))
def test_bytes_that_are_no_message_are_refused(raw: bytes) -> None:
    for content in (raw, b"MSH" + raw, HEAD.encode() + b"\r" + raw):
        with pytest.raises(RejectedError):
            sent(content, BERLIN)


def test_real_messages_are_taken(shared_data: Path) -> None:
    counts = {}
    for file in sorted((shared_data / "hl7v2").glob("*/*.hl7")):
        found = records(hl7v2.read(file.read_bytes()), BERLIN, NOON)
        counts[file.stem] = [sum(one.topic == topic.name for one in found) for topic in (CLINICAL_RESOURCE, VITALS)]

    assert counts == {
        **{f"ADT-A0{event}-01": [2, 1] for event in (1, 2, 3, 8)},
        "LAB-ORU-1": [0, 4],
        "LAB-ORU-2": [0, 1],
        "ORU-R01-01": [0, 4],
        "ORU-R01-RMGEAD": [0, 1],
        "ORU-multiline-short": [0, 1],
        "ORU-multiline-short-mixed": [0, 1],
        "sample_unix": [2, 1],
        "sample_win": [2, 1],
    }


@given(st.sampled_from(["", HEAD + "\r", "\r".join((HEAD, PATIENT, ORDER)) + "\rOBX|1|NM|"]), st.binary(max_size=200))
def test_any_bytes_are_messages_or_a_refusal(start: str, rest: bytes) -> None:
    assert code(start.encode() + rest) in ("AA", "AE", "AR")
