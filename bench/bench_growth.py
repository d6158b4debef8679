"""What a batch of silver and gold costs, by patients, by messages a batch, by commits and by days that tables have.

    python -m bench growth [--batches 6] [--only patients,rate,commits,days]

Each row is a data dir of its own in one Java machine, warm after a first one that does not count: the same kind of
batch again and again through the flow's own ``write_batch``, ten seconds of messages of six signals each. Processor
time is that of the Java machine; medians of the later half. ``commits`` lets the tables come to so many commits first,
by batches of ten messages, ``days`` lets them hold so many days of a message an hour of every patient. What the heap
still holds after a collection, and what is resident, tells whether a machine that has made so many batches keeps
something of each. Nothing else should run on the machine.
"""

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse import delta
from lakehouse.datadir import DataDir
from lakehouse.pipeline import OBSERVATION
from lakehouse.session import build_session
from lakehouse.tables import TABLES
from lakehouse.topics import VITALS
from streaming import observation
from streaming.application import JAVA_OPTIONS
from streaming.config import StreamConfig
from wardhouse.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
SIGNALS = (
    ("8867-4", "/min", 50, 120),
    ("9279-1", "/min", 10, 25),
    ("59408-5", "%", 90, 100),
    ("8480-6", "mm[Hg]", 90, 160),
    ("8462-4", "mm[Hg]", 50, 90),
    ("8310-5", "Cel", 36, 39),
)
SECONDS = 10
"""Of messages a batch, as the live flow triggers."""


@dataclass(frozen=True)
class Case:
    """One row: ``rate`` in messages a second; what the tables have before it."""

    name: str
    patients: int = 1_000
    rate: int = 1_000
    commits: int = 0
    days: int = 0


CASES = {
    "patients": tuple(Case(f"{n:,} patients", patients=n) for n in (100, 1_000, 10_000, 50_000)),
    "rate": tuple(Case(f"{n:,} messages/s", rate=n) for n in (10, 100, 1_000, 4_000)),
    "commits": tuple(Case(f"after {n} batches", commits=n) for n in (1, 100, 500)),
    "days": tuple(Case(f"{n} days in the tables", days=n) for n in (1, 10, 30)),
}


class Feed:
    """Batches of messages as files, each at offsets and instants of its own."""

    def __init__(self, spark: "SparkSession", folder: Path, patients: int) -> None:
        self._spark, self._folder, self._patients = spark, folder, patients
        self._chance = random.Random(7)
        self._sent = 0
        self._batches = 0
        folder.mkdir()

    def land(self, config: StreamConfig, count: int, begin: datetime, seconds: float) -> tuple[float, float]:
        """Wall and processor seconds to land so many messages, spread evenly over an interval and all patients."""
        file = self._folder / f"{self._batches}.parquet"
        pq.write_table(pa.Table.from_pylist(list(self._records(count, begin, seconds)), schema=_RECORD), file)
        records = self._spark.read.parquet(str(file))
        java, began = _java_s(), time.monotonic()
        observation.write_batch(OBSERVATION, config)(records, self._batches)
        self._batches += 1
        return time.monotonic() - began, _java_s() - java

    def _records(self, count: int, begin: datetime, seconds: float) -> Iterator[dict[str, object]]:
        for number in range(count):
            at = begin + timedelta(seconds=seconds * number / count)
            patient = f"growth/{self._sent % self._patients}"
            yield {
                "topic": VITALS.name,
                "partition": 0,
                "offset": self._sent,
                "received_at": at,
                "key": patient.encode(),
                "value": orjson.dumps(
                    {
                        "schema_version": 1,
                        "message_id": f"m{self._sent}",
                        "patient_id": patient,
                        "device_id": "monitor",
                        "source": "growth",
                        "observed_at": at.isoformat(),
                        "status": "final",
                        "observations": [
                            {"code": code, "value": self._chance.uniform(low, high), "unit": unit}
                            for code, unit, low, high in SIGNALS
                        ],
                    }
                ),
            }
            self._sent += 1


_RECORD = pa.schema(
    {
        "topic": pa.string(),
        "partition": pa.int32(),
        "offset": pa.int64(),
        "received_at": pa.timestamp("us", tz="UTC"),
        "key": pa.binary(),
        "value": pa.binary(),
    }
)


@dataclass(frozen=True)
class Cost:
    """Medians of a batch, seconds, and what Java holds after them, MB: ``live`` of its heap, ``resident`` in all."""

    wall: float
    cpu: float
    live: float
    resident: float


def _java() -> psutil.Process:
    return next(each for each in psutil.Process().children(recursive=True) if each.name() == "java")


def _java_s() -> float:
    return float(sum(_java().cpu_times()[:2]))


def _live_mb(spark: "SparkSession") -> float:
    lang = spark._jvm.java.lang  # type: ignore[union-attr]
    lang.System.gc()
    runtime = lang.Runtime.getRuntime()
    return float(runtime.totalMemory() - runtime.freeMemory()) / 1e6


def measure(spark: "SparkSession", case: Case, batches: int, folder: Path) -> Cost:
    """The later half of so many batches, one after the other."""
    data = DataDir(folder / "ward")
    config = StreamConfig(data, "", Settings().topics(), Settings().jars, cores=2, memory="2g")
    for table in TABLES:
        delta.create(spark, table, data.table(table))
    feed = Feed(spark, folder / "messages", case.patients)
    for day in range(case.days):
        feed.land(config, case.patients * 24, BEGIN - timedelta(days=case.days - day), 86_400)
    for _ in range(case.commits):
        feed.land(config, 10, BEGIN - timedelta(seconds=SECONDS), SECONDS)
    count = case.rate * SECONDS
    taken = [feed.land(config, count, BEGIN + timedelta(seconds=SECONDS * n), SECONDS) for n in range(batches)]
    later = taken[batches // 2 :]
    wall, cpu = (statistics.median(column) for column in zip(*later, strict=True))
    return Cost(wall, cpu, _live_mb(spark), _java().memory_info().rss / 1e6)


def main() -> None:
    """Measure and print, a row at a time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=6, help="of each row")
    parser.add_argument("--only", default=",".join(CASES), help="which rows, by commas")
    given = parser.parse_args()
    spark = build_session("growth", Settings().jars, memory="2g", java_options=JAVA_OPTIONS)
    asked = [case for name in given.only.split(",") for case in CASES[name]]
    print("| | wall s a batch | CPU s a batch | CPU ms a message | live heap, MB | resident, MB |", flush=True)
    print("|---|---|---|---|---|---|", flush=True)
    for number, case in enumerate([replace(asked[0], name="(warming up)"), *asked]):
        with tempfile.TemporaryDirectory() as folder:
            cost = measure(spark, case, given.batches, Path(folder))
        if number:
            a_message = 1000 * cost.cpu / (case.rate * SECONDS)
            print(f"| {case.name} | {cost.wall:.2f} | {cost.cpu:.2f} | {a_message:.2f} ", end="")
            print(f"| {cost.live:,.0f} | {cost.resident:,.0f} |", flush=True)
    print(f"load average at the end: {os.getloadavg()[0]:.1f}")
    spark.stop()


if __name__ == "__main__":
    main()
