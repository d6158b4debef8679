"""The router killed again and again under load: what is lost, and what is told twice.

    python -m bench router_kills [--kills 20] [--rate 1000] [--patients 500]

A broker of its own, evaluations at a steady rate, and a router that gets SIGKILL every few seconds and starts again.
The pack has plain thresholds, so that nothing depends on the clock: the transitions must be those of an engine that was
never killed, each the same byte for byte however often it was sent. Of notifications, which wait for a clock, none may
tell a transition that another one has told; what is sent twice under one id is counted.
"""

import argparse
import json
import os
import random
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import orjson

from alerting.engine import Engine
from alerting.lab import plain
from alerting.pack import Pack, load
from alerting.router import Topics
from alerting.telling import ESCALATED, NOT_TOLD
from bench.bench_router import produce, read, records, start_router, stop_router
from lakehouse.datadir import DataDir
from lakehouse.topics import TOPICS
from wardhouse.broker import Broker
from wardhouse.settings import Settings
from wardhouse.topics import ensure


def pack() -> Pack:
    """Plain thresholds that tell a nurse."""
    handling = {"channels": ["nurse"], "group_s": 30.0}
    told = dict.fromkeys(("high", "medium", "low"), handling)
    return Pack.model_validate({**plain(load("adult")).model_dump(), "name": "adult", "notification": told})


def kill(servers: str, topics: Topics, folder: Path, kills: int, sender: threading.Thread) -> int:
    """Kill routers until the load ends; how often."""
    chance, done = random.Random(3), 0
    while done < kills:
        router = start_router(servers, topics, folder, pack())
        time.sleep(chance.uniform(0.3, 3.0))
        router.kill()
        router.wait()
        done += 1
    sender.join()
    router = start_router(servers, topics, folder, pack())
    wait_until_read(folder, topics)
    stop_router(router)
    return done


def wait_until_read(folder: Path, topics: Topics) -> None:
    """Wait for a report without lag."""
    since = time.time()
    path = folder / f"{topics.state}.jsonl"
    while time.time() - since < 300:
        time.sleep(1)
        line = orjson.loads(path.read_bytes().splitlines()[-1])
        if line["lag"] == 0 and line["records"] > 0:
            return
    raise RuntimeError("the last router did not read to the end")


def expected(servers: str, topics: Topics) -> set[bytes]:
    """The transitions of an engine that is never killed."""
    engine = Engine(pack())
    for record in sorted(read(servers, topics.evaluations), key=lambda one: (one.partition, one.offset)):
        engine.apply(record.partition, record.value)
    return {event for one in engine.take_moved() for event in one.unsent.events}


def main() -> None:
    """Run it and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--patients", type=int, default=500)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with Broker(DataDir(place / "ward"), Settings().jars.resolve()) as broker:
            ensure(broker.address, TOPICS)
            topics = Topics()
            load_ = records(round(options.rate * options.kills * 4), options.patients)
            sender = threading.Thread(target=produce, args=(broker.address, topics.evaluations, load_, options.rate))
            sender.start()
            kills = kill(broker.address, topics, place, options.kills, sender)
            figures = compare(broker.address, topics)
    print(
        json.dumps({"kills": kills, "evaluations": len(load_), **figures, "load_average": os.getloadavg()[0]}, indent=2)
    )


def compare(servers: str, topics: Topics) -> dict[str, Any]:
    """What came against what had to come."""
    wanted = expected(servers, topics)
    came = [record.value for record in read(servers, topics.alerts)]
    notifications = [orjson.loads(record.value) for record in read(servers, topics.notifications)]
    by_id = {one["notification_id"]: one for one in notifications}
    told: dict[tuple[str, int], int] = {}
    for one in by_id.values():
        if one["reason"] not in (NOT_TOLD, ESCALATED):
            for alert in one["alerts"]:
                name = (alert["alert_id"], alert["sequence"])
                told[name] = told.get(name, 0) + 1
    return {
        "transitions": len(wanted),
        "lost": len(wanted - set(came)),
        "invented": len(set(came) - wanted),
        "transitions_sent_again": len(came) - len(set(came)),
        "notifications": len(by_id),
        "notifications_sent_again": len(notifications) - len(by_id),
        "told_by_two_notifications": sum(count > 1 for count in told.values()),
    }


if __name__ == "__main__":
    main()
