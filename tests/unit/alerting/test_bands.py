import math

import pytest

from alerting.bands import NONE, NORMAL, Band, arms, band, band_of, bands_sql
from alerting.pack import Pack, load
from lakehouse.vocabulary import signal_by_name, signals

ADULT = load("adult")
UNITS = (None, "RESP", "ICU")


def code(name: str) -> str:
    return signal_by_name()[name].code


def sql_bands(pack: Pack, cases: list[tuple[str, float | None, str | None]]) -> list[Band]:
    """The SQL declaration, evaluated by DuckDB, which lacks only named_struct."""
    import duckdb

    connection = duckdb.connect()
    connection.execute("CREATE MACRO named_struct(a, b, c, d, e, f) AS struct_pack(band := b, rule := d, lim := f)")
    connection.execute("CREATE TABLE o (n INTEGER, code VARCHAR, value DOUBLE, unit VARCHAR)")
    connection.executemany("INSERT INTO o VALUES (?, ?, ?, ?)", [(n, *case) for n, case in enumerate(cases)])
    expression = bands_sql(pack, code="o.code", value="o.value", location_unit="o.unit")
    rows = connection.execute(f"SELECT {expression} FROM o ORDER BY n").fetchall()
    return [Band(row[0]["band"], row[0]["rule"], row[0]["lim"]) for row in rows]


def boundary_values(pack: Pack, signal_code: str) -> list[float]:
    """Every bound of a signal in any unit, and the doubles just beside it."""
    bounds = {arm.bound for its in arms(pack).get(signal_code, {}).values() for arm in its} | {50.0}
    return [value for bound in bounds for value in (math.nextafter(bound, -1e9), bound, math.nextafter(bound, 1e9))]


@pytest.mark.parametrize(
    ("signal", "value", "unit", "expected"),
    [
        ("heart_rate", 120.1, None, Band("breach", "heart-rate-high", 120)),
        ("heart_rate", 120.0, None, Band("margin", "heart-rate-high", 120)),
        ("heart_rate", 115.1, None, Band("margin", "heart-rate-high", 120)),
        ("heart_rate", 115.0, None, NORMAL),
        ("heart_rate", 45.0, None, NORMAL),
        ("heart_rate", 44.9, None, Band("margin", "heart-rate-low", 40)),
        ("heart_rate", 40.0, None, Band("margin", "heart-rate-low", 40)),
        ("heart_rate", 39.9, None, Band("breach", "heart-rate-low", 40)),
        ("spo2", 89.0, None, Band("breach", "spo2-low", 90)),
        ("spo2", 89.0, "ICU", Band("breach", "spo2-low", 90)),
        ("spo2", 89.0, "RESP", NORMAL),
        ("spo2", 87.0, "RESP", Band("margin", "spo2-low", 86)),
        ("spo2", 85.0, "RESP", Band("breach", "spo2-low", 86)),
        ("temperature", 38.5, None, Band("margin", "temperature-high", 38.5)),
        ("temperature", 38.2, None, NORMAL),
        ("glucose", 900.0, None, NORMAL),
        ("spo2", None, None, NONE),
        ("heart_rate", math.nan, None, NONE),
        ("heart_rate", math.inf, None, NONE),
        ("heart_rate", -math.inf, None, NONE),
    ],
)
def test_a_value_has_the_band_its_rule_declares(
    signal: str, value: float | None, unit: str | None, expected: Band
) -> None:
    assert band(ADULT, code(signal), value, unit) == expected
    assert sql_bands(ADULT, [(code(signal), value, unit)]) == [expected]


def test_a_code_that_no_rule_watches_is_normal() -> None:
    assert sql_bands(ADULT, [("no-such-code", 1.0, None)]) == [band(ADULT, "no-such-code", 1.0)] == [NORMAL]


def test_python_and_sql_agree_at_and_beside_every_bound_in_every_unit() -> None:
    cases = [
        (signal.code, value, unit)
        for signal in signals()
        for unit in UNITS
        for value in (*boundary_values(ADULT, signal.code), None, 0.0, -1.0, math.nan, math.inf, -math.inf)
    ]
    declared = arms(ADULT)
    expected = [band_of(declared, signal_code, value, unit) for signal_code, value, unit in cases]
    assert sql_bands(ADULT, cases) == expected
    assert {found.band for found in expected} == {"breach", "margin", "normal", "none"}


def test_a_pack_without_rules_finds_everything_normal() -> None:
    empty = Pack(name="empty", version=1, title="none", rules=())
    assert sql_bands(empty, [("8867-4", 500.0, None), ("8867-4", None, None)]) == [NORMAL, NONE]
