"""A guard: a few short figures beside a committed baseline, in minutes; the exit code is 1 where one got worse.

    python -m bench quick [--write]        # --write makes what is measured the baseline

Each figure is processor time, of the best of some rounds, divided by that of a fixed loop which runs before each
round: a slower or busier machine changes both. The tolerance says how much larger than the baseline a ratio may be. It
finds a part that became half as fast again, not one that lost a tenth: for those there are the long benchmarks.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import psutil

from alerting.engine import Engine
from bench import lake
from bench.bench_router import ADULT, records
from bench.bench_simulator import options
from lakehouse import reader
from lakehouse.datadir import DataDir
from lakehouse.scores import NEWS2, score
from lakehouse.topics import VITALS
from streaming.simulator.simulation import Record, Simulation
from wardhouse.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

BASELINE = Path(__file__).with_name("baseline.json")
ROUNDS = 3
SCORES, EVALUATIONS, MESSAGES, BATCH = 2_000, 5_000, 5_000, 2_000
PATIENTS, READS = 100, 10
OF_PATIENT = "SELECT code, count(*), max(max) FROM gold.vital_sign_minute WHERE patient_id = $patient GROUP BY code"
RECORD = "topic STRING, partition INT, offset BIGINT, received_at TIMESTAMP, key BINARY, value BINARY"


@dataclass(frozen=True)
class Figure:
    """One figure: ``work`` gives processor seconds, ``count`` is how many things it does."""

    name: str
    count: int
    work: Callable[[], float]
    tolerance: float
    """How many times the baseline it may be."""


def calibration() -> float:
    """Processor seconds of a fixed mixture of what the measured parts do: arithmetic, dictionaries, JSON."""
    began = time.process_time()
    total = 0.0
    for number in range(60_000):
        record = {"id": number, "values": [number * 0.5, number % 7, None], "name": f"patient {number % 100}"}
        total += orjson.loads(orjson.dumps(record))["values"][0]
    assert total > 0  # noqa: S101 - keeps the loop's result in use
    return time.process_time() - began


def timed(work: Callable[[], Any]) -> float:
    """Processor seconds of this process for some work."""
    began = time.process_time()
    work()
    return time.process_time() - began


def scoring() -> float:
    """NEWS2 of fixed inputs."""
    inputs = [
        {
            "respiratory_rate": 8.0 + n % 20,
            "spo2": 88.0 + n % 12,
            "systolic_bp": 85.0 + n % 100,
            "heart_rate": 40.0 + n % 100,
            "temperature": 35.0 + n % 5,
        }
        for n in range(SCORES)
    ]
    return timed(lambda: [score(NEWS2, each) for each in inputs])


def evaluating() -> float:
    """The router's engine over fixed evaluations."""
    load, engine = records(EVALUATIONS, 500), Engine(ADULT)
    return timed(lambda: [engine.apply(0, value) for _, value in load])


def simulating() -> float:
    """Records of simulated patients, nothing sent."""
    made = Simulation(options(1000, 1000)).records()
    return timed(lambda: deque(islice(made, MESSAGES), maxlen=0))


def reading(data: DataDir) -> float:
    """A patient's day of minutes, as the gateway asks for it, ten times."""

    def ask() -> None:
        for number in range(READS):
            patient = f"sim/{number * 7 % PATIENTS}"
            sql = (
                "SELECT code, count(*), max(max) FROM gold.vital_sign_minute WHERE patient_id = $patient GROUP BY code"
            )
            reader.query(data, sql, {"patient": patient}, {"patient_id": (patient, patient)})

    return timed(ask)


def silver(spark: "SparkSession", file: Path) -> float:
    """Silver's transform of one batch of fixed messages: parsed, normalised, held against every constraint."""
    from streaming.observation import build

    java = next(each for each in psutil.Process().children(recursive=True) if each.name() == "java")
    before = sum(java.cpu_times()[:2])
    build(spark.read.parquet(str(file))).write.format("noop").mode("overwrite").save()
    return float(sum(java.cpu_times()[:2]) - before)


def batch(spark: "SparkSession", file: Path) -> None:
    """Write the messages of that batch."""
    made = (item for item in Simulation(options(1000, 1000)).records() if isinstance(item, Record))
    of_devices = islice((item for item in made if item.topic == VITALS.name), BATCH)
    now = datetime.now(UTC)
    rows = [(VITALS.name, 0, n, now, item.key, item.value) for n, item in enumerate(of_devices)]
    spark.createDataFrame(rows, RECORD).coalesce(1).write.parquet(str(file))


def measured(figures: tuple[Figure, ...]) -> dict[str, dict[str, float]]:
    """Ratio to the loop and things a processor second, by figure; the best round counts."""
    found = {}
    for figure in figures:
        rounds = [(calibration(), figure.work()) for _ in range(ROUNDS)]
        loop, best = min(loop for loop, _ in rounds), min(seconds for _, seconds in rounds)
        found[figure.name] = {"ratio": round(best / loop, 3), "per_cpu_s": round(figure.count / best)}
    return found


def worse(found: dict[str, dict[str, float]], baseline: dict[str, float], figures: tuple[Figure, ...]) -> list[str]:
    """Figures whose ratio is beyond the baseline's by more than their tolerance, or that have no baseline."""
    return [
        figure.name
        for figure in figures
        if figure.name not in baseline or found[figure.name]["ratio"] > baseline[figure.name] * figure.tolerance
    ]


def main() -> int:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write {BASELINE.name} instead of comparing")
    given = parser.parse_args()
    from lakehouse.session import build_session

    with tempfile.TemporaryDirectory() as name:
        data, file = DataDir(Path(name)), Path(name) / "batch.parquet"
        lake.write(data, PATIENTS, 1, 1, 10, datetime(2026, 1, 3, tzinfo=UTC))
        spark = build_session("quick", Settings().jars)
        batch(spark, file)
        figures = (
            Figure("scores", SCORES, scoring, 1.5),
            Figure("router evaluations", EVALUATIONS, evaluating, 1.5),
            Figure("simulated records", MESSAGES, simulating, 1.5),
            Figure("reads", READS, lambda: reading(data), 1.6),
            # Java compiles beside it, and when is never the same.
            Figure("silver batch, messages", BATCH, lambda: silver(spark, file), 2.0),
        )
        found = measured(figures)
        spark.stop()
    if given.write:
        BASELINE.write_text(json.dumps({name: each["ratio"] for name, each in found.items()}, indent=2) + "\n", "utf-8")
        print(f"{BASELINE} written: {found}")
        return 0
    baseline = json.loads(BASELINE.read_text(encoding="utf-8"))
    failed = worse(found, baseline, figures)
    print(f"{'':26} {'per CPU s':>10} {'ratio':>8} {'baseline':>8} {'at most':>8}")
    for figure in figures:
        each, was = found[figure.name], baseline.get(figure.name, float("nan"))
        verdict = "WORSE" if figure.name in failed else "as it was"
        most = was * figure.tolerance
        print(f"{figure.name:26} {each['per_cpu_s']:>10} {each['ratio']:>8} {was:>8} {most:>8.3f}  {verdict}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
