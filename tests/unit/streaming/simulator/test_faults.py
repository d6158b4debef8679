"""Each fault makes what it says, and the truth says what must become of it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import orjson
import pytest

from lakehouse.message import ContractError, validate
from lakehouse.tables import CLOCK_SKEW, OBSERVATION_CONSTRAINTS, STATUSES
from lakehouse.vocabulary import NO_VALUE_SENTINELS, signal_by_code, units
from streaming.simulator.faults import FAULTS, FaultError, parse_change, rates
from streaming.simulator.simulation import Options, Record, Simulation

START = datetime(2026, 3, 1, 8, tzinfo=UTC)
DEAD_LETTER_REASONS = {
    "tombstone",
    "empty",
    "oversized",
    "not_utf8",
    "malformed_json",
    "wrong_type",
    "missing_field",
    "bad_timestamp",
    "unknown_schema_version",
}
UNIT_BY_TEXT = {unit.text: unit for unit in units()}


def sent(fault: str, patients: int = 40) -> list[Record]:
    """Records of a run in which every message has this one fault."""
    simulation = Simulation(Options(START, patients, seed=5, fault_rates={fault: 1.0}, episodes_per_hour=0))
    count = 3 if fault == "oversized" else patients
    return [
        item
        for item in simulation.records(duration=count / patients)
        if isinstance(item, Record) and item.topic == "vitals"
    ]


def parsed(record: Record) -> dict[str, Any]:
    assert record.value is not None
    message: dict[str, Any] = orjson.loads(record.value)
    return message


def converted(observation: dict[str, Any]) -> float | None:
    """The value in the signal's unit, or None where the unit is not one of its."""
    unit = UNIT_BY_TEXT.get(str(observation.get("unit", "")).lower())
    if unit is None or unit.unit != signal_by_code()[observation["code"]].unit:
        return None
    return float(observation["value"] * unit.scale + unit.offset)


def plausible(observation: dict[str, Any]) -> bool:
    value, signal = converted(observation), signal_by_code()[observation["code"]]
    assert value is not None
    return (
        (signal.above is None or value > signal.above)
        and (signal.below is None or value < signal.below)
        and (signal.at_most is None or value <= signal.at_most)
    )


def test_every_reason_is_one_that_the_tables_declare_or_a_dead_letter_has() -> None:
    constraints = {constraint.name for constraint in OBSERVATION_CONSTRAINTS}
    for fault in FAULTS:
        for record in sent(fault.name):
            assert set(record.line.get("quarantined", {})) <= constraints
            kind, _, reason = record.line["expect"].partition(":")
            assert kind in ("parsed", "duplicate") or reason in DEAD_LETTER_REASONS


def test_every_constraint_and_every_dead_letter_reason_has_a_fault_that_meets_it() -> None:
    lines = [record.line for fault in FAULTS for record in sent(fault.name)]
    assert {name for line in lines for name in line.get("quarantined", {})} == {c.name for c in OBSERVATION_CONSTRAINTS}
    reasons = {line["expect"].removeprefix("dead_letter:") for line in lines if line["expect"].startswith("dead")}
    assert reasons == DEAD_LETTER_REASONS


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.name != "dropout"], ids=lambda fault: fault.name)
def test_the_truth_names_the_fault_and_counts_no_more_than_there_is(fault: Any) -> None:
    records = sent(fault.name)
    assert records
    for record in records:
        assert record.line["fault"] == fault.name
        assert sum(record.line.get("quarantined", {}).values()) <= record.line["observations"]


@pytest.mark.parametrize(
    "fault",
    [
        "duplicate",
        "out_of_order",
        "late",
        "convertible_unit",
        "correction",
        "entered_in_error",
        "low_battery",
        "flat_line",
    ],
)
def test_a_fault_that_leaves_messages_sound_keeps_the_contract(fault: str) -> None:
    for record in sent(fault):
        message = parsed(record)
        validate(message)
        assert message["observed_at"] == record.line["observed_at"]
        assert all(plausible(observation) for observation in message["observations"])


def test_lead_off_says_so_and_sends_sentinels_for_the_signals_of_one_sensor() -> None:
    sensors = set()
    for record in sent("lead_off"):
        message = parsed(record)
        assert message["device_status"]["lead_off"] is True
        off = [
            signal_by_code()[o["code"]].name
            for o in message["observations"]
            if o["value"] in NO_VALUE_SENTINELS or (o["value"] == 0 and signal_by_code()[o["code"]].zero_is_no_value)
        ]
        assert record.line["quarantined"] == {"sensor_disconnected": len(off)}
        sensors.add(tuple(off))
    assert sensors == {
        ("heart_rate", "respiratory_rate"),
        ("spo2",),
        ("systolic_bp", "diastolic_bp"),
        ("temperature",),
    }


def lasting(fault: str, patients: int = 100, duration: float = 200.0) -> dict[str, list[Record]]:
    """Messages of a run of one message a second, patient by patient, in which some begin a fault that lasts."""
    by_patient: dict[str, list[Record]] = {}
    options = Options(START, patients, seed=5, fault_rates={fault: 0.1}, episodes_per_hour=0)
    for item in Simulation(options).records(duration=duration):
        if isinstance(item, Record) and item.topic == "vitals":
            by_patient.setdefault(item.line["patient_id"], []).append(item)
    return by_patient


def spells(records: list[Record], fault: str) -> list[list[Record]]:
    """The messages of each time that the fault was there, but for those that began or ended with the run."""
    groups = [list(group) for there, group in groupby(records, lambda r: r.line["fault"] == fault) if there]
    return [group for group in groups if group[0] is not records[0] and group[-1] is not records[-1]]


def test_a_low_battery_is_low_for_thirty_messages_and_nothing_else_is_changed() -> None:
    clean = {record.line["message_id"]: parsed(record) for record in sent("duplicate")}
    for record in sent("low_battery"):
        message, before = parsed(record), clean[record.line["message_id"]]
        assert message == {**before, "device_status": {"battery": 5}}
        assert before["device_status"]["battery"] >= 20
    lengths = [len(spell) for records in lasting("low_battery").values() for spell in spells(records, "low_battery")]
    assert len(lengths) > 20
    assert {length % 30 for length in lengths} == {0}


def test_a_flat_line_repeats_one_heart_rate_for_sixty_messages_while_the_other_signals_go_on() -> None:
    seen = 0
    for records in lasting("flat_line").values():
        heart_rates = [parsed(record)["observations"][0]["value"] for record in records]
        for spell in spells(records, "flat_line"):
            first = records.index(spell[0])
            assert len(spell) % 60 == 0
            # A second spell may follow the first at once, with a value of its own.
            for begin in range(first, first + len(spell), 60):
                assert len(set(heart_rates[begin : begin + 60])) == 1
                pressures = {parsed(record)["observations"][3]["value"] for record in records[begin : begin + 60]}
                assert len(pressures) > 5
                seen += 1
    assert seen > 20


def test_the_value_of_a_flat_line_is_the_one_that_was_read_when_it_began() -> None:
    options = Options(START, 100, seed=5, episodes_per_hour=0)
    readings = {
        record.line["message_id"]: parsed(record)["observations"][0]["value"]
        for record in Simulation(options).records(duration=200)
        if isinstance(record, Record) and record.topic == "vitals"
    }
    begun = [spell[0] for records in lasting("flat_line").values() for spell in spells(records, "flat_line")]
    assert begun
    for record in begun:
        assert parsed(record)["observations"][0]["value"] == readings[record.line["message_id"]]


def test_faults_that_do_not_come_by_default_leave_it_to_the_seed_which_messages_have_another() -> None:
    def faults(rates: dict[str, float]) -> dict[str, str | None]:
        items = Simulation(Options(START, 50, seed=5, fault_rates=rates)).records(duration=200)
        return {item.line["message_id"]: item.line["fault"] for item in items if item.line["type"] == "message"}

    assert rates("default")["low_battery"] == rates("default")["flat_line"] == 0
    without = faults({"unknown_code": 0.05})
    added = faults({"unknown_code": 0.05, "low_battery": 0.2, "flat_line": 0.2})
    others = {name: fault for name, fault in added.items() if fault not in ("low_battery", "flat_line")}
    assert {name: without[name] for name in others} == others
    assert len(others) < 0.8 * len(without)


def test_a_duplicate_is_the_same_bytes_again() -> None:
    by_id: dict[str, list[Record]] = {}
    for record in sent("duplicate"):
        by_id.setdefault(record.line["message_id"], []).append(record)
    for first, again in by_id.values():
        assert first.value == again.value
        assert (first.line["expect"], again.line["expect"]) == ("parsed", "duplicate")
        assert again.line["refers_to"] == first.line["message_id"]


def test_out_of_order_messages_come_after_a_later_one_of_the_same_patient() -> None:
    options = Options(START, 20, seed=5, fault_rates={"out_of_order": 0.1})
    last: dict[str, str] = {}
    overtaken = 0
    records = [item for item in Simulation(options).records(duration=60) if isinstance(item, Record)]
    for line in (record.line for record in records if record.topic == "vitals"):
        before = last.get(line["patient_id"], "")
        overtaken += line["observed_at"] < before
        last[line["patient_id"]] = max(before, line["observed_at"])
    assert overtaken > 50


def test_late_messages_are_sent_long_after_they_were_observed() -> None:
    options = Options(START, 20, seed=5, fault_rates={"late": 0.05})
    delays = [
        record.due - (datetime.fromisoformat(record.line["observed_at"]) - START).total_seconds()
        for record in Simulation(options).records(duration=200)
        if isinstance(record, Record) and record.line.get("fault") == "late" and record.due < 200
    ]
    assert min(delays) >= 20
    assert max(delays) <= 120.001


def test_a_clock_that_runs_ahead_is_ahead_by_far_more_than_the_skew_allowed() -> None:
    for record in sent("clock_ahead"):
        validate(parsed(record))
        ahead = datetime.fromisoformat(parsed(record)["observed_at"]) - START
        assert ahead > 10 * CLOCK_SKEW
        assert record.line["quarantined"] == {"clock_ahead": 6}


def test_convertible_units_give_the_value_that_was_measured() -> None:
    clean = {record.line["message_id"]: parsed(record) for record in sent("duplicate")}
    for record in sent("convertible_unit"):
        measured = [o["value"] for o in clean[record.line["message_id"]]["observations"]]
        assert [converted(o) for o in parsed(record)["observations"]] == pytest.approx(measured, abs=0.01)


@pytest.mark.parametrize("fault", ["wrong_unit", "unknown_unit"])
def test_one_value_has_a_unit_that_its_signal_is_not_measured_in(fault: str) -> None:
    for record in sent(fault):
        assert [converted(o) for o in parsed(record)["observations"]].count(None) == 1
        assert record.line["quarantined"] == {"unknown_unit": 1}


def _one_unknown_code(message: dict[str, Any]) -> bool:
    return sum(o["code"] not in signal_by_code() for o in message["observations"]) == 1


def _one_value_missing(message: dict[str, Any]) -> bool:
    return sum("value" not in o and "value_code" not in o for o in message["observations"]) == 1


def _one_coded(message: dict[str, Any]) -> bool:
    return sum("value" not in o and o.get("value_code") == "A" for o in message["observations"]) == 1


def _one_implausible(message: dict[str, Any]) -> bool:
    return sum(not plausible(o) and o["value"] not in NO_VALUE_SENTINELS for o in message["observations"]) == 1


def _one_code_twice(message: dict[str, Any]) -> bool:
    values = [o["value"] for o in message["observations"] if o["code"] == message["observations"][-1]["code"]]
    return len(values) == 2 and values[0] != values[1] and all(plausible(o) for o in message["observations"])


@pytest.mark.parametrize(
    ("fault", "holds"),
    [
        ("unknown_code", _one_unknown_code),
        ("missing_value", _one_value_missing),
        ("unknown_value_code", _one_coded),
        ("implausible", _one_implausible),
        ("ambiguous_repeat", _one_code_twice),
        ("unknown_status", lambda message: message["status"] not in STATUSES),
        ("unknown_schema_version", lambda message: message["schema_version"] == 99),
    ],
)
def test_a_fault_of_content_is_there_and_nothing_else(fault: str, holds: Callable[[dict[str, Any]], bool]) -> None:
    assert all(holds(parsed(record)) for record in sent(fault))


def test_not_finite_values_are_the_tokens_that_a_lenient_parser_takes_for_numbers() -> None:
    for record in sent("not_finite"):
        assert record.value is not None
        values = [o["value"] for o in json.loads(record.value)["observations"]]
        assert sum(value != value or abs(value) == float("inf") for value in values) == 1
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(record.value)


@pytest.mark.parametrize("fault", ["malformed_json", "truncated"])
def test_broken_json_is_no_json_even_to_a_lenient_parser(fault: str) -> None:
    for record in sent(fault, patients=200):
        assert record.value
        with pytest.raises(json.JSONDecodeError):
            json.loads(record.value.decode("utf-8"))


def test_bytes_that_are_not_utf8_would_be_sound_json_otherwise() -> None:
    for record in sent("not_utf8"):
        assert record.value is not None
        with pytest.raises(UnicodeDecodeError):
            record.value.decode("utf-8")
        validate(json.loads(record.value.decode("latin-1")))


def test_tombstones_have_no_value_empty_records_no_bytes_and_oversized_ones_a_mebibyte() -> None:
    assert {record.value for record in sent("tombstone")} == {None}
    assert {record.value for record in sent("empty")} == {b""}
    assert all(record.value and 1 << 20 < len(record.value) < 1.1 * (1 << 20) for record in sent("oversized"))


@pytest.mark.parametrize("fault", ["wrong_type", "missing_field"])
def test_faults_of_shape_are_sound_json_that_breaks_the_contract(fault: str) -> None:
    for record in sent(fault):
        with pytest.raises(ContractError):
            validate(parsed(record))


@pytest.mark.parametrize(("fault", "status"), [("correction", "corrected"), ("entered_in_error", "entered-in-error")])
def test_a_follower_is_about_one_value_of_the_same_instant_and_device(fault: str, status: str) -> None:
    records = sent(fault)
    originals = {record.line["message_id"]: parsed(record) for record in records if "refers_to" not in record.line}
    followers = [record for record in records if "refers_to" in record.line]
    assert len(originals) == len(followers) == 40
    for record in followers:
        message, original = parsed(record), originals[record.line["refers_to"]]
        [value] = message["observations"]
        [before] = [o for o in original["observations"] if o["code"] == value["code"]]
        same = ("source", "patient_id", "device_id", "observed_at")
        assert {name: message[name] for name in same} == {name: original[name] for name in same}
        assert message["status"] == status
        assert message["message_id"] != original["message_id"]
        later = datetime.fromisoformat(message["recorded_at"]) - datetime.fromisoformat(message["observed_at"])
        assert timedelta(seconds=4) < later < timedelta(seconds=31)
        assert (value["value"] == before["value"]) == (fault == "entered_in_error")


def test_a_bad_timestamp_is_no_instant() -> None:
    for record in sent("bad_timestamp"):
        with pytest.raises(ValueError, match=r"Invalid isoformat|must be in|out of range"):
            datetime.fromisoformat(parsed(record)["observed_at"])


def test_presets_and_single_rates_add_up() -> None:
    assert set(rates("none").values()) == {0.0}
    assert rates("default", {"late": 0.25})["late"] == 0.25
    assert 0.01 < sum(rates("default").values()) < 0.03
    assert 0.1 < sum(rates("heavy").values()) < 0.3


@pytest.mark.parametrize(
    ("preset", "changes", "text"),
    [
        ("some", {}, "unknown preset of faults 'some'"),
        ("none", {"lat": 0.1}, "unknown fault 'lat'"),
        ("none", {"late": 1.5}, "the rate of late must lie between 0 and 1"),
        ("none", {"late": float("nan")}, "the rate of late must lie between 0 and 1"),
        ("none", {"late": 0.6, "duplicate": 0.5}, "add up to 1.1"),
    ],
)
def test_wrong_rates_are_named(preset: str, changes: dict[str, float], text: str) -> None:
    with pytest.raises(FaultError, match=text):
        rates(preset, changes)


def test_a_change_is_name_and_rate() -> None:
    assert parse_change("late=0.01") == ("late", 0.01)
    for wrong in ("late", "late=", "late=often"):
        with pytest.raises(FaultError, match="NAME=RATE"):
            parse_change(wrong)
