from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.ecg.chunk import ABOVE, BELOW, NO_VALUE, WaveformChunk
from lakehouse.ecg.sampled_data import SampledDataError, chunks
from tests.fixtures.ecg import NOON, SAMPLED_DATA, lead_code, sampled_observation


def read(resource: Any) -> list[WaveformChunk]:
    return list(chunks(resource, "mrn/1", "monitor/7"))


def test_an_observation_is_a_chunk() -> None:
    (told,) = read(sampled_observation())

    assert (told.signal, told.started_at, told.rate, told.unit) == ("131329", NOON, 100.0, "mV")
    assert (told.samples.tolist(), told.lowest, told.highest) == ([2041, 2043, 2037], -3300, 3300)
    assert told.millivolts().tolist() == pytest.approx([2048 + 1.612 * point for point in (2041, 2043, 2037)])


def test_decimals_are_kept_as_they_are_written() -> None:
    (told,) = read(sampled_observation(data="0.25 -1 1.5", factor=..., origin={"value": 0, "code": "uV"}))

    assert (told.samples.tolist(), told.gain, told.lowest) == ([25, -100, 150], 100, -330_000)
    assert told.millivolts().tolist() == pytest.approx([0.00025, -0.001, 0.0015])


def test_letters_stay_what_they_are() -> None:
    assert read(sampled_observation(data="E L U 0"))[0].samples.tolist() == [NO_VALUE, BELOW, ABOVE, 0]


def test_dimensions_are_leads_in_turn() -> None:
    first, second = read(sampled_observation("131330", "131335", dimensions=2, data="1 10 2 20 3 30"))

    assert (first.signal, first.samples.tolist()) == ("131330", [1, 2, 3])
    assert (second.signal, second.samples.tolist()) == ("131335", [10, 20, 30])


def test_components_are_leads() -> None:
    whole = sampled_observation()
    parts = [{"code": lead_code(lead), "valueSampledData": whole["valueSampledData"]} for lead in ("131329", "131330")]
    start = {"effectivePeriod": {"start": "2026-03-01T12:00:00Z"}}

    told = read({"resourceType": "Observation", "code": {}, "component": parts, **start})

    assert [(one.signal, one.started_at) for one in told] == [("131329", NOON), ("131330", NOON)]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"origin": ...}, "origin"),
        ({"origin": {"code": "mV"}}, "value"),
        ({"origin": {"value": 0, "code": "mm[Hg]"}}, "unit"),
        ({"period": ...}, "period"),
        ({"period": 0}, "period"),
        ({"period": True}, "period"),
        ({"factor": 0}, "factor"),
        ({"factor": "1"}, "factor"),
        ({"dimensions": 2}, "dimensions"),
        ({"dimensions": ...}, "dimensions"),
        ({"data": ...}, "data"),
        ({"data": "  "}, "data"),
        ({"data": "1 x"}, "nor E, U or L: x"),
        ({"data": "1e9"}, "1e9"),
        ({"data": "4000000000"}, "32 bits"),
        ({"data": "2147483647"}, "32 bits"),
        ({"data": "L", "lowerLimit": ...}, "lowerLimit"),
        ({"data": "U", "upperLimit": ...}, "upperLimit"),
    ],
)
def test_what_breaks_sampled_data_is_refused_by_its_element(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(SampledDataError, match=named):
        read(sampled_observation(**changes))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"resourceType": "Patient"}, "not an Observation"),
        ({"effectiveDateTime": None}, "effective"),
        ({"effectiveDateTime": "2026-03-01T12:00:00"}, "zone"),
        ({"code": {"coding": [{"system": "http://loinc.org", "code": "11524-6"}]}}, "no lead"),
        ({"code": None}, "code"),
        ({"component": {}}, "component"),
        ({"valueSampledData": 5}, "valueSampledData"),
    ],
)
def test_what_is_no_observation_of_a_lead_is_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(SampledDataError, match=named):
        read({**sampled_observation(), **changes})


def test_points_that_are_not_a_multiple_of_the_dimensions_are_refused() -> None:
    with pytest.raises(SampledDataError, match="multiple of 2"):
        read(sampled_observation("131330", "131335", dimensions=2, data="1 2 3"))


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*SAMPLED_DATA, "value"]), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.sampled_from([*SAMPLED_DATA, "code", "effectiveDateTime", "component", "valueSampledData"]), JSON)
def test_whatever_an_element_holds_there_is_a_chunk_or_a_named_error(name: str, value: Any) -> None:
    tried = sampled_observation(**{name: value}) if name in SAMPLED_DATA else {**sampled_observation(), name: value}
    with suppress(SampledDataError):
        read(tried)
