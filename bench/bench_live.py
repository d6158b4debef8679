"""The whole stack on this machine: alert latency, freshness of bronze and gold, lag, memory and processor time.

Runs ``ward up`` with the simulator in a temporary data dir and prints its figures beside the goals: ``python -m
bench live --rate 1000 --duration 11m``. The first minute is warm-up and does not count for latencies. Run it
with nothing else on the machine.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from alerting.pack import load
from bench.bench_notify import receive
from wardhouse.operations import OPERATIONS

WARD = Path(sys.executable).parent / "ward"

GOALS: tuple[tuple[str, str, float], ...] = (
    ("alert_latency_warm_ms", "p50", 50),
    ("alert_latency_warm_ms", "p99", 100),
    ("alert_latency_warm_ms", "p999", 300),
    ("evaluation_latency_warm_ms", "p50", 50),
    ("evaluation_latency_warm_ms", "p99", 100),
    ("evaluation_latency_warm_ms", "p999", 300),
    ("bronze_latency_warm_ms", "p95", 15_000),
    ("gold_latency_warm_ms", "p95", 90_000),
    ("webhook_latency_ms", "p99", 1_000),
)
"""Goals at 1,000 messages/s of six signals each from 1,000 patients, on two cores with broker and simulator on them."""

SLOW_RATE, SLOW_GOLD_MS = 100, 30_000
"""At so few messages a second gold is to be fresher."""


def run(rate: int, patients: int, duration: str, data: Path, *more: str) -> dict[str, Any]:
    """One run of the stack, with ``more`` given to ``ward up``; its report, with how long a webhook took."""
    report = data / "report.json"
    arrived: dict[str, float] = {}
    caused: dict[str, int] = {}
    webhook = receive(arrived, caused)
    channel = {"urls": [f"json://127.0.0.1:{webhook.server_port}/"], "per_minute": 6000}
    file = data / "channels.json"
    names = (*load("adult").channels, OPERATIONS)
    file.write_text(json.dumps({"channels": dict.fromkeys(names, channel)}), encoding="utf-8")
    command: list[str | Path] = [
        WARD,
        "up",
        "--data-dir",
        data / "ward",
        "--broker-port",
        "0",
        "--report",
        report,
        "--duration",
        duration,
        "--channels",
        file,
    ]
    subprocess.run([*command, "--rate", str(rate), "--patients", str(patients), *more], check=True)
    webhook.shutdown()
    took = sorted(arrived[name] - at for name, at in caused.items())
    p50, p99 = (float(np.percentile(took, q)) if took else None for q in (50, 99))
    told = {"p50": p50, "p99": p99, "max": took[-1] if took else None, "count": len(took), "arrived": len(arrived)}
    return {**json.loads(report.read_text(encoding="utf-8")), "webhook_latency_ms": told}


def goals(rate: int) -> tuple[tuple[str, str, float], ...]:
    """Figure, quantile and goal in ms."""
    gold = SLOW_GOLD_MS if rate <= SLOW_RATE else None
    return tuple((name, q, gold if gold and name.startswith("gold") else goal) for name, q, goal in GOALS)


def show(report: dict[str, Any], rate: int) -> None:
    """Print each goal with what was measured, then what has no goal."""
    for name, quantile, goal in goals(rate):
        value = report[name][quantile]
        verdict = "no figure" if value is None else "met" if value <= goal else "MISSED"
        print(f"{name:28} {quantile:5} {value if value is not None else '-':>10} goal {goal:>8g}  {verdict}")
    for name in (
        "bronze_latency_ms",
        "gold_latency_ms",
        "webhook_latency_ms",
        "lost",
        "duplicated",
        "largest_lag",
        "cold_start_s",
        "first_alert_s",
        "peak_rss_mb",
        "rss_mb_at_peak",
        "cores",
    ):
        print(f"{name:28} {report[name]}")
    print(f"{'cpu_s_per_million_messages':28} {report['cpu_s_per_million_messages']}")


def main() -> None:
    """Run and print; ``--out`` keeps the whole report."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--rate", type=int, default=1000, help="messages a second")
    options.add_argument("--patients", type=int, default=1000)
    options.add_argument("--duration", default="11m", help="with the first minute as warm-up")
    options.add_argument("--out", type=Path, help="write the report to this file")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = run(given.rate, given.patients, given.duration, Path(folder))
    show(report, given.rate)
    if given.out:
        given.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
