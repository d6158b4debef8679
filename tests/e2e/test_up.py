"""``ward up`` as a person runs it."""

import json
import signal
import time
from pathlib import Path

from lakehouse.datadir import DataDir
from tests.fixtures.stack import LONGEST_S, Up, component, processes_of, ready, wait_until


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
    # What starts while no broker answers gives up after its time, and is started once more.
    killed = {name: report["restarts"].pop(name) for name in ("stream-lakehouse", "router")}
    assert all(1 <= times <= 2 for times in killed.values()), killed
    assert report["restarts"] == {"broker": 0, "stream-alerts": 0, "simulator": 0, "verify": 0}
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
