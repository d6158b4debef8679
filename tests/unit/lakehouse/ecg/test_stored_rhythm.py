from datetime import timedelta

import pytest

from lakehouse.ecg.beat_class import judged
from lakehouse.ecg.beats import beats
from lakehouse.ecg.chunk import NO_VALUE
from lakehouse.ecg.rhythm import by_minute
from lakehouse.ecg.stored_rhythm import MINUTE, rhythm_minute, touched
from tests.fixtures.ecg import NOON, cut, noise, simulated

SHARES = ("good_share", "noise_share", "flat_share", "saturated_share", "lead_off_share")
SAMPLES = simulated(130.0)[0]
CHUNKS = cut(SAMPLES, *range(0, len(SAMPLES), 250))


def test_a_minute_is_what_a_search_of_the_whole_lead_finds_in_it() -> None:
    whole = {one.minute: one for one in by_minute(judged(beats(CHUNKS)))}

    found = rhythm_minute(CHUNKS, NOON + MINUTE)

    assert found is not None
    assert {name: found[name] for name in vars(whole[NOON])} == vars(whole[NOON + MINUTE])
    assert [found[name] for name in SHARES] == pytest.approx([1, 0, 0, 0, 0])


def test_a_minute_does_not_depend_on_how_chunks_were_cut_nor_on_their_order() -> None:
    other = cut(SAMPLES, *range(0, len(SAMPLES), 1700))

    assert rhythm_minute([*reversed(other)], NOON + MINUTE) == rhythm_minute(CHUNKS, NOON + MINUTE)


def test_a_minute_without_a_signal_has_no_row() -> None:
    assert rhythm_minute(CHUNKS, NOON - MINUTE) is None
    assert rhythm_minute([], NOON) is None
    assert rhythm_minute(cut(SAMPLES, rate=50.0), NOON) is None


def test_the_rest_of_a_minute_has_no_chunk() -> None:
    found = rhythm_minute(CHUNKS, NOON + 2 * MINUTE)

    assert found is not None
    assert sum(found[name] for name in SHARES) == pytest.approx(10 / 60)


def test_what_is_no_rhythm_has_its_share_and_no_intervals() -> None:
    samples = [*([NO_VALUE] * 20 * 250), *([1024] * 20 * 250), *noise(20.0, 1.0)]

    found = rhythm_minute(cut(samples), NOON)

    assert found is not None
    assert (found["intervals"], found["mean_rr"], found["good_share"]) == (0, None, 0.0)
    assert [found[name] for name in SHARES[1:]] == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3])


@pytest.mark.parametrize(
    ("begins", "lasts", "minutes"),
    [(0, 1, [-1, 0]), (0.5, 1, [-1, 0]), (1.0, 28, [0]), (1.0, 30, [0, 1]), (30.0, 1, [0, 1]), (29.0, 1, [0])],
)
def test_a_chunk_touches_its_minute_and_those_that_search_it_before_and_after(
    begins: float, lasts: float, minutes: list[int]
) -> None:
    start = NOON + timedelta(seconds=begins)

    assert [*touched(start, start + timedelta(seconds=lasts))] == [NOON + number * MINUTE for number in minutes]
