import gzip
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from lakehouse.message import validate
from lakehouse.sources.mimic_iii import SOURCE as MIMIC_III
from lakehouse.sources.mimic_iv import SOURCE as MIMIC_IV
from lakehouse.sources.source import (
    Event,
    Selection,
    Source,
    SourceFormatError,
    SourceHeaderError,
    SourceNotFoundError,
    SourceTruncatedError,
    Tally,
)
from tests.fixtures.mimic import MIMIC_III_HEADER, write_mimic_iii, write_mimic_iv

ALL = Selection()


def shifted(header: str) -> str:
    """The header with its names one place further on."""
    *names, last = header.split(",")
    return ",".join([last, *names])


def write(file: Path, *lines: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def read(source: Source, path: Path, selection: Selection = ALL) -> tuple[list[Event], Tally]:
    tally = Tally()
    return list(source.events(path, selection, tally)), tally


def messages(source: Source, path: Path, selection: Selection = ALL) -> list[dict[str, Any]]:
    return [event.message for event in read(source, path, selection)[0]]


def test_a_charted_value_of_mimic_iii_is_a_message_with_one_observation(tmp_path: Path) -> None:
    write(
        tmp_path / "CHARTEVENTS.csv",
        MIMIC_III_HEADER,
        "86199399,10114,167957,234989,211,2171-10-30 18:00:00,2171-10-30 18:21:00,14700,84,84,BPM,,,,NotStopd",
    )
    assert read(MIMIC_III, tmp_path)[0] == [
        Event(
            tmp_path / "CHARTEVENTS.csv",
            2,
            {
                "schema_version": 1,
                "message_id": "mimic-iii/chartevents/86199399",
                "patient_id": "mimic-iii/10114",
                "encounter_id": "mimic-iii/234989",
                "device_id": "mimic-iii/chartevents",
                "source": "mimic-iii",
                "observed_at": "2171-10-30T18:00:00Z",
                "recorded_at": "2171-10-30T18:21:00Z",
                "status": "final",
                "observations": [
                    {
                        "code": "8867-4",
                        "value": 84.0,
                        "unit": "/min",
                        "source_code": "211",
                        "source_unit": "BPM",
                        "record_id": "86199399",
                    }
                ],
            },
        )
    ]


def test_a_row_without_store_time_and_stay_says_only_what_is_known(tmp_path: Path) -> None:
    write(
        tmp_path / "icu" / "chartevents.csv",
        "subject_id,hadm_id,stay_id,charttime,itemid,valuenum,valueuom",
        "10000032,29079034,,2180-07-23 12:36:00,223761,98.6,°F",
    )
    # A published id: rows that are landed already would land once more under another one.
    record = "1c0f349f7f5b450446332e1a96e0be3e"
    (message,) = messages(MIMIC_IV, tmp_path)
    assert message == {
        "schema_version": 1,
        "message_id": f"mimic-iv/chartevents/{record}",
        "patient_id": "mimic-iv/10000032",
        "encounter_id": "mimic-iv/29079034",
        "device_id": "mimic-iv/chartevents",
        "source": "mimic-iv",
        "observed_at": "2180-07-23T12:36:00Z",
        "status": "final",
        "observations": [
            {
                "code": "8310-5",
                "value": 98.6,
                "unit": "[degF]",
                "source_code": "223761",
                "source_unit": "°F",
                "record_id": record,
            }
        ],
    }


def test_messages_come_in_order_of_time_across_patients_and_then_of_lines(tmp_path: Path) -> None:
    row = "{},10{},,,211,{},,,80,80,BPM,,,,".format
    write(
        tmp_path / "chartevents.csv",
        MIMIC_III_HEADER,
        row(1, 2, "2150-01-01 02:00:00"),
        row(2, 1, "2150-01-01 03:00:00"),
        row(3, 1, "2150-01-01 01:00:00"),
        row(4, 2, "2150-01-01 01:00:00"),
    )
    assert [(event.line, event.message["patient_id"]) for event in read(MIMIC_III, tmp_path)[0]] == [
        (4, "mimic-iii/101"),
        (5, "mimic-iii/102"),
        (2, "mimic-iii/102"),
        (3, "mimic-iii/101"),
    ]


@pytest.mark.parametrize(("error", "status"), [("1", "entered-in-error"), ("0", "final"), ("", "final")])
def test_a_row_flagged_as_error_is_entered_in_error(tmp_path: Path, error: str, status: str) -> None:
    write(
        tmp_path / "chartevents.csv", MIMIC_III_HEADER, f"1,2,3,4,211,2150-01-01 00:00:00,,,80,80,BPM,0,{error},Final,"
    )
    assert [message["status"] for message in messages(MIMIC_III, tmp_path)] == [status]


@pytest.mark.parametrize(
    ("cells", "observation"),
    [
        ("211,{at},,,80,80,", {"code": "8867-4", "value": 80.0, "unit": "/min", "source_code": "211"}),
        ("211,{at},,,80,80,Hz", {"code": "8867-4", "value": 80.0, "unit": "Hz", "source_code": "211"}),
        (
            "190,{at},,,.4,0.4,torr",
            {"code": "3150-6", "value": 0.4, "unit": "1", "source_code": "190", "source_unit": "torr"},
        ),
        ("223835,{at},,,50,50,", {"code": "3150-6", "value": 50.0, "unit": "%", "source_code": "223835"}),
        ("223835,{at},,,0.5,0.5,", {"code": "3150-6", "value": 0.5, "unit": "1", "source_code": "223835"}),
        (
            "198,{at},,,15,15,points",
            {"code": "9269-2", "value": 15.0, "unit": "{score}", "source_code": "198", "source_unit": "points"},
        ),
        ("211,{at},,,12 (lead),12,BPM", {"code": "8867-4", "value": 12.0, "unit": "/min", "source_code": "211"}),
        ("211,{at},,,refused,,", {"code": "8867-4", "value_code": "refused", "unit": "/min", "source_code": "211"}),
        ("211,{at},,,x,NaN,", {"code": "8867-4", "value_code": "NaN", "unit": "/min", "source_code": "211"}),
        ("211,{at},,,x,1e999,", {"code": "8867-4", "value_code": "1e999", "unit": "/min", "source_code": "211"}),
    ],
)
def test_numbers_texts_and_units_are_sent_as_charted(
    tmp_path: Path, cells: str, observation: dict[str, object]
) -> None:
    row = cells.format(at="2150-01-01 00:00:00")
    write(tmp_path / "chartevents.csv", MIMIC_III_HEADER, f"7,2,3,4,{row},,,,")
    (message,) = messages(MIMIC_III, tmp_path)
    (sent,) = message["observations"]
    charted_unit = {"source_unit": "BPM"} if ",BPM" in cells else {}
    assert sent == {**observation, **charted_unit, "record_id": "7"}
    validate(message)


def test_what_cannot_be_sent_as_it_is_is_counted_with_its_line(tmp_path: Path) -> None:
    row = "{},2,3,4,{},{},{},,{},{},BPM,,,,".format
    at = "2150-01-01 00:00:00"
    file = write(
        tmp_path / "chartevents.csv",
        MIMIC_III_HEADER,
        row(1, 211, at, "", 80, 80),
        row(2, 211, at, "soon", 81, 81),
        row(3, 211, at, "", "", ""),
        row(4, 211, at, "", "x" * 70, ""),
        row(5, 211, "2150-13-01 00:00:00", "", 80, 80),
        row(6, "heart rate", at, "", 80, 80),
        row(7, 581, at, "", 70, 70),
        "8,2,3",
        row("", 211, at, "", 80, 80),
        row(10, 211, at, "", 80, 80).replace(",2,3,", ",two,3,"),
        row(11, 581, at, "", 70, 70),
        "",
    )
    events, tally = read(MIMIC_III, tmp_path)
    assert [event.line for event in events] == [2, 5, 3]
    assert events[2].message.get("recorded_at") is None
    assert events[1].message["observations"][0]["value_code"] == "x" * 64
    assert tally.accounted == tally.rows_read
    assert tally.as_report() == {
        "rows_read": 12,
        "messages": 3,
        "observations": 3,
        "not_selected": 0,
        "unmapped_rows": {"581": 2},
        "rows_without_value": {"211": 1},
        "rejected_rows": {
            "bad_item_id": 2,
            "wrong_number_of_columns": 1,
            "bad_row_id": 1,
            "bad_subject_id": 1,
            "bad_charttime": 1,
        },
        "flawed_rows": {"bad_storetime": 1, "text_cut": 1},
        "text_values": {"211": 1},
        "unmapped_cells": {},
        "empty_cells": {},
        "lines_within_rows": 0,
        "missing_files": ["labevents"],
        "problems": [
            f"{file.name}:9: wrong_number_of_columns: '3 columns, the header has 15: 8,2,3'",
            f"{file.name}:7: bad_item_id: 'heart rate'",
            f"{file.name}:13: bad_item_id",
            f"{file.name}:5: text_cut: '{'x' * 70}'",
            f"{file.name}:10: bad_row_id",
            f"{file.name}:11: bad_subject_id: 'two'",
            f"{file.name}:3: bad_storetime: 'soon'",
            f"{file.name}:6: bad_charttime: '2150-13-01 00:00:00'",
        ],
    }


def test_lines_that_an_unclosed_quote_swallows_are_told(tmp_path: Path) -> None:
    good = "{},2,3,4,211,2150-01-01 00:00:00,,,80,80,BPM,,,,".format
    write(
        tmp_path / "chartevents.csv",
        MIMIC_III_HEADER,
        good(1),
        '2,2,3,4,211,2150-01-01 00:00:00,,,"80,80,BPM,,,,',
        good(3),
        '4,2,3,4,211,2150-01-01 00:00:00,,,"80",80,BPM,,,,',
        good(5),
    )
    events, tally = read(MIMIC_III, tmp_path)
    assert [event.message["message_id"][-1] for event in events] == ["1", "5"]
    assert tally.rejected_rows == {"line_break_in_row": 1}
    assert tally.lines_within_rows == 2
    assert tally.problems[0].startswith(
        "chartevents.csv:3: line_break_in_row: '2 more lines lie within its quotes: 80,"
    )


def test_a_text_that_is_not_utf8_is_kept_readable(tmp_path: Path) -> None:
    file = tmp_path / "chartevents.csv"
    row = "1,2,3,4,678,2150-01-01 00:00:00,,,98,98,°F,,,,\n"
    file.write_bytes(f"{MIMIC_III_HEADER}\n".encode() + row.encode("latin-1"))
    (message,) = messages(MIMIC_III, tmp_path)
    assert message["observations"][0]["unit"] == "\N{REPLACEMENT CHARACTER}F"


def test_official_upper_case_headers_quotes_and_crlf_are_read(tmp_path: Path) -> None:
    (tmp_path / "CHARTEVENTS.csv").write_bytes(
        f"\N{ZERO WIDTH NO-BREAK SPACE}{MIMIC_III_HEADER.upper()}\r\n".encode()
        + b'1,2,3,4,211,2150-01-01 00:00:00,2150-01-01 00:01:00,9,"80",80,"BPM",0,0,"Final",""\r\n'
    )
    (message,) = messages(MIMIC_III, tmp_path)
    assert message["observations"][0]["value"] == 80.0


def test_the_same_rows_have_the_same_ids_as_csv_gzip_and_parquet_and_in_another_order(tmp_path: Path) -> None:
    import duckdb

    header = "subject_id,hadm_id,stay_id,charttime,storetime,itemid,value,valuenum,valueuom"
    lines = [
        "1,2,3,2150-01-01 00:00:00,2150-01-01 00:05:00,220045,80,80,bpm",
        "1,2,3,2150-01-01 00:00:00,2150-01-01 00:05:00,220045,80,80,bpm",
        "1,2,,2150-01-01 00:00:00,,220045,80.5,80.5,bpm",
        "1,2,3,2150-01-01 00:00:00,2150-01-01 00:05:00,220045,80,80,bpm",
    ]
    write(tmp_path / "a" / "chartevents.csv", header, *lines)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "chartevents.csv.gz").write_bytes(gzip.compress("\n".join([header, *lines[::-1]]).encode()))
    (tmp_path / "c").mkdir()
    duckdb.sql(
        f"COPY (FROM read_csv('{tmp_path}/a/chartevents.csv')) TO '{tmp_path}/c/chartevents.parquet' (FORMAT parquet)"
    )
    by_folder = [{m["message_id"]: m for m in messages(MIMIC_IV, tmp_path / folder)} for folder in "abc"]
    assert len(by_folder[0]) == 4
    assert sum(message_id.endswith(("-2", "-3")) for message_id in by_folder[0]) == 2
    assert by_folder[0] == by_folder[1] == by_folder[2]


def test_an_id_does_not_depend_on_what_else_is_selected(tmp_path: Path) -> None:
    written = write_mimic_iv(tmp_path)
    everything = {event.message["message_id"]: event for event in read(MIMIC_IV, tmp_path)[0]}
    assert len(everything) == written.messages
    some = {event.message["message_id"]: event for event in read(MIMIC_IV, tmp_path, one_patient())[0]}
    assert 0 < len(some) < len(everything)
    assert some == {
        key: event for key, event in everything.items() if event.message["patient_id"].endswith("/10000002")
    }


def one_patient() -> Selection:
    return Selection(subjects=frozenset({"10000002"}))


def test_a_selection_leaves_out_and_counts(tmp_path: Path) -> None:
    written = write_mimic_iv(tmp_path)
    everything, whole = read(MIMIC_IV, tmp_path)
    instants = [instant_of(event) for event in everything]
    window = Selection(since=instants[50], until=instants[100])
    events, tally = read(MIMIC_IV, tmp_path, window)
    assert events == [
        event for event, at in zip(everything, instants, strict=True) if instants[50] <= at < instants[100]
    ]
    first, limited = read(MIMIC_IV, tmp_path, Selection(limit=10))
    assert first == everything[:10]
    for counted in (whole, tally, limited, read(MIMIC_IV, tmp_path, one_patient())[1]):
        assert counted.accounted == counted.rows_read == written.rows
    # A row whose time cannot be read is in no window, and rejected all the same.
    assert whole.rejected_rows == tally.rejected_rows


def instant_of(event: Event) -> datetime:
    return datetime.fromisoformat(event.message["observed_at"])


@pytest.mark.parametrize("source", [MIMIC_III, MIMIC_IV], ids=lambda source: source.name)
def test_every_row_of_the_generated_patients_is_accounted_for(tmp_path: Path, source: Source) -> None:
    written = write_mimic_iii(tmp_path) if source is MIMIC_III else write_mimic_iv(tmp_path)
    events, tally = read(source, tmp_path)
    for event in events:
        validate(event.message)
    assert len({event.message["message_id"] for event in events}) == len(events)
    assert {
        "rows": tally.rows_read,
        "messages": len(events),
        "unmapped": tally.unmapped_rows.total(),
        "without_value": tally.rows_without_value.total(),
        "rejected": tally.rejected_rows.total(),
        "texts": tally.text_values.total(),
    } == {key: getattr(written, key) for key in ("rows", "messages", "unmapped", "without_value", "rejected", "texts")}


@pytest.mark.parametrize(
    ("name", "content", "error", "text"),
    [
        ("chartevents.csv", b"", SourceHeaderError, r"chartevents\.csv:1: the file is empty"),
        (
            "chartevents.csv",
            b"row_id,itemid\n",
            SourceHeaderError,
            "1: the header has no subject_id, charttime, valuenum",
        ),
        ("chartevents.csv", b"1,2,3\n4,5,6\n", SourceHeaderError, "1: the header has no row_id"),
        ("chartevents.csv", b"a,b,A\n", SourceHeaderError, "1: column named twice: a"),
        ("chartevents.csv.gz", b"row_id,subject_id\n", SourceFormatError, r"1: not a csv\.gz file"),
        ("chartevents.csv.gz", gzip.compress(b"row_id", mtime=0)[:12], SourceTruncatedError, "1: the compressed file"),
        ("chartevents.parquet", b"PAR1", SourceFormatError, "1: not a parquet file"),
        ("chartevents.csv", b"\xff\xfe\x00", SourceFormatError, "1: not a csv file"),
        ("other.csv", b"", SourceNotFoundError, r"the folder has no chartevents\{\.csv,"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_named(
    tmp_path: Path, name: str, content: bytes, error: type[Exception], text: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=text):
        read(MIMIC_III, tmp_path)


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="nowhere: there is no such file or folder"):
        read(MIMIC_III, tmp_path / "nowhere")


LABS = "row_id,subject_id,hadm_id,itemid,charttime,value,valuenum,valueuom,flag"


def test_laboratory_values_stand_among_charted_ones_in_order_of_time(tmp_path: Path) -> None:
    write(
        tmp_path / "CHARTEVENTS.csv",
        MIMIC_III_HEADER,
        "7,2,3,4,723,2150-01-01 00:00:00,2150-01-01 00:20:00,,1.0 ET/Trach,1,,,,,",
        "8,2,3,4,211,2150-01-01 02:00:00,,,80,80,BPM,,,,",
    )
    write(
        tmp_path / "LABEVENTS.csv",
        LABS,
        "7,2,,51301,2150-01-01 01:00:00,23.7,23.7,K/uL,abnormal",
        "8,2,3,50868,2150-01-01 01:00:00,19,19,mEq/L,",
    )
    verbal, wbc, heart_rate = messages(MIMIC_III, tmp_path)
    assert verbal["observations"][0]["value"] == 0.0
    assert wbc == {
        "schema_version": 1,
        "message_id": "mimic-iii/labevents/7",
        "patient_id": "mimic-iii/2",
        "device_id": "mimic-iii/labevents",
        "source": "mimic-iii",
        "observed_at": "2150-01-01T01:00:00Z",
        "status": "final",
        "observations": [
            {
                "code": "6690-2",
                "value": 23.7,
                "unit": "10*3/uL",
                "source_code": "51301",
                "source_unit": "K/uL",
                "record_id": "7",
            }
        ],
    }
    assert heart_rate["message_id"] == "mimic-iii/chartevents/8"
    assert messages(MIMIC_III, tmp_path / "LABEVENTS.csv") == [wbc]
    write(tmp_path / "LABEVENTS.csv", f"index,{LABS}", "7,2,,51301,2150-01-01 01:00:00,23.7,23.7,K/uL,abnormal")
    with pytest.raises(SourceHeaderError, match=r"LABEVENTS\.csv:1: not one row fits the header"):
        read(MIMIC_III, tmp_path)


@pytest.mark.parametrize(
    "header", [f"index,{MIMIC_III_HEADER}", MIMIC_III_HEADER.removesuffix(",stopped"), shifted(MIMIC_III_HEADER)]
)
def test_a_header_that_no_row_fits_is_an_error_and_not_a_page_of_rejections(tmp_path: Path, header: str) -> None:
    rows = [f"{n},2,3,4,211,2150-01-01 00:00:00,,,80,80,BPM,,,," for n in range(50)]
    write(tmp_path / "chartevents.csv", header, *rows)
    with pytest.raises(SourceHeaderError, match=r"chartevents\.csv:1: not one row fits the header; the first: "):
        read(MIMIC_III, tmp_path)


def test_a_truncated_gzip_gives_no_message_at_all(tmp_path: Path) -> None:
    whole = write_mimic_iii(tmp_path).folder / "CHARTEVENTS.csv.gz"
    whole.write_bytes(whole.read_bytes()[:-2000])
    with pytest.raises(SourceTruncatedError, match=r"CHARTEVENTS\.csv\.gz:\d+: the file ends too early"):
        next(MIMIC_III.events(tmp_path, ALL, Tally()))


def test_the_generated_patients_are_the_same_every_time(tmp_path: Path) -> None:
    for folder in "ab":
        write_mimic_iii(tmp_path / folder)
        write_mimic_iv(tmp_path / folder)
    contents = [
        {file.relative_to(tmp_path / folder): file.read_bytes() for file in (tmp_path / folder).rglob("*.gz")}
        for folder in "ab"
    ]
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    ("source", "folder", "expected"),
    [
        (
            MIMIC_III,
            "mimic-iii-demo",
            {"rows": 456_844, "sent": 63_461, "unmapped": 393_317, "empty": 66, "items": 1827},
        ),
        (MIMIC_IV, "mimic-iv-demo", {"rows": 326_084, "sent": 51_052, "unmapped": 275_032, "empty": 0, "items": 1149}),
    ],
    ids=["mimic-iii", "mimic-iv"],
)
def test_every_row_of_the_demo_is_accounted_for(
    shared_data: Path, source: Source, folder: str, expected: dict[str, int]
) -> None:
    tally = Tally()
    ids = set()
    for event in source.events(shared_data / folder, ALL, tally):
        validate(event.message)
        ids.add(event.message["message_id"])
    assert tally.accounted == tally.rows_read
    assert len(ids) == tally.messages
    assert (tally.rejected_rows, tally.flawed_rows, tally.text_values, tally.lines_within_rows) == ({}, {}, {}, 0)
    assert {
        "rows": tally.rows_read,
        "sent": tally.messages,
        "unmapped": tally.unmapped_rows.total(),
        "empty": tally.rows_without_value.total(),
        "items": len(tally.unmapped_rows),
    } == expected
