"""One engine at the same small job: started on a broker of its own, loaded, measured, its alerts counted.

The job: parse the message, take its signals apart, hold each against the limits, write one record for each breach. The
``whole`` job also lands every message in a Delta table, some ten seconds a commit.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any, Literal

import numpy as np
import orjson
import yaml
from kafka import KafkaConsumer, TopicPartition

from bench.bench_router import read
from bench.peer_environments import Environment, made
from bench.peers.rules import ALERTS, breaches, limits
from lakehouse.datadir import DataDir
from lakehouse.tables import DEVICE_MESSAGE
from lakehouse.topics import ALERT_EVALUATIONS, TOPICS, VITALS, Topic
from lakehouse.topics import ALERTS as TRANSITIONS
from streaming.simulator.simulation import Options, Record, Simulation
from wardhouse.processes import GaveUp, Program, RestartPolicy, Supervisor
from wardhouse.topics import ensure
from wardhouse.up import DELTA_NICE, broker_program, router_program, stream_programs

Job = Literal["alerts", "whole"]
OURS = "wardhouse"

ROOT = Path(__file__).parents[1]
PEER_ALERTS = Topic(ALERTS, "one record for each breach", VITALS.partitions, timedelta(days=1))
FIRST = 2_000
"""Messages that are sent until the first alerts are out: by then an engine serves."""
READY_S = 180.0
SETTLE_S = 60.0
"""How long the last alerts and rows of a cell may take."""
ALERTS_LATE_S = 2.0
LANDED_LATE_S = 30.0
"""A rate is sustained where, after the last message, alerts and rows are complete within these."""
QUIET_S = 3.0
"""The router is done where it has said nothing for so long."""


@dataclass(frozen=True)
class Load:
    """What is sent. Rates in messages a second, times in seconds."""

    rate: int
    warm_up_s: int
    seconds: int
    step_s: int
    most: int
    """Highest rate of the search; below twice ``rate`` there is none."""
    patients: int = 1000

    @property
    def steady(self) -> int:
        """Messages before the search."""
        return FIRST + self.rate * (self.warm_up_s + self.seconds)

    @property
    def rates(self) -> tuple[int, ...]:
        """Rates of the search."""
        rates = []
        rate = 2 * self.rate
        while rate <= self.most:
            rates.append(rate)
            rate *= 2
        return tuple(rates)

    @property
    def messages(self) -> int:
        """All there are."""
        return self.steady + self.step_s * sum(self.rates)


@dataclass(frozen=True)
class Messages:
    """A file of messages, a line each (key, tab, value), and how many breaches its first n have."""

    file: Path
    breaches: "np.ndarray[Any, Any]"


@dataclass(frozen=True)
class Figures:
    """What one cell gave. Latencies in ms, memory in MB."""

    name: str
    job: Job
    latency_ms: dict[str, float] = field(default_factory=dict)
    cpu_s_per_million: float | None = None
    cpu_by_process: dict[str, float] = field(default_factory=dict)
    rss_mb: float | None = None
    expected: int = 0
    missing: int = 0
    doubled: int = 0
    sent: int = 0
    rows_missing: int | None = None
    rows_doubled: int | None = None
    highest_rate: int | None = None
    search_ended: str = ""
    transition_latency_ms: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    """Why there are no figures."""


def prepare(load: Load, file: Path) -> Messages:
    """Messages of simulated patients without faults; what sends them sets their instants."""
    options = Options(datetime.now(UTC), load.patients, load.patients / load.rate, episodes_per_hour=4)
    table, counts = limits(), np.zeros(load.messages + 1, dtype=int)
    items = Simulation(options).records()
    records = (item for item in items if isinstance(item, Record) and item.topic == VITALS.name)
    with file.open("wb") as out:
        for number, record in enumerate(islice(records, load.messages)):
            out.write(b"%s\t%s\n" % (record.key, record.value))
            counts[number + 1] = len(breaches(orjson.loads(record.value or b"{}"), table))
    if not counts[: FIRST + 1].any():
        raise ValueError(f"none of the first {FIRST} messages breaks a limit: make bench/peers/limits.csv tighter")
    return Messages(file, np.cumsum(counts))


def expected(messages: Messages, count: int) -> tuple[list[str], set[tuple[str, str]]]:
    """Ids of the first ``count`` messages in order, and what must be told of them: message and code."""
    table = limits()
    ids, alerts = [], set()
    with messages.file.open("rb") as lines:
        for line in islice(lines, count):
            message = orjson.loads(line.split(b"\t", 1)[1])
            ids.append(message["message_id"])
            alerts |= {(breach["message_id"], breach["code"]) for breach in breaches(message, table)}
    return ids, alerts


def pack() -> str:
    """The limits table as a rule pack."""
    rules = [
        {
            "id": f"{limit.signal.replace('_', '-')}-{direction}",
            "kind": "limit",
            "title": f"{limit.signal} {direction} {value:g}",
            "signal": limit.signal,
            "direction": direction,
            "limit": value,
            "clear_margin": 0,
            "priority": "medium",
            "category": "physiological",
            "rationale": "The same limit as in the other engines.",
            "reference": "bench/peers/limits.csv",
        }
        for limit in limits().values()
        for direction, value in (("below", limit.low), ("above", limit.high))
        if value is not None
    ]
    return yaml.safe_dump({"name": "bench", "version": 1, "title": "Limits alone", "rules": rules})


def programs(name: str, job: Job, data: DataDir, table: Path) -> tuple[Program, ...]:
    """The processes of an engine; what lands is as nice as ours is."""
    if name == OURS:
        file = data.root / "pack.yaml"
        file.write_text(pack(), encoding="utf-8")
        alerts, lakehouse = stream_programs(data, one_jvm=False)
        router = router_program(data)
        alerts = replace(alerts, command=(*alerts.command, "--pack", str(file)))
        router = replace(router, command=(*router.command, "--rules", str(file)))
        lakehouse = replace(lakehouse, command=(*lakehouse.command, "--pack", str(file)))
        return (alerts, router) if job == "alerts" else (alerts, router, lakehouse)
    environment = Environment(Path(sys.executable), {}) if name == "spark" else made(name)
    alone = [("alerts", 0)] if job == "alerts" else [("alerts", 0), ("land", DELTA_NICE)]
    return tuple(
        Program(
            what,
            (str(environment.python), "-m", f"bench.peers.with_{name}", what, "{servers}", str(table)),
            nice=nice,
            environment={**environment.variables, "PYTHONPATH": str(ROOT)},
        )
        for what, nice in alone
    )


class Cell:
    """One engine on one broker, while it runs."""

    def __init__(self, name: str, job: Job, load: Load, messages: Messages, data: DataDir) -> None:
        self._name, self._job, self._load, self._messages, self._data = name, job, load, messages, data
        self._table = Path(str(data.table(DEVICE_MESSAGE))) if name == OURS else data.root / "landed"

    def run(self) -> Figures:
        """Start, load, measure, compare, search. Raises GaveUp where a process dies or serves nobody."""
        with Supervisor(self._data, lambda _: None, RestartPolicy(most=0)) as self._supervisor:
            self._supervisor.start(broker_program(self._data, 0))
            self._supervisor.wait_ready(Event())
            self._servers = str(self._supervisor.conditions()[0].address)
            ensure(self._servers, (*TOPICS, PEER_ALERTS))
            self._consumer = KafkaConsumer(bootstrap_servers=self._servers)
            try:
                self._supervisor.start(*(self._with_broker(program) for program in self._programs()))
                self._send(0, FIRST, self._load.rate)
                self._wait(lambda: self._complete(FIRST), READY_S, "did not serve within {:g} s")
                figures = self._steady()
                return self._search(figures)
            finally:
                self._consumer.close()
                self._supervisor.stop(*(condition.name for condition in self._supervisor.conditions()[1:]))
                self._supervisor.stop("broker")

    def _programs(self) -> tuple[Program, ...]:
        return programs(self._name, self._job, self._data, self._table)

    def _with_broker(self, program: Program) -> Program:
        command = tuple(part.format(servers=self._servers) if part == "{servers}" else part for part in program.command)
        settings = {**program.environment, "KAFKA_BOOTSTRAP_SERVERS": self._servers}
        return replace(program, command=command, environment=settings)

    def _steady(self) -> Figures:
        """The load at one rate, and what came of it."""
        load, supervisor = self._load, self._supervisor
        count = load.rate * (load.warm_up_s + load.seconds)
        began, warm = time.monotonic(), (0.0, {"": 0.0})
        with self._loader(FIRST, count, load.rate) as loader:
            while loader.poll() is None:
                self._check(loader)
                supervisor.measure()
                if not warm[0] and time.monotonic() - began >= load.warm_up_s:
                    warm = (time.monotonic(), supervisor.cpu_seconds())
                time.sleep(0.5)
            supervisor.measure()
            used, elapsed = supervisor.cpu_seconds(), time.monotonic() - warm[0]
            self._answer(loader)
        late = self._late(load.steady)
        self._settled(load.steady)
        cpu = {
            name: round((used[name] - warm[1].get(name, 0.0)) / elapsed / load.rate * 1e6, 1)
            for name in used
            if name != "up"
        }
        peak = sum(mb for name, mb in supervisor.peak_rss_mb.items() if name not in ("up", "broker"))
        figures = Figures(
            self._name,
            self._job,
            cpu_s_per_million=round(sum(each for name, each in cpu.items() if name != "broker"), 1),
            cpu_by_process=cpu,
            rss_mb=round(peak),
            sent=load.steady,
            highest_rate=0 if late else load.rate,
            search_ended=f"{load.rate}/s: {late}" if late else "the highest rate that was tried",
        )
        return self._compared(figures)

    def _settled(self, count: int) -> None:
        """Wait until everything of the first ``count`` messages is out, or no longer to be waited for."""
        deadline = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline and not (self._complete(count) and self._landed() >= self._rows(count)):
            self._supervisor.check()
            time.sleep(0.2)

    def _wait_for_router(self) -> None:
        """Wait until nothing more comes on ``alerts``."""
        places = [TopicPartition(TRANSITIONS.name, number) for number in range(TRANSITIONS.partitions)]
        before, now = -1, sum(self._consumer.end_offsets(places).values())
        while now > before:
            time.sleep(QUIET_S)
            before, now = now, sum(self._consumer.end_offsets(places).values())

    def _compared(self, figures: Figures) -> Figures:
        """The alerts and rows that are there, held against those that must be."""
        ids, wanted = expected(self._messages, self._load.steady)
        came = {orjson.loads(one.value)["message_id"]: one.timestamp for one in read(self._servers, VITALS.name)}
        found = [
            (message, code, one.timestamp)
            for one in read(self._servers, ALERT_EVALUATIONS.name if self._name == OURS else ALERTS)
            for message, code in told(orjson.loads(one.value))
        ]
        counted = Counter((message, code) for message, code, _ in found)
        counts_from = set(ids[FIRST + self._load.rate * self._load.warm_up_s :])
        figures = replace(
            figures,
            expected=len(wanted),
            missing=len(wanted - counted.keys()),
            doubled=sum(counted.values()) - len(counted) + len(counted.keys() - wanted),
            latency_ms=quantiles(at - came[message] for message, _, at in found if message in counts_from),
        )
        if self._name == OURS:
            self._wait_for_router()
            events = ((orjson.loads(one.value), one.timestamp) for one in read(self._servers, TRANSITIONS.name))
            caused = ((event.get("message_id"), at) for event, at in events)
            own = quantiles(at - came[message] for message, at in caused if message in counts_from)
            figures = replace(figures, transition_latency_ms=own)
        if self._job == "whole":
            places = landed_places(self._table)
            distinct = len(set(places))
            figures = replace(figures, rows_missing=self._load.steady - distinct, rows_doubled=len(places) - distinct)
        return figures

    def _search(self, figures: Figures) -> Figures:
        """Double the rate until alerts or rows come late; where they do already, there is nothing to search."""
        if not figures.highest_rate:
            return figures
        sent, highest = self._load.steady, self._load.rate
        for rate in self._load.rates:
            count = rate * self._load.step_s
            try:
                behind = self._send(sent, count, rate)
                late = self._late(sent + count)
            except GaveUp as error:
                return replace(figures, highest_rate=highest, search_ended=f"{rate}/s: {_first_line(error)}")
            sent += count
            if late or behind > ALERTS_LATE_S:
                why = late or f"the sender was {behind:.1f} s behind"
                return replace(figures, highest_rate=highest, search_ended=f"{rate}/s: {why}")
            highest = rate
        return replace(figures, highest_rate=highest)

    def _late(self, count: int) -> str:
        """What of the first ``count`` messages is not out in time."""
        ended = time.monotonic()
        while not self._complete(count):
            if time.monotonic() - ended > ALERTS_LATE_S:
                return f"alerts later than {ALERTS_LATE_S:g} s"
            time.sleep(0.05)
        while self._landed() < self._rows(count):
            if time.monotonic() - ended > LANDED_LATE_S:
                return f"rows later than {LANDED_LATE_S:g} s"
            self._supervisor.check()
            time.sleep(0.5)
        return ""

    def _rows(self, count: int) -> int:
        return count if self._job == "whole" else 0

    def _complete(self, count: int) -> bool:
        """Whether every alert of the first ``count`` messages is out; ours writes a record for each message."""
        topic = ALERT_EVALUATIONS.name if self._name == OURS else ALERTS
        places = [TopicPartition(topic, number) for number in range(VITALS.partitions)]
        there = sum(self._consumer.end_offsets(places).values())
        return bool(there >= (count if self._name == OURS else self._messages.breaches[count]))

    def _landed(self) -> int:
        if self._job != "whole":
            return 0
        import pyarrow as pa
        from deltalake import DeltaTable

        if not DeltaTable.is_deltatable(str(self._table)):
            return 0
        files = pa.table(DeltaTable(self._table).get_add_actions(flatten=True))
        return sum(files["num_records"].to_pylist())

    def _loader(self, start: int, count: int, rate: int) -> "subprocess.Popen[str]":
        command = [made("quixstreams").python, "-m", "bench.peers.load", self._servers, self._messages.file]
        return subprocess.Popen(
            [*map(str, command), str(start), str(count), str(rate)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )

    def _send(self, start: int, count: int, rate: int) -> float:
        """Send, and return how far the sender was behind at worst, in seconds."""
        with self._loader(start, count, rate) as loader:
            while loader.poll() is None:
                self._check(loader)
                time.sleep(0.1)
            return float(self._answer(loader)["most_behind_s"])

    def _check(self, loader: "subprocess.Popen[str]") -> None:
        """Raise GaveUp where a process of the engine has died; nothing is sent any more then."""
        try:
            self._supervisor.check()
        except GaveUp:
            loader.kill()
            raise

    @staticmethod
    def _answer(loader: "subprocess.Popen[str]") -> dict[str, Any]:
        out, _ = loader.communicate()
        if loader.returncode:
            raise GaveUp("the sender could not deliver everything")
        answer: dict[str, Any] = json.loads(out)
        return answer

    def _wait(self, until: Callable[[], bool], seconds: float, otherwise: str) -> None:
        deadline = time.monotonic() + seconds
        while not until():
            if time.monotonic() > deadline:
                raise GaveUp(otherwise.format(seconds))
            self._supervisor.check()
            time.sleep(0.2)


def told(record: dict[str, Any]) -> list[tuple[str, str]]:
    """Message and code of each breach that a record tells of: an alert of a peer, or an evaluation of ours."""
    if "observations" not in record:
        return [(record["message_id"], record["code"])]
    return [(record["message_id"], seen["code"]) for seen in record["observations"] if seen.get("band") == "breach"]


def landed_places(table: Path) -> list[tuple[int, int]]:
    """Partition and offset of every landed row; none where there is no table."""
    from deltalake import DeltaTable

    if not DeltaTable.is_deltatable(str(table)):
        return []
    rows = DeltaTable(table).to_pyarrow_table(columns=["partition", "offset"])
    return list(zip(rows["partition"].to_pylist(), rows["offset"].to_pylist(), strict=True))


def quantiles(latencies: Iterable[float]) -> dict[str, float]:
    """Latencies by name of the quantile; nothing where there are none."""
    values = list(latencies)
    if not values:
        return {}
    names = {"p50": 50, "p90": 90, "p99": 99, "p99.9": 99.9, "max": 100}
    return {name: round(float(np.percentile(values, at)), 1) for name, at in names.items()} | {"count": len(values)}


def measure(name: str, job: Job, load: Load, messages: Messages) -> Figures:
    """One cell in a folder of its own; one that cannot be had is a row with the reason."""
    from bench.peer_environments import NotInstalled

    with tempfile.TemporaryDirectory() as folder:
        try:
            return Cell(name, job, load, messages, DataDir(Path(folder))).run()
        except (GaveUp, NotInstalled) as error:
            return Figures(name, job, reason=_first_line(error))


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ... ".join(dict.fromkeys((lines[0], lines[-1]))) if lines else type(error).__name__
