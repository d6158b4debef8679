"""``ward gateway`` as a process of its own for benchmarks, and what it uses of the machine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from lakehouse.datadir import DataDir
from wardhouse.component import read_state


@contextmanager
def gateway(data: DataDir, servers: str) -> Iterator[tuple[int, psutil.Process]]:
    """The port of a gateway on a data dir, and its process; it is stopped at the end."""
    command = [str(Path(sys.executable).parent / "ward"), "gateway", "--port", "0", "--mllp-port", "0"]
    environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": servers}
    process = subprocess.Popen([*command, "--data-dir", str(data.root)], env=environment, stdout=subprocess.DEVNULL)
    try:
        while (state := read_state(data, "gateway")) is None or state.state != "ready":
            if process.poll() is not None:
                raise RuntimeError("the gateway did not start")
            time.sleep(0.1)
        assert state.address is not None  # noqa: S101 - it told that it is ready
        yield int(state.address.rpartition(":")[2]), psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def cpu_seconds(process: psutil.Process) -> float:
    """Processor time of a process so far."""
    times = process.cpu_times()
    return float(times.user + times.system)
