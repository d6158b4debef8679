"""The ECG of simulated patients, as records to send."""

from datetime import timedelta
from itertools import islice

from lakehouse.ecg.message import read
from streaming.simulator.simulation import Options
from streaming.simulator.waveform import RATE, records
from tests.fixtures.ecg import NOON

OPTIONS = Options(NOON, patients=3, seed=7)


def test_each_second_brings_two_leads_of_every_patient_when_it_is_over() -> None:
    sent = list(islice(records(OPTIONS, 2), 8))
    messages = [read(one.value) for one in sent]

    assert [one.due for one in sent] == [1.0] * 4 + [2.0] * 4
    assert [one.key.decode() for one in sent] == ["sim/7-00001"] * 2 + ["sim/7-00002"] * 2 + [
        "sim/7-00001",
        "sim/7-00001",
        "sim/7-00002",
        "sim/7-00002",
    ]
    assert {(one.chunk.rate, len(one.chunk.samples)) for one in messages} == {(RATE, 250)}
    assert [one.chunk.started_at - NOON for one in messages] == [timedelta(0)] * 4 + [timedelta(seconds=1)] * 4
    assert len({one.message_id for one in messages}) == len(messages)


def test_the_same_seed_and_start_give_the_same_bytes() -> None:
    assert list(islice(records(OPTIONS, 1), 6)) == list(islice(records(OPTIONS, 1), 6))
