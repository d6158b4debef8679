"""A run made again, without Kafka, is what the run sent: byte for byte, in order, and when it was due."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from lakehouse import progress
from streaming.simulator import regenerate
from streaming.simulator.faults import rates
from streaming.simulator.regenerate import EpisodeLabel, Label, RegenerateError, Run, Stop, TransientLabel
from streaming.simulator.sender import Limits
from streaming.simulator.simulation import Options
from tests.fixtures.simulated import Broker, Clock, simulate

START = datetime(2026, 3, 1, 8, 0, 0, 123456, tzinfo=UTC)
START_MS = 1772352000123
CALM = Options(START, 30, seed=7, episodes_per_hour=20, transients_per_hour=60)
FAULTY = replace(CALM, fault_rates=rates("heavy", {"oversized": 0.0005, "late": 0.02, "flat_line": 0.02}))
SLOW = replace(FAULTY, cadence=60.0, beds={"RESP": 10, "ICU": 25})
NEVER = 1e9

ENDS = pytest.mark.parametrize(
    ("limits", "stop_at"),
    [
        (Limits(duration=100), NEVER),
        (Limits(messages=2017), NEVER),
        (Limits(), 95.013),
        (Limits(duration=200, messages=9000), 41.4),
    ],
    ids=["after-a-duration", "after-a-number-of-messages", "stopped", "stopped-before-its-limits"],
)


def sent(folder: Path, options: Options, limits: Limits, stop_at: float) -> tuple[Run, Broker]:
    """The run that the truth tells of, and what a broker got of it on the topic of vital signs."""
    broker = Broker(Clock())
    simulate(folder, options, broker, limits, stop_at)
    return regenerate.of_truth(folder / f"{options.run}.jsonl"), broker


def vitals(broker: Broker) -> list[tuple[float, bytes | None]]:
    return [(at, value) for (at, topic), value in zip(broker.sent, broker.values, strict=True) if topic == "vitals"]


@ENDS
@pytest.mark.parametrize("options", [CALM, FAULTY], ids=["without-faults", "with-faults"])
def test_the_records_of_a_truth_are_those_that_were_sent_in_their_order_and_within_a_tick_of_their_time(
    options: Options, limits: Limits, stop_at: float, tmp_path: Path
) -> None:
    run, broker = sent(tmp_path, options, limits, stop_at)
    again = list(regenerate.records(run))
    assert [record.value for _, record in again] == [value for _, value in vitals(broker)]
    assert len(again) > 1000
    late = [at - (at_ms - START_MS) / 1000 for (at, _), (at_ms, _) in zip(vitals(broker), again, strict=True)]
    assert -0.002 < min(late) <= max(late) < 0.03


def test_the_same_holds_for_a_slow_cadence_and_beds_of_its_own(tmp_path: Path) -> None:
    run, broker = sent(tmp_path, SLOW, Limits(duration=7200), NEVER)
    assert run.options == replace(SLOW, fault_rates={name: rate for name, rate in SLOW.fault_rates.items() if rate})
    assert [record.value for _, record in regenerate.records(run)] == [value for _, value in vitals(broker)]


@ENDS
def test_messages_are_the_records_that_can_be_parsed_and_dead_letters_are_left_out(
    limits: Limits, stop_at: float, tmp_path: Path
) -> None:
    run, _ = sent(tmp_path, FAULTY, limits, stop_at)
    records = [
        (at_ms, record)
        for at_ms, record in regenerate.records(run)
        if not record.line["expect"].startswith("dead_letter:")
    ]
    messages = list(regenerate.messages(run))
    assert [at_ms for at_ms, _ in messages] == [at_ms for at_ms, _ in records]
    # Some values are not finite, and no such value equals itself.
    assert [json.dumps(message) for _, message in messages] == [
        json.dumps(json.loads(record.value or b"")) for _, record in records
    ]
    sound = [(message, record) for (_, message), (_, record) in zip(messages, records, strict=True)]
    for message, record in sound:
        if record.line["fault"] is None:
            assert orjson.dumps(message) == record.value


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def labelled(lines: list[progress.Record]) -> list[Label]:
    """The episodes and transients of a truth."""
    return [
        EpisodeLabel(
            line["patient_id"],
            line["location_unit"],
            line["kind"],
            line["severity"],
            *(ms(line[name]) for name in ("from", "plateau_from", "plateau_to", "to")),
            tuple(line["expected_rules"]),
        )
        if line["type"] == "episode"
        else TransientLabel(
            line["patient_id"],
            line["location_unit"],
            line["signal"],
            ms(line["from"]),
            ms(line["to"]),
            line.get("nadir") or line["peak"],
        )
        for line in lines
        if line["type"] in ("episode", "transient")
    ]


@ENDS
def test_episodes_and_transients_are_those_of_the_truth(limits: Limits, stop_at: float, tmp_path: Path) -> None:
    run, _ = sent(tmp_path, FAULTY, limits, stop_at)
    truth = labelled(list(progress.read(tmp_path / f"{FAULTY.run}.jsonl")))
    told: list[Label] = []
    for _ in regenerate.messages(run, told.append):
        pass
    assert {type(label) for label in truth} == {EpisodeLabel, TransientLabel}
    assert told == truth
    assert regenerate.labels(run) == tuple(truth)


def test_a_label_is_told_before_the_first_message_in_it() -> None:
    run = Run(replace(FAULTY, fault_rates={}), duration=300)
    told: list[Label] = []
    waiting: list[Label] = []
    for at_ms, message in regenerate.messages(run, waiting.append):
        for label in waiting:
            assert label.patient_id == message["patient_id"]
            assert label.from_ms <= at_ms < label.from_ms + 1001
        told += waiting
        waiting.clear()
    assert len(told) > 100


@ENDS
@pytest.mark.parametrize("cadence", [1.0, 60.0])
def test_readings_are_the_values_of_the_messages_as_arrays(
    cadence: float, limits: Limits, stop_at: float, tmp_path: Path
) -> None:
    run, _ = sent(tmp_path, replace(CALM, cadence=cadence), limits, stop_at)
    told: list[Label] = []
    messages = list(regenerate.messages(run, told.append))
    readings = list(regenerate.readings(run))
    assert np.concatenate([cycle.at_ms for cycle in readings]).tolist() == [at_ms for at_ms, _ in messages]
    assert np.concatenate([cycle.values for cycle in readings]).tolist() == [
        [observation["value"] for observation in message["observations"]] for _, message in messages
    ]
    patients = [patient.patient_id for patient in regenerate.patients(run)]
    assert [patient for cycle in readings for patient in patients[: len(cycle.values)]] == [
        message["patient_id"] for _, message in messages
    ]
    assert told == [label for cycle in readings for label in cycle.begun]


@pytest.mark.parametrize("end", [{"duration": 100.5}, {"messages": 3001}])
def test_the_labels_of_a_run_from_options_are_those_that_its_messages_tell(end: dict[str, Any]) -> None:
    for options in (CALM, FAULTY):
        told: list[Label] = []
        for _ in regenerate.messages(Run(options, **end), told.append):
            pass
        assert len(told) > 50
        assert regenerate.labels(Run(options, **end)) == tuple(told)


def test_a_run_that_was_killed_is_made_again_as_far_as_its_truth_goes(tmp_path: Path) -> None:
    run, broker = sent(tmp_path, FAULTY, Limits(), 20.0)
    path = tmp_path / f"{FAULTY.run}.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    killed = tmp_path / "killed.jsonl"
    killed.write_bytes(b"".join(lines[:301]) + lines[301][:20])
    again = [record.value for _, record in regenerate.records(regenerate.of_truth(killed))]
    assert regenerate.of_truth(killed).stop == Stop(taken=300)
    assert 150 < len(again) < 300
    assert again == [value for _, value in vitals(broker)][: len(again)]
    assert run.stop is not None
    assert run.stop.held_sent > 0


@pytest.mark.parametrize("content", [b"", b'{"type":"message"}\n', b"not a truth\n"])
def test_a_file_that_is_no_truth_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_bytes(content)
    with pytest.raises(RegenerateError, match=r"other\.jsonl is not the truth of a run"):
        regenerate.of_truth(path)


def test_another_numpy_than_that_of_the_run_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sent(tmp_path, replace(CALM, patients=1), Limits(messages=1), NEVER)
    path = tmp_path / f"{CALM.run}.jsonl"
    assert caplog.messages == []
    path.write_text(path.read_text().replace(f'"numpy":"{np.__version__}"', '"numpy":"1.0"'))
    regenerate.of_truth(path)
    assert [message.partition(" was made ")[2] for message in caplog.messages] == [
        f"with numpy 1.0; this is {np.__version__}, and may draw others"
    ]


def test_a_run_without_an_end_has_messages_but_no_list_of_episodes() -> None:
    at_ms, message = next(regenerate.messages(Run(CALM)))
    assert (at_ms, message["observed_at"]) == (START_MS, "2026-03-01T08:00:00.123Z")
    with pytest.raises(RegenerateError, match="give it a duration or a number of messages"):
        regenerate.labels(Run(CALM))


def test_readings_of_a_run_with_faults_are_refused() -> None:
    with pytest.raises(RegenerateError, match="take its messages"):
        next(regenerate.readings(Run(FAULTY, messages=10)))
