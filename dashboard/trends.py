"""What a report or the page Trends says of care units: one long frame of figures, out of gold and where patients lie.

Grain of the frame: one statistic of one measure, subject and detail in one unit and period, of a day, of an hour of a
day, or of the whole period (day is NULL). ``MEASURES`` says what each is. Tables are read at one version each, so that
all figures are of one state, and the same tables give the same rows in the same order.

A patient is on a unit from the first to the last minute with a value; after ``AWAY`` without one they count as gone.
gold.vital_sign_minute knows no unit: of each patient and hour it is the one that most messages of that hour name
(silver.observation), else that of the hour nearest by, else that of the stay (silver.encounter), else ``UNKNOWN``.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from alerting.kinds import LimitRule
from dashboard.period import Period
from lakehouse import reader
from lakehouse.datadir import DataDir
from lakehouse.scores import RESTATED_AFTER
from lakehouse.table import Table
from lakehouse.tables import ALERT, EARLY_WARNING_SCORE, ENCOUNTER, OBSERVATION, VITAL_SIGN_MINUTE
from lakehouse.vocabulary import Signal, signal_by_name

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

UNKNOWN = "unknown"
"""The unit of those of whom nothing tells it, as in mart.alert_burden."""

AWAY = timedelta(hours=12)
"""The longest that RCP NEWS2 2017 leaves a patient on a ward unseen: who has no value for longer counts as gone."""

GAP = timedelta(minutes=15)
"""Shorter times without a value are not gaps: a cuff measures every quarter of an hour."""

MEMORY = "4GB"
"""What may be held in memory before it goes to disk. For one of four units among twelve million minutes (100 patients,
two weeks) the process took 2.3 GB at its peak; with one gigabyte the joins do not go through."""

VITAL_SIGNS: tuple[Signal, ...] = tuple(
    signal_by_name()[name]
    for name in ("heart_rate", "respiratory_rate", "spo2", "systolic_bp", "diastolic_bp", "mean_bp", "temperature")
)

NOT_KNOWN = "not known"
"""The risk of a patient-hour in which no score stood, or one that a missing input leaves open."""

COLUMNS: Mapping[str, str] = {
    "care_unit": "the care unit",
    "period": "reported, or before: as many days right before it",
    "measure": "what is measured, see below",
    "subject": "of what: a signal, a rule, a risk; any for all together",
    "label": "the subject in words",
    "detail": "alerts: the priority, or any",
    "day": "the day by the wall clock of the report's zone; empty: the whole period",
    "hour": "the hour of the day, 0 to 23; empty: the whole day",
    "statistic": "which figure of the measure, see below",
    "value": "the figure, to four decimals",
    "unit": "its unit (UCUM for vital signs)",
}
"""Columns of the frame, and of a report's CSV file, in order."""

_ORDER = [name for name in COLUMNS if name not in ("value", "unit", "label")]


@dataclass(frozen=True)
class Measure:
    """One kind of figure: what it means, and the unit of each of its statistics; None stands for the signal's own."""

    name: str
    meaning: str
    statistics: Mapping[str, str | None]


MEASURES = (
    Measure("census", "patients on the unit and the time they spent there", {"patients": "1", "patient_days": "d"}),
    Measure(
        "vital_sign",
        "spread of the minutes' means of a vital sign over all patients",
        {"p05": None, "p25": None, "median": None, "p75": None, "p95": None, "minutes": "min"},
    ),
    Measure("vital_sign_hour", "the same by hour, for the page Trends only", {"median": None, "minutes": "min"}),
    Measure(
        "coverage",
        "minutes with a value, of the minutes that patients were on the unit",
        {"minutes": "min", "present": "min", "share": "%"},
    ),
    Measure(
        "gap",
        "times of more than 15 minutes without any value between two values, by the day they begin",
        {"gaps": "1", "minutes": "min", "longest": "min"},
    ),
    Measure(
        "beyond_limits",
        "minutes whose mean is beyond the rule's limit on this unit, of those with a value of its signal",
        {"minutes": "min", "share": "%"},
    ),
    Measure(
        "news2",
        "patient-hours by the risk that stood at their end, of all patient-hours; any: totals, where they are known",
        {"hours": "h", "share": "%", "median": "{score}", "share_5": "%", "share_7": "%"},
    ),
    Measure("alert", "alerts that told somebody, by when they became active", {"alerts": "1", "per_patient_day": "/d"}),
    Measure(
        "acknowledgement",
        "the same alerts: how many somebody took on, and how long after they became active",
        {"alerts": "1", "acknowledged": "1", "share": "%", "median": "s", "p90": "s"},
    ),
    Measure(
        "missing",
        "what the figures lack: days without values, patients with a stay (silver.encounter) without values",
        {"days_without_values": "d", "patients_without_values": "1"},
    ),
)
"""Every kind of figure."""

_OWN_UNIT = {(measure.name, name): unit for measure in MEASURES for name, unit in measure.statistics.items()}


@dataclass(frozen=True)
class AsOf:
    """The state of a table that was read: its Delta version and when it was committed."""

    table: str
    version: int
    committed_at: datetime


@dataclass(frozen=True)
class Trends:
    """Figures of every unit, and what they were made of."""

    frame: "pd.DataFrame"
    units: tuple[str, ...]
    """Every unit that is known: of these periods, of the newest day, of any alert or stay."""
    as_of: tuple[AsOf, ...]
    absent: tuple[str, ...]
    """Tables that the data dir does not have: what comes from them is missing."""
    newest: datetime | None
    """The last minute with a value of any patient."""

    def of(self, unit: str) -> "pd.DataFrame":
        """The figures of one unit."""
        return self.frame[self.frame["care_unit"] == unit].reset_index(drop=True)


def spanned(data: DataDir) -> tuple[datetime, datetime] | None:
    """The first and the last minute with a value of any patient. Raises TableMissingError.

    By the statistics in the table's log: no file is read but those that have none.
    """
    import pyarrow as pa

    files = pa.table(reader.open_table(data, VITAL_SIGN_MINUTE).get_add_actions(flatten=True)).to_pylist()
    ends = [(row.get("min.minute"), row.get("max.minute")) for row in files]
    if any(first is None or last is None for first, last in ends):
        ends = [tuple(reader.query(data, _SPANNED).to_pylist()[0].values())]
    told = [(first, last) for first, last in ends if first is not None and last is not None]
    return (min(first for first, _ in told), max(last for _, last in told)) if told else None


_SPANNED = "SELECT min(minute) AS first, max(minute) AS last FROM gold.vital_sign_minute"


def units(data: DataDir, period: Period) -> tuple[str, ...]:
    """Every unit that is known: of the period, of the newest day, of any alert or stay. Raises TableMissingError."""
    states, absent = _states(data)
    with _opened(data, states, absent) as database:
        _prepare(database, period)
        return tuple(sorted(_units(database)))


def trends(
    data: DataDir, periods: Mapping[str, Period], limits: Iterable[LimitRule], *, only: str | None = None
) -> Trends:
    """The figures of every unit, or of one, in each of the periods, by the name of the period.

    Raises TableMissingError where there are no minutes at all; any other table may be missing.
    """
    import pandas as pd

    rules = tuple(limits)
    states, absent = _states(data)
    with _opened(data, states, absent) as database:
        frames, known = [], set[str]()
        for name, period in periods.items():
            _prepare(database, period)
            known.update(_units(database))
            _hold_against(database, rules, only)
            frames.append(_figures(database).assign(period=name))
    return Trends(
        _ordered(pd.concat(frames, ignore_index=True)),
        tuple(sorted(known)),
        tuple(states.values()),
        tuple(table.full_name for table in absent),
        None if (found := spanned(data)) is None else found[1],
    )


def _states(data: DataDir) -> tuple[dict[Table, AsOf], tuple[Table, ...]]:
    """The tables that are read, each at its newest version, and those that are not there."""
    states, absent = {}, []
    for table in (VITAL_SIGN_MINUTE, EARLY_WARNING_SCORE, ALERT, OBSERVATION, ENCOUNTER):
        try:
            version = reader.open_table(data, table).version()
        except reader.TableMissingError:
            if table is VITAL_SIGN_MINUTE:
                raise
            absent.append(table)
        else:
            states[table] = AsOf(table.full_name, version, reader.committed_at(data, table, version))
    return states, tuple(absent)


@contextmanager
def _opened(
    data: DataDir, states: Mapping[Table, AsOf], absent: Iterable[Table]
) -> "Iterator[duckdb.DuckDBPyConnection]":
    """A connection that sees the tables at their versions, and an empty view for each that is absent.

    Two weeks of a hospital's minutes do not fit in the memory of a machine that also serves pages: what is too much
    goes to disk.
    """
    versions = {table: state.version for table, state in states.items()}
    with reader.connect(data, states, versions, data.spill) as database:
        database.execute(f"SET memory_limit = '{MEMORY}'")
        # It would hold more in memory, and rows are put in order at the end.
        database.execute("SET preserve_insertion_order = false")
        for table in absent:
            _stand_in(database, table)
        yield database


_SQL_TYPES = {"STRING": "VARCHAR", "BINARY": "BLOB", "TIMESTAMP": "TIMESTAMPTZ"}


def _stand_in(database: "duckdb.DuckDBPyConnection", table: Table) -> None:
    """An empty view in the place of a table that is missing, with those of its columns that are of a plain type."""
    plain = [column for column in table.columns if not column.type.startswith(("ARRAY", "STRUCT"))]
    columns = ", ".join(f'NULL::{_SQL_TYPES.get(column.type, column.type)} AS "{column.name}"' for column in plain)
    database.execute(f'CREATE SCHEMA IF NOT EXISTS "{table.layer}"')
    database.execute(f'CREATE VIEW "{table.layer}"."{table.name}" AS SELECT {columns} WHERE false')


def _macros(period: Period) -> tuple[str, ...]:
    """Words of the SQL. Hours are numbered from the start of the period, so that days begin with one in any zone."""
    start, stop = int(period.start.timestamp()), int(period.stop.timestamp())
    zone = period.zone.key.replace("'", "''")
    return (
        f"CREATE OR REPLACE TEMP MACRO away() AS INTERVAL {int(AWAY.total_seconds())} SECONDS",
        f"CREATE OR REPLACE TEMP MACRO gap_minutes() AS {int(GAP.total_seconds()) // 60}",
        f"CREATE OR REPLACE TEMP MACRO stands() AS INTERVAL {int(RESTATED_AFTER.total_seconds())} SECONDS",
        f"CREATE OR REPLACE TEMP MACRO unknown() AS '{UNKNOWN}'",
        f"CREATE OR REPLACE TEMP MACRO not_known() AS '{NOT_KNOWN}'",
        f"CREATE OR REPLACE TEMP MACRO since() AS to_timestamp({start})",
        f"CREATE OR REPLACE TEMP MACRO until() AS to_timestamp({stop})",
        f"CREATE OR REPLACE TEMP MACRO hour_of(instant) AS CAST(floor((epoch(instant) - {start}) / 3600) AS INTEGER)",
        f"CREATE OR REPLACE TEMP MACRO begin_of(nth) AS to_timestamp({start} + nth * 3600)",
        f"CREATE OR REPLACE TEMP MACRO day_of(nth) AS CAST(begin_of(nth) AT TIME ZONE '{zone}' AS DATE)",
        f"CREATE OR REPLACE TEMP MACRO clock_of(nth) AS CAST(hour(begin_of(nth) AT TIME ZONE '{zone}') AS INTEGER)",
    )


_STEPS = {
    "seen": """
SELECT DISTINCT patient_id, minute FROM gold.vital_sign_minute
WHERE minute >= since() - away() AND minute < until() + away()
""",
    # The times from a first to a last value, with no more than AWAY between two of them.
    "run": """
SELECT patient_id, min(minute) AS started, max(minute) + INTERVAL 1 MINUTE AS ended FROM (
    SELECT patient_id, minute, count(*) FILTER (apart) OVER so_far AS nth FROM (
        SELECT patient_id, minute, minute - lag(minute) OVER so_far > away() AS apart FROM seen
        WINDOW so_far AS (PARTITION BY patient_id ORDER BY minute)
    ) WINDOW so_far AS (PARTITION BY patient_id ORDER BY minute)
) GROUP BY patient_id, nth
""",
    "patient_hour": """
SELECT *, least(ended, begin_of(nth + 1)) AS until_at,
    date_diff('minute', greatest(started, begin_of(nth)), least(ended, begin_of(nth + 1))) AS minutes
FROM (
    SELECT patient_id, started, ended,
        unnest(range(
            hour_of(greatest(started, since())), hour_of(least(ended, until()) - INTERVAL 1 MINUTE) + 1
        )) AS nth
    FROM run WHERE ended > since() AND started < until()
)
""",
    # The unit that most values of an hour name; of equal counts the last by name, so that the answer is one.
    "told": """
SELECT patient_id, nth, max({'count': count, 'unit': unit}).unit AS unit FROM (
    SELECT patient_id, hour_of(observed_at) AS nth, location_unit AS unit, count(*) AS count FROM silver.observation
    WHERE observed_at >= since() - away() AND observed_at < until() + away() AND location_unit IS NOT NULL
    GROUP BY ALL
) GROUP BY patient_id, nth
""",
    # A stay's place is a text, care unit and bed: where messages name the unit, that is the unit.
    "stay": """
SELECT patient_id, started_at, coalesce(ended_at, 'infinity') AS ended_at,
    coalesce((SELECT max(unit) FROM told WHERE location = unit OR starts_with(location, unit || ' ')), location) AS unit
FROM (
    SELECT *, row_number() OVER (
        PARTITION BY encounter_id ORDER BY recorded_at DESC, topic DESC, "partition" DESC, "offset" DESC, version DESC
    ) AS newest FROM silver.encounter
) WHERE newest = 1 AND status NOT IN ('planned', 'cancelled', 'entered-in-error')
    AND location IS NOT NULL AND started_at IS NOT NULL
""",
    "placed": """
SELECT h.patient_id, h.nth, max({'since': s.started_at, 'unit': s.unit}).unit AS unit
FROM patient_hour h JOIN stay s ON s.patient_id = h.patient_id
    AND s.started_at < begin_of(h.nth + 1) AND s.ended_at > begin_of(h.nth)
GROUP BY ALL
""",
    "present": """
SELECT patient_id, nth, minutes, until_at, day_of(nth) AS day, clock_of(nth) AS hour, coalesce(
    CASE WHEN begin_of(earlier_nth) >= begin_of(nth) - away() THEN earlier END,
    CASE WHEN begin_of(later_nth) <= begin_of(nth) + away() THEN later END,
    stayed,
    unknown()
) AS care_unit FROM (
    SELECT h.*, earlier.unit AS earlier, earlier.nth AS earlier_nth, later.unit AS later, later.nth AS later_nth,
        placed.unit AS stayed
    FROM patient_hour h
    ASOF LEFT JOIN told earlier ON earlier.patient_id = h.patient_id AND h.nth >= earlier.nth
    ASOF LEFT JOIN told later ON later.patient_id = h.patient_id AND h.nth <= later.nth
    LEFT JOIN placed ON placed.patient_id = h.patient_id AND placed.nth = h.nth
)
""",
    # How long patients were there, by hour, by day and in all.
    "time_there": """
SELECT care_unit, day, hour, sum(minutes) AS present FROM present
GROUP BY GROUPING SETS ((care_unit, day, hour), (care_unit, day), (care_unit))
""",
    # With the minutes until the next one, on whichever unit that is.
    "seen_here": """
SELECT p.care_unit, p.day, p.hour, s.patient_id, s.minute, s.silent
FROM (
    SELECT patient_id, minute,
        date_diff('minute', minute, lead(minute) OVER (PARTITION BY patient_id ORDER BY minute)) - 1 AS silent
    FROM seen WHERE minute >= since() AND minute < until()
) s JOIN present p ON p.patient_id = s.patient_id AND p.nth = hour_of(s.minute)
""",
    "told_alert": """
SELECT coalesce(a.location_unit, p.care_unit, unknown()) AS care_unit, a.rule_id, a.title, a.priority,
    day_of(hour_of(a.active_at)) AS day,
    (epoch_us(a.acknowledged_at) - epoch_us(a.active_at)) / 1e6 AS seconds
FROM gold.alert a LEFT JOIN present p ON p.patient_id = a.patient_id AND p.nth = hour_of(a.active_at)
WHERE a.active_at >= since() AND a.active_at < until()
""",
}
"""Tables of one period that the measures are made of, each after those it needs."""

_VALUES = """
CREATE OR REPLACE TEMP VIEW minute_here AS
SELECT p.care_unit, p.day, p.hour, v.patient_id, v.code, v.minute, v.mean
FROM gold.vital_sign_minute v JOIN present p ON p.patient_id = v.patient_id AND p.nth = hour_of(v.minute)
WHERE v.minute >= since() AND v.minute < until() AND v.code IN (SELECT code FROM signal)
"""


def _prepare(database: "duckdb.DuckDBPyConnection", period: Period) -> None:
    """Make the tables of one period."""
    for macro in _macros(period):
        database.execute(macro)
    for name, sql in _STEPS.items():
        database.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {sql}")
    database.execute("CREATE OR REPLACE TEMP TABLE signal (code VARCHAR, name VARCHAR, label VARCHAR)")
    database.executemany("INSERT INTO signal VALUES (?, ?, ?)", [(s.code, s.name, s.display) for s in VITAL_SIGNS])
    database.execute(_VALUES)


def _hold_against(database: "duckdb.DuckDBPyConnection", rules: tuple[LimitRule, ...], only: str | None) -> None:
    """Leave out all units but one where one is wanted, and give each the limits that hold for it."""
    if only is not None:
        for table in ("present", "time_there", "seen_here", "told_alert"):
            database.execute(f"DELETE FROM {table} WHERE care_unit <> $1", [only])  # noqa: S608 - our own names
        database.execute("DELETE FROM stay WHERE unit <> $1", [only])
    database.execute(
        "CREATE OR REPLACE TEMP TABLE allowed"
        ' (care_unit VARCHAR, rule_id VARCHAR, title VARCHAR, code VARCHAR, above BOOLEAN, "limit" DOUBLE)'
    )
    units = [unit for (unit,) in database.execute("SELECT DISTINCT care_unit FROM present").fetchall()]
    rows = [(u, r.id, r.title, r.code, r.direction == "above", r.limit_in(u)) for u in units for r in rules]
    if rows:
        database.executemany("INSERT INTO allowed VALUES (?, ?, ?, ?, ?, ?)", rows)


# Each gives care_unit, subject, label, detail, day and hour where they have a meaning, and a column for each statistic.
_MEASURED: tuple[tuple[str, str], ...] = (
    (
        "census",
        """
SELECT care_unit, 'any' AS subject, 'All patients' AS label, day, count(DISTINCT patient_id) AS patients,
    sum(minutes) / 1440.0 AS patient_days
FROM present GROUP BY GROUPING SETS ((care_unit, day), (care_unit))
""",
    ),
    (
        "vital_sign",
        """
SELECT care_unit, s.name AS subject, s.label, day,
    quantile_cont(mean, 0.05) AS p05, quantile_cont(mean, 0.25) AS p25, quantile_cont(mean, 0.5) AS median,
    quantile_cont(mean, 0.75) AS p75, quantile_cont(mean, 0.95) AS p95, count(*) AS minutes
FROM minute_here JOIN signal s USING (code) WHERE s.name = $signal
GROUP BY GROUPING SETS ((care_unit, s.name, s.label, day), (care_unit, s.name, s.label))
""",
    ),
    (
        "vital_sign_hour",
        """
SELECT care_unit, s.name AS subject, s.label, day, hour, quantile_cont(mean, 0.5) AS median, count(*) AS minutes
FROM minute_here JOIN signal s USING (code) WHERE s.name = $signal GROUP BY care_unit, s.name, s.label, day, hour
""",
    ),
    (
        "coverage",
        """
SELECT t.care_unit, 'any' AS subject, 'Any value' AS label, t.day, t.hour, coalesce(f.seen, 0) AS minutes, present,
    100.0 * coalesce(f.seen, 0) / present AS share
FROM time_there t LEFT JOIN (
    SELECT care_unit, day, hour, count(*) AS seen FROM seen_here
    GROUP BY GROUPING SETS ((care_unit, day, hour), (care_unit, day), (care_unit))
) f ON t.care_unit = f.care_unit AND t.day IS NOT DISTINCT FROM f.day AND t.hour IS NOT DISTINCT FROM f.hour
""",
    ),
    (
        "coverage",
        """
SELECT f.*, present, 100.0 * f.minutes / present AS share FROM (
    SELECT care_unit, s.name AS subject, s.label, day, count(*) AS minutes FROM minute_here JOIN signal s USING (code)
    GROUP BY GROUPING SETS ((care_unit, s.name, s.label, day), (care_unit, s.name, s.label))
) f JOIN time_there t ON t.care_unit = f.care_unit AND t.day IS NOT DISTINCT FROM f.day AND t.hour IS NULL
""",
    ),
    (
        "gap",
        """
SELECT care_unit, 'any' AS subject, 'Any value' AS label, day, count(gap) AS gaps,
    coalesce(sum(gap), 0) AS minutes, max(gap) AS longest
FROM (
    SELECT care_unit, day, CASE WHEN silent > gap_minutes() AND to_minutes(silent) <= away() THEN silent END AS gap
    FROM seen_here
) GROUP BY GROUPING SETS ((care_unit, day), (care_unit))
""",
    ),
    (
        "beyond_limits",
        """
SELECT m.care_unit, a.rule_id AS subject, min(a.title) AS label, day,
    count(*) FILTER (CASE WHEN above THEN mean > "limit" ELSE mean < "limit" END) AS minutes,
    100.0 * minutes / count(*) AS share
FROM minute_here m JOIN allowed a ON a.care_unit = m.care_unit AND a.code = m.code
GROUP BY GROUPING SETS ((m.care_unit, a.rule_id, day), (m.care_unit, a.rule_id))
""",
    ),
    (
        "beyond_limits",
        """
SELECT care_unit, 'any' AS subject, 'Any limit' AS label, day, hour, count(*) FILTER (beyond) AS minutes,
    100.0 * minutes / count(*) AS share
FROM (
    SELECT m.care_unit, day, hour, patient_id, minute,
        bool_or(CASE WHEN above THEN mean > "limit" ELSE mean < "limit" END) AS beyond
    FROM minute_here m JOIN allowed a ON a.care_unit = m.care_unit AND a.code = m.code GROUP BY ALL
) GROUP BY GROUPING SETS ((care_unit, day, hour), (care_unit, day), (care_unit))
""",
    ),
    (
        "news2",
        """
SELECT care_unit, risk AS subject, concat(upper(risk[1]), risk[2:]) AS label, day, hours, 100.0 * hours / of AS share
FROM (
    SELECT *, sum(hours) OVER (PARTITION BY care_unit, day) AS of FROM (
        SELECT care_unit, risk, day, count(*) AS hours FROM standing
        GROUP BY GROUPING SETS ((care_unit, risk, day), (care_unit, risk))
    )
)
UNION ALL BY NAME
SELECT care_unit, 'any' AS subject, 'Total' AS label, day, count(total) AS hours, median(total) AS median,
    100.0 * count(*) FILTER (total >= 5) / count(total) AS share_5,
    100.0 * count(*) FILTER (total >= 7) / count(total) AS share_7
FROM standing WHERE total IS NOT NULL GROUP BY GROUPING SETS ((care_unit, day), (care_unit))
""",
    ),
    (
        "alert",
        """
SELECT f.*, alerts / (present / 1440.0) AS per_patient_day FROM (
    SELECT care_unit, coalesce(rule_id, 'any') AS subject,
        CASE grouping(rule_id) WHEN 0 THEN min(title) ELSE 'All alerts' END AS label,
        coalesce(priority, 'any') AS detail, day, count(*) AS alerts
    FROM told_alert GROUP BY GROUPING SETS (
        (care_unit, rule_id, priority), (care_unit, priority, day), (care_unit, priority), (care_unit, day), (care_unit)
    )
) f LEFT JOIN time_there t ON t.care_unit = f.care_unit AND t.day IS NOT DISTINCT FROM f.day AND t.hour IS NULL
""",
    ),
    (
        "acknowledgement",
        """
SELECT care_unit, 'any' AS subject, 'All alerts' AS label, coalesce(priority, 'any') AS detail, count(*) AS alerts,
    count(seconds) AS acknowledged, 100.0 * count(seconds) / count(*) AS share,
    quantile_cont(seconds, 0.5) AS median, quantile_cont(seconds, 0.9) AS p90
FROM told_alert GROUP BY GROUPING SETS ((care_unit, priority), (care_unit))
""",
    ),
    (
        "missing",
        """
SELECT coalesce(f.care_unit, w.care_unit) AS care_unit, 'any' AS subject, 'All patients' AS label,
    date_diff('day', day_of(0), day_of(hour_of(until() - INTERVAL 1 MINUTE))) + 1 - coalesce(f.days, 0)
        AS days_without_values,
    coalesce(w.patients, 0) AS patients_without_values
FROM (SELECT care_unit, count(DISTINCT day) AS days FROM seen_here GROUP BY care_unit) f
FULL JOIN (
    SELECT unit AS care_unit, count(DISTINCT patient_id) AS patients FROM stay s
    WHERE started_at < until() AND ended_at > since()
        AND NOT EXISTS (
            SELECT 1 FROM seen WHERE seen.patient_id = s.patient_id AND minute >= since() AND minute < until()
        )
    GROUP BY unit
) w ON w.care_unit = f.care_unit
""",
    ),
)

_STANDING = """
CREATE OR REPLACE TEMP TABLE standing AS
SELECT care_unit, day, CASE WHEN stands THEN total END AS total,
    CASE WHEN stands AND risk IS NOT NULL THEN risk ELSE not_known() END AS risk
FROM (
    SELECT p.care_unit, p.day, s.total, s.risk, coalesce(s.observed_at >= p.until_at - stands(), false) AS stands
    FROM present p ASOF LEFT JOIN (
        SELECT patient_id, observed_at, total, risk FROM gold.early_warning_score
        WHERE score = 'news2' AND observed_at >= since() - stands() AND observed_at < until()
    ) s ON s.patient_id = p.patient_id AND p.until_at > s.observed_at
)
"""


def _figures(database: "duckdb.DuckDBPyConnection") -> "pd.DataFrame":
    """Every measure of the period that was prepared, in the long form; what has no value has no row."""
    import pandas as pd

    database.execute(_STANDING)
    declared = {measure.name: measure for measure in MEASURES}
    frames = []
    for name, sql in _MEASURED:
        # A quantile holds every value in memory: of one signal at a time.
        given: list[dict[str, str]] = [{"signal": signal.name} for signal in VITAL_SIGNS] if "$signal" in sql else [{}]
        frames += [_long(database.execute(sql, params).df(), declared[name]) for params in given]
    return pd.concat(frames, ignore_index=True)


def _long(wide: "pd.DataFrame", measure: Measure) -> "pd.DataFrame":
    import pandas as pd

    places = ["care_unit", "subject", "label", "detail", "day", "hour"]
    wide = wide.reindex(columns=[*places, *measure.statistics])
    found = wide.melt(id_vars=places, value_vars=list(measure.statistics), var_name="statistic").dropna(
        subset=["value"]
    )
    units = {signal.name: signal.unit for signal in VITAL_SIGNS}
    own = {name: unit for (of, name), unit in _OWN_UNIT.items() if of == measure.name}
    pairs = zip(found["statistic"], found["subject"], strict=True)
    return found.assign(
        measure=measure.name,
        day=pd.to_datetime(found["day"]).dt.strftime("%Y-%m-%d"),
        hour=found["hour"].astype("Int64"),
        # A detail that is not there and one that is must sort alike.
        detail=found["detail"].astype(object).where(found["detail"].notna(), None),
        value=found["value"].astype(float).round(4),
        unit=pd.Series([own[statistic] or units[subject] for statistic, subject in pairs], found.index, dtype=object),
    )


def _ordered(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Columns and rows in their one order."""
    return frame[list(COLUMNS)].sort_values(_ORDER, na_position="first", kind="stable").reset_index(drop=True)


_UNITS = """
SELECT unit FROM (
    SELECT location_unit AS unit FROM gold.alert
    UNION SELECT unit FROM stay
    UNION SELECT unit FROM told
    UNION SELECT care_unit FROM present
    UNION SELECT location_unit FROM silver.observation
        WHERE observed_at >= (SELECT max(observed_at) FROM silver.observation) - INTERVAL 1 DAY
) WHERE unit IS NOT NULL
"""


def _units(database: "duckdb.DuckDBPyConnection") -> list[str]:
    return [unit for (unit,) in database.execute(_UNITS).fetchall()]
