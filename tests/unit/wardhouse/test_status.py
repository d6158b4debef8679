from datetime import UTC, datetime
from pathlib import Path

from lakehouse.datadir import DataDir
from lakehouse.pipeline import ALERT_EVENT, ALERT_NOTIFICATION, ALERT_ROUTER, DEVICE_MESSAGE, OBSERVATION
from wardhouse.settings import Settings
from wardhouse.status import FlowStatus, FlowTail, Follower, unlanded

NOON = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
AT_NOON = "2026-01-01T12:00:00+00:00"
NAMES = Settings().topics()


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


def committed(data: DataDir, flow: str, sources: str) -> None:
    checkpoint = data.checkpoints / flow / "1"
    for folder, text in (("offsets", f"v1\n{{}}\n{sources}"), ("commits", "v1\n{}")):
        (checkpoint / folder).mkdir(parents=True)
        (checkpoint / folder / "0").write_text(text)


def test_what_nobody_has_taken_is_unlanded(data: DataDir) -> None:
    ends = {
        ("vitals", 0): 10,
        ("vitals", 1): 0,
        ("clinical.resource", 0): 2,
        ("alert.evaluations", 1): 9,
        ("alerts", 0): 1,
        ("alert.notification", 1): 2,
        ("alert.delivery", 0): 3,
    }
    assert unlanded(Settings(), data, ends, {}) == {
        DEVICE_MESSAGE.name: 12,
        ALERT_ROUTER.name: 9,
        ALERT_EVENT.name: 1,
        ALERT_NOTIFICATION.name: 5,
    }


def test_what_every_flow_has_committed_is_landed(data: DataDir) -> None:
    ends = {
        ("vitals", 0): 10,
        ("vitals", 1): 4,
        ("alert.evaluations", 0): 9,
        ("alerts", 0): 1,
        ("alert.delivery", 0): 3,
    }
    committed(data, DEVICE_MESSAGE.name, '{"vitals": {"0": 10, "1": 3}}')
    committed(data, ALERT_EVENT.name, '{"alerts": {"0": 1}}')
    committed(data, ALERT_NOTIFICATION.name, '{"alert.delivery": {"0": 3}}')
    committed(data, OBSERVATION.name, "-")
    router_at = {("alert.evaluations", 0): 9}
    assert unlanded(Settings(), data, ends, router_at) == {DEVICE_MESSAGE.name: 1}
    assert unlanded(Settings(), data, {**ends, ("vitals", 1): 3}, router_at) == {}


def test_silver_has_to_take_what_bronze_has_written_but_not_its_maintenance(data: DataDir) -> None:
    import pyarrow as pa
    from deltalake import DeltaTable, write_deltalake

    from lakehouse.tables import DEVICE_MESSAGE as BRONZE

    path = str(data.table(BRONZE))
    for value in (1, 2):
        write_deltalake(path, pa.table({"offset": [value]}), mode="append")
    assert unlanded(Settings(), data, {}, {}) == {OBSERVATION.name: 2}
    committed(data, OBSERVATION.name, '{"reservoirId": "x", "reservoirVersion": 2, "index": -1}')
    assert unlanded(Settings(), data, {}, {}) == {}
    DeltaTable(path).optimize.compact()
    assert unlanded(Settings(), data, {}, {}) == {}
