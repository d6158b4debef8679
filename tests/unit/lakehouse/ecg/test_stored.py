"""Records of waveforms to rows and letters, without Spark."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lakehouse.ecg.chunk import ABOVE, NO_VALUE
from lakehouse.ecg.message import WaveformMessage, encode
from lakehouse.ecg.stored import DEAD_LETTER_REASONS, Row, chunk_of, row_of, sort_out
from lakehouse.tables import WAVEFORM_CHUNK, WAVEFORM_DEAD_LETTER
from tests.fixtures.ecg import NOON, chunk

PLACE = {"topic": "waveform", "partition": 1, "offset": 7, "received_at": NOON}


def row(name: str = "m", **changes: Any) -> Row:
    return row_of(WaveformMessage(name, "monitor", chunk(**changes)))


def record(value: bytes | None) -> Row:
    return {**PLACE, "value": value}


@given(st.lists(st.integers(NO_VALUE, ABOVE), min_size=1, max_size=50), st.sampled_from([None, 0.0]))
def test_a_chunk_comes_out_of_its_row_as_it_went_in(samples: list[int], lowest: float | None) -> None:
    assert chunk_of(row(samples=samples, lowest=lowest)) == chunk(samples=samples, lowest=lowest)


def test_a_record_is_a_row_with_every_column_of_its_table() -> None:
    found = sort_out([record(encode(chunk(), "m", "monitor"))])

    assert found.dead == ()
    assert found.chunks == ({**row(), **PLACE},)
    assert {*found.chunks[0]} == {column.name for column in WAVEFORM_CHUNK.columns}


def test_the_digest_is_of_scale_and_samples_whatever_the_message_is_called() -> None:
    assert row("m")["digest"] == row("n")["digest"]
    others = ({"samples": [1024, 1030, 1021]}, {"gain": 100.0}, {"lowest": 0.0}, {"unit": "uV"}, {"rate": 500.0})
    assert len({row(**change)["digest"] for change in ({}, *others)}) == 1 + len(others)


def test_a_record_that_is_no_chunk_is_a_letter_with_every_column_and_a_reason_that_is_explained() -> None:
    late = encode(chunk(started_at=NOON.replace(hour=13)), "m", "monitor")
    found = sort_out([record(None), record(b"[]"), record(late)])

    assert found.chunks == ()
    assert [letter["reason"] for letter in found.dead] == ["tombstone", "breaks_contract", "clock_ahead"]
    assert {*found.dead[0]} == {column.name for column in WAVEFORM_DEAD_LETTER.columns}
    assert {letter["reason"] for letter in found.dead} <= DEAD_LETTER_REASONS.keys()
    assert found.dead[2]["detail"] == "2026-03-01T13:00:00+00:00 to 2026-03-01T13:00:00.012000+00:00"


def test_no_records_are_no_rows() -> None:
    found = sort_out([])

    assert (found.chunks, found.dead) == ((), ())
