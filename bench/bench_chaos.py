"""The whole stack broken on purpose, again and again, under load: what is lost, and how long until it has caught up.

    python -m bench chaos [--kills 12] [--rate 100] [--only 'kill router,poison'] [--json FILE]

``ward up`` with simulator (which mixes in faults of its own), gateway and notifier, and a client that posts all the
while. Recovery counts from a kill, or from the end of another fault, until the component serves and has caught up with
all that was sent before. Components are killed at instants, and in an order, that the seed decides; the other faults
come after, one by one. In the end `ward verify` must find nothing lost or doubled, every message that the gateway
acknowledged must be in silver, and every sustained episode of the simulator must have an alert. Exit code 1 where
something of that does not hold.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from bench.bench_notify import receive
from bench.chaos import client, episodes, recovery
from bench.chaos.faults import FAULTS, Fault, small_disk
from bench.chaos.stack import Load, Stack, load_average
from lakehouse.datadir import DataDir

DISK_MB = 4_000
LONGEST_S = 600.0
"""Recovery that takes longer counts as none."""
MOST_KILLS, KILLS_WITHIN_S = 3, 600.0
"""The supervisor starts a component five times in ten minutes: some are left for what a fault takes down with it."""
_FLOWING = ("evaluated", "routed", "acknowledging")
_SETTLED = ("stored", "evaluated", "routed", "told", "alerts stored")


@dataclass(frozen=True)
class Recovery:
    """One fault that was done: seconds until all served and had caught up, and load average of the machine."""

    fault: str
    at: str
    serving_s: float
    recovered_s: float
    waited_for: str
    load_average: float


class Run:
    """One stack and what is done to it."""

    def __init__(self, stack: Stack, posting: client.Client) -> None:
        self.stack, self.posting = stack, posting
        self.found: list[Recovery] = []
        self._kills: dict[str, deque[float]] = {}

    def settle(self, *probes: str) -> None:
        """Wait until what was sent up to now has gone all the way."""
        self._catch_up(self._mark(), probes)

    def break_it(self, fault: Fault) -> None:
        """Do a fault, and wait until what was sent before it has gone where it must."""
        self._spare(fault)
        # Any instant of a batch is as likely.
        time.sleep(self.stack.chance.uniform(0, 10))
        self._wait_for(fault.component)
        at, mark, busy = datetime.now(UTC), self._mark(), load_average()
        begun = time.monotonic()
        fault.act(self.stack)
        if fault.component is None:
            begun = time.monotonic()
        recovery.since(mark)
        self._wait_for(fault.component)
        serving_s = round(time.monotonic() - begun, 1)
        last = self._catch_up(mark, fault.awaits)
        took = round(time.monotonic() - begun, 1)
        one = Recovery(fault.name, at.isoformat(timespec="seconds"), serving_s, took, last, busy)
        self.found.append(one)
        print(f"{one.at} {one.fault}: serving {one.serving_s} s, all {took} s ({last} last), load {busy}", flush=True)

    def _wait_for(self, component: str | None) -> None:
        self.stack.wait(lambda: component is None or self.stack.ready(component))

    def _mark(self) -> recovery.Mark:
        return recovery.mark(self.stack, lambda: len(self.posting.acknowledged))

    def _catch_up(self, mark: recovery.Mark, probes: Sequence[str]) -> str:
        """Wait for all; the one that came last."""
        caught_up: list[str] = []

        def done() -> bool:
            caught_up.extend(one for one in probes if one not in caught_up and recovery.holds(one, mark))
            return len(caught_up) == len(probes)

        self.stack.wait(done, LONGEST_S)
        return caught_up[-1]

    def _spare(self, fault: Fault) -> None:
        if fault.component is None:
            return
        kills = self._kills.setdefault(fault.component, deque(maxlen=MOST_KILLS))
        if len(kills) == MOST_KILLS:
            time.sleep(max(0.0, kills[0] + KILLS_WITHIN_S - time.monotonic()))
        kills.append(time.monotonic())


def order(faults: Sequence[Fault], kills: int, chance: Random) -> Iterator[Fault]:
    """Kills of each component in turn, mixed; then the others, what cannot be undone last."""
    killing = [fault for fault in faults if fault.component]
    done = 0
    while killing and done < kills:
        for fault in chance.sample(killing, min(len(killing), kills - done)):
            yield fault
            done += 1
    yield from sorted((fault for fault in faults if not fault.component), key=lambda fault: fault.last)


def run(faults: Sequence[Fault], kills: int, load: Load, seed: int, place: Path) -> dict[str, Any]:
    """Everything, in a folder; figures and findings."""
    webhook = receive({})
    stack = Stack(DataDir(place / "ward"), load, webhook.server_port, Random(seed))
    begun = time.monotonic()
    with stack:
        with client.Client(lambda: stack.address("gateway"), max(1.0, load.rate / 50)) as posting:
            tried = Run(stack, posting)
            tried.settle(*_FLOWING)
            for fault in order(faults, kills, Random(seed)):
                tried.break_it(fault)
        until = datetime.now(UTC)
        tried.settle(*_SETTLED)
        stack.stop()
        webhook.shutdown()
        report = place / "ledger.json"
        said = stack.ward("verify", "--report", str(report))
        ledger = json.loads(report.read_text()) if report.exists() else {"holds": False, "said": said}
        lost = client.missing(stack.data, posting.acknowledged)
        unheard = episodes.unheard(stack.data, until)
        sought = len(episodes.sustained(stack.data, until))
    return {
        "load": asdict(load),
        "seed": seed,
        "seconds": round(time.monotonic() - begun),
        "recoveries": [asdict(one) for one in tried.found],
        "by_fault": by_fault(faults, tried.found),
        "ledger": {name: ledger.get(name) for name in ("holds", "lost", "duplicated", "unexplained", "totals")},
        "failed_checks": [one for one in ledger.get("checks", []) if one["count"]],
        "acknowledged": len(posting.acknowledged),
        "not_acknowledged": posting.refused,
        "acknowledged_and_missing": sorted(lost),
        "sustained_episodes": sought,
        "episodes_without_alert": unheard,
        "holds": bool(ledger["holds"]) and not lost and not unheard,
    }


def by_fault(faults: Sequence[Fault], found: Sequence[Recovery]) -> list[dict[str, Any]]:
    """A row a fault: how often, quantiles of recovery, and the goal."""
    rows = []
    for fault in faults:
        took = [one.recovered_s for one in found if one.fault == fault.name]
        if took:
            row = {"fault": fault.name, "does": fault.does, "times": len(took), **recovery.summary(took)}
            rows.append({**row, "goal_p95_s": fault.goal_s})
    return rows


def show(found: dict[str, Any]) -> None:
    """Print the table, then what was proven."""
    print("| fault | done by | times | p50 s | p95 s | max s | goal p95 s | |\n|---|---|---|---|---|---|---|---|")
    for row in found["by_fault"]:
        goal = row["goal_p95_s"]
        verdict = "" if goal is None else "met" if row["p95_s"] <= goal else "missed"
        figures = (
            row["times"],
            row["p50_s"],
            row["p95_s"],
            row["max_s"],
            "-" if goal is None else f"{goal:g}",
            verdict,
        )
        print(f"| {row['fault']} | {row['does']} | {' | '.join(map(str, figures))} |")
    ledger, lost = found["ledger"], found["acknowledged_and_missing"]
    print(f"ward verify: lost {ledger['lost']}, duplicated {ledger['duplicated']}, unexplained {ledger['unexplained']}")
    print(f"acknowledged by the gateway {found['acknowledged']:,}, of these missing {len(lost)}")
    print(f"sustained episodes {found['sustained_episodes']}, without an alert {len(found['episodes_without_alert'])}")
    print("everything holds" if found["holds"] else "SOMETHING DOES NOT HOLD")


def chosen(names: str | None) -> list[Fault]:
    """The faults of these names, or all. Raises SystemExit for a name that is none."""
    if names is None:
        return list(FAULTS)
    known = {fault.name: fault for fault in FAULTS}
    wanted = [name.strip() for name in names.split(",")]
    if unknown := [name for name in wanted if name not in known]:
        raise SystemExit(f"no fault {', '.join(unknown)}: there are {', '.join(known)}")
    return [known[name] for name in wanted]


def main() -> None:
    """Break it and print; exit code 1 where something does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=12, help="of all components together")
    parser.add_argument("--only", help="names of faults, by commas")
    parser.add_argument("--rate", type=float, default=100, help="messages a second")
    parser.add_argument("--patients", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write everything here as well")
    given = parser.parse_args()
    # Whatever ends it, nothing it has started stays behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    faults = chosen(given.only)
    with tempfile.TemporaryDirectory(prefix="chaos-") as name, ExitStack() as around:
        mounted = around.enter_context(small_disk(Path(name), DISK_MB))
        if not mounted:
            print("no file system may be mounted here: the disk does not run full in this run")
            faults = [fault for fault in faults if fault.name != "disk full"]
        found = run(faults, given.kills, Load(given.patients, given.rate), given.seed, Path(name))
        show(found)
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    sys.exit(not found["holds"])


if __name__ == "__main__":
    main()
