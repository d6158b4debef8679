"""Waveforms live: simulated patients of two leads at 250 Hz through topic, bronze, silver and rhythm.

    python -m bench waveform [--seconds 660] [--patients 50]

Prints one JSON object: processor seconds of the application (its start apart) by second of sending, what each batch of
each flow took, and what bronze and silver take on the disk by hour and lead.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa

from bench.bench_catch_up import batches
from bench.bench_live import WARD
from lakehouse import reader
from lakehouse.datadir import DataDir
from lakehouse.pipeline import flows_of
from lakehouse.table import Table
from lakehouse.tables import WAVEFORM_CHUNK, WAVEFORM_MESSAGE
from lakehouse.topics import WAVEFORM
from streaming.simulator.ecg import LEADS
from streaming.simulator.simulation import Options
from streaming.simulator.waveform import sending
from wardhouse.broker import Broker
from wardhouse.component import read_state
from wardhouse.settings import Settings
from wardhouse.topics import ensure

READY_S = 300.0
_HOUR = 3600.0


def live(data: DataDir, broker: Broker, patients: int, seconds: float) -> dict[str, Any]:
    """Send for so long beside the application, and measure it."""
    ensure(broker.address)
    stream = subprocess.Popen(
        [WARD, "stream", "waveform", "--data-dir", data.root],
        env={**os.environ, "KAFKA_BOOTSTRAP_SERVERS": broker.address},
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_ready(data)
        before, peak = _cpu_s(stream.pid), 0
        options = Options(datetime.now(UTC), patients=patients)
        with sending(options, patients, broker.address, WAVEFORM.name):
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                time.sleep(5)
                peak = max(peak, _resident(stream.pid))
            used = _cpu_s(stream.pid) - before
    finally:
        stream.terminate()
        stream.wait()
    lead_hours = _lead_hours(data)
    return {
        "patients": patients,
        "leads": patients * len(LEADS),
        "seconds": seconds,
        "share_of_a_core": round(used / seconds, 3),
        "peak_rss_mb": round(peak / 1e6),
        "silver_lead_hours": round(lead_hours, 2),
        "kb_an_hour_and_lead": {
            table.full_name: round(_size(data, table) / lead_hours / 1000)
            for table in (WAVEFORM_MESSAGE, WAVEFORM_CHUNK)
        },
        "batches": {flow.name: batches(data.progress(flow.name)) for flow in flows_of("waveform")},
    }


def _wait_until_ready(data: DataDir) -> None:
    deadline = time.monotonic() + READY_S
    while (state := read_state(data, "stream-waveform")) is None or state.state != "ready":
        if time.monotonic() > deadline:
            raise SystemExit("the application does not start")
        time.sleep(0.5)


def _processes(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _cpu_s(pid: int) -> float:
    times = [process.cpu_times() for process in _processes(pid)]
    return sum(one.user + one.system for one in times)


def _resident(pid: int) -> int:
    return sum(int(process.memory_info().rss) for process in _processes(pid))


def _lead_hours(data: DataDir) -> float:
    found = reader.query(data, "SELECT sum(samples / rate) AS seconds FROM silver.waveform_chunk").to_pylist()
    return float(found[0]["seconds"]) / _HOUR


def _size(data: DataDir, table: Table) -> int:
    files = pa.table(reader.open_table(data, table).get_add_actions(flatten=True))
    return sum(files["size_bytes"].to_pylist())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=660.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        data = DataDir(Path(name))
        with Broker(data, Settings().jars.resolve()) as broker:
            print(json.dumps(live(data, broker, given.patients, given.seconds), indent=2))


if __name__ == "__main__":
    main()
