"""The notifier alone: how long a notification takes to a webhook, at a steady rate.

It starts a broker of its own on a free port of the loopback address, in a temporary folder, and takes it away again.

    python -m bench notify [--rate 20] [--seconds 60]

Latency is receipt by the webhook (this process, same clock) minus the broker's timestamp of the notification. Every
notification is of high priority, so that flood control leaves each on its own.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from kafka import KafkaProducer

from alerting.notification import Notification, Told, encode, key
from lakehouse.datadir import DataDir
from lakehouse.progress import last
from lakehouse.topics import ALERT_NOTIFICATION, TOPICS
from wardhouse.broker import Broker
from wardhouse.component import read_state
from wardhouse.settings import Settings
from wardhouse.topics import ensure

TOLD = Told(
    alert_id="a" * 32,
    sequence=0,
    rule_id="spo2-low",
    title="SpO2 low",
    priority="high",
    category="physiological",
    state="active",
    since=1772366400000,
    kind="limit",
    code="59408-5",
    value=84.0,
    limit_value=90.0,
)


def receive(arrived: dict[str, float], caused: dict[str, int] | None = None) -> ThreadingHTTPServer:
    """A webhook that keeps when each notification arrived, and when the broker had the message that caused it.

    Both in epoch ms; one that a clock caused has none of the second.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            payload = orjson.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = payload.get("notification_id")
            if name is not None:
                arrived.setdefault(name, time.time() * 1000)
            if caused is not None and payload.get("message_received_at") is not None:
                caused[payload["notification_id"]] = payload["message_received_at"]
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Not among the figures."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def send(servers: str, count: int, rate: float) -> dict[str, int]:
    """Send at a steady rate; the broker's timestamp of each notification (epoch ms)."""
    producer = KafkaProducer(bootstrap_servers=servers, linger_ms=0)
    started, futures = time.monotonic(), {}
    for number in range(count):
        time.sleep(max(started + number / rate - time.monotonic(), 0))
        one = Notification(
            notification_id=f"n{number}",
            patient_id=f"hospital/{number % 50}",
            reason="raised",
            step=0,
            priority="high",
            channels=("pager",),
            at=0,
            pack="adult@1",
            alerts=(TOLD,),
            location_unit="ICU",
            location_bed="3",
        )
        futures[one.notification_id] = producer.send(ALERT_NOTIFICATION.name, key=key(one), value=encode(one))
    came = {name: future.get(timeout=10).timestamp for name, future in futures.items()}
    producer.close()
    return came


def start(data: DataDir, servers: str, webhook: int) -> "subprocess.Popen[bytes]":
    """``ward notify`` as a process of its own, ready."""
    file = data.root.parent / "channels.json"
    file.write_text(json.dumps({"channels": {"pager": {"urls": [f"json://127.0.0.1:{webhook}/"]}}}))
    command = [sys.executable, str(Path(sys.executable).parent / "ward"), "notify", "--channels", str(file)]
    environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": servers}
    process = subprocess.Popen([*command, "--data-dir", str(data.root)], env=environment)
    while (state := read_state(data, "notify")) is None or state.state != "ready":
        if process.poll() is not None:
            raise RuntimeError("the notifier did not start")
        time.sleep(0.1)
    return process


def measure(data: DataDir, servers: str, rate: float, seconds: float) -> dict[str, Any]:
    """One run: latencies, and the cores that the notifier takes."""
    arrived: dict[str, float] = {}
    server = receive(arrived)
    process = start(data, servers, server.server_port)
    before, began = _cpu_of(process.pid), time.monotonic()
    came = send(servers, int(rate * seconds), rate)
    used, elapsed = _cpu_of(process.pid) - before, time.monotonic() - began
    while len(arrived) < len(came) and time.monotonic() - began < elapsed + 30:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    server.shutdown()
    latency = np.array([arrived[name] - at for name, at in came.items() if name in arrived])
    p50, p95, p99 = np.percentile(latency, [50, 95, 99])
    told = last(data.progress("alert_notify")) or {}
    return {
        "rate": rate,
        "notifications": len(came),
        "arrived": len(arrived),
        "recorded": told.get("delivered"),
        "latency_ms": {
            "p50": round(p50, 1),
            "p95": round(p95, 1),
            "p99": round(p99, 1),
            "max": round(float(latency.max()), 1),
        },
        "cores": round(used / elapsed, 3),
        "cpu_ms_per_notification": round(used / len(came) * 1000, 2),
        "load_average": os.getloadavg()[0],
    }


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run it and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = DataDir(Path(folder) / "ward")
        with Broker(data, Settings().jars.resolve()) as broker:
            ensure(broker.address, TOPICS)
            print(json.dumps(measure(data, broker.address, options.rate, options.seconds), indent=2))


if __name__ == "__main__":
    main()
