from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.ecg.series import ChunkOverlapError, Gap, MixedSignalError, Series, join
from tests.fixtures.ecg import NOON, chunk, cut

LINE = np.arange(900, 1000, dtype=np.int32)
SECOND = timedelta(seconds=1)


@given(st.sets(st.integers(1, 99)), st.randoms(use_true_random=False), st.sampled_from([250.0, 360.0, 62.5]))
def test_any_cut_in_any_order_is_one_run(edges, random, rate):
    parts = cut(LINE, *edges, rate=rate)
    random.shuffle(parts)

    assert join(parts) == Series((chunk(samples=LINE, rate=rate),))


def test_a_gap_is_told_and_the_runs_stay_apart():
    before, after = chunk(), chunk(started_at=NOON + SECOND)
    series = join([after, before])

    assert series == Series((before, after))
    assert series.gaps == (Gap(NOON + timedelta(milliseconds=12), NOON + SECOND),)


def test_a_clock_that_is_off_by_less_than_half_a_sample_makes_no_gap():
    late = chunk(started_at=NOON + timedelta(milliseconds=13.9))

    assert len(join([chunk(), late]).runs) == 1
    assert len(join([chunk(), chunk(started_at=NOON + timedelta(milliseconds=14.1))]).runs) == 2


def test_a_slow_clock_shows_as_a_gap_once_it_has_lost_half_a_sample():
    parts = [chunk(started_at=NOON + n * timedelta(milliseconds=12.3)) for n in range(10)]

    assert [len(run.samples) for run in join(parts).runs] == [21, 9]


def test_a_chunk_that_came_twice_counts_once():
    parts = cut(LINE, 40)

    assert join([*parts, *parts]) == Series((chunk(samples=LINE),), repeated=100)


def test_what_overlaps_and_agrees_is_joined():
    assert join([chunk(samples=LINE[:60]), cut(LINE, 30)[1]]) == Series((chunk(samples=LINE),), repeated=30)


def test_what_overlaps_and_differs_is_refused():
    with pytest.raises(ChunkOverlapError, match="monitor/7"):
        join([chunk(samples=LINE[:60]), chunk(samples=LINE[:60] + 1)])


@pytest.mark.parametrize("changes", [{"signal": "131331"}, {"patient_id": "mrn/2"}, {"rate": 500.0}, {"gain": 100.0}])
def test_chunks_of_two_series_are_not_joined(changes):
    with pytest.raises(MixedSignalError):
        join([chunk(), chunk(started_at=NOON + SECOND, **changes)])


def test_nothing_is_a_series_without_runs():
    assert join([]) == Series(())
