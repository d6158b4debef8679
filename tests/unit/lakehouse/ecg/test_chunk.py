from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.ecg.chunk import (
    ABOVE,
    BELOW,
    MOST_SAMPLES,
    NO_VALUE,
    ChunkError,
    CodecError,
    WaveformChunk,
    packed,
    unpacked,
)
from tests.fixtures.ecg import NOON, chunk

SAMPLES = st.lists(st.integers(NO_VALUE, ABOVE) | st.integers(900, 1100), min_size=1, max_size=300)


@given(SAMPLES)
def test_what_is_packed_comes_out_as_it_went_in(samples: list[int]) -> None:
    held = np.array(samples, dtype=np.int32)

    assert unpacked(packed(held), len(held)).tolist() == samples


def test_a_quiet_line_takes_a_hundredth_of_its_integers() -> None:
    assert len(packed(np.full(3600, 1024, dtype=np.int32))) < 3600 * 2 / 100


@given(st.binary(max_size=60), st.integers(-1, 50))
def test_other_bytes_are_refused_by_name(content: bytes, count: int) -> None:
    with pytest.raises(CodecError):
        unpacked(content, count)


@pytest.mark.parametrize("count", [1, 4, 6, 100, 0, MOST_SAMPLES + 1])
def test_a_wrong_count_is_refused(count: int) -> None:
    with pytest.raises(CodecError):
        unpacked(packed(np.array([1, 2, 3, 4, 5], dtype=np.int32)), count)


def test_more_samples_than_come_out_are_not_packed() -> None:
    with pytest.raises(CodecError, match="100001"):
        packed(np.zeros(MOST_SAMPLES + 1, dtype=np.int32))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"started_at": datetime(2026, 3, 1)}, "started_at"),  # noqa: DTZ001
        ({"rate": 0}, "rate"),
        ({"rate": float("nan")}, "rate"),
        ({"unit": "mmHg"}, "unit"),
        ({"gain": 0}, "gain"),
        ({"baseline": float("inf")}, "baseline"),
        ({"samples": []}, "samples"),
        ({"samples": [[1, 2]]}, "samples"),
        ({"samples": [1.5]}, "samples"),
        ({"samples": [2**31]}, "samples"),
    ],
)
def test_what_is_no_chunk_is_refused_by_the_name_of_its_field(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ChunkError, match=named):
        chunk(**changes)


def test_samples_cannot_be_written_to_and_the_callers_stay_theirs() -> None:
    mine = np.array([1, 2], dtype=np.int32)
    held = chunk(samples=mine).samples
    mine[0] = 7

    assert held.tolist() == [1, 2]
    with pytest.raises(ValueError, match="read-only"):
        held[0] = 3


def test_chunks_are_equal_by_what_they_say() -> None:
    assert chunk(samples=[1, 2]) == chunk(samples=[1, 2])
    assert hash(chunk(samples=[1, 2])) == hash(chunk(samples=[1, 2]))
    assert chunk(samples=[1, 2]) != chunk(samples=[1, 3])
    assert chunk(samples=[1, 2]) != chunk(samples=[1, 2], gain=100)


@pytest.mark.parametrize(("unit", "gain"), [("mV", 200), ("uV", 0.2), ("V", 200_000)])
def test_samples_are_millivolts_by_gain_and_baseline(unit: str, gain: float) -> None:
    told = chunk(unit=unit, gain=gain, samples=[1024, 1224, 924, NO_VALUE, BELOW, ABOVE]).millivolts()

    np.testing.assert_allclose(told, [0, 1, -0.5, np.nan, np.nan, np.nan])


def test_samples_at_an_end_of_the_range_are_saturated() -> None:
    samples = [0, 1, 2047, 2046, NO_VALUE, BELOW, ABOVE]

    assert chunk(samples=samples, lowest=0, highest=2047).saturated().tolist() == [1, 0, 1, 0, 0, 1, 1]
    assert chunk(samples=samples).saturated().tolist() == [0, 0, 0, 0, 0, 1, 1]


def test_each_sample_has_its_instant() -> None:
    held: WaveformChunk = chunk(rate=360.0, samples=[0] * 36)

    assert held.at(1) == NOON + timedelta(microseconds=2778)
    assert held.ended_at == NOON + timedelta(milliseconds=100)
    assert held.ended_at.tzinfo is UTC
