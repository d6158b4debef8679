"""What the simulator costs: records made, runs made again, records sent at full speed, and its share of a core.

Prints one JSON object. Run it with nothing else on the machine: ``python -m bench simulator --seconds 30``. It
starts a broker of its own in a temporary folder; figures are of this process alone (the broker is another).
"""

import argparse
import itertools
import json
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fastjsonschema
import orjson

from lakehouse.datadir import DataDir
from lakehouse.message import schema
from streaming.simulator import regenerate
from streaming.simulator.faults import rates
from streaming.simulator.regenerate import Run
from streaming.simulator.sender import Limits, run
from streaming.simulator.simulation import Options, Record, Simulation
from wardhouse.broker import Broker
from wardhouse.settings import Settings
from wardhouse.topics import ensure


def options(rate: int, patients: int) -> Options:
    """A run at ``rate`` messages a second with the ordinary faults."""
    return Options(datetime.now(UTC), patients, patients / rate, fault_rates=rates("default"))


def cpu_us_each(count: int, work: Callable[[], Any]) -> float:
    """Microseconds of processor time for each of ``count`` things done by ``work``."""
    began = time.process_time()
    work()
    return round((time.process_time() - began) / count * 1e6, 1)


def making(count: int) -> dict[str, float]:
    """What it costs to make a record, nothing sent; and what it would cost to check each against the contract."""
    simulation = Simulation(options(1000, 1000))
    items = itertools.islice(simulation.records(), 2000, 2000 + count)
    made: list[Record] = []
    cost = cpu_us_each(count, lambda: made.extend(item for item in items if isinstance(item, Record)))
    messages = [
        orjson.loads(record.value) for record in made[:2000] if record.line.get("fault") is None and record.value
    ]
    check = fastjsonschema.compile(schema())
    return {
        "make_us": cost,
        "check_contract_us": cpu_us_each(len(messages), lambda: [check(message) for message in messages]),
        "bytes_each": round(sum(len(record.value or b"") for record in made) / len(made)),
    }


def remaking(count: int, cadence: float) -> dict[str, float]:
    """What it costs to make a run again without Kafka, of 1,000 patients who send every ``cadence`` seconds."""
    plain = Options(datetime.now(UTC), 1000, cadence, transients_per_hour=6)
    faulty = replace(plain, fault_rates=rates("default"))
    return {
        "messages_us": cpu_us_each(count, lambda: deque(regenerate.messages(Run(plain, messages=count)), maxlen=0)),
        "messages_with_faults_us": cpu_us_each(
            count, lambda: deque(regenerate.messages(Run(faulty, messages=count)), maxlen=0)
        ),
        "readings_us": cpu_us_each(count, lambda: deque(regenerate.readings(Run(plain, messages=count)), maxlen=0)),
    }


def sending(folder: Path, servers: str, wanted: Options, limits: Limits) -> dict[str, Any]:
    """One run against the broker, from connecting to the last acknowledgement."""
    began, cpu = time.monotonic(), time.process_time()
    summary = run(wanted, servers, folder / "truth", folder / "progress.jsonl", limits=limits)
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    sent = summary["acknowledged_by_topic"]["vitals"]
    return {
        "messages": sent,
        "messages_per_s": round(sent / seconds),
        "cores": round(cpu / seconds, 3),
        "cpu_s_per_million": round(cpu / sent * 1e6, 1),
        "most_behind_s": summary["most_behind_s"],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--patients", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=50_000, help="messages of the run at full speed")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Broker(DataDir(folder), Settings().jars.resolve()) as broker:
            ensure(broker.address)
            figures = {
                "making": making(50_000),
                "remaking_every_second": remaking(200_000, 1.0),
                "remaking_every_minute": remaking(200_000, 60.0),
                "steady": sending(
                    folder, broker.address, options(given.rate, given.patients), Limits(duration=given.seconds)
                ),
                # A rate beyond reach: the sender is always behind, and sends as fast as it can.
                "full_speed": sending(
                    folder, broker.address, options(1_000_000, given.patients), Limits(messages=given.at_once)
                ),
            }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
