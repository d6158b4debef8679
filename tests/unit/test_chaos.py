"""What the runs of faults and the soak make of what they saw."""

from datetime import UTC, datetime
from pathlib import Path
from random import Random

import orjson
import pytest

from bench import charts
from bench.bench_chaos import Recovery, by_fault, chosen, order
from bench.bench_soak import quantile, trend
from bench.chaos.episodes import sustained, unheard
from bench.chaos.faults import FAULTS
from lakehouse.datadir import DataDir
from lakehouse.tables import ALERT, ALERT_EVENT
from tests.fixtures.delta import append


def test_kills_go_round_all_components_and_what_cannot_be_undone_comes_last() -> None:
    names = [fault.name for fault in order(FAULTS, 8, Random(1))]
    kills = [fault.name for fault in FAULTS if fault.component]
    assert sorted(names[:6]) == sorted(kills)
    assert set(names[6:8]) < set(kills)
    assert sorted(names[8:]) == sorted(fault.name for fault in FAULTS if not fault.component)
    assert names[-1] == "more partitions"
    assert names == [fault.name for fault in order(FAULTS, 8, Random(1))]


def test_a_fault_that_is_none_is_named_with_those_there_are() -> None:
    assert [fault.name for fault in chosen("poison, kill router")] == ["poison", "kill router"]
    with pytest.raises(SystemExit, match="no fault flood: there are kill stream-lakehouse, "):
        chosen("poison,flood")


def test_recoveries_are_summed_up_by_fault() -> None:
    faults = chosen("kill router,poison")
    found = [Recovery("kill router", "", 1.0, took, "routed", 0.0) for took in (4.0, 6.0, 20.0)]
    row = {"fault": "kill router", "does": faults[0].does, "times": 3, "p50_s": 6.0, "p95_s": 18.6, "max_s": 20.0}
    assert by_fault(faults, found) == [{**row, "goal_p95_s": 30.0}]


def test_an_episode_counts_where_its_height_was_sent_for_a_minute(data: DataDir) -> None:
    def episode(patient: str, plateau_from: str, plateau_to: str) -> dict[str, str]:
        return {"type": "episode", "patient_id": patient, "plateau_from": plateau_from, "plateau_to": plateau_to}

    lines = [
        {"type": "run", "start": "2026-01-31T12:00:00+00:00"},
        episode("long", "2026-01-31T12:01:00Z", "2026-01-31T12:09:00Z"),
        episode("short", "2026-01-31T12:01:00Z", "2026-01-31T12:01:59Z"),
        episode("cut off", "2026-01-31T12:04:30Z", "2026-01-31T12:09:00Z"),
    ]
    data.truth.mkdir(parents=True)
    (data.truth / "killed.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines) + b'{"type":')
    whole = datetime(2026, 1, 31, 13, tzinfo=UTC)
    assert [one["patient_id"] for one in sustained(data, whole)] == ["long", "cut off"]
    assert [one["patient_id"] for one in sustained(data, datetime(2026, 1, 31, 12, 5, tzinfo=UTC))] == ["long"]
    ended = [*lines, {"type": "summary", "ended_s": 300.0}]
    (data.truth / "killed.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in ended))
    assert [one["patient_id"] for one in sustained(data, whole)] == ["long"]


@pytest.mark.parametrize(
    ("told", "ended", "heard"),
    [
        ("11:59:00", None, True),
        ("11:59:00", "12:01:30", True),
        ("11:59:00", "12:00:59", False),
        ("12:04:00", "12:05:00", True),
        ("12:13:00", None, False),
    ],
)
def test_an_episode_is_heard_by_an_alert_of_its_time_or_one_that_sounds_already(
    data: DataDir, told: str, ended: str | None, heard: bool
) -> None:
    def at(time: str | None) -> datetime | None:
        return datetime.fromisoformat(f"2026-01-31T{time}Z") if time else None

    episode = {
        "type": "episode",
        "patient_id": "ill",
        "expected_rules": ["hr-high"],
        "from": "2026-01-31T12:01:00Z",
        "plateau_from": "2026-01-31T12:01:00Z",
        "plateau_to": "2026-01-31T12:09:00Z",
        "to": "2026-01-31T12:10:00Z",
    }
    data.truth.mkdir(parents=True)
    lines = [{"type": "run", "start": "2026-01-31T12:00:00+00:00"}, episode]
    (data.truth / "run.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    alert = {"alert_id": "a", "patient_id": "ill", "rule_id": "hr-high"}
    append(data, ALERT_EVENT, {**alert, "state": "active", "observed_at": at(told), "message_received_at": None})
    append(data, ALERT, {**alert, "ended_at": at(ended)})
    found = unheard(data, datetime(2026, 1, 31, 13, tzinfo=UTC))
    assert [one["patient_id"] for one in found] == ([] if heard else ["ill"])


def test_a_series_that_grows_has_an_interval_above_nothing_and_one_that_wavers_has_not() -> None:
    samples = [{"at_s": 360.0 * n, "grows": 100 + 5 * n + n % 2, "wavers": float(n % 2)} for n in range(10)]
    grows, wavers = trend("grows", samples), trend("wavers", samples)
    assert grows is not None
    assert wavers is not None
    assert grows.moves
    assert grows.low < 50 < grows.high
    assert not wavers.moves
    assert trend("grows", samples[:4]) is None
    still = trend("stays", [{"at_s": float(n), "stays": 0.1} for n in range(7)])
    assert still is not None
    assert (still.slope, still.moves) == (0.0, False)
    # Student's table has 2.57, 2.23 and 2.04.
    assert [round(quantile(freedom), 2) for freedom in (5, 10, 30)] == [2.55, 2.23, 2.04]


def test_a_soak_is_drawn_with_every_series_of_a_panel_and_files_by_layer(tmp_path: Path) -> None:
    series = ("alert latency p50, ms", "memory router, MB", "lag observation", "files gold.score", "files gold.alert")
    samples = [{"at_s": 60.0 * minute, **dict.fromkeys(series, float(minute))} for minute in range(4)]
    charts.soak(samples, tmp_path / "images" / "soak.svg")
    drawn = (tmp_path / "images" / "soak.svg").read_text()
    for shown in ("p50", "router", "observation", "gold"):
        assert f">{shown}<" in drawn
    # Two tables of three files each in the last minute.
    assert "values from 0 to 6" in drawn
