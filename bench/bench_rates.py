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
from pathlib import Path
from typing import Any

from bench import bench_live
from lakehouse.pipeline import ALERT_LIMITS, ALERT_ROUTER, DEVICE_MESSAGE

QUANTILES = ("p50", "p90", "p99", "p999", "max")
GROWTH_SHARE = 0.01
_ALERTS_KEEP_UP_MS = 1_000
_OF_ALERTS = (ALERT_LIMITS.name, ALERT_ROUTER.name)


def alerts_keep_up(report: dict[str, Any], rate: int) -> bool:
    """Whether neither the alert flow nor the router fell behind by more than a hundredth of the rate."""
    return all(_within(report["lag_growth_per_s"].get(flow), rate) for flow in _OF_ALERTS)


def tables_keep_up(report: dict[str, Any], rate: int) -> bool:
    """Whether bronze did not fall behind, nor gold grow older, by more than a hundredth."""
    return _within(report["lag_growth_per_s"].get(DEVICE_MESSAGE.name), rate) and _within(
        report["gold_delay_growth"], 1
    )


def _within(growth: float | None, of: float) -> bool:
    return growth is not None and growth <= GROWTH_SHARE * of


def row(report: dict[str, Any], rate: int, *, realtime: bool) -> str:
    """One rate as a row of the page's table."""

    def spread(name: str) -> str:
        found = report[name]
        return " | ".join("-" if found[q] is None else f"{found[q]:.0f}" for q in QUANTILES)

    cpu = report["cpu_s_per_million_messages"]
    busy = sum(report["cores"].values())
    kept = " | ".join("yes" if keep_up(report, rate) else "no" for keep_up in (alerts_keep_up, tables_keep_up))
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
        print(f"load average {os.getloadavg()[0]:.1f}", flush=True)
        if given.out:
            given.out.write_text(json.dumps(reports, indent=2) + "\n", encoding="utf-8")
    for keep_up, what in ((alerts_keep_up, "alerts"), (tables_keep_up, "tables")):
        kept = [rate for rate, report in reports.items() if keep_up(report, rate)]
        print(f"highest rate at which {what} keep up: {max(kept, default='none of these')}")
    quick = [
        rate for rate, one in reports.items() if (one["alert_latency_warm_ms"]["p99"] or 1e9) <= _ALERTS_KEEP_UP_MS
    ]
    print(f"highest rate with p99 of alerts within a second: {max(quick, default='none of these')}")


if __name__ == "__main__":
    main()
