"""The alert router alone: evaluations a second on one core, and what an alert costs at the usual load.

It starts a broker of its own on a free port of the loopback address, in a temporary folder, and takes it away again.

    python -m bench router [--rate 1000] [--seconds 60] [--backlog 100000]

Latency is the broker's timestamp of the event on ``alerts`` minus that of its record on ``alert.evaluations``, for
events that a message causes. The load has 1,000 patients with six signals each; patients become abnormal and recover,
some six to ten of them each second.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any

import numpy as np
import orjson
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from alerting.bands import arms, band_of
from alerting.engine import Engine
from alerting.pack import Pack, load
from alerting.router import Topics
from lakehouse.datadir import DataDir
from lakehouse.topics import TOPICS
from wardhouse.broker import Broker
from wardhouse.settings import Settings
from wardhouse.topics import ensure

ADULT = load("adult")
ARMS = arms(ADULT)
SIGNALS = (
    ("8867-4", 80.0, 1.0),
    ("59408-5", 97.0, 0.5),
    ("9279-1", 16.0, 1.0),
    ("8480-6", 120.0, 3.0),
    ("8462-4", 75.0, 3.0),
    ("8310-5", 37.0, 0.1),
)
"""LOINC code, mean and spread."""

ROUTER = """
import re, resource, signal, sys, threading
from pathlib import Path
import orjson
from alerting.pack import Pack
from alerting.router import Topics, run
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=stop.set).start())
run(bootstrap_servers=sys.argv[1], topics=Topics(**orjson.loads(sys.argv[2])),
    pack=Pack.model_validate_json(sys.argv[4]),
    progress_file=Path(sys.argv[3]), stop=stop, on_ready=lambda: print("ready", flush=True), say=print,
    group=sys.argv[3])
used = resource.getrusage(resource.RUSAGE_SELF)
# ru_maxrss would be that of the process that started this one.
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
print(used.ru_utime + used.ru_stime, peak // 1024, flush=True)
"""


def records(count: int, patients: int, seed: int = 1) -> list[tuple[bytes, bytes]]:
    """Evaluations as the stream writes them."""
    chance = random.Random(seed)
    now = int(time.time() * 1000)
    abnormal = dict.fromkeys(range(patients), 0.0)
    found = []
    for offset in range(count):
        number = offset % patients
        # Two states with long stays, so that changes are rare and a tenth of the patients is abnormal in the end.
        if chance.random() < (0.05 if abnormal[number] else 0.0055):
            abnormal[number] = 0.0 if abnormal[number] else chance.choice([55.0, 38.0, -43.0])
        values = [(code, round(chance.gauss(mean, spread), 1)) for code, mean, spread in SIGNALS]
        values[0] = (values[0][0], values[0][1] + abnormal[number])
        found.append(evaluation(offset, now + offset, f"hospital/{number}", values))
    return found


def evaluation(offset: int, at: int, patient: str, values: list[tuple[str, float]]) -> tuple[bytes, bytes]:
    """Key and value of one record."""
    observations = []
    for code, value in values:
        band = band_of(ARMS, code, value)
        seen = {"code": code, "value": value, "band": band.band, "rule": band.rule, "limit": band.limit}
        observations.append({name: given for name, given in seen.items() if given is not None})
    record = {
        "quiet": all(seen["band"] == "normal" for seen in observations),
        "schema_version": 1,
        "pack": ADULT.label,
        "message_id": f"00000000-0000-4000-8000-{offset:012d}",
        "partition": 0,
        "offset": offset,
        "received_at": at,
        "patient_id": patient,
        "encounter_id": f"stay-{patient}",
        "device_id": "monitor-1",
        "source": "simulator",
        "location_unit": "ICU",
        "location_bed": "12",
        "observed_at": at,
        "status": "final",
        "observations": observations,
    }
    return patient.encode(), orjson.dumps(record)


def engine_alone(load_: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    """The state machine without Kafka."""
    engine = Engine(ADULT)
    started = time.process_time()
    for _, value in load_:
        engine.apply(0, value)
    return {"evaluations_per_s_one_core": round(len(load_) / (time.process_time() - started))}


def open_alerts(count: int) -> dict[str, Any]:
    """Memory of an engine in a process of its own that holds so many open alerts, one a patient."""
    program = (
        "import re,sys;from pathlib import Path;from bench.bench_router import ADULT,Engine,evaluation;"
        "rss=lambda:int(re.search(r'VmRSS:\\s+(\\d+)',Path('/proc/self/status').read_text())[1])/1024;"
        "engine,before=Engine(ADULT),rss();"
        "[engine.apply(0,evaluation(n,1767225600000+n,f'hospital/{n}',[('59408-5',80.0),('8867-4',80.0),"
        "('8480-6',120.0),('9279-1',16.0),('8310-5',37.0)])[1]) for n in range(int(sys.argv[1]))];"
        "engine.take_moved();print(engine.open_alerts({0}),before,rss())"
    )
    done = subprocess.run([sys.executable, "-c", program, str(count)], capture_output=True, text=True, check=True)
    held, before, after = done.stdout.split()
    return {"open": int(held), "rss_mib": round(float(after)), "of_it_the_alerts": round(float(after) - float(before))}


def read(servers: str, topic: str) -> list[Any]:
    """Every record of a topic."""
    consumer = KafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest", enable_auto_commit=False)
    places = [TopicPartition(topic, partition) for partition in consumer.partitions_for_topic(topic)]
    consumer.assign(places)
    ends = consumer.end_offsets(places)
    found: list[Any] = []
    while any(consumer.position(place) < ends[place] for place in places):
        for some in consumer.poll(timeout_ms=500).values():
            found += some
    consumer.close()
    return found


def start_router(servers: str, topics: Topics, folder: Path, pack: Pack = ADULT) -> "subprocess.Popen[str]":
    """A router as a process of its own, ready."""
    progress = str(folder / f"{topics.state}.jsonl")
    arguments = [servers, orjson.dumps(vars(topics)).decode(), progress, pack.model_dump_json()]
    router = subprocess.Popen([sys.executable, "-c", ROUTER, *arguments], stdout=subprocess.PIPE, text=True)
    if _output(router).readline() != "ready\n":
        raise RuntimeError("the router did not start")
    return router


def stop_router(router: "subprocess.Popen[str]") -> tuple[float, int]:
    """CPU seconds and peak memory (MiB) of a router over its life."""
    router.terminate()
    cpu, memory = _output(router).read().split()
    router.wait()
    return float(cpu), int(memory)


def produce(servers: str, topic: str, load_: list[tuple[bytes, bytes]], rate: float | None) -> None:
    """Send as fast as possible, or at a rate in steps of 5 ms."""
    producer = KafkaProducer(bootstrap_servers=servers, linger_ms=5, batch_size=256 * 1024)
    started, sent = time.monotonic(), 0
    while sent < len(load_):
        due = len(load_) if rate is None else min(int((time.monotonic() - started) * rate), len(load_))
        for key, value in load_[sent:due]:
            producer.send(topic, key=key, value=value)
        sent = due
        time.sleep(0.005)
    producer.flush(60)
    producer.close()


def backlog(servers: str, topics: Topics, folder: Path, load_: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    """A backlog taken as fast as it goes: CPU of the router for it, start and imports taken off."""
    idle_cpu, _ = stop_router(start_router(servers, topics, folder))
    produce(servers, topics.evaluations, load_, None)
    router = start_router(servers, topics, folder)
    progress_file = folder / f"{topics.state}.jsonl"
    started = time.monotonic()
    while True:
        time.sleep(0.5)
        lines = progress_file.read_bytes().splitlines() if progress_file.exists() else []
        if lines and orjson.loads(lines[-1])["records"] >= len(load_):
            break
        if time.monotonic() - started > 300:
            raise RuntimeError("the router did not take the backlog")
    cpu, memory = stop_router(router)
    return {
        "evaluations": len(load_),
        "events": len(read(servers, topics.alerts)),
        "evaluations_per_s_one_core": round(len(load_) / (cpu - idle_cpu)),
        "peak_rss_mib": memory,
    }


def steady(servers: str, topics: Topics, folder: Path, load_: list[tuple[bytes, bytes]], rate: float) -> dict[str, Any]:
    """The usual load: latency of every event, and the cores that the router takes."""
    router = start_router(servers, topics, folder)
    before = _cpu_of(router.pid)
    started = time.monotonic()
    sender = threading.Thread(target=produce, args=(servers, topics.evaluations, load_, rate))
    sender.start()
    sender.join()
    elapsed, used = time.monotonic() - started, _cpu_of(router.pid) - before
    time.sleep(1)
    _, memory = stop_router(router)
    came = {orjson.loads(one.value)["message_id"]: one.timestamp for one in read(servers, topics.evaluations)}
    events = [(orjson.loads(one.value), one.timestamp) for one in read(servers, topics.alerts)]
    # What the clock alone does (a delay, an end that lasted) follows no message.
    latency = np.array([at - came[event["message_id"]] for event, at in events if "message_id" in event])
    p50, p95, p99, p999 = np.percentile(latency, [50, 95, 99, 99.9])
    return {
        "rate": rate,
        "seconds": round(elapsed, 1),
        "events": len(events),
        "events_by_message": len(latency),
        "latency_ms": {"p50": p50, "p95": p95, "p99": p99, "p99.9": p999, "max": int(latency.max())},
        "cores": round(used / elapsed, 3),
        "cpu_s_per_million_evaluations": round(used / len(load_) * 1e6, 1),
        "peak_rss_mib": memory,
    }


def _output(router: "subprocess.Popen[str]") -> IO[str]:
    if router.stdout is None:
        raise RuntimeError("started without a pipe")
    return router.stdout


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run all three and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--backlog", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with Broker(DataDir(place / "ward"), Settings().jars.resolve()) as broker:
            made = []
            for run in range(2):
                names = {topic.name: f"{topic.name}.{run}" for topic in TOPICS}
                ensure(broker.address, TOPICS, names)
                made.append(Topics.of(names))
            figures = {
                "engine": engine_alone(records(options.backlog, 1000)),
                "open_alerts": open_alerts(10_000),
                "backlog": backlog(broker.address, made[0], place, records(options.backlog, 1000)),
                "steady": steady(
                    broker.address, made[1], place, records(int(options.rate * options.seconds), 1000), options.rate
                ),
                "load_average": os.getloadavg()[0],
                "self_cpu_s": round(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]), 1),
            }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
