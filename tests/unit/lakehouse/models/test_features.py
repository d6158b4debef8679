from datetime import datetime, timedelta
from math import nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.datadir import DataDir
from lakehouse.known_at import as_known_at
from lakehouse.models.features import LOOK_BACK, NAMES, Version, features, vector
from lakehouse.tables import EARLY_WARNING_SCORE, OBSERVATION
from lakehouse.vocabulary import signal_by_name
from tests.fixtures.delta import append
from tests.fixtures.observations import NOON, known, observation

_CODES = [
    signal_by_name()[name].code for name in ("heart_rate", "spo2", "systolic_bp", "gcs_eye", "wbc", "oxygen_flow")
]
_T = known(0)


def version(name: str, hours_ago: float, value: float | None, signal: str = "heart_rate", **changes: Any) -> Version:
    row = observation(name, -3600 * hours_ago, value, code=signal_by_name()[signal].code, **changes)
    return Version(**{field: row.get(field) for field in Version._fields})


def told(*versions: Version, birth_year: int | None = 1956) -> dict[str, float]:
    """Those features that say something, at noon."""
    empty = features((), None, _T)
    found = features(versions, birth_year, _T)
    return {name: found[name] for name in NAMES if repr(found[name]) != repr(empty[name])}


def test_a_course_is_told_by_statistics_of_a_day_and_the_mean_of_four_hours() -> None:
    assert told(
        version("a", 25, 200.0),
        version("b", 24, 190.0),
        version("c", 6, 80.0),
        version("d", 3, 95.0),
        version("e", 1, 85.0),
        birth_year=None,
    ) == {
        "heart_rate_last_24h": 85.0,
        "heart_rate_min_24h": 80.0,
        "heart_rate_max_24h": 95.0,
        "heart_rate_mean_24h": pytest.approx(86.6667, abs=1e-4),
        "heart_rate_slope_24h": pytest.approx(1.3158, abs=1e-4),
        "heart_rate_variability_24h": pytest.approx(7.6376, abs=1e-4),
        "heart_rate_hours_since_24h": 1.0,
        "heart_rate_count_24h": 3.0,
        "heart_rate_mean_4h": 90.0,
        "news2_heart_rate_points": 0.0,
        "news2_total_max": 17.0,
        "sirs_total_max": 3.0,
    }


def test_a_correction_replaces_a_value_once_it_is_known_and_a_withdrawal_takes_it_away() -> None:
    first = version("a", 1, 70.0)
    corrected = version("a", 1, 130.0, status="corrected", recorded_at=_T, version=b"w" * 16)
    later = version("a", 1, 75.0, status="corrected", recorded_at=known(1), version=b"x" * 16)
    withdrawn = version("a", 1, 130.0, status="entered-in-error", recorded_at=_T, version=b"y" * 16)

    assert features([first, later], None, _T)["heart_rate_last_24h"] == 70.0
    assert features([corrected, first, later], None, _T)["heart_rate_last_24h"] == 130.0
    assert told(withdrawn, corrected, first, birth_year=None) == {}


def test_what_a_clock_that_runs_ahead_says_of_the_future_is_not_known() -> None:
    assert told(version("a", -0.01, 70.0, recorded_at=_T), birth_year=None) == {}


def test_scores_take_inputs_until_they_are_stale_and_oxygen_before_air() -> None:
    found = features(
        [
            version("hr", 2, 131.0),
            version("rr", 2.01, 30.0, "respiratory_rate"),
            version("air", 1, 21.0, "fio2"),
            version("flow", 1, 2.0, "oxygen_flow"),
        ],
        None,
        _T,
    )

    points = {name: found[f"news2_{name}_points"] for name in ("heart_rate", "respiratory_rate", "oxygen")}
    assert repr(points) == repr({"heart_rate": 3.0, "respiratory_rate": nan, "oxygen": 2.0})
    assert (found["news2_total_min"], found["news2_total_max"]) == (5.0, 20.0)


def test_ages_above_89_are_one_group() -> None:
    assert [told(birth_year=year) for year in (1956, 1930, 1700)] == [{"age": 70.0}, {"age": 90.0}, {"age": 90.0}]


def test_an_instant_without_a_zone_is_an_error() -> None:
    with pytest.raises(ValueError, match="zone"):
        features((), None, datetime(2026, 3, 1))  # noqa: DTZ001


def test_scores_at_the_instant_of_an_input_are_those_that_gold_has_as_known_then(data: DataDir) -> None:
    rows = [
        observation("hr", 0, 115.0),
        observation("rr", 10, 22.0, code="9279-1", unit="/min"),
        observation("rr", 10, 26.0, code="9279-1", unit="/min", version=b"w" * 16, recorded_at=known(3600)),
        observation("sbp", 30, 95.0, code="8480-6", unit="mm[Hg]"),
    ]
    append(data, OBSERVATION, *rows)

    gold = as_known_at(data, EARLY_WARNING_SCORE, known(30)).project("score, total_min, total_max").fetchall()

    found = features([Version(**{f: row.get(f) for f in Version._fields}) for row in rows], None, known(30))
    assert sorted(gold) == [
        (name, found[f"{name}_total_min"], found[f"{name}_total_max"]) for name in ("news2", "qsofa", "sirs")
    ]


_INSTANTS = st.integers(-30 * 60, 60).map(lambda minutes: NOON + timedelta(minutes=minutes))
_VERSIONS = st.builds(
    lambda name, code, value, status, observed_at, late, offset: Version(
        name, code, value, None, status, observed_at, observed_at + late, "vitals", 0, offset, bytes([offset])
    ),
    st.sampled_from([b"a", b"b", b"c", b"d", b"e"]),
    st.sampled_from(_CODES),
    st.floats(1, 200),
    st.sampled_from(["final", "corrected", "entered-in-error"]),
    _INSTANTS,
    st.integers(-10, 600).map(lambda minutes: timedelta(minutes=minutes)),
    st.integers(0, 255),
)


@given(st.lists(_VERSIONS, max_size=25))
def test_nothing_that_is_recorded_after_an_instant_changes_a_feature(versions: list[Version]) -> None:
    known_by_then = [one for one in versions if one.recorded_at <= _T]

    assert repr(vector(features(versions, 1956, _T))) == repr(vector(features(known_by_then, 1956, _T)))


@given(st.lists(_VERSIONS, max_size=12, unique_by=lambda one: (one.observation_id, one.offset)), st.randoms())
def test_the_order_of_rows_does_not_matter(versions: list[Version], random: Any) -> None:
    mixed = random.sample(versions, len(versions))

    assert repr(features(mixed, 1956, _T)) == repr(features(versions, 1956, _T))


@given(st.lists(_VERSIONS, max_size=12), _VERSIONS)
def test_what_is_older_than_the_look_back_may_be_left_out(versions: list[Version], old: Version) -> None:
    of_its_own = old._replace(observation_id=b"old", observed_at=_T - LOOK_BACK - timedelta(seconds=1))

    assert repr(features([*versions, of_its_own], 1956, _T)) == repr(features(versions, 1956, _T))
