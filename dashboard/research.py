"""What the page Research asks: marts with their sizes, and distributions in which no small cell can be seen."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse import reader
from lakehouse.datadir import DataDir
from lakehouse.deidentify import OLDEST_AGE, SMALL_CELL
from lakehouse.privacy import PATIENT, Privacy, PrivacyError, exportable

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

_BINS = 10
_MOST_CATEGORIES = 20
"""A column with more texts than this is a list of names and no distribution."""
_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "FLOAT", "DOUBLE")
_CATEGORIES = ("VARCHAR", "BOOLEAN")


@dataclass(frozen=True)
class Cohort:
    """A mart: its size, and the columns whose distribution may be shown. ``patients`` None: it has no patient."""

    name: str
    version: int
    rows: int
    patients: int | None
    columns: tuple[str, ...]
    """Of numbers and of categories that leave in an export as they are."""


@dataclass(frozen=True)
class Distribution:
    """Patients by ``value`` of one column; cells of fewer than SMALL_CELL are left out, ``left_out`` counts them."""

    cells: "pd.DataFrame"
    left_out: int


def cohorts(data: DataDir) -> list[Cohort]:
    """Every mart that has been built, by name."""
    return [_cohort(data, name) for name in reader.tables_there(data) if name.startswith("mart.")]


def _cohort(data: DataDir, name: str) -> Cohort:
    table = reader.open_table(data, name)
    version = table.version()
    relation = reader.open(data, name, version=version)
    types = dict(zip(relation.columns, map(str, relation.types), strict=True))
    patients = None
    if PATIENT in types:
        ((patients,),) = relation.aggregate(f"count(DISTINCT {PATIENT})").fetchall()
    return Cohort(name, version, len(relation), patients, _shown(name, types) if patients is not None else ())


def _shown(name: str, types: dict[str, str]) -> tuple[str, ...]:
    """Columns that an export would let through unchanged, or as an age, and that have a distribution."""
    try:
        fates = exportable(name, types).columns
    except PrivacyError:
        return ()
    wanted = (Privacy.KEPT, Privacy.AGE)
    return tuple(
        column for column, kind in types.items() if fates[column] in wanted and kind in (*_NUMBERS, *_CATEGORIES)
    )


def size(patients: int) -> str:
    """A number of patients as it may be told."""
    return f"{patients:,}" if patients >= SMALL_CELL else f"fewer than {SMALL_CELL}"


def distribution(data: DataDir, cohort: Cohort, column: str) -> Distribution | None:
    """Patients by value of a column, at the cohort's version; None: it has too many texts to be a distribution.

    Ages above 89 count as 90, as in an export. Where one cell alone is small the smallest other one is left out too,
    or the total would tell it.
    """
    relation = reader.open(data, cohort.name, version=cohort.version)
    kind = dict(zip(relation.columns, map(str, relation.types), strict=True))[column]
    value = f"least({column}, {OLDEST_AGE + 1})" if column in ("age", "age_years") else column
    given = relation.filter(f"{column} IS NOT NULL").project(f"{PATIENT}, {value} AS value")
    if kind in _NUMBERS:
        given = given.filter("isfinite(CAST(value AS DOUBLE))")
        sql = _binned("(SELECT min(value) FROM given)", "(SELECT max(value) FROM given)")
    else:
        sql = (
            f"SELECT CAST(value AS VARCHAR) AS value, count(DISTINCT {PATIENT}) AS patients FROM given"  # noqa: S608
            " GROUP BY ALL ORDER BY patients DESC, value"
        )
    cells = _asked(given, sql)
    return None if kind in _CATEGORIES and len(cells) > _MOST_CATEGORIES else suppressed(cells)


def _asked(given: "duckdb.DuckDBPyRelation", sql: str) -> "pd.DataFrame":
    found: Any = given.query("given", sql)
    cells: pd.DataFrame = found.to_arrow_table().to_pandas()
    return cells


def _binned(low: str, high: str) -> str:
    width = f"greatest(({high} - {low}) / {_BINS}.0, 1e-9)"
    return f"""
        SELECT printf('%g to %g', round({low} + bin * {width}, 2), round({low} + (bin + 1) * {width}, 2)) AS value,
            patients
        FROM (
            SELECT least(floor((value - {low}) / {width}), {_BINS - 1}) AS bin,
                count(DISTINCT {PATIENT}) AS patients
            FROM given GROUP BY ALL
        ) ORDER BY bin
    """  # noqa: S608 - our own names


def suppressed(cells: "pd.DataFrame") -> Distribution:
    """The cells (``value``, ``patients``) without the small ones."""
    small = cells["patients"] < SMALL_CELL
    if small.sum() == 1 and len(cells) > 1:
        small |= cells.index == cells.loc[~small, "patients"].idxmin()
    return Distribution(cells[~small].reset_index(drop=True), int(small.sum()))
