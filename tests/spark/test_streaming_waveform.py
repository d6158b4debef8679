"""Waveforms from bronze to silver and gold: twice, in other orders, and what is no chunk."""

from datetime import timedelta
from typing import Any

import orjson
import pytest

from lakehouse import delta
from lakehouse.ecg.message import encode
from lakehouse.ecg.stored import chunk_of
from lakehouse.pipeline import RHYTHM_MINUTE as RHYTHM_FLOW
from lakehouse.pipeline import WAVEFORM_CHUNK as CHUNK_FLOW
from lakehouse.tables import RHYTHM_MINUTE, WAVEFORM_CHUNK, WAVEFORM_DEAD_LETTER
from streaming import rhythm_minute, waveform_chunk
from tests.fixtures.ecg import NOON, chunk, cut, simulated

SECONDS = cut(simulated(70.0)[0], *range(0, 70 * 250, 250))
RECEIVED = NOON + timedelta(minutes=2)
NAMED = [(f"7/{number}", one) for number, one in enumerate(SECONDS)]


def sent(*named: tuple[str, Any]) -> list[bytes]:
    return [encode(one, name, "monitor") for name, one in named]


@pytest.fixture
def land(spark, lake, records):
    """Lands batches of values in silver, and then silver's new rows in gold; tells both tables."""
    to_silver = waveform_chunk.write_batch(CHUNK_FLOW, lake)
    to_gold = rhythm_minute.write_batch(RHYTHM_FLOW, lake)

    def make(*batches: list[bytes | None]) -> None:
        first = 0
        for number, values in enumerate(batches):
            batch = records(*values, first=first, topic="waveform", received_at=RECEIVED)
            before = delta.read(spark, lake.data.table(WAVEFORM_CHUNK)).select("digest", "offset")
            before = before.localCheckpoint()
            for _ in range(2):
                to_silver(batch, number)
            new = delta.read(spark, lake.data.table(WAVEFORM_CHUNK)).join(before, ["digest", "offset"], "left_anti")
            for _ in range(2):
                to_gold(new, number)
            first += len(values)

    return make


@pytest.fixture
def rows(spark, lake):
    def read(table: Any, *order: str) -> list[dict[str, Any]]:
        return delta.read(spark, lake.data.table(table)).orderBy(*order).toArrow().to_pylist()

    return read


def test_chunks_that_come_twice_late_and_in_any_batch_are_kept_once_and_give_one_rhythm(land, rows):
    shuffled = [NAMED[number * 37 % len(NAMED)] for number in range(len(NAMED))]
    land(sent(*shuffled[:40]), sent(*NAMED[:10], *shuffled[40:]), sent(("again", SECONDS[3])))

    assert [chunk_of(row) for row in rows(WAVEFORM_CHUNK, "started_at")] == SECONDS
    lead = {"patient_id": "mrn/1", "device_id": "monitor/7", "lead": "131330"}
    expected = (rhythm_minute.rhythm_minute(SECONDS, NOON + number * timedelta(minutes=1)) for number in (0, 1))
    assert rows(RHYTHM_MINUTE, "minute") == [lead | (one or {}) for one in expected]
    assert rows(WAVEFORM_DEAD_LETTER, "offset") == []


def test_chunks_that_contradict_each_other_are_both_kept_and_their_seconds_give_no_beats(land, rows):
    land(sent(*NAMED[:20]), sent(("other", chunk(started_at=NOON, samples=[0] * 250 * 20))))

    assert len(rows(WAVEFORM_CHUNK, "started_at")) == 21
    assert rows(RHYTHM_MINUTE, "minute") == []


def test_what_is_no_chunk_is_a_dead_letter_with_its_reason(land, rows):
    ahead = chunk(started_at=RECEIVED + timedelta(minutes=6))
    broken = orjson.dumps({**orjson.loads(encode(chunk(), "m", "monitor")), "unit": "mmHg"})
    past = orjson.dumps({**orjson.loads(encode(chunk(), "m", "monitor")), "rate": 1e-12})
    old = chunk(started_at=NOON.replace(year=1800))
    land([None, b"", b"{", broken, past, *sent(("ahead", ahead), ("old", old), NAMED[0])])

    assert [(row["offset"], row["reason"]) for row in rows(WAVEFORM_DEAD_LETTER, "offset")] == [
        (0, "tombstone"),
        (1, "empty"),
        (2, "malformed_json"),
        (3, "breaks_contract"),
        (4, "bad_timestamp"),
        (5, "clock_ahead"),
        (6, "bad_timestamp"),
    ]
    assert [row["offset"] for row in rows(WAVEFORM_CHUNK, "offset")] == [7]
