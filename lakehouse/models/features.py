"""What a model is told of a patient at an instant T: declared once, for training and for live use alike.

A feature is a function of the minutes of gold.vital_sign_minute within the day before T, of the level of consciousness,
and of the year of birth. Beside features stands the course: the mean of each signal in each hour. For training these
are derived from the versions of observations that were known by T (:func:`as_known`); beside a ward they are what gold
has (:func:`as_stored`). The rest is the same SQL and the same numbers: sums are of whole numbers, so that no order of
rows and no number of threads changes a digit.

Missing-data rule: a statistic without a value is NaN, which the model takes as it is; a count without a value is 0. A
score with missing inputs has a least and a most, never a silent 0.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lakehouse.scores import INPUT_OF_SIGNAL, NEWS2, SCORES, STALE_AFTER, Score, Value, input_of, score
from lakehouse.tables import OBSERVATION, SCORE_INPUT, VITAL_SIGN_MINUTE
from lakehouse.transforms import vital_sign_minute as minute
from lakehouse.transforms.observation import NEWEST_FIRST
from lakehouse.vocabulary import CONSCIOUSNESS, signal_by_name

if TYPE_CHECKING:
    import duckdb

Rows = NDArray[np.float64]

DAY = timedelta(hours=24)
"""How far before T a value can still count."""
OLDEST_KNOWN_AGE = 90
"""Ages above 89 are one group (HIPAA Safe Harbor); MIMIC-III moves those births 300 years back."""

KNOWN_TABLES = (OBSERVATION,)
STORED_TABLES = (VITAL_SIGN_MINUTE, SCORE_INPUT)
"""What :func:`as_known` and :func:`as_stored` read: the connection has to show these tables."""


class Asked(NamedTuple):
    """Whose features are wanted, and at which instant. ``birth_year`` is None where it is not known."""

    patient_id: str
    at: datetime
    birth_year: int | None


class Statistic(StrEnum):
    """What is said of a signal's minutes within a window."""

    LAST = "last"
    """The last value of the newest minute."""
    MIN = "min"
    MAX = "max"
    MEAN = "mean"
    """Of the minutes' means: who is measured each second for an hour counts no more than who is charted."""
    SLOPE = "slope"
    """Of the minutes' means per hour, by least squares; NaN for a single minute."""
    VARIABILITY = "variability"
    """Standard deviation of the minutes' means, as of a sample; NaN for a single minute."""
    HOURS_SINCE = "hours_since"
    """Since the newest minute began."""
    COUNT = "count"
    """Minutes that have a value."""


@dataclass(frozen=True)
class Feature:
    """One statistic of one signal over the window that ends before T."""

    signal: str
    statistic: Statistic
    window: timedelta = DAY

    @property
    def name(self) -> str:
        """Signal, statistic and hours: heart_rate_mean_24h."""
        return f"{self.signal}_{self.column}"

    @property
    def column(self) -> str:
        """Statistic and hours."""
        return f"{self.statistic}_{self.window // timedelta(hours=1)}h"


_COURSE = ("heart_rate", "respiratory_rate", "spo2", "systolic_bp", "mean_bp", "temperature")
_STATE = ("fio2", "oxygen_flow", "gcs_eye", "gcs_verbal", "gcs_motor")
_LABORATORY = ("glucose", "paco2", "wbc")
FEATURES: tuple[Feature, ...] = (
    *(Feature(signal, statistic) for signal in _COURSE for statistic in Statistic),
    # A turn within hours is what a mean of a day hides.
    *(Feature(signal, Statistic.MEAN, timedelta(hours=4)) for signal in _COURSE),
    *(Feature(signal, statistic) for signal in _STATE for statistic in (Statistic.LAST, Statistic.MIN, Statistic.MAX)),
    *(Feature(signal, statistic) for signal in _LABORATORY for statistic in (Statistic.LAST, Statistic.HOURS_SINCE)),
)
_PARTS = tuple(part.name for part in NEWS2.parts)
SCORED: tuple[str, ...] = (
    *(f"news2_{part}_points" for part in _PARTS),
    *(f"{name}_total_{end}" for name in SCORES for end in ("min", "max")),
)
NAMES: tuple[str, ...] = (*(feature.name for feature in FEATURES), *SCORED, "age")
"""Every feature, in the order in which a model takes them."""
HOURS = DAY // timedelta(hours=1)
COURSES: tuple[str, ...] = tuple(dict.fromkeys(feature.signal for feature in FEATURES))
"""Signals whose course is told hour by hour."""
COLUMNS: tuple[str, ...] = (*NAMES, *(f"{signal}_{hour}h_ago" for signal in COURSES for hour in range(HOURS)))
"""Of a row: the features, then the courses: of each signal the mean of each hour, the newest hour first."""

# Millionths, so that sums are of whole numbers; a value that no living patient has must not overflow their squares.
_MILLIONTHS = "CAST(round(least(greatest(mean, -1e9), 1e9) * 1e6) AS HUGEINT)"
_SECONDS = "CAST((epoch_us(instant) - epoch_us(minute)) // 1000000 AS HUGEINT)"

_OF_WINDOW = {
    Statistic.LAST: "max_by(last, minute) {where}",
    Statistic.MIN: "min(min) {where}",
    Statistic.MAX: "max(max) {where}",
    Statistic.MEAN: "CAST(sum(y) {where} AS DOUBLE) / count(*) {where} / 1e6",
    Statistic.SLOPE: (
        "-CAST(count(*) {where} * sum(x * y) {where} - sum(x) {where} * sum(y) {where} AS DOUBLE)"
        " / nullif(CAST(count(*) {where} * sum(x * x) {where} - sum(x) {where} * sum(x) {where} AS DOUBLE), 0)"
        " * 3600 / 1e6"
    ),
    Statistic.VARIABILITY: (
        "sqrt(CAST(count(*) {where} * sum(y * y) {where} - sum(y) {where} * sum(y) {where} AS DOUBLE)"
        " / nullif(count(*) {where} * (count(*) {where} - 1), 0)) / 1e6"
    ),
    Statistic.HOURS_SINCE: "CAST(min(x) {where} AS DOUBLE) / 3600",
    Statistic.COUNT: "CAST(count(*) {where} AS DOUBLE)",
}

DIGEST = sha256(
    repr((FEATURES, SCORED, OLDEST_KNOWN_AGE, SCORES, STALE_AFTER, _MILLIONTHS, _SECONDS, _OF_WINDOW)).encode()
).hexdigest()
"""Of the declaration: a model is only given features that are declared as those it was trained on."""


# The last second of an hour belongs to it, as to a window; the minute that begins before the day is of its first hour.
_HOUR = f"CAST(least(greatest(x - 1, 0) // 3600, {HOURS - 1}) AS INTEGER)"
_OF_HOUR = "CAST(sum(y) AS DOUBLE) / count(*) / 1e6"

COURSES_DIGEST = sha256(
    repr((COLUMNS[len(NAMES) :], OLDEST_KNOWN_AGE, _MILLIONTHS, _SECONDS, _HOUR, _OF_HOUR)).encode()
).hexdigest()
"""Of the declaration of courses and age, for models that take these."""


def as_known(database: "duckdb.DuckDBPyConnection", asked: Iterable[Asked]) -> Rows:
    """What is told of each, from the versions of silver.observation recorded by its instant; columns are COLUMNS.

    The connection knows Spark's functions (lakehouse/spark_functions.py); it gets tables of its own.
    """
    asked = _shown(database, asked)
    newest = ", ".join(f'"{name}" DESC' for name in NEWEST_FIRST)
    database.execute(
        "CREATE OR REPLACE TEMP TABLE known AS"  # noqa: S608
        f" SELECT *, {minute.PLACE} AS place FROM (SELECT *, {minute.MINUTE} AS minute FROM ("
        "SELECT asked.number, asked.instant, seen.* FROM silver.observation AS seen JOIN asked USING (patient_id)"
        f" WHERE seen.observed_at < asked.instant AND seen.observed_at >= asked.instant - {_sql(DAY)}"
        " AND seen.recorded_at <= asked.instant"
        f" QUALIFY row_number() OVER (PARTITION BY asked.number, seen.observation_id ORDER BY {newest}) = 1))"
    )
    key, statistics = (
        "number, instant, code, minute",
        ", ".join(f'{sql} AS "{it}"' for it, sql in minute.STATISTICS.items()),
    )
    return _features(
        database,
        asked,
        minutes=f"SELECT * REPLACE ({minute.MEAN_WITHIN} AS mean) FROM"  # noqa: S608
        f" (SELECT {key}, {statistics} FROM known WHERE {minute.COUNTS} GROUP BY {key})",
        levels="SELECT number, instant, minute, value_code FROM known"  # noqa: S608
        f" WHERE status <> 'entered-in-error' AND code = '{_CONSCIOUSNESS.code}' AND value_code IN {CONSCIOUSNESS}"
        " QUALIFY row_number() OVER (PARTITION BY number ORDER BY observed_at DESC, observation_id DESC) = 1",
    )


def as_stored(database: "duckdb.DuckDBPyConnection", asked: Iterable[Asked]) -> Rows:
    """The same from gold.vital_sign_minute and gold.score_input as they stand; an instant is the start of a minute.

    Where nothing came late and nothing was corrected, it is what :func:`as_known` gives, bit for bit.
    """
    asked = _shown(database, asked)
    within = f"minute < asked.instant AND minute >= asked.instant - {_sql(DAY)}"
    return _features(
        database,
        asked,
        minutes="SELECT asked.number, asked.instant, code, minute, min, mean, max, last"  # noqa: S608
        f" FROM gold.vital_sign_minute JOIN asked USING (patient_id) WHERE {within}",
        levels="SELECT asked.number, asked.instant, minute, value_code"  # noqa: S608
        f" FROM gold.score_input JOIN asked USING (patient_id) WHERE {within} AND input = 'consciousness'"
        " QUALIFY row_number() OVER (PARTITION BY number ORDER BY minute DESC) = 1",
    )


_CONSCIOUSNESS = signal_by_name()["consciousness"]
_SIGNALS = {
    signal_by_name()[name].code: name
    for name in dict.fromkeys((*(feature.signal for feature in FEATURES), *INPUT_OF_SIGNAL))
    if name != "consciousness"
}
"""Every signal that counts, by code."""
_COLUMNS = tuple(dict.fromkeys(feature.column for feature in FEATURES))


def _sql(span: timedelta) -> str:
    return f"INTERVAL {int(span.total_seconds())} SECONDS"


def _summary(minutes: str) -> str:
    """A row for each number and code: the statistics of each window, and the age of the newest minute."""
    declared = {feature.column: feature for feature in FEATURES}
    columns = ", ".join(
        f"{_OF_WINDOW[one.statistic].format(where=f'FILTER (x <= {int(one.window.total_seconds())})')} AS {column}"
        for column, one in declared.items()
    )
    return (
        f"SELECT number, code, CAST(min(x) AS DOUBLE) AS seconds, {columns} FROM ({_counted(minutes)})"  # noqa: S608
        " GROUP BY number, code"
    )


def _counted(minutes: str) -> str:
    return f"SELECT *, {_MILLIONTHS} AS y, {_SECONDS} AS x FROM ({minutes})"  # noqa: S608


def _features(database: "duckdb.DuckDBPyConnection", asked: Sequence[Asked], *, minutes: str, levels: str) -> Rows:
    """``minutes`` and ``levels`` are queries, of statistics and of levels of consciousness, by number in ``asked``."""
    found = database.sql(_summary(minutes)).fetchnumpy()
    said = {column: _by_signal(found, column, len(asked)) for column in (*_COLUMNS, "seconds")}
    rows = np.full((len(asked), len(COLUMNS)), np.nan)
    for place, feature in enumerate(FEATURES):
        of_signal = said[feature.column][feature.signal]
        rows[:, place] = np.nan_to_num(of_signal) if feature.statistic is Statistic.COUNT else of_signal
    aged = f"SELECT number, value_code, CAST({_SECONDS} AS DOUBLE) FROM ({levels})"  # noqa: S608
    level = {number: its for number, *its in database.sql(aged).fetchall()}
    for number, one in enumerate(asked):
        lasts = {name: (said["last_24h"][name][number], said["seconds"][name][number]) for name in _SIGNALS.values()}
        code, seconds = level.get(number, (None, np.nan))
        of_level = {"consciousness": code} if seconds <= _limit("consciousness") else {}
        rows[number, len(FEATURES) : len(NAMES)] = (*_scores({**_inputs(lasts), **of_level}), _age(one))
    rows[:, len(NAMES) :] = _courses(database, minutes, len(asked))
    return rows


def _courses(database: "duckdb.DuckDBPyConnection", minutes: str, rows: int) -> Rows:
    """The mean of each hour, by signal and hour, NaN where it has no minute."""
    found = database.sql(
        f"SELECT number, code, {_HOUR} AS hour, {_OF_HOUR} AS mean FROM ({_counted(minutes)})"  # noqa: S608
        " GROUP BY number, code, hour"
    ).fetchnumpy()
    told = np.full((rows, len(COURSES), HOURS), np.nan)
    for place, signal in enumerate(COURSES):
        of_signal = found["code"] == signal_by_name()[signal].code
        told[found["number"][of_signal], place, found["hour"][of_signal]] = found["mean"][of_signal]
    return told.reshape(rows, len(COURSES) * HOURS)


def _shown(database: "duckdb.DuckDBPyConnection", asked: Iterable[Asked]) -> tuple[Asked, ...]:
    """Make what is asked a view of the connection, each with its number."""
    import pyarrow as pa

    asked = tuple(asked)
    database.register(
        "asked",
        pa.table(
            {
                "number": pa.array(range(len(asked)), pa.int64()),
                "patient_id": pa.array([one.patient_id for one in asked], pa.string()),
                "instant": pa.array([_with_zone(one.at) for one in asked], pa.timestamp("us", "UTC")),
            }
        ),
    )
    return asked


def _with_zone(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ValueError("features at an instant: it needs its zone")
    return at


def _by_signal(found: Mapping[str, Any], column: str, rows: int) -> dict[str, Rows]:
    """One column of the summary as an array by signal, NaN where a row has nothing of it."""
    values = np.ma.filled(np.ma.asarray(found[column], dtype=np.float64), np.nan)
    told: dict[str, Rows] = {}
    for code, name in _SIGNALS.items():
        of_code = found["code"] == code
        told[name] = np.full(rows, np.nan)
        told[name][found["number"][of_code]] = values[of_code]
    return told


def _limit(name: str) -> float:
    return STALE_AFTER[name].total_seconds()


def _inputs(lasts: Mapping[str, tuple[float, float]]) -> dict[str, Value]:
    """Inputs that are not stale, from each signal's last value and its age; of two in one minute oxygen before air."""
    newest: dict[str, tuple[tuple[float, bool], Value]] = {}
    for signal, (value, seconds) in lasts.items():
        given = None if np.isnan(value) else input_of(signal, float(value), None)
        if given is None or seconds > _limit(given[0]):
            continue
        name, its = given
        rank = (-seconds, name == "on_oxygen" and its is True)
        if name not in newest or rank > newest[name][0]:
            newest[name] = (rank, its)
    return {name: value for name, (_, value) in newest.items()}


def _scores(inputs: Mapping[str, Value]) -> Iterator[float]:
    """Points of NEWS2's parts, and the least and most that each score can be, in the order of :data:`SCORED`."""
    scored = {name: score(definition, inputs) for name, definition in SCORES.items()}
    for part in _PARTS:
        points = scored[Score.NEWS2].parts[part]
        yield np.nan if points is None else float(points)
    for name in SCORES:
        yield from (float(scored[name].total_min), float(scored[name].total_max))


def _age(one: Asked) -> float:
    return np.nan if one.birth_year is None else float(min(one.at.year - one.birth_year, OLDEST_KNOWN_AGE))
