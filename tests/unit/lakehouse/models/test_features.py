from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from math import nan
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse import reader, spark_functions
from lakehouse.datadir import DataDir
from lakehouse.known_at import as_known_at
from lakehouse.models.features import COLUMNS, DAY, NAMES, Asked, as_known, as_stored
from lakehouse.tables import EARLY_WARNING_SCORE, OBSERVATION, SCORE_INPUT, VITAL_SIGN_MINUTE
from lakehouse.vocabulary import signal_by_name
from tests.fixtures.delta import append, arrow
from tests.fixtures.observations import NOON, known, observation

_CODES = [
    signal_by_name()[name].code for name in ("heart_rate", "spo2", "systolic_bp", "gcs_eye", "wbc", "oxygen_flow")
]
_T = NOON
Row = dict[str, Any]


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    with reader.connection() as opened:
        spark_functions.teach(opened)
        opened.execute("CREATE SCHEMA silver")
        yield opened


def value(name: str, hours_ago: float, number: float | None, signal: str = "heart_rate", **changes: Any) -> Row:
    return observation(name, -3600 * hours_ago, number, code=signal_by_name()[signal].code, **changes)


def features(database: duckdb.DuckDBPyConnection, *rows: Row, birth_year: int | None = None) -> dict[str, float]:
    """What is told of one patient at noon, by name."""
    database.register("observation", arrow(OBSERVATION, *rows))
    database.execute("CREATE OR REPLACE VIEW silver.observation AS FROM observation")
    (found,) = as_known(database, [Asked("mrn/1", _T, birth_year)])
    return dict(zip(COLUMNS, found.tolist(), strict=True))


def told(
    database: duckdb.DuckDBPyConnection,
    *rows: Row,
    birth_year: int | None = None,
    names: Sequence[str] = NAMES,
) -> dict[str, float]:
    """Features, or others of these names, that say something."""
    empty, found = features(database), features(database, *rows, birth_year=birth_year)
    return {name: found[name] for name in names if repr(found[name]) != repr(empty[name])}


def test_a_course_is_told_by_statistics_of_a_days_minutes_and_the_mean_of_four_hours(
    database: duckdb.DuckDBPyConnection,
) -> None:
    assert told(
        database,
        value("a", 25, 200.0),
        value("b", 24, 90.0),
        value("c", 6, 78.0),
        value("d", 6 - 30 / 3600, 82.0),
        value("e", 3, 95.0),
        value("f", 1, 85.0),
    ) == {
        "heart_rate_last_24h": 85.0,
        "heart_rate_min_24h": 78.0,
        "heart_rate_max_24h": 95.0,
        "heart_rate_mean_24h": 87.5,
        "heart_rate_slope_24h": pytest.approx(-0.1051, abs=1e-4),
        "heart_rate_variability_24h": pytest.approx(6.4550, abs=1e-4),
        "heart_rate_hours_since_24h": 1.0,
        "heart_rate_count_24h": 4.0,
        "heart_rate_mean_4h": 90.0,
        "news2_heart_rate_points": 0.0,
        "news2_total_max": 17.0,
        "sirs_total_max": 3.0,
    }


def test_a_course_is_told_by_the_mean_of_each_hour(database: duckdb.DuckDBPyConnection) -> None:
    assert told(
        database,
        value("older", 24 + 1 / 60, 200.0),
        value("first", 24, 90.0),
        value("hour before", 5 + 1 / 60, 60.0),
        value("begin", 5, 80.0),
        value("same minute", 5 - 30 / 3600, 84.0),
        value("end", 4 + 1 / 60, 92.0),
        value("newest", 1 / 60, 7.0, "wbc"),
        names=COLUMNS[len(NAMES) :],
    ) == {
        "heart_rate_4h_ago": 87.0,
        "heart_rate_5h_ago": 60.0,
        "heart_rate_23h_ago": 90.0,
        "wbc_0h_ago": 7.0,
    }


def test_a_correction_replaces_a_value_once_it_is_known_and_a_withdrawal_takes_it_away(
    database: duckdb.DuckDBPyConnection,
) -> None:
    first = value("a", 1, 70.0)
    corrected = value("a", 1, 130.0, status="corrected", recorded_at=_T, version=b"w" * 16)
    later = value("a", 1, 75.0, status="corrected", recorded_at=known(1), version=b"x" * 16)
    withdrawn = value("a", 1, 130.0, status="entered-in-error", recorded_at=_T, version=b"y" * 16)

    assert features(database, first, later)["heart_rate_last_24h"] == 70.0
    assert features(database, corrected, first, later)["heart_rate_last_24h"] == 130.0
    assert told(database, withdrawn, corrected, first) == {}


def test_what_is_observed_at_the_instant_or_later_is_not_known(database: duckdb.DuckDBPyConnection) -> None:
    assert told(database, value("a", 0, 70.0), value("b", -0.01, 70.0, recorded_at=_T)) == {}


def test_scores_take_inputs_until_they_are_stale_and_oxygen_before_air(database: duckdb.DuckDBPyConnection) -> None:
    found = features(
        database,
        value("hr", 2, 131.0),
        value("rr", 2.02, 30.0, "respiratory_rate"),
        value("air", 1, 21.0, "fio2"),
        value("flow", 1, 2.0, "oxygen_flow"),
        value("old", 7, None, "consciousness", value_code="A", unit=None),
        value("level", 2, None, "consciousness", value_code="C", unit=None),
        value("nonsense", 1, None, "consciousness", value_code="X", unit=None),
    )

    names = ("heart_rate", "respiratory_rate", "oxygen", "consciousness")
    points = {name: found[f"news2_{name}_points"] for name in names}
    assert repr(points) == repr({"heart_rate": 3.0, "respiratory_rate": nan, "oxygen": 2.0, "consciousness": 3.0})
    assert (found["news2_total_min"], found["news2_total_max"]) == (8.0, 20.0)


def test_ages_above_89_are_one_group(database: duckdb.DuckDBPyConnection) -> None:
    ages = [told(database, birth_year=year) for year in (1956, 1930, 1700)]

    assert ages == [{"age": 70.0}, {"age": 90.0}, {"age": 90.0}]


def test_an_instant_without_a_zone_is_an_error(database: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(ValueError, match="zone"):
        as_known(database, [Asked("mrn/1", datetime(2026, 3, 1), None)])  # noqa: DTZ001


def test_scores_after_an_input_are_those_that_gold_has_as_known_then(data: DataDir) -> None:
    append(
        data,
        OBSERVATION,
        observation("hr", 0, 115.0),
        observation("rr", 10, 22.0, code="9279-1", unit="/min"),
        observation("rr", 10, 26.0, code="9279-1", unit="/min", version=b"w" * 16, recorded_at=known(3600)),
        observation("sbp", 30, 95.0, code="8480-6", unit="mm[Hg]"),
    )

    gold = as_known_at(data, EARLY_WARNING_SCORE, known(31)).project("score, total_min, total_max").fetchall()

    with reader.connect(data, [OBSERVATION]) as opened:
        spark_functions.teach(opened)
        (found,) = as_known(opened, [Asked("mrn/1", known(31), None)]).tolist()
    by_name = dict(zip(COLUMNS, found, strict=True))
    assert sorted(gold) == [
        (name, by_name[f"{name}_total_min"], by_name[f"{name}_total_max"]) for name in ("news2", "qsofa", "sirs")
    ]


_INSTANTS = st.integers(-30 * 60, 60).map(lambda minutes: NOON + timedelta(minutes=minutes))
_VERSIONS = st.builds(
    lambda name, code, number, status, observed_at, late, offset: observation(
        f"{name} {code} {observed_at}",
        0,
        number,
        code=code,
        status=status,
        observed_at=observed_at,
        recorded_at=observed_at + late,
        offset=offset,
        version=bytes([offset]) * 16,
    ),
    st.sampled_from("abc"),
    st.sampled_from(_CODES),
    st.floats(1, 200),
    st.sampled_from(["final", "corrected", "entered-in-error"]),
    _INSTANTS,
    st.integers(-10, 600).map(lambda minutes: timedelta(minutes=minutes)),
    st.integers(0, 255),
)


def same(one: dict[str, float], other: dict[str, float]) -> bool:
    return np.array_equal(list(one.values()), list(other.values()), equal_nan=True)


@settings(deadline=None, max_examples=60)
@given(st.lists(_VERSIONS, max_size=25))
def test_nothing_that_is_recorded_after_an_instant_changes_a_feature(
    database: duckdb.DuckDBPyConnection, rows: list[Row]
) -> None:
    by_then = [one for one in rows if one["recorded_at"] <= _T]

    assert same(features(database, *rows), features(database, *by_then))


@settings(deadline=None, max_examples=60)
@given(st.lists(_VERSIONS, max_size=25, unique_by=lambda one: (one["observation_id"], one["offset"])), st.randoms())
def test_the_order_of_rows_does_not_matter(database: duckdb.DuckDBPyConnection, rows: list[Row], random: Any) -> None:
    mixed = random.sample(rows, len(rows))

    assert same(features(database, *mixed), features(database, *rows))


@settings(deadline=None, max_examples=60)
@given(st.lists(_VERSIONS, max_size=12), _VERSIONS)
def test_what_is_older_than_a_day_does_not_count(
    database: duckdb.DuckDBPyConnection, rows: list[Row], old: Row
) -> None:
    of_its_own = old | {"observation_id": b"o" * 16, "observed_at": _T - DAY - timedelta(seconds=1)}

    assert same(features(database, *rows, of_its_own), features(database, *rows))


@settings(deadline=None, max_examples=20)
@given(st.lists(_VERSIONS, max_size=40, unique_by=lambda one: one["observation_id"]))
def test_what_gold_has_gives_the_same_to_the_bit_where_nothing_came_late(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row]
) -> None:
    data = DataDir(tmp_path_factory.mktemp("stored"))
    in_time = [one | {"recorded_at": one["observed_at"]} for one in rows]
    level = value("level", 3, None, "consciousness", value_code="V", unit=None)
    append(data, OBSERVATION, *in_time, level)
    minutes = as_known_at(data, VITAL_SIGN_MINUTE, None).to_arrow_table().to_pylist()
    append(data, VITAL_SIGN_MINUTE, *minutes)
    at = NOON - timedelta(hours=3)
    append(
        data,
        SCORE_INPUT,
        {
            "patient_id": "mrn/1",
            "input": "consciousness",
            "minute": at,
            "observed_at": at,
            "stale_at": at + timedelta(hours=6),
            "value_code": "V",
            "observation_id": level["observation_id"],
        },
    )
    asked = [Asked("mrn/1", _T - timedelta(hours=hours), 1956) for hours in (0, 2, 5)]

    with reader.connect(data, [OBSERVATION, VITAL_SIGN_MINUTE, SCORE_INPUT]) as opened:
        spark_functions.teach(opened)
        assert np.array_equal(as_stored(opened, asked), as_known(opened, asked), equal_nan=True)
