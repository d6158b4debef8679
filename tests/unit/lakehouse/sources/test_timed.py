"""A source as instants and messages, for who replays it in memory."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from lakehouse.sources.registry import source_named
from lakehouse.sources.source import Selection, Tally, timed
from tests.fixtures.mimic import write_mimic_iii, write_mimic_iv, write_monitor

MONITOR = (
    "charttime,HR,ABPSys,ABPDias,ABPMean,PULSE,RESP,SpO2,NBPSys,NBPDias,NBPMean",
    "1970-01-02 00:00:00,62,,,,,,,,,",
    "1970-01-01 00:00:01.500,61,,,,,,,,,",
    "1969-12-31 23:59:59,60,,,,,,,,,",
)


def test_the_instant_is_that_of_observation_in_epoch_milliseconds_before_1970_too(tmp_path: Path) -> None:
    (tmp_path / "bed7.csv").write_text("\n".join(MONITOR) + "\n")
    events = source_named("monitor-csv").events(tmp_path / "bed7.csv", Selection(), Tally())
    assert [(at_ms, message["observations"][0]["value"]) for at_ms, message in timed(events)] == [
        (-1000, 60.0),
        (1500, 61.0),
        (86_400_000, 62.0),
    ]


def write_monitors(folder: Path) -> None:
    for bed in (1, 2):
        write_monitor(folder / f"bed{bed}.csv", seed=bed, minutes=20)


@pytest.mark.parametrize(
    ("name", "write"),
    [("monitor-csv", write_monitors), ("mimic-iii", write_mimic_iii), ("mimic-iv", write_mimic_iv)],
)
def test_every_source_gives_all_its_messages_in_the_order_of_time(
    name: str, write: Callable[[Path], object], tmp_path: Path
) -> None:
    write(tmp_path)
    source = source_named(name)
    found = list(timed(source.events(tmp_path, Selection(), Tally())))
    assert [message for _, message in found] == [
        event.message for event in source.events(tmp_path, Selection(), Tally())
    ]
    assert len({message["patient_id"] for _, message in found}) > 1
    assert all(sooner <= later for (sooner, _), (later, _) in pairwise(found))
    assert len({at_ms for at_ms, _ in found}) > 10
