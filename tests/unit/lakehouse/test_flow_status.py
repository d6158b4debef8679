from datetime import UTC, datetime
from pathlib import Path

from lakehouse.flow_status import FlowStatus, FlowTail, Follower
from lakehouse.pipeline import ALERT_ROUTER, DEVICE_MESSAGE

NOON = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
AT_NOON = "2026-01-01T12:00:00+00:00"


def test_a_follower_gives_each_whole_line_once(tmp_path: Path) -> None:
    path = tmp_path / "flow.jsonl"
    follower = Follower(path)
    assert list(follower.poll()) == []
    path.write_text('{"rows": 1}\n{"rows": 2}\n{"rows"')
    assert list(follower.poll()) == [{"rows": 1}, {"rows": 2}]
    with path.open("a") as file:
        file.write(": 3}\n")
    assert list(follower.poll()) == [{"rows": 3}]
    assert list(follower.poll()) == []


def test_a_follower_passes_over_a_line_that_a_kill_left_broken(tmp_path: Path) -> None:
    path = tmp_path / "flow.jsonl"
    path.write_text('{"ro{"rows": 1}\n{"rows": 2}\n')
    assert list(Follower(path).poll()) == [{"rows": 2}]


def test_a_follower_can_leave_out_what_was_there_before(tmp_path: Path) -> None:
    path = tmp_path / "flow.jsonl"
    path.write_text('{"rows": 1}\n')
    follower = Follower(path)
    follower.skip()
    with path.open("a") as file:
        file.write('{"rows": 2}\n')
    assert list(follower.poll()) == [{"rows": 2}]


def test_a_flow_that_was_never_heard_of_is_unknown() -> None:
    assert FlowTail(DEVICE_MESSAGE).status(NOON) == FlowStatus("device_message", "lakehouse")


def test_a_flow_tells_its_rate_over_the_last_minute_and_its_newest_batch() -> None:
    tail = FlowTail(DEVICE_MESSAGE)
    tail.add(
        [
            {"at": "2026-01-01T11:50:00+00:00", "rows": 5000, "lag": 9, "duration_ms": 1000},
            {"at": "2026-01-01T11:59:40+00:00", "rows": 1000, "lag": 0, "duration_ms": 10_000},
            {"at": "2026-01-01T11:59:50+00:00", "rows": 2000, "lag": 7, "duration_ms": 3000},
        ]
    )
    assert tail.status(NOON) == FlowStatus(
        flow="device_message",
        application="lakehouse",
        at=datetime(2026, 1, 1, 11, 59, 50, tzinfo=UTC),
        records=8000,
        rate=100.0,
        lag=7,
        duration_ms=3000,
    )


def test_an_idle_flow_has_no_lag() -> None:
    tail = FlowTail(DEVICE_MESSAGE)
    tail.add([{"at": AT_NOON, "rows": 10, "lag": 3, "duration_ms": 5}, {"at": AT_NOON, "idle": True}])
    status = tail.status(NOON)
    assert (status.idle, status.lag, status.records) == (True, 0, 10)


def test_a_flow_that_failed_tells_its_error_until_its_next_batch() -> None:
    tail = FlowTail(DEVICE_MESSAGE)
    tail.add([{"at": AT_NOON, "stopped": True, "error": "out of disk\n  at org.apache"}])
    assert tail.status(NOON).error == "out of disk"
    tail.add([{"at": AT_NOON, "rows": 1, "lag": 0, "duration_ms": 5}])
    assert tail.status(NOON).error is None


def test_the_router_counts_for_itself() -> None:
    tail = FlowTail(ALERT_ROUTER)
    tail.add(
        [
            {"at": AT_NOON, "records": 100, "rate": 20.0, "lag": 1},
            {"at": AT_NOON, "records": 150, "rate": 10.0, "lag": 0},
        ]
    )
    status = tail.status(NOON)
    assert (status.records, status.rate, status.lag) == (150, 10.0, 0)
