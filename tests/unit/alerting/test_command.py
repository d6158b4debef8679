"""The records of commands, and which silences hold."""

from typing import Any

import orjson
import pytest

from alerting.command import Acknowledge, Command, CommandError, Silence, Silences, Unsilence, decode, encode

T0 = 1_700_000_000_000
ACKNOWLEDGE = Acknowledge("c1", T0, "nurse on duty", "hospital/1", "a" * 32, note="on my way")
SILENCE = Silence("s1", T0, "dr on duty", "physiotherapy", T0 + 60_000, patient_id="hospital/1", rule_id="spo2-low")
UNSILENCE = Unsilence("u1", T0 + 1000, "dr on duty", "s1")


@pytest.mark.parametrize("command", [ACKNOWLEDGE, SILENCE, UNSILENCE])
def test_a_command_is_the_same_after_a_round_through_its_record(command: Command) -> None:
    assert decode(encode(command)) == command


def changed(command: Command, /, **fields: Any) -> bytes:
    record = {**orjson.loads(encode(command)), **fields}
    return orjson.dumps({name: value for name, value in record.items() if value is not ...})


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"[]",
        b"{}",
        b"1",
        b"null",
        b'"silence"',
        b"\xff",
        changed(SILENCE, schema_version=2),
        changed(SILENCE, command="mute"),
        changed(SILENCE, note=""),
        changed(SILENCE, by=...),
        changed(SILENCE, until=T0),
        changed(SILENCE, until="tomorrow"),
        changed(SILENCE, patient_id=..., rule_id=...),
        changed(ACKNOWLEDGE, alert_id=...),
        changed(ACKNOWLEDGE, at=0),
        changed(UNSILENCE, silence_id=...),
    ],
)
def test_what_is_no_command_is_refused(value: bytes | None) -> None:
    with pytest.raises(CommandError):
        decode(value)


def silence(**what: Any) -> Silence:
    return Silence("s1", T0, "dr on duty", "why", T0 + 60_000, **what)


@pytest.mark.parametrize(
    ("what", "holds"),
    [
        ({"patient_id": "hospital/1"}, True),
        ({"patient_id": "hospital/2"}, False),
        ({"rule_id": "spo2-low"}, True),
        ({"rule_id": "fast"}, False),
        ({"location_unit": "ICU"}, True),
        ({"location_unit": "RESP"}, False),
        ({"patient_id": "hospital/1", "rule_id": "spo2-low", "location_unit": "ICU"}, True),
        ({"patient_id": "hospital/1", "rule_id": "fast"}, False),
    ],
)
def test_a_silence_mutes_what_all_that_it_names_says_and_only_until_its_end(what: dict[str, str], holds: bool) -> None:
    silences = Silences().after(silence(**what), T0)
    found = [silences.holding("hospital/1", "spo2-low", "ICU", T0 + after) for after in (0, 59_999, 60_000)]
    assert found == (["s1", "s1", None] if holds else [None] * 3)


def test_a_silence_of_a_unit_does_not_mute_a_patient_of_whom_no_unit_is_known() -> None:
    silences = Silences().after(silence(location_unit="ICU"), T0)
    assert silences.holding("hospital/1", "spo2-low", None, T0) is None


def held(*commands: Silence | Unsilence, now: int = T0 + 2000) -> str | None:
    silences = Silences()
    for command in commands:
        silences = silences.after(command, now)
    return silences.holding("hospital/1", "spo2-low", None, now)


def test_a_silence_ends_when_it_is_taken_back_whatever_is_read_first_or_twice() -> None:
    assert held(SILENCE) == "s1"
    assert held(SILENCE, SILENCE, UNSILENCE) is None
    assert held(SILENCE, UNSILENCE, SILENCE) is None
    # The topic has several partitions, and a router reads one after the other.
    assert held(UNSILENCE, SILENCE) is None
    assert held(UNSILENCE, Silence("s2", T0, "dr on duty", "why", T0 + 60_000, rule_id="spo2-low")) == "s2"


def test_silences_that_are_over_are_not_kept() -> None:
    silences = Silences().after(SILENCE, T0)
    later = Silence("s2", T0, "dr on duty", "why", T0 + 90_000, rule_id="fast")
    assert silences.after(later, T0 + 60_000).of == (later,)
    assert Silences().after(SILENCE, T0 + 60_000).of == ()
