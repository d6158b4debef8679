from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.models.anomaly import MINUTE, Finding, Kind, findings

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
HEART_RATE, SPO2 = "8867-4", "59408-5"

Row = dict[str, Any]


def minutes(code: str = HEART_RATE, count: int = 200, middle: float = 80.0, swing: float = 4.0) -> list[Row]:
    """A steady signal that wavers within its minutes and between them."""
    chance = np.random.default_rng(1)
    rows = []
    for number in range(count):
        mean = middle + float(chance.normal(0, swing / 4))
        rows.append(
            {
                "code": code,
                "minute": BEGIN + number * MINUTE,
                "mean": mean,
                "min": mean - swing / 2,
                "max": mean + swing / 2,
                "first": mean - swing / 4,
                "last": mean + swing / 4,
            }
        )
    return rows


def moved(rows: list[Row], first: int, after: int, change: Callable[[Row], Row]) -> list[Row]:
    return [{**row, **change(row)} if first <= number < after else row for number, row in enumerate(rows)]


def shifted(by: float) -> Callable[[Row], Row]:
    return lambda row: {name: row[name] + by for name in ("mean", "min", "max", "first", "last")}


def stuck_at(value: float) -> Callable[[Row], Row]:
    return lambda _: dict.fromkeys(("mean", "min", "max", "first", "last"), value)


def of(found: list[Finding]) -> list[tuple[Kind, int, int]]:
    """Kind, and the numbers of the first minute and the first after."""
    return [(one.kind, round((one.begin - BEGIN) / MINUTE), round((one.end - BEGIN) / MINUTE)) for one in found]


def test_a_steady_patient_has_no_findings() -> None:
    assert findings(minutes()) == []
    assert findings([]) == []


def test_a_value_far_from_the_patient_s_own_usual_is_told_with_both() -> None:
    (found,) = findings(moved(minutes(), 150, 160, shifted(30)))
    assert of([found]) == [(Kind.UNUSUAL, 150, 160)]
    assert found.usual == pytest.approx(80, abs=1)
    assert found.value == pytest.approx(110, abs=3)
    assert found.deviation is not None
    assert found.deviation > 5


def test_what_lasts_two_minutes_or_lies_within_the_first_half_hour_is_not_told() -> None:
    assert findings(moved(minutes(), 150, 152, shifted(30))) == []
    assert findings(moved(minutes(count=28), 20, 28, shifted(30))) == []


def test_a_knock_that_goes_out_and_back_within_its_minute_is_motion_and_not_unusual() -> None:
    knocked = moved(minutes(), 150, 155, lambda row: {"max": row["max"] + 90, "mean": row["mean"] + 8})
    assert of(findings(knocked)) == [(Kind.MOTION, 150, 155)]


def test_one_value_for_minutes_is_a_flat_line_unless_the_signal_never_moves() -> None:
    assert of(findings(moved(minutes(), 150, 160, stuck_at(80.0)))) == [(Kind.FLAT_LINE, 150, 160)]
    assert findings(moved(minutes(), 0, 200, stuck_at(80.0))) == []


def test_a_sensor_is_off_where_another_one_still_gives_values() -> None:
    heart, spo2 = minutes(), minutes(SPO2, middle=97.0, swing=1.0)
    off = [row for number, row in enumerate(spo2) if not 150 <= number < 170]
    assert of(findings([*heart, *off])) == [(Kind.SENSOR_OFF, 150, 170)]
    assert findings([*off]) == []
    # It begins to give values late: nothing was taken off.
    assert findings([*heart, *spo2[100:]]) == []


def test_an_artefact_is_no_part_of_what_is_usual() -> None:
    found = findings(moved(minutes(count=400), 100, 300, stuck_at(40.0)))
    assert {one.kind for one in found} == {Kind.FLAT_LINE}


@given(st.integers(60, 190), st.floats(-40, 40))
def test_no_finding_knows_what_comes_after_it(cut: int, by: float) -> None:
    rows = moved(minutes(), 120, 130, shifted(by))
    before = [one for one in of(findings(rows)) if one[2] < cut]
    assert [one for one in of(findings(rows[:cut])) if one[2] < cut] == before


def test_minutes_may_come_in_any_order_and_any_zone() -> None:
    rows = moved(minutes(), 150, 160, shifted(30))
    elsewhere = [{**row, "minute": row["minute"].astimezone(None)} for row in reversed(rows)]
    assert findings(elsewhere) == findings(rows)
    assert findings(rows)[0].end - findings(rows)[0].begin == timedelta(minutes=10)
