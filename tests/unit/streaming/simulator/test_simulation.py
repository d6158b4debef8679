"""The pure core: same seed, same bytes; what a clean message is; even spacing; where a run ends."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

import orjson
import pytest

from lakehouse.message import validate
from lakehouse.topics import CLINICAL_RESOURCE, VITALS
from streaming.simulator.faults import rates
from streaming.simulator.simulation import Note, Options, Record, Simulation

START = datetime(2026, 3, 1, 8, tzinfo=UTC)
OPTIONS = Options(START, patients=20, seed=7)


def records(options: Options, duration: float) -> list[Record]:
    items = Simulation(options).records(duration=duration)
    return [item for item in items if isinstance(item, Record) and item.topic == VITALS.name]


def test_the_same_seed_patients_and_start_give_the_same_records_and_truth_byte_for_byte() -> None:
    options = replace(OPTIONS, fault_rates=rates("heavy"))
    assert list(Simulation(options).records(duration=120)) == list(Simulation(options).records(duration=120))


@pytest.mark.parametrize("other", [{"seed": 8}, {"start": START + timedelta(seconds=1)}])
def test_another_seed_or_start_shares_no_message_id(other: dict[str, object]) -> None:
    ids = {record.line["message_id"] for record in records(OPTIONS, 5)}
    others = {record.line["message_id"] for record in records(replace(OPTIONS, **other), 5)}  # type: ignore[arg-type]
    assert not ids & others


def test_every_message_id_of_a_run_is_another_but_for_duplicates() -> None:
    sent = records(replace(OPTIONS, fault_rates=rates("heavy")), 300)
    again = sum(record.line["expect"] == "duplicate" for record in sent)
    assert again > 0
    assert len({record.line["message_id"] for record in sent}) == len(sent) - again


def test_without_faults_every_message_keeps_the_contract_and_carries_six_signals() -> None:
    for record in records(OPTIONS, 60):
        assert record.value is not None
        message = orjson.loads(record.value)
        validate(message)
        assert record.key == message["patient_id"].encode()
        assert [(o["code"], o["unit"]) for o in message["observations"]] == [
            ("8867-4", "/min"),
            ("9279-1", "/min"),
            ("59408-5", "%"),
            ("8480-6", "mm[Hg]"),
            ("8462-4", "mm[Hg]"),
            ("8310-5", "Cel"),
        ]
        assert record.line == {
            "type": "message",
            "message_id": message["message_id"],
            "topic": "vitals",
            "patient_id": message["patient_id"],
            "observed_at": message["observed_at"],
            "fault": None,
            "expect": "parsed",
            "observations": 6,
        }


def test_messages_are_spread_evenly_and_in_order_and_observed_when_due() -> None:
    sent = records(replace(OPTIONS, patients=40, cadence=2.0), 10)
    assert len(sent) == 200
    assert {round(later.due - sooner.due, 6) for sooner, later in pairwise(sent)} == {0.05}
    for record in sent:
        observed_at = datetime.fromisoformat(record.line["observed_at"])
        assert observed_at == START + timedelta(seconds=round(record.due, 3))


def test_each_patient_keeps_the_cadence() -> None:
    sent = records(replace(OPTIONS, cadence=3.0), 30)
    assert Counter(record.line["patient_id"] for record in sent) == {f"sim/7-{n:05d}": 10 for n in range(1, 21)}


def test_a_run_begins_with_a_patient_and_an_encounter_for_each_patient() -> None:
    first = list(islice(Simulation(replace(OPTIONS, patients=2)).records(), 4))
    assert all(isinstance(record, Record) and record.topic == CLINICAL_RESOURCE.name for record in first)
    values = [orjson.loads(record.value) for record in first if isinstance(record, Record) and record.value]
    assert [(value["resource"]["resourceType"], value["recorded_at"]) for value in values] == [
        ("Patient", "2026-03-01T08:00:00.000Z"),
        ("Encounter", "2026-03-01T08:00:00.000Z"),
        ("Patient", "2026-03-01T08:00:00.000Z"),
        ("Encounter", "2026-03-01T08:00:00.000Z"),
    ]
    assert values[1]["resource"]["subject"] == {"reference": "Patient/7-00001"}


def test_records_come_in_the_order_in_which_they_are_due_whatever_is_held_back() -> None:
    options = replace(OPTIONS, fault_rates=rates("heavy"))
    due = [item.due for item in Simulation(options).records(duration=200)]
    assert due == sorted(due)


def test_what_is_held_back_at_the_end_of_the_duration_is_sent_at_once() -> None:
    sent = records(replace(OPTIONS, fault_rates={"late": 1.0}), 10)
    assert len(sent) == 200
    assert max(record.due for record in sent) == 10


@pytest.mark.parametrize("fault", ["duplicate", "late", "correction"])
def test_a_limit_of_messages_is_exact_whatever_is_held_back_or_added(fault: str) -> None:
    items = Simulation(replace(OPTIONS, fault_rates={fault: 1.0})).records(messages=101)
    assert sum(isinstance(item, Record) and item.topic == VITALS.name for item in items) == 101


@pytest.mark.parametrize(("fault", "rate"), [("unknown_code", 0.1), ("lead_off", 0.2), ("dropout", 0.05)])
def test_a_fault_holds_for_its_share_of_the_messages_also_when_it_lasts(fault: str, rate: float) -> None:
    options = replace(OPTIONS, patients=100, fault_rates={fault: rate})
    lines = [i.line for i in Simulation(options).records(duration=200) if i.line["type"] in ("message", "not_sent")]
    assert sum(line["fault"] == fault for line in lines) / len(lines) == pytest.approx(rate, rel=0.15)


def test_a_message_that_drops_out_is_noted_and_not_sent() -> None:
    items = list(Simulation(replace(OPTIONS, patients=1, fault_rates={"dropout": 1.0})).records(duration=1))
    notes = [item.line for item in items if isinstance(item, Note) and item.line["type"] == "not_sent"]
    assert [(line["patient_id"], line["observed_at"], line["fault"]) for line in notes] == [
        ("sim/7-00001", "2026-03-01T08:00:00.000Z", "dropout")
    ]
    assert len([item for item in items if isinstance(item, Record) and item.topic == VITALS.name]) == 0


def test_faults_leave_the_readings_of_other_messages_as_they_are() -> None:
    clean = {record.line["message_id"]: record.value for record in records(OPTIONS, 60)}
    faulty = records(replace(OPTIONS, fault_rates={"unknown_code": 0.1}), 60)
    assert all(record.value == clean[record.line["message_id"]] for record in faulty if record.line["fault"] is None)
