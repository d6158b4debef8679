import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from lakehouse.datadir import DataDir
from wardhouse.component import read_state

WARD = str(Path(sys.executable).parent / "ward")
LONGEST_S = 600.0
"""A cold start, a minute of data and the proof take a minute or two; the rest is for a machine that is busy."""

Up = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def up(data: DataDir) -> Iterator[Up]:
    """Call it with further options to start ``ward up``; whatever it leaves is a failure of the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str) -> "subprocess.Popen[str]":
        command = [WARD, "up", "--data-dir", str(data.root), "--broker-port", "0", *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
    left = processes_of(data)
    for process_left in left:
        process_left.kill()
    assert left == []


def processes_of(data: DataDir) -> list[psutil.Process]:
    """Everything that works on this data dir: each component names it on its command line or runs inside it."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        named = " ".join(process.info["cmdline"] or ())
        if str(data.root) in named or (process.info["cwd"] or "").startswith(str(data.root)):
            found.append(process)
    return found


def wait_until(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + LONGEST_S
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.2)


def ready(data: DataDir, name: str) -> Callable[[], bool]:
    def asked() -> bool:
        state = read_state(data, name)
        return state is not None and state.state == "ready"

    return asked


def component(data: DataDir, name: str) -> psutil.Process:
    state = read_state(data, name)
    assert state is not None
    return psutil.Process(state.pid)


def test_a_run_lands_everything_though_components_are_killed_and_the_broker_stands_still_for_half_a_minute(
    up: Up, data: DataDir, tmp_path: Path
) -> None:
    report_file = tmp_path / "report.json"
    process = up("--patients", "40", "--duration", "45s", "--faults", "heavy", "--report", str(report_file))
    wait_until(ready(data, "simulator"), process)
    for name in ("router", "stream-lakehouse"):
        component(data, name).kill()
    time.sleep(3)
    (broker,) = (child for child in component(data, "broker").children() if child.name() == "java")
    broker.suspend()
    time.sleep(30)
    broker.resume()
    said, _ = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 0, said
    report = json.loads(report_file.read_text())
    assert (report["lost"], report["duplicated"], report["landed"]) == (0, 0, True), said
    assert report["bronze_rows"] == report["messages_sent"] > 500
    assert report["observations"] > 4 * report["evaluations"] > 0
    assert report["quarantined"] > 0
    assert report["dead_letters"] > 0
    assert report["alerts_opened"] > 0
    assert report["restarts"] == {
        "broker": 0,
        "stream-alerts": 0,
        "stream-lakehouse": 1,
        "router": 1,
        "simulator": 0,
        "verify": 0,
    }
    for name in ("alert_latency_ms", "evaluation_latency_ms", "bronze_latency_ms", "gold_latency_ms"):
        assert report[name]["count"] > 0, name
        assert 0 < report[name]["p50"] <= report[name]["p99"] <= report[name]["max"], name
    assert report["peak_rss_mb"] > 500
    assert "router ended (killed by SIGKILL), and starts again in 1 s" in said


def test_ctrl_c_ends_a_run_cleanly_and_another_on_the_same_data_dir_is_refused(up: Up, data: DataDir) -> None:
    process = up("--patients", "5")
    wait_until(ready(data, "broker"), process)
    second = up()
    said, _ = second.communicate(timeout=60)
    assert (second.returncode, said) == (
        1,
        f"ward: up already runs on {data.root} (process {process.pid}): stop it, or use another --data-dir\n",
    )
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert processes_of(data) == []
