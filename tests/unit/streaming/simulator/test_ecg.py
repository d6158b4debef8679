import pytest

from lakehouse.ecg.chunk import WaveformChunk
from lakehouse.ecg.series import join
from streaming.simulator.ecg import Ecg
from tests.fixtures.ecg import NOON


def read(seed: int, *pieces: float, heart_rate: float = 80.0) -> list[WaveformChunk]:
    """Lead II of a patient, in pieces of so many seconds."""
    patient = Ecg("mrn/1", "monitor/7", NOON, 250.0, seed)
    return [patient.read(seconds, heart_rate)[0] for seconds in pieces]


def test_the_same_seed_gives_the_same_samples_and_another_gives_others() -> None:
    assert read(1, 10) == read(1, 10)
    assert read(1, 10) != read(2, 10)


def test_chunks_follow_each_other_without_a_gap_and_without_a_seam() -> None:
    assert join(read(1, *[0.1] * 100)).runs == (read(1, 10.0)[0],)


@pytest.mark.parametrize("heart_rate", [40, 80, 180])
def test_there_are_as_many_beats_as_the_heart_rate_says(heart_rate: float) -> None:
    patient = Ecg("mrn/1", "monitor/7", NOON, 250.0, seed=1)
    leads = patient.read(60.0, heart_rate)

    assert [lead.signal for lead in leads] == ["131330", "131335"]
    assert len(patient.peaks) == pytest.approx(heart_rate, abs=heart_rate * 0.02 + 1)
    at_peaks = [leads[0].millivolts()[round((peak - NOON).total_seconds() * 250)] for peak in patient.peaks[:-1]]
    assert min(at_peaks) > 0.8


def test_the_heart_rate_may_change_from_chunk_to_chunk() -> None:
    patient = Ecg("mrn/1", "monitor/7", NOON, 250.0, seed=1)
    patient.read(30.0, 60)
    before = len(patient.peaks)
    patient.read(30.0, 120)

    assert (before, len(patient.peaks) - before) == (pytest.approx(30, abs=2), pytest.approx(60, abs=3))
