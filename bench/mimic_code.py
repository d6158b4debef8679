"""Research tables beside what mimic-code's SQL answers on the same patients, row for row and value for value.

Two values are equal within a tolerance: half a hundredth of a degree for temperatures, since silver keeps two decimals
of what is converted from Fahrenheit; a billionth for all others, which is what means of doubles differ by. A row
without any value, such as an instant whose only value was out of range, tells nothing: it is counted and no difference.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb

TOLERANCE = 1e-9
TEMPERATURE_TOLERANCE = 0.005 + 1e-9

_III = {
    "heart_rate": "heartrate",
    "systolic_bp": "sysbp",
    "diastolic_bp": "diasbp",
    "mean_bp": "meanbp",
    "respiratory_rate": "resprate",
    "temperature": "tempc",
    "spo2": "spo2",
    "glucose": "glucose",
}
_IV = {
    "heart_rate": "heart_rate",
    "systolic_bp": "sbp",
    "diastolic_bp": "dbp",
    "mean_bp": "mbp",
    "respiratory_rate": "resp_rate",
    "temperature": "temperature",
    "spo2": "spo2",
    "glucose": "glucose",
}
_IV_CUFF = {"systolic_bp_cuff": "sbp_ni", "diastolic_bp_cuff": "dbp_ni", "mean_bp_cuff": "mbp_ni"}


@dataclass(frozen=True)
class Answer:
    """An answer of mimic-code: its file, the mart it is beside, its key as SQL, and its columns by ours.

    ``made_up`` are columns that say something even of an instant at which nothing was charted.
    """

    source: str
    file: str
    mart: str
    key: Mapping[str, str]
    columns: Mapping[str, str]
    made_up: tuple[str, ...] = ()


def _of_a_day(columns: Mapping[str, str]) -> dict[str, str]:
    return {
        f"{ours}_{statistic}": f"{theirs}_{statistic}"
        for ours, theirs in columns.items()
        for statistic in ("min", "max", "mean")
    }


_STAY_III = {"stay_id": "'mimic-iii/' || icustay_id"}
_STAY_IV = {"stay_id": "'mimic-iv/' || stay_id"}
_TIME = {"observed_at": "charttime AT TIME ZONE 'UTC'"}

_COMA = {"eye": "gcseyes", "verbal": "gcsverbal", "motor": "gcsmotor", "intubated": "endotrachflag"}

ANSWERS = (
    Answer("mimic-iii", "mimiciii_demo_pivoted_vital.csv.gz", "vital_sign", _STAY_III | _TIME, _III),
    Answer("mimic-iii", "mimiciii_demo_vitals_first_day.csv.gz", "first_day_vital_sign", _STAY_III, _of_a_day(_III)),
    Answer(
        "mimic-iii",
        "mimiciii_demo_pivoted_gcs.csv.gz",
        "coma_score",
        _STAY_III | _TIME,
        {"total": "gcs"} | _COMA,
        ("total", "intubated"),
    ),
    Answer(
        "mimic-iii",
        "mimiciii_demo_gcs_first_day.csv.gz",
        "first_day_coma_score",
        _STAY_III,
        {"total_min": "mingcs"} | _COMA,
    ),
    Answer("mimic-iv", "mimiciv_demo_vitalsign.csv.gz", "vital_sign", _STAY_IV | _TIME, _IV | _IV_CUFF),
    Answer("mimic-iv", "mimiciv_demo_first_day_vitalsign.csv.gz", "first_day_vital_sign", _STAY_IV, _of_a_day(_IV)),
)


@dataclass(frozen=True)
class Values:
    """The values of one column in the rows that both have: how many are the same, close enough, or not."""

    ours: int
    theirs: int
    same: int
    within_tolerance: int
    differing: int
    largest_difference: float


@dataclass(frozen=True)
class Comparison:
    """A mart beside an answer: rows by key, with those that hold no value apart, and values by column."""

    file: str
    mart: str
    rows_in_both: int
    only_ours: int
    only_ours_without_value: int
    only_theirs: int
    only_theirs_without_value: int
    values: Mapping[str, Values]

    @property
    def equal(self) -> bool:
        """Whether no value differs, and no row with a value is missing on either side."""
        return not self.only_ours and not self.only_theirs and not any(v.differing for v in self.values.values())

    def lines(self) -> Iterator[str]:
        """For printing: the rows, then a line a column."""
        yield f"{self.mart} beside {self.file}: {'equal' if self.equal else 'DIFFERENT'}"
        yield (
            f"  {self.rows_in_both} rows in both"
            f"; only ours {self.only_ours}, and {self.only_ours_without_value} without a value"
            f"; only theirs {self.only_theirs}, and {self.only_theirs_without_value} without a value"
        )
        yield f"  {'column':24}{'ours':>8}{'theirs':>8}{'same':>8}{'within':>8}{'differ':>8}  largest difference"
        for name, found in self.values.items():
            yield (
                f"  {name:24}{found.ours:8}{found.theirs:8}{found.same:8}{found.within_tolerance:8}{found.differing:8}"
                f"  {found.largest_difference:.2g}"
            )


def compare(answer: Answer, marts: Path, results: Path) -> Comparison:
    """``marts`` is the folder of the mart's Delta table, ``results`` that of mimic-code's answers."""
    import deltalake
    import duckdb

    mart = deltalake.DeltaTable(marts / answer.mart).to_pyarrow_table()
    # Values as numbers: mimic-code has 1 for true.
    columns = ", ".join((*answer.key, *(f"CAST({name} AS DOUBLE) AS {name}" for name in answer.columns)))
    values = (f"CAST({sql} AS DOUBLE) AS {name}" for name, sql in answer.columns.items())
    theirs = ", ".join((*(f"{sql} AS {name}" for name, sql in answer.key.items()), *values))
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("mart", mart)
        connection.execute(f"CREATE TABLE ours AS SELECT {columns} FROM mart")  # noqa: S608 - names of this file
        connection.execute(
            f"CREATE TABLE theirs AS SELECT {theirs} FROM read_csv(?)",  # noqa: S608 - names of this file
            [str(results / answer.file)],
        )
        return _compared(connection, answer)


def _compared(connection: "duckdb.DuckDBPyConnection", answer: Answer) -> Comparison:
    key = ", ".join(answer.key)

    def only(one: str, other: str) -> tuple[Any, ...]:
        rows = f"FROM {one} ANTI JOIN {other} USING ({key})"
        values = (name for name in answer.columns if name not in answer.made_up)
        with_value = f"coalesce({', '.join(values)}) IS NOT NULL"
        return _row(connection, f"SELECT count(*) FILTER ({with_value}), count(*) FILTER (NOT ({with_value})) {rows}")

    in_both = f"FROM ours JOIN theirs USING ({key})"
    ours, theirs = only("ours", "theirs"), only("theirs", "ours")
    return Comparison(
        file=answer.file,
        mart=answer.mart,
        rows_in_both=_row(connection, f"SELECT count(*) {in_both}")[0],
        only_ours=ours[0],
        only_ours_without_value=ours[1],
        only_theirs=theirs[0],
        only_theirs_without_value=theirs[1],
        values={name: Values(*_row(connection, f"SELECT {_values(name)} {in_both}")) for name in answer.columns},
    )


def _values(name: str) -> str:
    ours, theirs = f"ours.{name}", f"theirs.{name}"
    tolerance = TEMPERATURE_TOLERANCE if name.startswith("temperature") else TOLERANCE
    same = f"{ours} IS NOT DISTINCT FROM {theirs}"
    close = f"coalesce(abs({ours} - {theirs}) <= {tolerance!r}, false)"
    counts = (f"{same} AND {ours} IS NOT NULL", f"NOT ({same}) AND {close}", f"NOT ({same} OR {close})")
    counted = ", ".join(f"count(*) FILTER ({condition})" for condition in counts)
    return f"count({ours}), count({theirs}), {counted}, coalesce(max(abs({ours} - {theirs})), 0)"


def _row(connection: "duckdb.DuckDBPyConnection", sql: str) -> tuple[Any, ...]:
    return connection.execute(sql).fetchall()[0]
