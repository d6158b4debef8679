from pathlib import Path

import pytest

from lakehouse.message import validate
from lakehouse.sources.monitor_csv import SOURCE
from lakehouse.sources.source import Event, Selection, SourceHeaderError, SourceNotFoundError, Tally
from tests.fixtures.mimic import write_monitor

ALL = Selection()


def write(file: Path, *lines: str) -> Path:
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def read(path: Path, selection: Selection = ALL) -> tuple[list[Event], Tally]:
    tally = Tally()
    return list(SOURCE.events(path, selection, tally)), tally


def test_a_row_is_one_message_with_every_signal_of_its_instant(tmp_path: Path) -> None:
    file = write(
        tmp_path / "bed7.csv",
        "charttime,HR,ABPSys,ABPDias,ABPMean,PULSE,RESP,SpO2,NBPSys,NBPDias,NBPMean",
        "2896-10-10 00:32:25,62.8,0.0,0.0,0.0,61,12.7,97,118,62,",
    )
    assert read(file)[0] == [
        Event(
            file,
            2,
            {
                "schema_version": 1,
                "message_id": "monitor-csv/bed7/2896-10-10T00:32:25Z",
                "patient_id": "monitor-csv/bed7",
                "device_id": "monitor-csv/bed7",
                "source": "monitor-csv",
                "observed_at": "2896-10-10T00:32:25Z",
                "status": "final",
                "observations": [
                    {"code": "8867-4", "value": 62.8, "unit": "/min", "source_code": "HR"},
                    {"code": "8480-6", "value": 0.0, "unit": "mm[Hg]", "source_code": "ABPSys"},
                    {"code": "8462-4", "value": 0.0, "unit": "mm[Hg]", "source_code": "ABPDias"},
                    {"code": "8478-0", "value": 0.0, "unit": "mm[Hg]", "source_code": "ABPMean"},
                    {"code": "8889-8", "value": 61.0, "unit": "/min", "source_code": "PULSE"},
                    {"code": "9279-1", "value": 12.7, "unit": "/min", "source_code": "RESP"},
                    {"code": "59408-5", "value": 97.0, "unit": "%", "source_code": "SpO2"},
                    {"code": "8480-6", "value": 118.0, "unit": "mm[Hg]", "source_code": "NBPSys"},
                    {"code": "8462-4", "value": 62.0, "unit": "mm[Hg]", "source_code": "NBPDias"},
                ],
            },
        )
    ]


def test_cells_and_rows_that_give_no_number_are_counted(tmp_path: Path) -> None:
    file = write(
        tmp_path / "bed7.csv",
        "charttime,HR,ST1,SpO2",
        "2896-10-10 00:00:25,60,0.1,97",
        "2896-10-10 00:01:25,,0.2,",
        "2896-10-10 00:02:25,leads off,,98",
        "00:03:25,60,0.1,97",
        "2896-10-10 00:04:25,60,0.1",
        "2896-10-10 00:05:25,nan,0.1,97",
    )
    events, tally = read(file)
    assert [(event.line, event.message["observations"]) for event in events] == [
        (2, [reading("HR", value=60.0), reading("SpO2", value=97.0)]),
        (4, [reading("HR", value_code="leads off"), reading("SpO2", value=98.0)]),
        (7, [reading("HR", value_code="nan"), reading("SpO2", value=97.0)]),
    ]
    assert tally.as_report() == {
        "rows_read": 6,
        "messages": 3,
        "observations": 6,
        "not_selected": 0,
        "unmapped_rows": {},
        "rows_without_value": {"row": 1},
        "rejected_rows": {"wrong_number_of_columns": 1, "bad_charttime": 1},
        "flawed_rows": {},
        "text_values": {"HR": 2},
        "unmapped_cells": {"ST1": 3},
        "empty_cells": {"HR": 1, "SpO2": 1},
        "lines_within_rows": 0,
        "missing_files": [],
        "problems": [
            "bed7.csv:6: wrong_number_of_columns: '3 columns, the header has 4: 2896-10-10 00:04:25,60,0.1'",
            "bed7.csv:5: bad_charttime: '00:03:25'",
        ],
    }
    for event in events:
        validate(event.message)


def reading(column: str, **value: float | str) -> dict[str, object]:
    code, unit = {"HR": ("8867-4", "/min"), "SpO2": ("59408-5", "%")}[column]
    return {"code": code, **value, "unit": unit, "source_code": column}


def test_a_second_row_of_one_instant_has_an_id_of_its_own_and_rows_are_put_in_order(tmp_path: Path) -> None:
    file = write(
        tmp_path / "bed7.csv",
        "charttime,HR",
        "2896-10-10 00:01:00,61",
        "2896-10-10 00:00:00,60",
        "2896-10-10 00:01:00,62",
    )
    assert [(event.line, event.message["message_id"]) for event in read(file)[0]] == [
        (3, "monitor-csv/bed7/2896-10-10T00:00:00Z"),
        (2, "monitor-csv/bed7/2896-10-10T00:01:00Z"),
        (4, "monitor-csv/bed7/2896-10-10T00:01:00Z-2"),
    ]


def test_the_files_of_a_folder_are_merged_by_time_and_chosen_by_name(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "charttime,HR", "2896-10-10 00:00:00,60", "2896-10-10 00:02:00,60")
    write(tmp_path / "b.csv", "charttime,HR", "2896-10-10 00:01:00,60", "2896-10-10 00:03:00,60")
    files = [event.file.name for event in read(tmp_path)[0]]
    assert files == ["a.csv", "b.csv", "a.csv", "b.csv"]
    only_b, tally = read(tmp_path, Selection(subjects=frozenset({"b"}), limit=1))
    assert [event.file.name for event in only_b] == ["b.csv"]
    assert (tally.rows_read, tally.accounted, tally.not_selected) == (2, 2, 1)


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["charttime,ST1", "2896-10-10 00:00:00,0.1"], "bed7.csv:1: the header names no signal that is mapped"),
        (["time,HR", "2896-10-10 00:00:00,60"], "bed7.csv:1: the header has no charttime"),
        (["HR,charttime", "2896-10-10 00:00:00,60"], "bed7.csv:1: not one row fits the header"),
    ],
)
def test_a_header_that_is_not_a_monitors_is_named(tmp_path: Path, lines: list[str], text: str) -> None:
    file = write(tmp_path / "bed7.csv", *lines)
    with pytest.raises(SourceHeaderError, match=text):
        read(file)


def test_a_folder_without_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="the folder has no file that ends in"):
        read(tmp_path)


def test_generated_numerics_are_read_whole(tmp_path: Path) -> None:
    events, tally = read(write_monitor(tmp_path / "made-up.csv", minutes=30))
    assert (tally.rows_read, tally.messages, tally.observations) == (30, 30, 30 * 7 + 2 * 3)
    assert {o["value"] for event in events[:3] for o in event.message["observations"]} == {0.0}


def test_the_real_monitor_is_read_whole(shared_data: Path) -> None:
    events, tally = read(shared_data / "wfdb" / "DERIVED_s00001_numerics_1min.csv")
    for event in events:
        validate(event.message)
    assert len({event.message["message_id"] for event in events}) == 1936
    assert (tally.rows_read, tally.messages, tally.observations) == (1936, 1936, 14_008)
    assert tally.empty_cells == {"NBPSys": 1784, "NBPDias": 1784, "NBPMean": 1784}
    assert (tally.rejected_rows, tally.unmapped_cells) == ({}, {})
