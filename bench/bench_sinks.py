"""Sinks: rows a second of a first load, and what a commit costs that rewrites a file for a few changed rows.

Servers are processes of its own on this machine, with settings as they come but for durability: they do not wait for
the disk. MongoDB is left out: what stands in for its server in tests says nothing of its speed.

    python -m bench sinks [--patients 20] [--hours 24]
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from lakehouse.datadir import DataDir
from lakehouse.sinks.copier import Copier
from lakehouse.sinks.declaration import Kind, Sink
from lakehouse.tables import VITAL_SIGN_MINUTE
from tests.fixtures import servers
from tests.fixtures.servers import PASSWORD

CODES = ("8867-4", "9279-1", "59408-5", "8480-6", "8462-4", "8310-5")
START = datetime(2026, 3, 1, tzinfo=UTC)
SERVERS: dict[Kind, Callable[[Path], AbstractContextManager[servers.Process]]] = {
    Kind.POSTGRESQL: servers.postgresql,
    Kind.MYSQL: servers.mariadb,
    Kind.INFLUXDB: servers.influxdb,
    Kind.CASSANDRA: servers.cassandra,
}


def minutes(patients: int, hours: int) -> pa.Table:
    """Every signal of every patient in every minute."""
    rows = patients * len(CODES) * hours * 60
    number = np.arange(rows)
    minute = START.timestamp() * 1e6 + number // (patients * len(CODES)) * 60e6
    values = {name: np.round(80 + 10 * np.sin(number), 1) for name in ("min", "mean", "max", "first", "last")}
    return pa.table(
        {
            "patient_id": pa.array([f"hospital/{one}" for one in number % patients]),
            "code": pa.array([CODES[one] for one in number // patients % len(CODES)]),
            "minute": pa.array(minute.astype("int64"), pa.timestamp("us", "UTC")),
            "unit": pa.array(["/min"] * rows),
            "count": pa.array(np.full(rows, 60)),
            **values,
        }
    )


def main() -> None:
    """Measure each kind and print a row of a Markdown table."""
    import deltalake

    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--patients", type=int, default=20)
    options.add_argument("--hours", type=int, default=24)
    chosen = options.parse_args()
    print(
        "| | rows | first load, s | rows/s | some of them corrected, s | 100 rows more, s |\n|---|---|---|---|---|---|"
    )
    for kind in SERVERS:
        with tempfile.TemporaryDirectory() as folder, _site(kind, Path(folder)) as (sink, data):
            rows = minutes(chosen.patients, chosen.hours)
            path = str(data.table(VITAL_SIGN_MINUTE))
            deltalake.write_deltalake(path, rows)
            load = _seconds(sink, data)
            corrected = f"minute = '{START:%Y-%m-%d} 10:00:00' AND patient_id <= 'hospital/24'"
            changed = deltalake.DeltaTable(path).update(updates={"last": "last + 1"}, predicate=corrected)
            change = _seconds(sink, data)
            deltalake.write_deltalake(path, minutes(17, 1).slice(0, 100), mode="append")
            more = _seconds(sink, data)
        cells = (kind, f"{len(rows):,}", f"{load:.1f}", f"{len(rows) / load:,.0f}")
        print(f"| {' | '.join(cells)} | {change:.2f} ({changed['num_updated_rows']} rows) | {more:.2f} |", flush=True)


@contextmanager
def _site(kind: Kind, folder: Path) -> Iterator[tuple[Sink, DataDir]]:
    with SERVERS[kind](folder / "server") as server:
        tables = (VITAL_SIGN_MINUTE,)
        yield (
            Sink(kind, kind, "127.0.0.1", server.port, "ward", "ward", PASSWORD, tables, tls=False),
            DataDir(folder / "data"),
        )


def _seconds(sink: Sink, data: DataDir) -> float:
    start = time.monotonic()
    copier = Copier(sink, data, stop=threading.Event(), say=lambda _: None, clock=lambda: datetime.now(UTC))
    if not copier.once():
        raise SystemExit(str(copier.counts.problems))
    return time.monotonic() - start


if __name__ == "__main__":
    main()
