from datetime import timedelta

import pytest

from lakehouse.ecg.chunk import WaveformChunk
from lakehouse.ecg.settled import settled, within
from tests.fixtures.ecg import NOON, chunk, cut, simulated

SAMPLES = simulated(4.0)[0]
SECONDS = cut(SAMPLES, 250, 500, 750)


def said(*chunks: WaveformChunk) -> list[int]:
    return [int(sample) for one in settled(chunks) for sample in one.samples]


def test_chunks_in_any_order_that_repeat_each_other_in_other_pieces_say_each_instant_once() -> None:
    other = cut(SAMPLES, 100, 600)

    assert list(settled(reversed(SECONDS))) == SECONDS
    assert said(*other, *SECONDS, SECONDS[2]) == SAMPLES.tolist()


@pytest.mark.parametrize("changes", [{"samples": SAMPLES[250:500] + 1}, {"gain": 100.0}, {"rate": 500.0}])
def test_of_chunks_that_contradict_each_other_neither_is_believed(changes: dict[str, object]) -> None:
    second = SECONDS[1].started_at
    other = chunk(**{"started_at": second, "samples": SAMPLES[250:500], **changes})

    for given in ([*SECONDS, other], [other, *SECONDS]):
        assert list(settled(given)) == [SECONDS[0], *SECONDS[2:]]


def test_a_clock_that_drifts_by_milliseconds_contradicts_nothing() -> None:
    late = cut(SAMPLES, 250)
    early = chunk(started_at=late[1].started_at - timedelta(milliseconds=30), samples=late[1].samples)

    assert list(settled([late[0], early])) == [late[0], early]


def test_a_gap_stays_one() -> None:
    assert list(settled([SECONDS[3], SECONDS[0]])) == [SECONDS[0], SECONDS[3]]


def test_within_takes_the_samples_of_a_span() -> None:
    start, end = NOON + timedelta(seconds=0.5), NOON + timedelta(seconds=3)

    found = list(within(SECONDS, start, end))

    assert [len(one.samples) for one in found] == [125, 250, 250]
    assert found[0].started_at == start
    assert [sample for one in found for sample in one.samples] == SAMPLES[125:750].tolist()
