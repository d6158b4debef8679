"""Backfill beside DuckDB and pandas: the same MIMIC-IV files, at several times their size, in one run.

    python -m bench backfill [--data FOLDER] [--scales 1,10] [--json FILE]

The patients of the demo edition are copied with other ids until there are so many times as many. Then DuckDB and pandas
answer the usual question of such files (values of vital signs side by side, by stay and instant, from a CSV scan), and
``ward backfill`` lands them: every mapped row in bronze, judged and versioned in silver, minutes and scores in gold.
That is not the same work. What is compared is how each grows: seconds, rows a second, and peak memory of all processes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.bench_live import WARD
from lakehouse.datadir import DataDir
from lakehouse.sources.items import items
from lakehouse.tables import OBSERVATION

SOURCE = "mimic-iv"
FULL_ROWS = 313_000_000
"""Rows of chartevents in the full MIMIC-IV, rounded."""
TABLES = ("icu/chartevents", "icu/icustays", "hosp/patients", "hosp/admissions")
_IDS = ("subject_id", "hadm_id", "stay_id")
_IDS_APART = 100_000_000
"""More than any id of MIMIC."""
_DAYS_APART = 37
_POLL_S = 0.25


@dataclass(frozen=True)
class Measured:
    """Whole processes: seconds, and the most memory that they held together."""

    seconds: float
    peak_mb: float


@dataclass(frozen=True)
class Row:
    """One size: rows of chartevents, and what each took for them; ``values`` are in silver afterwards."""

    scale: int
    rows: int
    values: int
    duckdb: Measured
    pandas: Measured
    backfill: Measured


SIDES = ("duckdb", "pandas", "backfill")


def enlarge(folder: Path, times: int, to: Path) -> int:
    """Write the tables that backfill reads, each patient ``times`` times; answers the rows of chartevents."""
    import duckdb

    with duckdb.connect() as database:
        copies = database.table_function("range", [times])
        for name in TABLES:
            target = to / f"{name}.csv.gz"
            target.parent.mkdir(parents=True, exist_ok=True)
            table = database.read_csv(str(folder / f"{name}.csv.gz"), all_varchar=True)
            moved = ", ".join(f"{_of_copy(column)} AS {column}" for column in table.columns)
            table.cross(copies).project(moved).write_csv(str(target), compression="gzip")
        return len(database.read_csv(str(to / f"{TABLES[0]}.csv.gz"), all_varchar=True))


def _of_copy(column: str) -> str:
    """What a copy says in a column, as SQL: other ids, and other days, as two patients of MIMIC share none."""
    if column in _IDS:
        return f"CAST(CAST({column} AS BIGINT) + range * {_IDS_APART} AS VARCHAR)"
    if column.endswith("time"):
        return (
            f"strftime(CAST({column} AS TIMESTAMP) + to_days(CAST(range * {_DAYS_APART} AS INT)), '%Y-%m-%d %H:%M:%S')"
        )
    return column


def pivot(folder: Path) -> str:
    """The DuckDB side as SQL: the mean of each signal's items, by stay and instant, within what is plausible."""
    by_code: dict[str, list[str]] = {}
    for itemid, item in items("mimic_iv_item").items():
        by_code.setdefault(item.code, []).append(itemid)
    columns = ", ".join(
        f'avg(valuenum) FILTER (itemid IN ({", ".join(ids)}) AND valuenum > 0) AS "{code}"'
        for code, ids in sorted(by_code.items())
    )
    wanted = ", ".join(sorted(itemid for ids in by_code.values() for itemid in ids))
    return (
        f"SELECT subject_id, stay_id, charttime, {columns} FROM read_csv('{folder}/icu/chartevents.csv.gz')"  # noqa: S608
        f" WHERE itemid IN ({wanted}) GROUP BY ALL"
    )


def pivot_by_pandas(folder: Path) -> int:
    """The same with pandas, all in memory; answers the rows of the result."""
    import pandas as pd

    codes = {int(itemid): item.code for itemid, item in items("mimic_iv_item").items()}
    columns = ["subject_id", "stay_id", "charttime", "itemid", "valuenum"]
    chart = pd.read_csv(folder / "icu" / "chartevents.csv.gz", usecols=columns, parse_dates=["charttime"])
    chart = chart[chart["itemid"].isin(codes.keys()) & (chart["valuenum"] > 0)]
    index = ["subject_id", "stay_id", "charttime"]
    return len(chart.assign(code=chart["itemid"].map(codes)).pivot_table("valuenum", index, "code", "mean"))


def measured(command: Sequence[str | Path]) -> Measured:
    """Run a command to its end. Raises CalledProcessError where it fails."""
    import psutil

    began, peak = time.monotonic(), 0.0
    process = subprocess.Popen(command, stdout=sys.stderr, stderr=sys.stderr)
    root = psutil.Process(process.pid)
    while process.poll() is None:
        peak = max(peak, resident_mb(root))
        time.sleep(_POLL_S)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Measured(time.monotonic() - began, peak)


def resident_mb(root: Any) -> float:
    """Resident memory of a process and all that it has started, in MB."""
    import psutil

    total = 0.0
    try:
        for process in (root, *root.children(recursive=True)):
            # One that was forked and has not become another program yet has its parent's memory, not its own.
            if process is root or process.cmdline() != psutil.Process(process.ppid()).cmdline():
                total += process.memory_info().rss / 1e6
    except psutil.NoSuchProcess:
        # One that has just ended holds nothing.
        return total
    return total


def at(folder: Path, scale: int, scratch: Path) -> Row:
    """Every side on the demo ``scale`` times over."""
    import deltalake

    copied, data = scratch / "files", DataDir(scratch / "ward")
    rows = enlarge(folder, scale, copied)
    query = f"import duckdb; duckdb.sql('''CREATE TABLE pivoted AS {pivot(copied)}''')"
    duckdb = measured([sys.executable, "-c", query])
    by_pandas = (
        f"import pathlib; from bench.{Path(__file__).stem} import *; pivot_by_pandas(pathlib.Path({str(copied)!r}))"
    )
    pandas = measured([sys.executable, "-c", by_pandas])
    backfill = measured([WARD, "backfill", "--source", SOURCE, "--path", copied, "--data-dir", data.root])
    values = deltalake.DeltaTable(str(data.table(OBSERVATION))).count()
    return Row(scale, rows, values, duckdb, pandas, backfill)


def printed(found: Sequence[Row]) -> None:
    """A table, and what the growth from the smallest to the largest says of the full MIMIC-IV."""
    heads = "".join(f" | {f'{name} s':>10} {'rows/s':>10} {'MB':>6}" for name in SIDES)
    print(f"{'times':>5} {'rows':>11} {'values':>10}{heads}")
    for row in found:
        print(f"{row.scale:5} {row.rows:11,} {row.values:10,}", end="")
        for side in (getattr(row, name) for name in SIDES):
            print(f" | {side.seconds:10.1f} {row.rows / side.seconds:10,.0f} {side.peak_mb:6,.0f}", end="")
        print()
    first, last = found[0], found[-1]
    if last.rows == first.rows:
        return
    for name in SIDES:
        grown = getattr(last, name).seconds - getattr(first, name).seconds
        a_row = grown / (last.rows - first.rows)
        minutes = (getattr(first, name).seconds + a_row * (FULL_ROWS - first.rows)) / 60
        print(
            f"{name}: {a_row * 1e6:,.2f} us a further row; the full MIMIC-IV would take {minutes:,.0f} min at that pace"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("WARD_SHARED_DATA"), help="the public data sets")
    parser.add_argument("--scales", default="1,10", help="times of the demo's size")
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = parser.parse_args()
    if given.data is None:
        print("skipped: neither --data nor WARD_SHARED_DATA names a folder of public data sets")
        return
    found = []
    for scale in map(int, given.scales.split(",")):
        with tempfile.TemporaryDirectory() as name:
            found.append(at(given.data / f"{SOURCE}-demo", scale, Path(name)))
    printed(found)
    if given.json is not None:
        given.json.write_text(json.dumps([asdict(row) for row in found], indent=2))


if __name__ == "__main__":
    main()
