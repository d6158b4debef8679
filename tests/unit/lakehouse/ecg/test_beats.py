from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import wfdb
from hypothesis import given, settings
from hypothesis import strategies as st
from wfdb.processing import compare_annotations

from lakehouse.ecg import wfdb_reader
from lakehouse.ecg.beats import Beat, ChunkOrderError, RateError, beats, search, stretches
from lakehouse.ecg.chunk import ABOVE, NO_VALUE, Samples
from lakehouse.ecg.quality import Quality
from tests.fixtures.ecg import NOON, chunk, cut, noise, simulated

SAMPLES, PEAKS = simulated(45.0)
WHOLE = list(beats(cut(SAMPLES)))


def found(some: list[Beat], rate: float = 250.0) -> list[int]:
    return [round((beat.at - NOON).total_seconds() * rate) for beat in some]


def score(reference: list[int], told: list[int], rate: float) -> tuple[float, float]:
    """Sensitivity and positive predictive value within 150 ms, by wfdb's own comparison."""
    compared = compare_annotations(np.array(reference), np.array(told), round(0.15 * rate))
    return compared.sensitivity, compared.positive_predictivity


@pytest.mark.parametrize(("heart_rate", "rate"), [(40, 250.0), (75, 125.0), (75, 360.0), (130, 250.0), (180, 500.0)])
def test_every_beat_of_a_simulated_patient_is_found_and_no_other(heart_rate: float, rate: float) -> None:
    samples, peaks = simulated(60.0, heart_rate, rate=rate)
    # Of the last peak there may be half.
    end = 59.5 * rate
    told = [index for index in found(list(beats(cut(samples, rate=rate))), rate) if index < end]

    assert score([peak for peak in peaks if peak < end], told, rate) == (1, 1)


def test_ten_minutes_of_record_100_of_mit_bih_are_found_beat_by_beat(shared_data: Path) -> None:
    record = shared_data / "wfdb/100"
    reference = wfdb.rdann(str(record), "atr", sampto=60 * 3600)
    annotated = [at for at, symbol in zip(reference.sample, reference.symbol, strict=True) if symbol != "+"]
    lead_ii = list(wfdb_reader.chunks(record, "mit-bih/100", "holter", NOON))[:60]

    sensitivity, predictive = score(annotated, found(list(beats(lead_ii)), 360.0), 360.0)

    assert len(annotated) == 760
    assert min(sensitivity, predictive) >= 0.995


@settings(max_examples=15, deadline=None)
@given(st.sets(st.integers(1, len(SAMPLES) - 1), max_size=30))
def test_any_cut_into_chunks_gives_the_same_beats(edges: set[int]) -> None:
    assert list(beats(cut(SAMPLES, *edges))) == WHOLE


def test_a_cut_within_each_beat_gives_the_same_beats() -> None:
    assert list(beats(cut(SAMPLES, *PEAKS))) == WHOLE


def test_intervals_are_those_between_beats() -> None:
    assert WHOLE[0].rr is None
    for before, after in pairwise(WHOLE):
        assert after.rr == pytest.approx((after.at - before.at).total_seconds(), abs=1e-5)


def test_beats_come_eleven_seconds_later_at_most() -> None:
    state, told = None, []
    for part in cut(SAMPLES, *range(0, len(SAMPLES), 250)):
        state, new = search(state, part)
        told += [beat for stretch in new for beat in stretch.beats]
        due = [beat for beat in WHOLE if part.ended_at - beat.at >= timedelta(seconds=11)]
        assert told[: len(due)] == due


def test_a_state_holds_no_more_than_the_windows_need() -> None:
    state = None
    for part in cut(SAMPLES, *range(0, len(SAMPLES), 250)):
        state, _ = search(state, part)
        assert len(state.held) <= 22 * 250


def test_after_a_gap_the_first_interval_is_not_known() -> None:
    first, second = cut(SAMPLES, 5000)
    moved = chunk(started_at=second.started_at + timedelta(seconds=3), samples=second.samples)
    told = list(beats([first, moved]))

    assert [beat.rr is None for beat in told].count(True) == 2
    assert score(
        [peak if peak < 5000 else peak + 750 for peak in PEAKS], found(told), 250.0
    ) == pytest.approx((1, 1), abs=0.04)  # fmt: skip


def test_a_clock_that_drifts_is_followed_without_a_gap() -> None:
    parts = cut(SAMPLES, *range(0, len(SAMPLES), 250))
    slow = [
        chunk(started_at=NOON + n * timedelta(seconds=1, milliseconds=3), samples=part.samples)
        for n, part in enumerate(parts)
    ]
    told = list(beats(slow))

    assert [beat.rr for beat in told] == [beat.rr for beat in WHOLE]
    assert (told[-1].at - WHOLE[-1].at).total_seconds() == pytest.approx(0.003 * 44, abs=0.01)


def test_a_chunk_of_before_is_refused() -> None:
    parts = cut(SAMPLES, 5000)

    with pytest.raises(ChunkOrderError, match="5000 samples"):
        list(beats([parts[0], parts[0]]))


def test_a_lead_of_too_few_samples_is_refused() -> None:
    with pytest.raises(RateError, match=r"62\.5 Hz"):
        list(beats([chunk(rate=62.5)]))


def flawed(samples: Samples) -> list[Quality]:
    return [stretch.quality for stretch in stretches(cut(samples))]


@pytest.mark.parametrize(
    ("samples", "label"),
    [
        (np.full(5000, NO_VALUE), Quality.LEAD_OFF),
        (np.full(5000, ABOVE), Quality.SATURATED),
        (np.full(5000, 1024), Quality.FLAT),
        (noise(20, 0.3), Quality.NOISE),
        (SAMPLES[:5000], Quality.GOOD),
    ],
)
def test_each_ten_seconds_have_a_label(samples: Samples, label: Quality) -> None:
    assert flawed(samples) == [label, label]


def test_noise_amid_a_good_signal_is_labelled_where_it_is() -> None:
    spoilt = np.concatenate([SAMPLES[:2500], noise(10, 1.5), SAMPLES[5000:10_000]])

    assert flawed(spoilt) == [Quality.GOOD, Quality.NOISE, Quality.GOOD, Quality.GOOD]
    assert {beat.quality for beat in beats(cut(spoilt)) if 2500 <= found([beat])[0] < 5000} == {Quality.NOISE}


def test_a_few_missing_samples_cost_no_beat_but_those_in_them() -> None:
    holed = SAMPLES.copy()
    hole = slice(PEAKS[9] - 30, PEAKS[9] + 30)
    holed[hole] = NO_VALUE

    told = found(list(beats(cut(holed))))

    assert not [index for index in told if hole.start <= index < hole.stop]
    assert score([peak for peak in PEAKS if peak != PEAKS[9]], told, 250.0) == (1, 1)


@pytest.mark.parametrize("length", [1, 100, 499])
def test_a_run_too_short_to_search_has_nothing(length: int) -> None:
    assert list(stretches(cut(SAMPLES[:length]))) == []


@settings(max_examples=15, deadline=None)
@given(st.integers(500, 3100), st.integers(0, 2**32 - 1))
def test_whatever_the_samples_are_stretches_cover_the_run(length: int, seed: int) -> None:
    chance = np.random.default_rng(seed)
    levels = chance.choice([NO_VALUE, ABOVE, 0, 1024, 1025, 2047], size=chance.integers(1, 6))
    told = list(stretches(cut(np.resize(np.repeat(levels, chance.integers(1, 700)), length))))

    assert told[0].started_at == NOON
    assert told[-1].ended_at == NOON + timedelta(seconds=length / 250)
    assert [one.ended_at for one in told[:-1]] == [one.started_at for one in told[1:]]
