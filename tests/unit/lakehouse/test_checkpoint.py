import json
from pathlib import Path

import pytest

from lakehouse.checkpoint import (
    CheckpointError,
    Position,
    clear_unfinished,
    files_read,
    newest_whole,
    position,
    require_whole,
)

BATCH = '{"batchWatermarkMs":0,"batchTimestampMs":1,"conf":{}}'


def checkpoint(root: Path, offsets: dict[int, list[object]], commits: list[int]) -> Path:
    """A checkpoint as Spark leaves it: a file a batch in both folders, and a hidden checksum beside each."""
    for folder in ("offsets", "commits"):
        (root / folder).mkdir()
    for batch, sources in offsets.items():
        lines = ["v1", BATCH, *(json.dumps(source) if source != "-" else "-" for source in sources)]
        (root / "offsets" / str(batch)).write_text("\n".join(lines), encoding="utf-8")
        (root / "offsets" / f".{batch}.crc").write_bytes(b"crc")
    for batch in commits:
        (root / "commits" / str(batch)).write_text("v1\n{}", encoding="utf-8")
    (root / "offsets" / ".9.0a1b.tmp").write_text("v1", encoding="utf-8")
    return root


def delta_source(version: int, index: int, *, first: bool = False) -> dict[str, object]:
    return {
        "sourceVersion": 1,
        "reservoirId": "0efa6ae4",
        "reservoirVersion": version,
        "index": index,
        "isStartingVersion": first,
    }


def test_a_checkpoint_that_has_committed_nothing_has_no_position(tmp_path):
    assert position(tmp_path / "missing") is None
    assert position(checkpoint(tmp_path, {0: [{"vitals": {"0": 5}}]}, [])) is None


def test_the_newest_committed_batch_counts_and_a_later_one_is_in_flight(tmp_path):
    offsets = {8: [{"vitals": {"0": 5}}], 9: [{"vitals": {"0": 7}}], 10: [{"vitals": {"0": 9}}]}
    at = position(checkpoint(tmp_path, offsets, [8, 9]))
    assert at == Position(batch_id=9, sources=({"vitals": {"0": 7}},), in_flight=True)


def test_a_batch_whose_commit_was_deleted_is_in_flight(tmp_path):
    root = checkpoint(tmp_path, {1: [{"vitals": {"0": 5}}], 2: [{"vitals": {"0": 7}}]}, [1, 2])
    assert position(root) == Position(2, ({"vitals": {"0": 7}},), in_flight=False)
    (root / "commits" / "2").unlink()
    assert position(root) == Position(1, ({"vitals": {"0": 5}},), in_flight=True)


def test_a_commit_whose_offsets_spark_has_purged_does_not_count(tmp_path):
    root = checkpoint(tmp_path, {5: [{"vitals": {"0": 5}}]}, [1, 2, 3, 4, 5])
    assert position(root) == Position(5, ({"vitals": {"0": 5}},), in_flight=False)


def test_kafka_offsets_are_numbers_by_topic_and_partition(tmp_path):
    both = {"vitals": {"0": 12, "1": 3}, "clinical.resource": {"0": 0}}
    at = position(checkpoint(tmp_path, {0: [both]}, [0]))
    assert at.kafka() == {"vitals": {0: 12, 1: 3}, "clinical.resource": {0: 0}}
    assert at.delta_version() is None


@pytest.mark.parametrize(
    ("source", "whole"),
    [
        (delta_source(8, -1), 7),
        (delta_source(8, 3), 7),
        (delta_source(1, -1), 0),
        (delta_source(0, -1), -1),
        (delta_source(5, 2, first=True), -1),
        (delta_source(5, -1, first=True), -1),
    ],
    ids=["between", "inside_a_version", "after_the_first", "before_the_first", "first_snapshot", "snapshot_begins"],
)
def test_a_delta_version_is_read_when_the_next_one_has_begun(tmp_path, source, whole):
    at = position(checkpoint(tmp_path, {0: [source]}, [0]))
    assert at.delta_version() == whole
    assert at.kafka() == {}


def test_a_source_without_data_is_left_out(tmp_path):
    at = position(checkpoint(tmp_path, {0: ["-", delta_source(2, -1)]}, [0]))
    assert at.delta_version() == 1


def test_files_count_as_read_when_the_batch_that_read_them_is_committed(tmp_path):
    root = checkpoint(tmp_path, {3: [{"logOffset": 1}], 4: [{"logOffset": 2}]}, [3])
    log = root / "sources" / "0"
    log.mkdir(parents=True)
    for name, batches in (("1.compact", (0, 1)), ("2", (2,))):
        entries = [{"path": f"file:///spool/inbox/run/{n}.parquet", "timestamp": 1, "batchId": n} for n in batches]
        (log / name).write_text("\n".join(["v1", *map(json.dumps, entries)]), encoding="utf-8")
    assert files_read(root) == {"run/0.parquet", "run/1.parquet"}
    assert position(root).kafka() == {}
    assert files_read(tmp_path / "missing") == frozenset()


@pytest.mark.parametrize("left", [b"", b"v1", b'v1\n{"batchWa', b"v1\n{}", b"v1\n{}\n{", b"\x00\xff" * 20])
def test_offsets_that_were_cut_off_are_named_with_the_way_back_and_the_batch_before_counts(tmp_path, left):
    root = checkpoint(tmp_path, {1: [{"vitals": {"0": 5}}], 2: [{"vitals": {"0": 7}}]}, [1, 2])
    require_whole(root)
    (root / "offsets" / "2").write_bytes(left)
    with pytest.raises(CheckpointError, match="offsets/2 is damaged"):
        position(root)
    with pytest.raises(CheckpointError, match=f"`ward checkpoint rewind {tmp_path.parent.name} --to beginning --yes`"):
        require_whole(root)
    assert newest_whole(root) == Position(1, ({"vitals": {"0": 5}},), in_flight=True)


@pytest.mark.parametrize("left", [b"", b"v1", b"v1\n[]", b"\x00\xff" * 20])
def test_a_commit_that_was_cut_off_is_named(tmp_path, left):
    root = checkpoint(tmp_path, {1: [{"vitals": {"0": 5}}]}, [1])
    (root / "commits" / "1").write_bytes(left)
    with pytest.raises(CheckpointError, match="commits/1 is damaged"):
        require_whole(root)


def test_batches_that_are_committed_and_have_no_offsets_are_named(tmp_path):
    root = checkpoint(tmp_path, {1: [{"vitals": {"0": 5}}]}, [1])
    (root / "offsets" / "1").unlink()
    with pytest.raises(CheckpointError, match="it is empty, and batches are committed"):
        require_whole(root)


def test_an_unfinished_file_is_cleared_only_where_no_batch_was_planned(tmp_path):
    clear_unfinished(tmp_path / "missing")
    root = checkpoint(tmp_path, {}, [])
    clear_unfinished(root)
    assert list((root / "offsets").iterdir()) == []
    (tmp_path / "other").mkdir()
    planned = checkpoint(tmp_path / "other", {0: [{"vitals": {"0": 5}}]}, [])
    before = sorted((planned / "offsets").iterdir())
    clear_unfinished(planned)
    assert sorted((planned / "offsets").iterdir()) == before


def test_of_a_checkpoint_that_is_damaged_throughout_nothing_is_known(tmp_path):
    root = checkpoint(tmp_path, {1: ["-"]}, [1])
    (root / "offsets" / "1").write_bytes(b"")
    (root / "start.json").write_bytes(b"{")
    assert newest_whole(root) is None
