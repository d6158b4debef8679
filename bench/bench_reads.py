"""Ways out of the gateway over a hospital's month: how long each takes, beside the same question put plainly.

    python -m bench reads [--patients 1000] [--days 29] [--hours 23] [--minutes 60] [--requests 100] [--data-dir DIR]

It makes the tables in a temporary folder (259 million minutes by default, 2 GB), or once in ``--data-dir``, where it
finds them again. A broker and ``ward gateway`` run as processes of their own, and one client asks one request after
the other. The peer opens the table for each request and asks DuckDB over deltalake's dataset, in this process.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import orjson
from kafka import KafkaProducer

from bench import lake
from bench.gateway_process import cpu_seconds, gateway
from lakehouse import reader
from lakehouse.datadir import DataDir
from lakehouse.tables import VITAL_SIGN_MINUTE
from lakehouse.topics import ALERT_EVALUATIONS, TOPICS
from wardhouse.broker import Broker
from wardhouse.settings import Settings
from wardhouse.topics import ensure

GOALS_MS = {"latest vitals of a patient": 50, "series, a day by minute": 200}

_PLAIN = """
SELECT code, unit, minute, count, min, mean, max, first, last FROM minutes
WHERE patient_id = $patient AND minute >= $start AND minute < $stop ORDER BY code, minute
"""


def fill_cache(servers: str, patients: int) -> None:
    """An evaluation of each patient, from which the gateway knows latest vitals."""
    producer = KafkaProducer(bootstrap_servers=servers)
    now = int(time.time() * 1000)
    for number in range(patients):
        evaluation: dict[str, Any] = {
            "message_id": f"m{number}",
            "received_at": now,
            "patient_id": f"sim/{number}",
            "device_id": "monitor",
            "location_unit": f"unit-{number % 40}",
            "observed_at": now,
            "status": "final",
            "observations": [{"code": code, "value": 80.0, "band": "normal"} for code in lake.CODES],
        }
        producer.send(ALERT_EVALUATIONS.name, orjson.dumps(evaluation), evaluation["patient_id"].encode())
    producer.close()


def questions(patients: int, end: datetime) -> dict[str, Callable[[int], str]]:
    """The addresses asked for, by what they are, each for a patient's number."""

    def of_patient(path: str, **parameters: Any) -> Callable[[int], str]:
        query = f"?{urlencode(parameters)}" if parameters else ""
        return lambda n: f"/api/patients/sim/{n % patients}/{path}{query}"

    def span(back: timedelta, length: timedelta, resolution: str) -> dict[str, str]:
        start = end - back
        return {"from": start.isoformat(), "to": (start + length).isoformat(), "resolution": resolution}

    day, last = timedelta(days=1), f"/api/patients?{urlencode({'since': (end - timedelta(days=1)).isoformat()})}"
    return {
        "latest vitals of a patient": of_patient("vitals/latest"),
        "latest vitals of a unit": lambda n: f"/api/vitals/latest?unit=unit-{n % 40}",
        "series, a day by minute": of_patient("vitals/series", **span(8 * day, day, "minute")),
        "series, the last day by minute": of_patient("vitals/series", **span(day, day, "minute")),
        "series, a signal's last day": of_patient("vitals/series", code="8867-4", **span(day, day, "minute")),
        "series, 30 days by hour": of_patient("vitals/series", **span(30 * day, 30 * day, "hour")),
        "patients": lambda _: last,
        "stays of a patient": of_patient("encounters"),
        "scores of a patient": of_patient("scores"),
        "scores of everybody": lambda _: "/api/scores",
        "alerts of a unit": lambda n: f"/api/alerts?state=open&unit=unit-{n % 40}",
        "alerts": lambda _: "/api/alerts",
    }


def ask(port: int, address: Callable[[int], str], requests: int) -> tuple[list[float], int]:
    """Milliseconds of each request on one connection, and the bytes of the last answer. Raises for any refusal."""
    connection = HTTPConnection("127.0.0.1", port)
    took, size = [], 0
    for number in range(requests):
        began = time.perf_counter()
        connection.request("GET", address(number * 83))
        answer = connection.getresponse()
        size = len(body := answer.read())
        took.append((time.perf_counter() - began) * 1000)
        if answer.status != 200:
            raise RuntimeError(f"{address(number)}: {answer.status} {body[:200]!r}")
    connection.close()
    return took, size


def plain(data: DataDir, patients: int, start: datetime, requests: int) -> list[float]:
    """Milliseconds of a day's series by minute, each time from the table's log to JSON."""
    import duckdb

    took = []
    for number in range(requests):
        began = time.perf_counter()
        dataset = reader.open_table(data, VITAL_SIGN_MINUTE).to_pyarrow_dataset()
        with duckdb.connect(":memory:", config={"threads": 2}) as database:
            database.register("minutes", dataset)
            params = {"patient": f"sim/{number * 83 % patients}", "start": start, "stop": start + timedelta(days=1)}
            orjson.dumps(database.sql(_PLAIN, params=params).to_arrow_table().to_pylist())
        took.append((time.perf_counter() - began) * 1000)
    return took


def figures(took: list[float]) -> dict[str, float]:
    """Median, 95th percentile and largest."""
    p50, p95 = np.percentile(took, [50, 95])
    return {"p50_ms": round(float(p50), 1), "p95_ms": round(float(p95), 1), "max_ms": round(max(took), 1)}


def measure(data: DataDir, servers: str, patients: int, requests: int, end: datetime) -> dict[str, Any]:
    """Every question, after three that are not counted; the gateway's processor time a request."""
    found: dict[str, Any] = {}
    with gateway(data, servers) as (port, process):
        fill_cache(servers, patients)
        time.sleep(3)  # the cache takes up new partitions every two seconds
        for name, address in questions(patients, end).items():
            ask(port, address, 3)
            before = cpu_seconds(process)
            took, size = ask(port, address, requests)
            cpu = (cpu_seconds(process) - before) * 1000 / requests
            found[name] = {**figures(took), "cpu_ms": round(cpu, 1), "bytes": size, "goal_ms": GOALS_MS.get(name)}
            print(f"{name:32} {found[name]}", flush=True)
    fewer = max(requests // 10, 3)
    for name, back in (("a day by minute", 8), ("the last day by minute", 1)):
        found[f"plain: {name}"] = figures(plain(data, patients, end - timedelta(days=back), fewer))
        print(f"{'plain: ' + name:32} {found[f'plain: {name}']}", flush=True)
    return found


def main() -> None:
    """Make the tables where they are not there, and print each figure, and all as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=1000)
    parser.add_argument("--days", type=int, default=29, help="days that maintenance has been over")
    parser.add_argument("--hours", type=int, default=23, help="hours since then that the flow has joined, a file each")
    parser.add_argument("--minutes", type=int, default=60, help="minutes since then, a file each")
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--data-dir", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = DataDir((options.data_dir or Path(folder) / "ward").resolve())
        if not reader.tables_there(data):
            end = datetime.now(UTC).replace(second=0, microsecond=0)
            lake.write(data, options.patients, options.days, options.hours, options.minutes, end)
        (newest,) = reader.query(data, "SELECT max(minute) AS minute FROM gold.vital_sign_minute").to_pylist()
        table = reader.open_table(data, VITAL_SIGN_MINUTE)
        print(f"{table.to_pyarrow_dataset().count_rows()} minutes in {len(table.file_uris())} files", flush=True)
        with Broker(DataDir(Path(folder) / "broker"), Settings().jars.resolve()) as broker:
            ensure(broker.address, TOPICS)
            end = newest["minute"] + timedelta(minutes=1)
            found = measure(data, broker.address, options.patients, options.requests, end)
    print(json.dumps({**found, "load_average": os.getloadavg()}))


if __name__ == "__main__":
    main()
