"""Other engines beside this one: the same messages, limits and broker; latency, processor time, memory, highest rate.

    python -m bench peers [--seconds 60] [--only quixstreams,spark] [--jobs alerts,whole] [--out FILE.json]

Each engine runs in an environment of its own, which the first run makes from the package index. The run ends by itself;
the long form, for a quiet machine, is ``--seconds 300``. A ratio is an engine's figure to ours of the same run: above 1
ours is better; where ours is worse the figure is named as lost.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from bench.peer_environments import CACHE, NotInstalled, made, version
from bench.peer_run import OURS, Figures, Job, Load, Messages, measure, prepare

PEERS = {
    "quixstreams": "quixstreams",
    "bytewax": "bytewax",
    "pathway": "pathway",
    "faust": "faust-streaming",
    "flink": "apache-flink",
}
"""Distributions by the name of the program."""
ENGINES = (OURS, *PEERS, "spark")
JOBS: tuple[Job, ...] = ("alerts", "whole")
RESULTS = Path(__file__).parent / "results" / "peers.json"
COMPARED = ("p50", "p99", "p99.9", "CPU", "memory", "rate")
COLUMNS = (
    "",
    *("p50 ms", "p90", "p99", "p99.9", "max"),
    *("CPU s per million", "MB", "highest rate/s"),
    *("alerts", "missing", "doubled", "rows missing", "rows doubled"),
    *("p50, p99, CPU to ours", "ours lost at"),
)
LITTLE = 1.05
"""Two figures that differ by less are equal."""
DAY_S = 86_400


def label(name: str) -> str:
    """An engine with its version."""
    if name in PEERS:
        return f"{name} {version(name, PEERS[name])}"
    return "Wardhouse" if name == OURS else "plain Spark micro-batch"


def figures_of(cell: Figures) -> dict[str, float | None]:
    """What is compared with ours, by name; smaller is better but for the rate."""
    latency = {name: cell.latency_ms.get(name) for name in ("p50", "p99", "p99.9")}
    return {**latency, "CPU": cell.cpu_s_per_million, "memory": cell.rss_mb, "rate": cell.highest_rate}


def lost(ours: Figures, peer: Figures) -> list[str]:
    """Names of the figures in which ours is worse."""
    mine, theirs = figures_of(ours), figures_of(peer)
    found = []
    for name in COMPARED:
        own, other = mine[name], theirs[name]
        if own is None or other is None:
            continue
        worse = own * LITTLE < other if name == "rate" else own > other * LITTLE
        if worse:
            found.append(name)
    return found


def row(cell: Figures, ours: Figures | None) -> tuple[str, ...]:
    """A line of the table."""
    if cell.reason:
        return (label(cell.name), f"no figures: {cell.reason}", *[""] * (len(COLUMNS) - 2))
    compared = ours is not None and not ours.reason and ours.name != cell.name
    figures = [cell.latency_ms.get(name) for name in ("p50", "p90", "p99", "p99.9", "max")]
    figures += [cell.cpu_s_per_million, cell.rss_mb, cell.highest_rate]
    counts = [cell.expected, cell.missing, cell.doubled, cell.rows_missing, cell.rows_doubled]
    against = ("", "")
    if compared and ours is not None:
        mine, theirs = figures_of(ours), figures_of(cell)
        ratios = (_ratio(theirs[name], mine[name]) for name in ("p50", "p99", "CPU"))
        against = (", ".join(ratios), ", ".join(lost(ours, cell)) or "nothing")
    return (label(cell.name), *(_text(value) for value in (*figures, *counts)), *against)


def batch(messages: Messages, count: int, folder: Path) -> str:
    """What a nightly load of the same messages costs: DuckDB in a process of its own over a file of them."""
    file, out = folder / "day.jsonl", folder / "breaches.parquet"
    with messages.file.open("rb") as lines, file.open("wb") as plain:
        plain.writelines(line.split(b"\t", 1)[1] for _, line in zip(range(count), lines, strict=False))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "bench.peers.with_duckdb", str(file), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    right = int(done.stdout) == messages.breaches[count]
    return (
        f"batch: a day's file loaded by DuckDB at its end: an alert waits {DAY_S // 2} s in the mean, {DAY_S} at most;"
        f" {cpu / count * 1e6:.1f} CPU s per million messages ({count} messages);"
        f" breaches {'as they must be' if right else 'WRONG: ' + done.stdout.strip()}"
    )


def table(job: Job, cells: list[Figures]) -> str:
    """The cells of one job, in Markdown."""
    ours = next((cell for cell in cells if cell.name == OURS), None)
    lines = [" | ".join(COLUMNS), " | ".join(["---"] * len(COLUMNS)), *(" | ".join(row(cell, ours)) for cell in cells)]
    title = "alerts alone" if job == "alerts" else "the whole job: alerts, and every message in a Delta table"
    return "\n".join([title, "", *(f"| {line} |" for line in lines), ""])


def notes(cells: list[Figures]) -> list[str]:
    """What a table does not hold."""
    found = [
        f"{label(cell.name)}, {cell.job}: CPU by process {cell.cpu_by_process}; search ended at {cell.search_ended}"
        for cell in cells
        if not cell.reason
    ]
    found += [
        f"{label(cell.name)}, {cell.job}: its router's transitions on `alerts`, ms {cell.transition_latency_ms}"
        for cell in cells
        if cell.transition_latency_ms
    ]
    return found


def main() -> int:
    """Measure and print; 1 where an engine that ran gave alerts or rows that are missing or doubled."""
    given = _options()
    load = Load(given.rate, given.warm_up, given.seconds, given.step, given.most)
    try:
        made("quixstreams")
    except NotInstalled as error:
        print(f"the sender's environment (quixstreams) cannot be made: {error}", file=sys.stderr)
        return 2
    cells: list[Figures] = []
    with tempfile.TemporaryDirectory() as name:
        messages = prepare(load, Path(name) / "messages.tsv")
        for job in given.jobs:
            of_job: list[Figures] = []
            for engine in given.only:
                print(f"{job}: {label(engine)}", file=sys.stderr, flush=True)
                of_job.append(measure(engine, job, load, messages))
                _keep(given.out, load, [*cells, *of_job])
            cells += of_job
            print(table(job, of_job), flush=True)
        print(*notes(cells), batch(messages, min(load.messages, 1_000_000), Path(name)), sep="\n")
    print(f"load {asdict(load)}; load average {os.getloadavg()}; written to {given.out}")
    return 1 if any(cell.missing or cell.doubled or cell.rows_missing or cell.rows_doubled for cell in cells) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=1000, help="messages a second of the measured load")
    parser.add_argument("--warm-up", type=int, default=45, help="seconds before it; Java compiles in them")
    parser.add_argument("--seconds", type=int, default=60, help="of each cell; 300 is the long form")
    parser.add_argument("--step", type=int, default=10, help="seconds of each rate of the search")
    parser.add_argument("--most", type=int, default=16_000, help="highest rate of the search; 0 for none")
    parser.add_argument("--only", type=_among(ENGINES), default=list(ENGINES), help=f"of {','.join(ENGINES)}")
    parser.add_argument("--jobs", type=_among(JOBS), default=list(JOBS), help=f"of {','.join(JOBS)}")
    parser.add_argument("--out", type=Path, default=RESULTS, help=f"JSON; environments are kept in {CACHE}")
    return parser.parse_args()


def _among(names: tuple[str, ...]):  # type: ignore[no-untyped-def]
    def chosen(text: str) -> list[str]:
        wanted = text.split(",")
        if unknown := sorted(set(wanted) - set(names)):
            raise argparse.ArgumentTypeError(f"no {', '.join(unknown)}: there are {', '.join(names)}")
        return [name for name in names if name in wanted]

    return chosen


def _keep(file: Path, load: Load, cells: list[Figures]) -> None:
    """Write what there is so far: a long run that is interrupted has not been for nothing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "load_average": os.getloadavg()}
    versions = {name: version(name, distribution) for name, distribution in PEERS.items()}
    kept = {"load": asdict(load), "machine": machine, "versions": versions, "cells": [asdict(cell) for cell in cells]}
    file.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def _ratio(value: float | None, ours: float | None) -> str:
    return f"{value / ours:.2f}" if value is not None and ours else "-"


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
