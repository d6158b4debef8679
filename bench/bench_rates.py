"""The whole stack at several rates, one after the other: latency of alerts, processor time, and whether it keeps up.

``python -m bench rates --rates 100,500,1000,2000,4000 --duration 6m`` runs ``ward up`` with its simulator once a rate,
as ``bench live`` does once; ``--no-realtime`` has the alert flow run in micro-batches instead. The first minute is
warm-up. A flow keeps up where its lag grows by less than a hundredth of the rate. Run it with nothing else on the
machine.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench import bench_live
from lakehouse.pipeline import ALERT_LIMITS, ALERT_ROUTER, DEVICE_MESSAGE, OBSERVATION

QUANTILES = ("p50", "p90", "p99", "p999", "max")
GROWTH_SHARE = 0.01
_ALERTS_KEEP_UP_MS = 1_000
_OF_ALERTS = (ALERT_LIMITS.name, ALERT_ROUTER.name)
_OF_TABLES = (DEVICE_MESSAGE.name, OBSERVATION.name)


def keeps_up(report: dict[str, Any], rate: int, flows: Iterable[str]) -> bool:
    """Whether no flow fell behind by more than a hundredth of the rate."""
    growth = (report["lag_growth_per_s"].get(flow) for flow in flows)
    return all(one is not None and one <= GROWTH_SHARE * rate for one in growth)


def row(report: dict[str, Any], rate: int, *, realtime: bool) -> str:
    """One rate as a row of the page's table."""

    def spread(name: str) -> str:
        found = report[name]
        return " | ".join("-" if found[q] is None else f"{found[q]:.0f}" for q in QUANTILES)

    cpu = report["cpu_s_per_million_messages"]
    busy = sum(report["cores"].values())
    kept = " | ".join("yes" if keeps_up(report, rate, flows) else "no" for flows in (_OF_ALERTS, _OF_TABLES))
    return (
        f"| {rate:,} | {'real-time' if realtime else 'micro-batch'} | {spread('evaluation_latency_warm_ms')}"
        f" | {spread('alert_latency_warm_ms')} | {kept} | {busy:.2f}"
        f" | {cpu.get('stream-alerts', 0):.0f} | {cpu.get('router', 0):.0f} | {cpu.get('stream-lakehouse', 0):.0f}"
        f" | {sum(cpu.values()):.0f} | {report['lost']}, {report['duplicated']} |"
    )


def heading() -> str:
    """The head of the table."""
    of = [f"{name} {q}" for name in ("evaluation", "alert") for q in QUANTILES]
    names = (
        *("messages/s", "mode", *of, "alerts keep up", "tables keep up", "cores"),
        *("CPU s per million: alert flow", "router", "lakehouse", "all", "lost, doubled"),
    )
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}"


def main() -> None:
    """Run every rate, a row each; ``--out`` keeps the reports."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--rates", default="100,500,1000,2000,4000", help="messages a second, by commas")
    options.add_argument("--patients", type=int, default=1000)
    options.add_argument("--duration", default="6m", help="of each, with the first minute as warm-up")
    options.add_argument("--no-realtime", action="store_true", help="the alert flow in micro-batches")
    options.add_argument("--out", type=Path, help="write the reports to this file, after every rate")
    given = options.parse_args()
    reports: dict[int, dict[str, Any]] = {}
    print(heading(), flush=True)
    for rate in (int(text) for text in given.rates.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            more = ("--no-realtime",) if given.no_realtime else ()
            reports[rate] = bench_live.run(rate, given.patients, given.duration, Path(folder), *more)
        print(row(reports[rate], rate, realtime=not given.no_realtime), flush=True)
        print(f"load average {os.getloadavg()[0]:.1f}; lag growth {reports[rate]['lag_growth_per_s']}", flush=True)
        if given.out:
            given.out.write_text(json.dumps(reports, indent=2) + "\n", encoding="utf-8")
    for flows, what in ((_OF_ALERTS, "alerts"), (_OF_TABLES, "tables")):
        kept = [rate for rate, report in reports.items() if keeps_up(report, rate, flows)]
        print(f"highest rate at which {what} keep up: {max(kept, default='none of these')}")
    quick = [
        rate for rate, one in reports.items() if (one["alert_latency_warm_ms"]["p99"] or 1e9) <= _ALERTS_KEEP_UP_MS
    ]
    print(f"highest rate with p99 of alerts within a second: {max(quick, default='none of these')}")


if __name__ == "__main__":
    main()
