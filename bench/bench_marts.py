"""The research tables: how long dbt builds them from MIMIC's demo editions, and whether they equal mimic-code's.

    python -m bench marts [--data FOLDER] [--source mimic-iii] [--built DIR]

Backfills each edition under FOLDER (default: WARD_SHARED_DATA) into a data dir of its own, builds and tests all models,
and prints what each answer of mimic-code has in common with its mart. ``--built`` runs nothing and compares a data dir
whose models are built. The exit code is 1 where a value differs or a row with a value is missing.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.bench_live import WARD
from bench.mimic_code import ANSWERS, compare
from lakehouse.datadir import DataDir


def build(source: str, folder: Path, data: DataDir) -> None:
    """Backfill the edition, then build and test the models; prints the seconds of each."""
    commands = {
        "backfill": ("backfill", "--source", source, "--path", str(folder / f"{source}-demo")),
        "build": ("dbt", "build"),
    }
    for name, (command, *options) in commands.items():
        began = time.monotonic()
        subprocess.run(
            [WARD, command, "--data-dir", data.root, *options], check=True, stdout=sys.stderr, stderr=sys.stderr
        )
        print(f"{source}: {name} took {time.monotonic() - began:.0f} s", flush=True)


def compared(source: str, folder: Path, data: DataDir) -> bool:
    """Hold the edition's marts against mimic-code's answers; prints each comparison, and answers whether all equal."""
    comparisons = [
        compare(answer, Path(str(data.table_root)) / "mart", folder / "mimic-code-results")
        for answer in ANSWERS
        if answer.source == source
    ]
    for each in comparisons:
        print(*each.lines(), sep="\n", flush=True)
    return all(each.equal for each in comparisons)


def main() -> int:
    """Measure, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("WARD_SHARED_DATA"), help="the public data sets")
    parser.add_argument("--source", choices=sorted({answer.source for answer in ANSWERS}), help="one edition only")
    parser.add_argument("--built", type=Path, help="a data dir whose models are built, of that edition")
    given = parser.parse_args()
    if given.data is None:
        print("skipped: neither --data nor WARD_SHARED_DATA names a folder of public data sets")
        return 0
    if given.built is not None:
        if given.source is None:
            parser.error("--built needs --source")
        return 0 if compared(given.source, given.data, DataDir(given.built)) else 1
    equal = True
    for source in [given.source] if given.source else ["mimic-iii", "mimic-iv"]:
        with tempfile.TemporaryDirectory() as name:
            data = DataDir(Path(name))
            build(source, given.data, data)
            equal &= compared(source, given.data, data)
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
