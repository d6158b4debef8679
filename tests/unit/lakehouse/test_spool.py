from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse import spool
from lakehouse.datadir import DataDir
from lakehouse.message import encode
from lakehouse.sources.mimic_iii import SOURCE
from lakehouse.sources.source import Selection, Tally
from lakehouse.spool import Lines, Spool, empty, fresh, is_bucket, parts, split, split_from, topic
from tests.fixtures.mimic import write_mimic_iii


def test_a_set_of_lines_knows_what_was_put_in_and_nothing_else() -> None:
    lines = Lines()
    lines.add(np.array([2, 3, 9, 70_000], np.int64))
    lines.add(np.array([], np.int64))
    lines.add(np.array([1_000_000, 8], np.int64))
    assert len(lines) == 6
    assert [line for line in (*range(12), 69_999, 70_000, 70_001, 1_000_000, 2**40) if line in lines] == [
        *(2, 3, 8, 9),
        *(70_000, 1_000_000),
    ]


def test_a_file_is_named_by_its_content(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "x.csv", tmp_path / "b" / "x.csv"
    for file in (first, second):
        file.parent.mkdir()
        file.write_text("charted\n")
    assert topic("mimic-iv", first) == topic("mimic-iv", second)
    assert topic("mimic-iv", first).startswith("file:mimic-iv/x.csv@")
    second.write_text("charted otherwise\n")
    assert topic("mimic-iv", first) != topic("mimic-iv", second)


def test_parts_hold_each_row_that_bronze_has_not_under_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = write_mimic_iii(tmp_path / "mimic")
    data = DataDir(tmp_path / "ward")
    expected = list(SOURCE.events(written.folder, Selection(), Tally()))
    name = topic("mimic-iii", expected[0].file)
    there = Lines()
    there.add(np.array([expected[0].line, expected[7].line], np.int64))
    monkeypatch.setattr(spool, "landed", lambda _data, topic: {name: there}[topic])
    monkeypatch.setattr(spool, "PART_ROWS", 50)
    known: dict[str, Lines] = {}
    tables = list(parts(iter(expected), "mimic-iii", known, data))
    rows = [row for table in tables for row in table.to_pylist()]
    assert rows == [
        {
            "topic": name,
            "partition": 0,
            "offset": event.line,
            "key": event.message["patient_id"].encode(),
            "value": encode(event.message),
        }
        for number, event in enumerate(expected)
        if number not in (0, 7)
    ]
    assert {table.num_rows for table in tables[:-1]} == {50}
    assert known == {name: there}


def test_a_run_appears_in_the_inbox_whole_or_not_at_all(tmp_path: Path) -> None:
    written = write_mimic_iii(tmp_path / "mimic")
    data = DataDir(tmp_path / "ward")
    box = Spool(data)
    tables = list(parts(SOURCE.events(written.folder, Selection(), Tally()), "mimic-iii", {}, data))

    def broken():
        yield tables[0]
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"):
        box.put("first", broken())
    assert box.files() == frozenset()
    assert box.put("second", tables) == written.messages
    assert box.files() == {f"second/{number:05}.parquet" for number in range(len(tables))}
    assert box.put("third", []) == 0
    box.clear()
    assert (box.files(), list(box.inbox.iterdir())) == (frozenset(), [])


def test_buckets_part_the_rows_by_patient_and_give_what_bronze_has_not_by_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = write_mimic_iii(tmp_path / "mimic", patients=6)
    data = DataDir(tmp_path / "ward")
    (table,) = parts(SOURCE.events(written.folder, Selection(), Tally()), "mimic-iii", {}, data)
    monkeypatch.setattr(spool, "BUCKET_ROWS", 40)
    folder = data.spool / "buckets" / "run"
    buckets = split((table.slice(at, 30) for at in range(0, table.num_rows, 30)), folder, 3, lambda: {"rows_read": 7})
    assert all(is_bucket(bucket) for bucket in buckets)
    assert [split_from(bucket) for bucket in buckets] == [{"rows_read": 7}] * len(buckets)
    monkeypatch.setattr(spool, "landed", lambda *_: Lines())
    held = [pa.concat_tables(fresh(bucket, {}, data)) for bucket in buckets]
    patients = [set(rows.column("key").to_pylist()) for rows in held]
    assert sum(map(len, patients)) == len(set().union(*patients)) == 6
    whole = pa.concat_tables(held)
    assert whole.sort_by("offset").to_pylist() == table.sort_by("offset").to_pylist()
    assert {file.stem for file in buckets[0].iterdir()} >= {"00000", "00001"}
    assert all(pq.read_metadata(file).num_rows < 70 for file in folder.glob("*/*.parquet"))

    there = Lines()
    there.add(held[0].column("offset").to_numpy()[1:])
    monkeypatch.setattr(spool, "landed", lambda *_: there)
    known: dict[str, Lines] = {}
    assert pa.concat_tables(fresh(buckets[0], known, data)).to_pylist() == held[0].slice(0, 1).to_pylist()
    assert list(known.values()) == [there]
    empty(buckets[0])
    assert (is_bucket(buckets[0]), list(fresh(buckets[0], {}, data))) == (True, [])


def test_a_split_that_fails_leaves_no_bucket(tmp_path: Path) -> None:
    def broken():
        yield pa.table({"topic": ["file:x/y@z"], "partition": [0], "offset": [2], "key": [b"x/1"], "value": [b"{}"]})
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"):
        split(broken(), tmp_path / "run", 2, dict)
    assert list(tmp_path.iterdir()) == []
    assert not is_bucket(tmp_path / "run")
