"""What a listener of the live stream is told, without a broker; tests/integration/test_ways_out.py has one."""

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from gateway.live import LatestVitals
from gateway.stream import Event, EventIdError, Source, Subscription, Wanted, further, id_of, positions_of

RECORD = {
    "patient_id": "ward/1",
    "device_id": "monitor-1",
    "message_id": "m-1",
    "observed_at": 1_772_366_400_000,
    "received_at": 1_772_366_400_100,
    "status": "final",
    "observations": [{"code": "8867-4", "value": 131.0, "band": "breach"}],
}


def source(cache: LatestVitals | None = None) -> Source:
    return Source("127.0.0.1:1", {}, cache or LatestVitals())


def event(offset: int = 0, record: Mapping[str, Any] = RECORD, letter: str = "v") -> Event:
    made = source().event((letter, 0), offset, orjson.dumps(record), {(letter, 0): offset + 1})
    assert made is not None
    return made


def test_an_id_names_every_position_and_is_read_back() -> None:
    positions = {("v", 1): 998, ("a", 0): 17, ("v", 0): 0}

    assert id_of(positions) == "a0.17-v0.0-v1.998"
    assert positions_of("a0.17-v0.0-v1.998") == positions


@pytest.mark.parametrize("text", ["", "x0.1", "v0", "v0.1-", "v0.-1", "v0.1 ", "v0.1\n", f"v0.{'9' * 19}", "٣"])
def test_what_is_no_id_is_said(text: str) -> None:
    with pytest.raises(EventIdError, match="is no id of an event"):
        positions_of(text)


def test_the_further_of_two_positions_counts_at_each_place() -> None:
    assert further({("v", 0): 5, ("v", 1): 1}, {("v", 0): 3, ("a", 0): 2}) == {("v", 0): 5, ("v", 1): 1, ("a", 0): 2}


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        (Wanted(), True),
        (Wanted(patient="ward/1"), True),
        (Wanted(patient="ward/2"), False),
        (Wanted(unit="ICU"), True),
        (Wanted(unit="CCU"), False),
        (Wanted(patient="ward/1", unit="CCU"), False),
    ],
)
def test_a_listener_gets_the_patient_and_unit_that_it_wants(wanted: Wanted, taken: bool) -> None:
    assert wanted.takes(event(record={**RECORD, "location_unit": "ICU"})) is taken


def test_a_message_without_a_place_is_of_the_unit_where_its_patient_was_last() -> None:
    cache = LatestVitals()
    cache.take(orjson.dumps({**RECORD, "location_unit": "ICU"}))

    made = source(cache).event(("v", 0), 0, orjson.dumps(RECORD), {})

    assert made is not None
    assert made.unit == "ICU"


@pytest.mark.parametrize("value", [None, b"", b"[]", b"3", b"{}", b"\xff"])
def test_a_record_that_is_none_of_ours_is_no_event(value: bytes | None) -> None:
    assert source().event(("a", 0), 0, value, {}) is None


def test_vitals_are_told_as_the_latest_ones_are_and_alerts_with_instants_that_people_read() -> None:
    alert = {
        "alert_id": "a1",
        "patient_id": "ward/1",
        "state": "active",
        "observed_at": 1_772_366_400_000,
        "readings": [{"code": "8867-4", "value": 131.0, "observed_at": 1_772_366_400_000, "message_id": "m-1"}],
    }

    vitals = orjson.loads(event().data)
    told = orjson.loads(event(record=alert, letter="a").data)

    assert (vitals["message_id"], vitals["status"], vitals["observed_at"]) == (
        "m-1",
        "final",
        "2026-03-01T12:00:00.000Z",
    )
    assert [(one["name"], one["value"], one["band"]) for one in vitals["readings"]] == [("Heart rate", 131.0, "breach")]
    noon = "2026-03-01T12:00:00.000Z"
    assert told == {**alert, "observed_at": noon, "readings": [{**alert["readings"][0], "observed_at": noon}]}  # type: ignore[index,dict-item]


def test_a_listener_that_takes_nothing_is_dropped_and_holds_nothing_any_more() -> None:
    async def listen() -> tuple[list[Event], Any, str | None]:
        subscription = Subscription(Wanted(), asyncio.get_running_loop(), most=10)
        for number in range(11):
            subscription.offer([event(number)], {("v", 0): number + 1})
        subscription.offer([event(11)], {("v", 0): 12})
        return await subscription.take(1)

    events, _, reason = asyncio.run(listen())

    assert (events, reason) == ([], "too slow: more than 10 events waited")


def test_a_listener_hears_how_far_was_read_though_nothing_was_for_it() -> None:
    async def listen() -> tuple[list[Event], Any, str | None]:
        subscription = Subscription(Wanted(patient="ward/2"), asyncio.get_running_loop())
        subscription.offer([event(4)], {("v", 0): 5})
        return await subscription.take(0.01)

    assert asyncio.run(listen()) == ([], {("v", 0): 5}, None)


def test_a_listener_hears_of_its_units_alone_and_nothing_of_a_patient_without_one() -> None:
    wanted = Wanted(units=frozenset({"ICU"}))
    units = ("ICU", "CCU", None)
    events = [Event(("v", 0), 0, "ward/1", unit, {}, {}) for unit in units]
    assert [wanted.takes(event) for event in events] == [True, False, False]
