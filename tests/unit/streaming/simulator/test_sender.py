"""Pacing by a clock, what is written down of it, and how a run ends; the clock is a number that naps move on."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from lakehouse import progress
from streaming.simulator.sender import Limits
from streaming.simulator.simulation import Options
from streaming.simulator.truth import TruthError, TruthFile
from tests.fixtures.simulated import Broker, Clock, simulate

START = datetime(2026, 3, 1, 8, tzinfo=UTC)


def test_messages_leave_within_a_tick_of_their_time_and_evenly(tmp_path: Path) -> None:
    broker = Broker(Clock())
    simulate(tmp_path, Options(START, patients=100), broker, Limits(duration=10))
    times = [at for at, topic in broker.sent if topic == "vitals"]
    assert len(times) == 1000
    assert max(at - number / 100 for number, at in enumerate(times)) <= 0.0201
    assert min(at - number / 100 for number, at in enumerate(times)) >= 0
    per_tenth = [sum(tenth <= at * 10 < tenth + 1 for at in times) for tenth in range(100)]
    assert 8 <= min(per_tenth) <= max(per_tenth) <= 12


def test_the_truth_begins_with_the_run_and_ends_with_its_summary(tmp_path: Path) -> None:
    options = Options(START, patients=2, seed=4, episodes_per_hour=0)
    lines = simulate(tmp_path, options, Broker(Clock()), Limits(messages=3))
    assert lines[0] == {
        "type": "run",
        "run": "20260301T080000.000000Z-seed4",
        "seed": 4,
        "start": "2026-03-01T08:00:00+00:00",
        "patients": 2,
        "cadence_s": 1.0,
        "rate": 2.0,
        "episodes_per_hour": 0,
        "transients_per_hour": 0.0,
        "fault_rates": {},
        "unit_beds": None,
        "duration_s": None,
        "messages": 3,
        "numpy": np.__version__,
        "topics": {},
    }
    assert [(line["type"], line["topic"], line["partition"], line["offset"]) for line in lines[1:-1]] == [
        *[("resource", "clinical.resource", 0, offset) for offset in range(4)],
        *[("message", "vitals", 0, offset) for offset in range(4, 7)],
    ]
    summary = lines[-1]
    assert {name: value for name, value in summary.items() if name not in ("cpu_s", "most_behind_s", "ended_s")} == {
        "type": "summary",
        "run": "20260301T080000.000000Z-seed4",
        "complete": True,
        "sent": 7,
        "acknowledged": 7,
        "failed": 0,
        "acknowledged_by_topic": {"clinical.resource": 4, "vitals": 3},
        "expected": {"parsed": 3},
        "observations": 18,
        "quarantined": {},
        "faults": {},
        "not_sent": 0,
        "episodes": 0,
        "transients": 0,
        "taken": 7,
        "held_sent": 0,
    }


def test_the_summary_adds_up_to_the_lines(tmp_path: Path) -> None:
    faults = {"lead_off": 0.1, "dropout": 0.05, "duplicate": 0.1, "late": 0.1}
    options = Options(START, patients=50, episodes_per_hour=20, fault_rates=faults, transients_per_hour=60)
    *lines, summary = simulate(tmp_path, options, Broker(Clock()), Limits(duration=60))
    messages = [line for line in lines if line["type"] == "message"]
    parsed = [line for line in messages if line["expect"] == "parsed"]
    assert summary["expected"] == {"parsed": len(parsed), "duplicate": len(messages) - len(parsed)}
    assert summary["observations"] == sum(line["observations"] for line in parsed)
    disconnected = sum(line.get("quarantined", {}).get("sensor_disconnected", 0) for line in parsed)
    assert summary["quarantined"] == {"sensor_disconnected": disconnected}
    assert summary["not_sent"] == sum(line["type"] == "not_sent" for line in lines)
    for what in ("episode", "transient"):
        assert summary[f"{what}s"] == sum(line["type"] == what for line in lines) > 0
    faults = [line["fault"] for line in lines if line.get("fault")]
    assert summary["faults"] == {name: faults.count(name) for name in set(faults)}


def test_a_full_buffer_is_waited_for_and_what_was_due_follows_when_there_is_room(tmp_path: Path) -> None:
    broker = Broker(Clock(), away=(2.0, 20.0), room=500)
    lines = simulate(tmp_path, Options(START, patients=100), broker, Limits(duration=30))
    assert lines[-1]["acknowledged"] == 3200
    assert lines[-1]["complete"]
    assert lines[-1]["most_behind_s"] == pytest.approx(13, abs=0.5)
    behind = {record["at"]: record["behind_s"] for record in progress.read(tmp_path / "progress.jsonl")}
    assert list(behind.values())[-1] == 0


def test_a_stop_ends_the_run_in_order(tmp_path: Path) -> None:
    broker = Broker(Clock())
    lines = simulate(tmp_path, Options(START, patients=10, fault_rates={"late": 0.5}), broker, Limits(), stop_at=3.0)
    assert lines[-1]["complete"]
    assert lines[-1]["sent"] == lines[-1]["acknowledged"] == len([line for line in lines if "offset" in line])
    assert lines[-1]["acknowledged_by_topic"]["vitals"] == pytest.approx(30, abs=1)


def test_what_the_broker_never_took_is_written_down_as_failed(tmp_path: Path) -> None:
    broker = Broker(Clock(), away=(1.0, 1e9), fails=True)
    lines = simulate(tmp_path, Options(START, patients=10), broker, Limits(duration=2))
    failed = [line for line in lines if line["type"] == "failed"]
    assert len(failed) == 10
    assert failed[0]["error"] == "given up"
    assert (lines[-1]["complete"], lines[-1]["acknowledged"], lines[-1]["failed"]) == (False, 30, 10)


def test_progress_is_written_every_five_seconds_and_at_the_end(tmp_path: Path) -> None:
    simulate(tmp_path, Options(START, patients=10), Broker(Clock()), Limits(duration=12))
    records = list(progress.read(tmp_path / "progress.jsonl"))
    assert [(record["sent"], record["rate"]) for record in records] == [
        (pytest.approx(71, abs=2), pytest.approx(14, abs=0.3)),
        (pytest.approx(122, abs=3), pytest.approx(10, abs=0.3)),
        (140, 0.0),
    ]


def test_a_site_may_name_its_topics(tmp_path: Path) -> None:
    broker = Broker(Clock())
    simulate(tmp_path, Options(START, patients=1), broker, Limits(messages=1), topics={"vitals": "patient-data"})
    assert [topic for _, topic in broker.sent] == ["clinical.resource", "clinical.resource", "patient-data"]


def test_a_run_is_not_sent_twice_into_one_data_dir(tmp_path: Path) -> None:
    simulate(tmp_path, Options(START, patients=1), Broker(Clock()), Limits(messages=1))
    with pytest.raises(TruthError, match="this run was sent before; choose another --start or --seed"):
        simulate(tmp_path, Options(START, patients=1), Broker(Clock()), Limits(messages=1))


def test_a_truth_that_cannot_be_written_is_an_error_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "truth").write_text("a file where a folder should be")
    with pytest.raises(TruthError, match="cannot write"):
        TruthFile(tmp_path / "truth", "run")
