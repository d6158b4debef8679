"""What was known at an instant: versions, withdrawals, minutes; and that nothing recorded later changes it."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse import known_at, reader, spark_functions
from lakehouse.datadir import DataDir
from lakehouse.known_at import NotBitemporalError, as_known_at
from lakehouse.tables import ALERT, ALERT_EVENT, OBSERVATION, VITAL_SIGN_MINUTE
from tests.fixtures.delta import append, arrow
from tests.fixtures.observations import NOON, known, observation


def values(data: DataDir, at: datetime) -> list[tuple[str, float]]:
    return sorted(as_known_at(data, OBSERVATION, at).project("message_id, value").fetchall())


def means(data: DataDir, at: datetime) -> list[tuple[datetime, int, float]]:
    return sorted(as_known_at(data, VITAL_SIGN_MINUTE, at).project('minute, "count", mean').fetchall())


def test_a_correction_counts_from_when_it_was_recorded_and_a_withdrawal_takes_its_value_away(data: DataDir) -> None:
    append(
        data,
        OBSERVATION,
        observation("a", 0, 70.0),
        observation("b", 30, 90.0),
        observation("a", 0, 80.0, version=b"w" * 16, status="corrected", recorded_at=known(600)),
        observation("b", 30, 90.0, version=b"w" * 16, status="entered-in-error", recorded_at=known(1200)),
    )

    assert values(data, known(29)) == [("a", 70.0)]
    assert values(data, known(30)) == [("a", 70.0), ("b", 90.0)]
    assert values(data, known(600)) == [("a", 80.0), ("b", 90.0)]
    assert values(data, known(1200)) == [("a", 80.0)]
    assert means(data, known(-1)) == []
    assert means(data, known(30)) == [(NOON, 2, 80.0)]
    assert means(data, known(600)) == [(NOON, 2, 85.0)]
    assert means(data, known(1200)) == [(NOON, 1, 80.0)]


def test_versions_recorded_at_one_instant_order_by_where_bronze_has_them(data: DataDir) -> None:
    append(
        data, OBSERVATION, observation("a", 0, 80.0, version=b"w" * 16, offset=10), observation("a", 0, 70.0, offset=9)
    )

    assert values(data, known(0)) == [("a", 80.0)]


def test_events_are_known_from_when_the_broker_had_them(data: DataDir) -> None:
    append(data, ALERT_EVENT, *({"sequence": n, "emitted_at": known(n)} for n in range(3)))

    assert as_known_at(data, ALERT_EVENT, known(1)).project("sequence").order("sequence").fetchall() == [(0,), (1,)]


def test_a_table_that_does_not_say_when_it_became_known_and_an_instant_without_a_zone_are_errors(data: DataDir) -> None:
    with pytest.raises(NotBitemporalError, match=r"gold\.alert does not say"):
        as_known_at(data, ALERT, NOON)
    with pytest.raises(ValueError, match="zone"):
        as_known_at(data, OBSERVATION, datetime(2026, 3, 1))  # noqa: DTZ001


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with reader.connection() as opened:
        spark_functions.teach(opened)
        yield opened


def features(connection: duckdb.DuckDBPyConnection, rows: list[dict[str, Any]], at: datetime) -> list[list[Any]]:
    """Observations and minutes that these versions give at an instant."""
    current = known_at.known(connection.from_arrow(arrow(OBSERVATION, *rows)), at)
    found = (known_at.observations(current), known_at.minutes(current))
    return [sorted(relation.fetchall(), key=repr) for relation in found]


versions = st.builds(
    lambda name, value, status, delay, offset: observation(
        f"o{name}",
        name * 20,
        value,
        version=offset.to_bytes(16, "big"),
        status=status,
        offset=offset,
        recorded_at=known(name * 20 + delay),
    ),
    name=st.integers(0, 8),
    value=st.floats(1, 299),
    status=st.sampled_from(("final", "corrected", "entered-in-error")),
    delay=st.integers(0, 300),
    offset=st.integers(0, 10_000),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(versions, max_size=25, unique_by=lambda row: row["offset"]), after=st.integers(-1, 500))
def test_no_feature_at_an_instant_changes_when_later_rows_are_added(
    connection: duckdb.DuckDBPyConnection, rows: list[dict[str, Any]], after: int
) -> None:
    at = known(after)
    by_then = [row for row in rows if row["recorded_at"] <= at]

    assert features(connection, rows, at) == features(connection, by_then, at)


def test_no_feature_at_an_instant_changes_when_later_rows_land_in_delta(data: DataDir) -> None:
    append(data, OBSERVATION, *(observation(f"o{n}", n, 60.0 + n) for n in range(120)))
    cut = known(119)
    before = [sorted(as_known_at(data, table, cut).fetchall()) for table in (OBSERVATION, VITAL_SIGN_MINUTE)]
    later = {"recorded_at": cut + timedelta(microseconds=1)}
    append(
        data,
        OBSERVATION,
        # Late values of a minute that is long over, corrections and withdrawals of what was known.
        *(observation(f"late{n}", n, 200.0, **later) for n in range(0, 120, 7)),
        *(observation(f"o{n}", n, 1.0, version=b"w" * 16, **later) for n in range(0, 120, 5)),
        *(
            observation(f"o{n}", n, 1.0, version=b"x" * 16, status="entered-in-error", **later)
            for n in range(0, 120, 3)
        ),
    )

    after = [sorted(as_known_at(data, table, cut).fetchall()) for table in (OBSERVATION, VITAL_SIGN_MINUTE)]

    assert after == before
    assert means(data, cut + timedelta(hours=1)) != means(data, cut)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(versions, max_size=20, unique_by=lambda row: row["offset"]), order=st.randoms())
def test_what_is_known_does_not_depend_on_the_order_in_which_versions_stand(
    connection: duckdb.DuckDBPyConnection, rows: list[dict[str, Any]], order: Any
) -> None:
    shuffled = order.sample(rows, len(rows))

    assert features(connection, shuffled, known(500)) == features(connection, rows, known(500))
