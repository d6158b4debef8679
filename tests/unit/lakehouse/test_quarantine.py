from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lakehouse.datadir import DataDir
from lakehouse.quarantine import (
    Filters,
    NotInQuarantineError,
    counts,
    error_budget,
    landed,
    named,
    occupied,
    open_values,
    recorded,
    story,
)
from lakehouse.table import Table
from lakehouse.tables import DEVICE_MESSAGE, OBSERVATION, OBSERVATION_QUARANTINE, QUARANTINE_FIX
from tests.fixtures.delta import append

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def value(number: int, version: int = 0, **changes: Any) -> dict[str, Any]:
    """A version of the observation of this number, recorded so many seconds after noon; it came at this offset."""
    return {
        "observation_id": bytes([number]) * 16,
        "version": bytes([number, version]) * 8,
        "patient_id": "mrn/1",
        "device_id": "monitor-1",
        "source": "ward",
        "code": "8867-4",
        "status": "final",
        "observed_at": NOON,
        "received_at": NOON,
        "recorded_at": NOON + timedelta(seconds=version),
        "message_id": f"m{number}-{version}",
        "topic": "vitals",
        "partition": 0,
        "offset": 10 * number + version,
    } | changes


def bad(number: int, version: int = 0, *reasons: str, **changes: Any) -> dict[str, Any]:
    return value(number, version, failed_constraints=list(reasons) or ["unknown_unit"], **changes)


@pytest.fixture
def lake(tmp_path: Path) -> DataDir:
    """Observations 1 and 2 are open, 3 was corrected, 4 withdrawn; 5 was good before a bad correction came."""
    data = DataDir(tmp_path)
    write(data, OBSERVATION, value(3, 1), value(5), value(6))
    write(
        data,
        OBSERVATION_QUARANTINE,
        bad(1),
        bad(2, 0, "unknown_unit", "clock_ahead", code="8310-5", device_id="monitor-2", received_at=NOON + DAY),
        bad(3),
        bad(4),
        bad(4, 1, status="entered-in-error"),
        bad(5, 1, "out_of_range"),
    )
    write(data, DEVICE_MESSAGE, *({**place(1), "value": b"first"}, {**place(5, 1), "value": b"fifth"}))
    return data


def place(number: int, version: int = 0) -> dict[str, Any]:
    return {"topic": "vitals", "partition": 0, "offset": 10 * number + version, "received_at": NOON}


def write(data: DataDir, table: Table, *rows: dict[str, Any]) -> None:
    append(data, table, *rows)


def ids(values: list[list[dict[str, Any]]]) -> list[int]:
    return [versions[0]["observation_id"][0] for versions in values]


def test_values_are_counted_by_what_they_break_and_open_is_what_no_later_version_settles(lake: DataDir) -> None:
    assert counts(lake, Filters(), ()) == [{"rows": 6, "observations": 5, "open": 3}]
    assert counts(lake, Filters(), ("reason",)) == [
        {"reason": "unknown_unit", "rows": 5, "observations": 4, "open": 2},
        {"reason": "clock_ahead", "rows": 1, "observations": 1, "open": 1},
        {"reason": "out_of_range", "rows": 1, "observations": 1, "open": 1},
    ]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (Filters(), [1, 5, 2]),
        (Filters(constraint="clock_ahead"), [2]),
        (Filters(device="monitor-1", constraint="unknown_unit"), [1]),
        (Filters(code="8310-5", source="ward"), [2]),
        (Filters(since=NOON + DAY), [2]),
        (Filters(until=NOON + DAY), [1, 5]),
        (Filters(ids=(b"\x01" * 16, b"\x03" * 16)), [1]),
        (Filters(source="nowhere"), []),
    ],
)
def test_what_is_open_is_found_by_any_filter(lake: DataDir, filters: Filters, found: list[int]) -> None:
    assert ids(open_values(lake, filters, 100)) == found


def test_an_open_value_comes_with_its_record_where_bronze_still_has_it(lake: DataDir) -> None:
    assert [versions[0]["raw"] for versions in open_values(lake, Filters(), 100)] == [b"first", b"fifth", None]
    assert len(open_values(lake, Filters(), 2)) == 2


def test_all_that_one_message_gives_under_one_id_stays_together(lake: DataDir) -> None:
    twice = [bad(7, version, "ambiguous_repeat", message_id="both") for version in (1, 2)]
    write(lake, OBSERVATION_QUARANTINE, *twice, bad(7, 0))
    (versions,) = open_values(lake, Filters(constraint="ambiguous_repeat"), 100)
    assert [row["version"][1] for row in versions] == [2, 1]


def test_an_id_is_named_by_enough_of_its_beginning(lake: DataDir) -> None:
    assert named(lake, "0101") == b"\x01" * 16
    for text, said in (
        ("0", "several"),
        ("ff", "no observation ff is in quarantine"),
        ("x%", "not the beginning of an observation_id"),
    ):
        with pytest.raises(NotInQuarantineError, match=said):
            named(lake, text)


def test_a_story_has_every_version_and_every_fix(lake: DataDir) -> None:
    told = story(lake, b"\x03" * 16)
    assert [(row["version"][1], row["failed_constraints"]) for row in told.versions] == [(1, []), (0, ["unknown_unit"])]
    assert (told.fixes, told.is_open) == ((), False)
    write(lake, QUARANTINE_FIX, {"message_id": "m3-1", "observation_id": b"\x03" * 16, "actor": "anna"})
    assert [fix["actor"] for fix in story(lake, b"\x03" * 16).fixes] == ["anna"]
    assert story(lake, b"\x05" * 16).is_open
    assert recorded(lake, ["m3-1", "another"]) == {"m3-1"}


def test_what_was_sent_again_is_valid_withdrawn_or_refused_again(lake: DataDir) -> None:
    assert landed(lake, "again", NOON) == {"valid": 0, "withdrawn": 0, "quarantined": 0}
    gone = {"topic": "again", "status": "entered-in-error"}
    write(lake, OBSERVATION, value(8, topic="again"), value(9, topic="again"), value(10, **gone))
    write(lake, OBSERVATION_QUARANTINE, bad(11, topic="again"), bad(12, **gone))
    assert landed(lake, "again", NOON) == {"valid": 2, "withdrawn": 2, "quarantined": 1}


def test_a_place_is_occupied_by_an_observation_that_only_its_code_identifies(lake: DataDir) -> None:
    here = {"source": "ward", "patient_id": "mrn/1", "device_id": "monitor-1", "observed_at": NOON, "code": "8867-4"}
    elsewhere = here | {"code": "8310-5"}
    assert occupied(lake, [here, elsewhere]) == {tuple(here.values())}
    assert occupied(lake, []) == frozenset()


def test_the_budget_is_of_what_each_device_sends_on_each_day(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    write(data, OBSERVATION, *(value(number) for number in range(90)), value(90, received_at=NOON + DAY))
    faults = [bad(number, 0, "unknown_unit", "clock_ahead") for number in range(100, 106)]
    unplugged = [bad(number, 0, "sensor_disconnected") for number in range(110, 114)]
    again = bad(120, topic="file:quarantine/run@0")
    write(data, OBSERVATION_QUARANTINE, *faults, *unplugged, again, bad(130, received_at=NOON - DAY))

    first, second = error_budget(data, NOON, NOON + 2 * DAY)

    assert (first.observations, first.quarantined, first.faults, first.share) == (100, 10, 6, 0.06)
    assert first.reasons == {"clock_ahead": 6, "unknown_unit": 6, "sensor_disconnected": 4}
    assert (first.exceeds(0.05), first.exceeds(0.06)) == (True, False)
    assert (second.day, second.observations, second.faults, second.exceeds(0)) == ((NOON + DAY).date(), 1, 0, False)


def test_one_value_alone_breaks_no_budget(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    write(data, OBSERVATION, value(1))
    write(data, OBSERVATION_QUARANTINE, bad(2))
    (day,) = error_budget(data, NOON, NOON + DAY)
    assert (day.share, day.exceeds(0.05)) == (0.5, False)
