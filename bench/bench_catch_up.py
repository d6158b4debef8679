"""Catching up: how fast bronze and silver, with gold beside them, take a backlog that has piled up in Kafka.

Fills a broker of its own with simulated messages while no stream runs, then starts ``ward stream lakehouse`` and
follows its checkpoints until everything is in gold. Prints one JSON object: ``python -m bench catch_up``. Run it
with nothing else on the machine.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.bench_live import WARD
from bench.bench_simulator import options
from lakehouse import progress
from lakehouse.datadir import DataDir
from lakehouse.pipeline import DEVICE_MESSAGE, OBSERVATION
from streaming.simulator.sender import Limits, run
from wardhouse.broker import Broker
from wardhouse.settings import Settings
from wardhouse.status import wait_until_stored
from wardhouse.topics import end_offsets, ensure

GOAL = 4_000
"""Messages a second of six signals each, on two cores."""
LIMIT_S = 900.0


def pile_up(data: DataDir, broker: Broker, patients: int, messages: int) -> None:
    """Fill the topics with simulated messages, as fast as they are taken."""
    ensure(broker.address)
    # A rate beyond reach: the sender is always behind.
    run(
        options(1_000_000, patients),
        broker.address,
        data.root / "truth",
        data.root / "sent",
        limits=Limits(messages=messages),
    )


def catch_up(data: DataDir, broker: Broker, patients: int, messages: int) -> dict[str, Any]:
    """Fill the topics, start the lakehouse application, wait until all of it is stored."""
    pile_up(data, broker, patients, messages)
    ends = end_offsets(broker.address, Settings().topics().values())
    began = time.monotonic()
    stream = subprocess.Popen(
        [WARD, "stream", "lakehouse", "--data-dir", data.root],
        env={**os.environ, "KAFKA_BOOTSTRAP_SERVERS": broker.address},
        stderr=subprocess.DEVNULL,
    )
    try:
        stored = wait_until_stored(Settings(), data, ends, LIMIT_S)
        seconds = time.monotonic() - began
    finally:
        stream.terminate()
        stream.wait()
    return {
        "messages": messages,
        "stored": stored,
        "seconds": round(seconds, 1),
        "messages_per_s": round(messages / seconds),
        "goal": GOAL,
        "batches": {flow.name: batches(data.progress(flow.name)) for flow in (DEVICE_MESSAGE, OBSERVATION)},
    }


def batches(path: Path) -> list[dict[str, Any]]:
    """Records, seconds and records a second of each batch of a flow."""
    found = [line for line in progress.read(path) if line.get("rows")]
    return [
        {
            "records": line["rows"],
            "seconds": round(line["duration_ms"] / 1000, 1),
            "records_per_s": round(line["rows"] / line["duration_ms"] * 1000),
        }
        for line in found
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=600_000, help="the backlog; ten minutes at 1,000 a second")
    parser.add_argument("--patients", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        data = DataDir(Path(name))
        with Broker(data, Settings().jars.resolve()) as broker:
            print(json.dumps(catch_up(data, broker, given.patients, given.messages), indent=2))


if __name__ == "__main__":
    main()
