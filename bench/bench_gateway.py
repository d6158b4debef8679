"""Device messages into the gateway at a steady rate: how long until Kafka has acknowledged, and what it costs.

    python -m bench gateway [--seconds 60]

It starts a broker and ``ward gateway`` of its own on free ports of the loopback address, in a temporary folder. The
client is this process: each request leaves at its time on a connection of its own choice, whatever became of those
before it, and its latency counts from that time.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import psutil

from bench.gateway_process import cpu_seconds, gateway
from bench.lake import CODES
from lakehouse.datadir import DataDir
from lakehouse.topics import TOPICS
from wardhouse.broker import Broker
from wardhouse.settings import Settings
from wardhouse.topics import ensure

LOADS = {"lists of ten": (100, 10), "single posts": (300, 1)}
"""Requests a second, and messages a request: 1,000 and 300 messages/s."""

GOAL_P99_MS = 100
_CONNECTIONS = 32


def message(number: int) -> dict[str, Any]:
    """A monitor's message of six signals, as the simulator sends them."""
    return {
        "schema_version": 1,
        "message_id": f"bench/{time.time_ns()}/{number}",
        "patient_id": f"bench/{number % 1000}",
        "device_id": f"monitor-{number % 1000}",
        "source": "bench",
        "location": {"unit": "ICU", "bed": str(number % 1000)},
        "observed_at": "2026-03-01T12:00:00Z",
        "status": "final",
        "observations": [{"code": code, "value": 80.5, "unit": "/min"} for code in CODES],
    }


def request(number: int, size: int) -> bytes:
    """A whole HTTP request."""
    messages = [message(number * size + place) for place in range(size)]
    body = orjson.dumps(messages if size > 1 else messages[0])
    head = f"POST /api/iot HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


async def post(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, content: bytes) -> int:
    """Send one request and read its answer; the status."""
    writer.write(content)
    head = await reader.readuntil(b"\r\n\r\n")
    (length,) = (line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.partition(b":")[2]))
    return int(head[9:12])


async def load(port: int, rate: float, size: int, seconds: float) -> tuple[list[float], dict[int, int]]:
    """Milliseconds of each request from the time at which it was due, and how many had which status."""
    due: asyncio.Queue[tuple[float, int] | None] = asyncio.Queue()
    took: list[float] = []
    statuses: dict[int, int] = {}

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (one := await due.get()) is not None:
            at, number = one
            status = await post(reader, writer, request(number, size))
            took.append((time.perf_counter() - at) * 1000)
            statuses[status] = statuses.get(status, 0) + 1
        writer.close()

    connections = [asyncio.create_task(connection()) for _ in range(_CONNECTIONS)]
    began = time.perf_counter()
    for number in range(int(rate * seconds)):
        at = began + number / rate
        await asyncio.sleep(max(at - time.perf_counter(), 0))
        due.put_nowait((at, number))
    for _ in connections:
        due.put_nowait(None)
    await asyncio.gather(*connections)
    return took, statuses


def measure(port: int, process: psutil.Process, rate: float, size: int, seconds: float) -> dict[str, Any]:
    """One run, after three seconds that do not count."""
    asyncio.run(load(port, rate, size, 3))
    before, began = cpu_seconds(process), time.monotonic()
    took, statuses = asyncio.run(load(port, rate, size, seconds))
    used, elapsed = cpu_seconds(process) - before, time.monotonic() - began
    p50, p95, p99 = (round(float(value), 1) for value in np.percentile(took, [50, 95, 99]))
    return {
        "messages_per_s": round(len(took) * size / elapsed, 1),
        "statuses": statuses,
        "latency_ms": {"p50": p50, "p95": p95, "p99": p99, "max": round(max(took), 1), "goal_p99": GOAL_P99_MS},
        "cores": round(used / elapsed, 3),
        "cpu_s_per_million_messages": round(used / (len(took) * size) * 1e6, 1),
        "rss_mb": round(process.memory_info().rss / 1e6),
        "load_average": os.getloadavg()[0],
    }


def main() -> None:
    """Run each load and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = DataDir(Path(folder) / "ward")
        with Broker(data, Settings().jars.resolve()) as broker:
            ensure(broker.address, TOPICS)
            with gateway(data, broker.address) as (port, process):
                for name, (rate, size) in LOADS.items():
                    found = measure(port, process, rate, size, options.seconds)
                    print(json.dumps({name: found}, indent=2), flush=True)


if __name__ == "__main__":
    main()
