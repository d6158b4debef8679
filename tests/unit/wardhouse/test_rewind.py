"""Where a flow may begin again, and what is refused."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lakehouse.checkpoint import begin, delta_sources, position
from lakehouse.datadir import DataDir
from lakehouse.delta_log import LogError, commits, require_whole, unreadable
from lakehouse.pipeline import BACKFILL, OBSERVATION
from lakehouse.tables import DEVICE_MESSAGE
from wardhouse.rewind import (
    Kafka,
    RewindError,
    Target,
    bronze_start,
    carry_out,
    kafka_start,
    lakehouse_flow,
    plan,
    target,
    version_start,
)
from wardhouse.status import newest_data

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
A, B = ("vitals", 0), ("vitals", 1)
KAFKA = Kafka(first={A: 10, B: 0}, end={A: 100, B: 50})


def test_a_target_is_what_a_person_writes() -> None:
    assert target("beginning") == Target()
    assert target("17") == Target(batch=17)
    assert target("2026-01-01T12:00:00Z") == Target(since=NOON)
    assert target("version=3") == Target(version=3)
    assert target("vitals-0=5, a-b-1=7") == Target(offsets={A: 5, ("a-b", 1): 7})
    with pytest.raises(RewindError, match="TOPIC-PARTITION=OFFSET"):
        target("vitals=5")


def test_bronze_goes_on_behind_what_it_holds_whatever_is_asked() -> None:
    start, lines = bronze_start(KAFKA.first, {A: 80, B: 50}, {A: 80}, KAFKA)
    assert start == {A: 80, B: 0}
    assert lines[0] == "vitals-0: goes on at 80, behind what bronze holds"


def test_bronze_tells_what_kafka_has_lost() -> None:
    start, lines = bronze_start({}, {}, {A: 7, B: 50}, KAFKA)
    assert start == {A: 7, B: 50}
    assert "vitals-0: Kafka has lost 3 offsets before 10 that bronze has not" in lines


@pytest.mark.parametrize(
    ("asked", "held", "why"),
    [
        ({A: 81}, {A: 80}, "would skip 1; bronze has all before 80"),
        ({}, {A: 101}, "vitals-0 ends at 100 and bronze holds it up to 100: it is not the same topic"),
        ({("alerts", 0): 1}, {}, "does not read alerts-0"),
    ],
    ids=["beyond", "another_topic", "unknown"],
)
def test_bronze_skips_nothing(asked, held, why) -> None:
    with pytest.raises(RewindError, match=why):
        bronze_start(asked, held, held, KAFKA)


def test_a_flow_that_writes_by_key_reads_again_from_the_first_record_there_is() -> None:
    start, lines = kafka_start({A: 4}, {A: 40, B: 50}, KAFKA)
    assert start == {A: 10, B: 50}
    assert lines == (
        "vitals-0: from 10 on, 30 records are read again",
        "vitals-0: Kafka has no record before 10 any more; the tables keep what came of them",
        "vitals-1: from 50 on, 0 records are read again",
    )
    with pytest.raises(RewindError, match="would skip 1"):
        kafka_start({B: 51}, {A: 40, B: 50}, KAFKA)


def test_no_version_is_skipped() -> None:
    assert (version_start(3, 2), version_start(0, 9), version_start(0, None)) == (3, 0, 0)
    with pytest.raises(RewindError, match="would skip 1"):
        version_start(4, 2)


def test_the_alert_flow_needs_no_rewind_and_an_unknown_one_is_named() -> None:
    with pytest.raises(RewindError, match="behind its own output"):
        lakehouse_flow("alert_limits")
    with pytest.raises(RewindError, match="no flow of the lakehouse is named nothing"):
        lakehouse_flow("nothing")


def committed(data: DataDir, batches: dict[int, int]) -> None:
    """The observation flow's checkpoint: batch -> the bronze version it goes on with."""
    for folder in ("offsets", "commits"):
        (data.checkpoint(OBSERVATION) / folder).mkdir(parents=True)
    for batch, version in batches.items():
        source = {"reservoirId": "x", "reservoirVersion": version, "index": -1}
        (data.checkpoint(OBSERVATION) / "offsets" / str(batch)).write_text(f"v1\n{{}}\n{json.dumps(source)}")
        (data.checkpoint(OBSERVATION) / "commits" / str(batch)).write_text("v1\n{}")


def log(table: Path, *operations: str) -> None:
    """A Delta log: a version a minute, each with one file, but for RESTORE, which brings and takes none."""
    (table / "_delta_log").mkdir(parents=True)
    for version, operation in enumerate(operations):
        at = int(NOON.timestamp() * 1000) + version * 60_000
        lines: list[dict[str, object]] = [{"commitInfo": {"timestamp": at, "operation": operation}}]
        if operation == "WRITE":
            lines.append({"add": {"path": f"{version}.parquet", "dataChange": True}})
            (table / f"{version}.parquet").touch()
        (table / "_delta_log" / f"{version:020}.json").write_text("\n".join(map(json.dumps, lines)))


def rewound(data: DataDir, to: str) -> int | None:
    """The bronze version that the observation flow would begin with; None for the whole table."""
    made = plan(data, "observation", target(to), "", {})
    return made.sources[0]["reservoirVersion"] if made.sources else None


def test_a_flow_goes_back_to_a_batch_a_time_a_version_or_the_beginning(data: DataDir) -> None:
    committed(data, {0: 2, 1: 4, 2: 5})
    log(data.table(DEVICE_MESSAGE), *["WRITE"] * 5)
    assert rewound(data, "1") == 4
    assert rewound(data, "2026-01-01T12:01:30Z") == 2
    assert rewound(data, "2026-01-01T13:00:00Z") == 5
    assert rewound(data, "version=0") == 0
    assert rewound(data, "beginning") is None
    for wrong, why in (("9", "keeps no batch 9: it keeps 0 to 2"), ("version=6", "would skip"), ("vitals-0=1", "N")):
        with pytest.raises(RewindError, match=why):
            rewound(data, wrong)


def test_what_was_undone_or_taken_is_not_read_again_but_the_whole_table_may_be(data: DataDir) -> None:
    committed(data, {0: 5})
    table = data.table(DEVICE_MESSAGE)
    log(table, "WRITE", "WRITE", "RESTORE", "WRITE", "WRITE")
    with pytest.raises(RewindError, match="restored by version 2"):
        rewound(data, "version=1")
    assert rewound(data, "version=2") == 2
    (table / "4.parquet").unlink()
    with pytest.raises(RewindError, match=r"VACUUM has taken 1 files of version 4"):
        rewound(data, "version=3")
    (table / "_delta_log" / f"{1:020}.json").unlink()
    assert unreadable(table, 1) == "its log begins with version 2"
    assert [commit.version for commit in commits(table)] == [2, 3, 4]
    assert rewound(data, "beginning") is None


def test_a_flow_whose_newest_offsets_are_damaged_goes_back_as_far_as_its_files_can_be_read(data: DataDir) -> None:
    committed(data, {0: 1, 1: 3})
    log(data.table(DEVICE_MESSAGE), *["WRITE"] * 3)
    (data.checkpoint(OBSERVATION) / "offsets" / "1").write_bytes(b"v1")
    assert rewound(data, "version=1") == 1
    assert rewound(data, "beginning") is None
    with pytest.raises(RewindError, match="would skip 1"):
        plan(data, "observation", target("version=2"), "", {})


@pytest.mark.parametrize("left", [b"", b'{"commitInfo":{"ti', b"\xff\xfe"])
def test_a_version_that_was_cut_off_is_named_with_what_reads_again_what_it_held(data: DataDir, left: bytes) -> None:
    table = data.table(DEVICE_MESSAGE)
    log(table, *["WRITE"] * 3)
    require_whole(table)
    newest = table / "_delta_log" / f"{2:020}.json"
    newest.write_bytes(left)
    both = "then give `.* device_message --to beginning --yes` and `.* observation --to beginning --yes`;"
    for ask in (lambda: require_whole(table), lambda: newest_data(data, DEVICE_MESSAGE), lambda: commits(table)):
        with pytest.raises(LogError, match=rf"2\.json is damaged .*: move it and its \.crc elsewhere, {both}"):
            ask()
    newest.unlink()
    assert [commit.version for commit in commits(table)] == [0, 1]


def test_files_in_the_spool_are_not_landed_twice(data: DataDir) -> None:
    assert plan(data, BACKFILL.name, target("beginning"), "", {}).sources == ()
    with pytest.raises(RewindError, match="beginning"):
        plan(data, BACKFILL.name, target("3"), "", {})
    (data.spool / "inbox" / "run").mkdir(parents=True)
    (data.spool / "inbox" / "run" / "0.parquet").touch()
    with pytest.raises(RewindError, match="1 files are in the spool, and would land twice"):
        plan(data, BACKFILL.name, target("beginning"), "", {})


def test_a_new_generation_stands_where_it_begins_and_the_old_one_stays(data: DataDir) -> None:
    committed(data, {0: 2, 1: 4})
    log(data.table(DEVICE_MESSAGE), *["WRITE"] * 4)
    before = data.checkpoint(OBSERVATION)
    carry_out(plan(data, "observation", target("0"), "", {}), "a test", NOON)
    at = position(data.checkpoint(OBSERVATION))
    assert at is not None
    assert (at.batch_id, at.delta_version(), at.in_flight) == (-1, 1, False)
    assert [path.name for path in data.generations(OBSERVATION)] == ["2", "1"]
    assert position(before) is not None
    # Again from the beginning: nothing says where, so Spark reads all there is.
    begin(data.next_checkpoint(OBSERVATION), (), "a test", NOON)
    assert position(data.checkpoint(OBSERVATION)) is None


def test_a_generation_that_was_cut_off_while_it_was_made_is_none(data: DataDir) -> None:
    (data.checkpoints / "observation" / ".1").mkdir(parents=True)
    begin(data.next_checkpoint(OBSERVATION), delta_sources(3), "a test", NOON)
    assert [path.name for path in data.generations(OBSERVATION)] == ["1"]
