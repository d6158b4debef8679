from datetime import timedelta

import pytest

from lakehouse.ecg.beat_class import JudgedBeat, judged
from lakehouse.ecg.beats import Beat
from lakehouse.ecg.quality import Quality
from lakehouse.ecg.rhythm import RhythmMinute, by_minute
from tests.fixtures.ecg import NOON


def rhythm(*intervals: float, poor: frozenset[int] = frozenset()) -> list[Beat]:
    """Beats from noon on with these intervals in seconds between them; the first has none."""
    at, told = NOON, [Beat(NOON, None, Quality.GOOD)]
    for number, interval in enumerate(intervals, start=1):
        at += timedelta(seconds=interval)
        told.append(Beat(at, interval, Quality.NOISE if number in poor else Quality.GOOD))
    return told


def verdicts(*intervals: float) -> list[bool | None]:
    return [one.premature for one in judged(rhythm(*intervals))]


def test_an_early_beat_is_premature_and_the_pause_behind_it_is_not() -> None:
    assert verdicts(*[0.8] * 8, 0.6, 1.0, 0.8) == [*[None] * 9, True, False, False]


def test_a_heart_that_quickens_has_no_premature_beats() -> None:
    quicker = [0.8 * 0.98**n for n in range(40)]

    assert True not in verdicts(*quicker)


def test_every_other_beat_may_be_premature() -> None:
    assert verdicts(*[0.8] * 8, 0.55, 1.05, 0.55, 1.05)[9:] == [True, False, True, False]


def test_the_first_beats_of_a_run_are_not_judged() -> None:
    again = [*rhythm(*[0.8] * 9), *rhythm(*[0.8] * 9)]

    assert [one.premature for one in judged(again)] == [*[None] * 9, False, *[None] * 9, False]


def minutes(beats: list[Beat]) -> list[RhythmMinute]:
    return list(by_minute(judged(beats)))


def test_a_minute_has_the_figures_of_its_intervals() -> None:
    (minute,) = minutes(rhythm(0.8, 0.9, 0.8, 0.84))

    assert minute == RhythmMinute(
        minute=NOON,
        beats=5,
        good_beats=5,
        premature=0,
        intervals=4,
        mean_rr=pytest.approx(835),
        min_rr=800,
        max_rr=900,
        sdnn=pytest.approx(47.258, abs=1e-3),
        rmssd=pytest.approx(84.853, abs=1e-3),
        pnn50=pytest.approx(2 / 3),
        irregularity=pytest.approx(84.853 / 835, abs=1e-5),
    )


def test_a_premature_beat_is_in_the_rhythm_but_not_in_its_variability() -> None:
    (minute,) = minutes(rhythm(*[0.8] * 10, 0.5, 1.1, *[0.8] * 10))

    assert (minute.premature, minute.sdnn, minute.rmssd, minute.pnn50) == (1, pytest.approx(0), pytest.approx(0), 0)
    assert (minute.min_rr, minute.max_rr) == (500, 1100)
    assert minute.irregularity > 0.1


def test_intervals_at_a_beat_of_poor_quality_do_not_count() -> None:
    (minute,) = minutes(rhythm(0.8, 0.8, 0.3, 1.3, 0.8, poor=frozenset({3})))

    assert (minute.beats, minute.good_beats, minute.intervals, minute.max_rr) == (6, 5, 3, 800)


def test_differences_are_of_intervals_that_touch() -> None:
    (minute,) = minutes(rhythm(0.8, 0.8, 0.3, 1.3, 0.9, 0.9, poor=frozenset({3})))

    assert minute.rmssd == 0


def test_an_interval_across_minutes_is_of_the_minute_in_which_it_ends() -> None:
    first, second = minutes(rhythm(*[1.0] * 70))

    assert (first.beats, first.intervals, second.beats, second.intervals) == (60, 59, 11, 11)
    assert second.minute == NOON + timedelta(minutes=1)


def test_a_single_beat_has_no_intervals() -> None:
    (minute,) = minutes(rhythm())

    assert minute == RhythmMinute(NOON, 1, 1, 0, 0, None, None, None, None, None, None, None)


def test_beats_of_no_judgement_count_as_normal() -> None:
    told = [JudgedBeat(beat, None) for beat in rhythm(0.8, 0.9)]

    assert next(by_minute(told)).sdnn == pytest.approx(70.71, abs=0.01)
