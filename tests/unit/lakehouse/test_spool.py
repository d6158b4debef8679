from pathlib import Path

import numpy as np
import pytest

from lakehouse import spool
from lakehouse.datadir import DataDir
from lakehouse.message import encode
from lakehouse.sources.mimic_iii import SOURCE
from lakehouse.sources.source import Selection, Tally
from lakehouse.spool import Lines, Spool, parts, topic
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
