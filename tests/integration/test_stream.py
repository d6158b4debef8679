"""The Spark applications as processes, on a real broker: bad input, kill -9 and a damaged checkpoint."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest
from kafka import KafkaConsumer, KafkaProducer

from lakehouse import reader
from lakehouse.datadir import DataDir
from lakehouse.pipeline import ALERT_EVENT, DEVICE_MESSAGE, OBSERVATION
from lakehouse.topics import VITALS
from wardhouse.broker import Broker
from wardhouse.commands.verify import prove
from wardhouse.component import read_state
from wardhouse.settings import Settings
from wardhouse.status import unlanded
from wardhouse.topics import end_offsets, ensure

WARD = str(Path(sys.executable).parent / "ward")
LONGEST_S = 400.0

Row = dict[str, Any]


def message(number: int, **changes: Any) -> Row:
    """A clean message of one of ten patients: one heart rate that breaks no limit."""
    return {
        "schema_version": 1,
        "message_id": f"m{number}",
        "patient_id": f"test/{number % 10}",
        "device_id": f"d{number % 10}",
        "source": "test",
        "observed_at": datetime.fromtimestamp(1_760_000_000 + number, UTC).isoformat(),
        "status": "final",
        "observations": [{"code": "8867-4", "value": 80.0, "unit": "/min"}],
        **changes,
    }


def one(number: int, **observation: Any) -> Row:
    return message(number, observations=[{"code": "8867-4", "value": 250.0, "unit": "/min", **observation}])


def without(number: int, field: str) -> Row:
    return {name: value for name, value in message(number).items() if name != field}


def raw(number: int, value: str) -> bytes:
    """A message whose number is written as this text, which no encoder would write."""
    return orjson.dumps(one(number, value=4711.0)).replace(b"4711.0", value.encode())


# Every value would raise an alarm if it were taken as it is.
DEAD: dict[str, list[bytes | None]] = {
    "tombstone": [None],
    "empty": [b""],
    "oversized": [b'{"schema_version": 1, "filler": "' + b"x" * 1024 * 1024 + b'"}'],
    "not_utf8": [orjson.dumps(one(1)).replace(b"test/1", b"test/\xff\xfe")],
    "malformed_json": [orjson.dumps(one(2))[:-20], b"MSH|^~\\&|", orjson.dumps(one(3)) * 2],
    "wrong_type": [raw(4, '"high"'), orjson.dumps({**one(5), "observations": {}}), b"[1]", b"17", b'"text"'],
    "missing_field": [orjson.dumps(without(6, "patient_id")), orjson.dumps(message(7, observations=[])), b"{}"],
    "unknown_schema_version": [orjson.dumps({**one(8), "schema_version": 2})],
    "bad_timestamp": [orjson.dumps({**one(9), "observed_at": "2026-01-01 10:00"})],
    "invalid_patient_id": [orjson.dumps({**one(10), "patient_id": "17"})],
}
DEAD["missing_field"][2] = orjson.dumps(without(11, "source"))
QUARANTINED: dict[str, list[bytes]] = {
    "not_finite": [raw(21, "NaN"), raw(22, "1e400")],
    "sensor_disconnected": [orjson.dumps(one(23, value=0.0)), orjson.dumps(one(24, value=8388607.0))],
    "out_of_range": [orjson.dumps(one(25, value=900.0))],
    "unknown_code": [orjson.dumps(one(26, code="heart rate"))],
    "unknown_unit": [orjson.dumps(one(27, unit="Hz"))],
    "clock_ahead": [orjson.dumps({**one(28), "observed_at": "2199-01-01T00:00:00Z"})],
    "unknown_status": [orjson.dumps({**one(29), "status": "guess"})],
}


@pytest.fixture
def stack(data: DataDir, jars: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["Stack"]:
    with Broker(data, jars) as broker:
        ensure(broker.address)
        monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", broker.address)
        stack = Stack(data, broker.address)
        yield stack
        stack.kill()


class Stack:
    """Both Spark applications in one process, and what a test does to them."""

    def __init__(self, data: DataDir, bootstrap: str) -> None:
        self.data, self.bootstrap = data, bootstrap
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.data.logs.mkdir(parents=True, exist_ok=True)
        with (self.data.logs / "stream.log").open("ab") as log:
            command = [WARD, "stream", "--data-dir", str(self.data.root)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def send(self, values: list[bytes | None]) -> None:
        producer = KafkaProducer(bootstrap_servers=self.bootstrap, acks="all", max_request_size=2 * 1024 * 1024)
        futures = [producer.send(VITALS.name, key=b"k%d" % (i % 10), value=value) for i, value in enumerate(values)]
        producer.flush()
        assert all(future.succeeded() for future in futures)
        producer.close()

    def wait_until_ready(self) -> None:
        self._wait(lambda: (state := read_state(self.data, "stream")) is not None and state.state == "ready")

    def wait_until_landed(self) -> None:
        flows = {DEVICE_MESSAGE.name, OBSERVATION.name, ALERT_EVENT.name}
        self._wait(lambda: not flows & unlanded(Settings(), self.data, end_offsets(self.bootstrap, NAMES), {}).keys())

    def _wait(self, condition: Any) -> None:
        assert self._process is not None
        deadline = time.monotonic() + LONGEST_S
        while not condition():
            assert self._process.poll() is None, (self.data.logs / "stream.log").read_text()[-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.5)

    def kill(self) -> None:
        """End it as a power cut would, its Java process with it."""
        if self._process is None:
            return
        with_children = [*psutil.Process(self._process.pid).children(recursive=True)]
        self._process.kill()
        self._process.wait()
        for child in with_children:
            child.kill()
        psutil.wait_procs(with_children)
        self._process = None

    def stop(self) -> int:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(LONGEST_S)
        self._process = None
        return code

    def forget_last_commit(self, flow: Any) -> None:
        commits = self.data.checkpoint(flow) / "commits"
        newest = max(int(path.name) for path in commits.iterdir() if path.name.isdecimal())
        (commits / str(newest)).unlink()
        (commits / f".{newest}.crc").unlink(missing_ok=True)

    def evaluations(self) -> list[Row]:
        consumer = KafkaConsumer(
            "alert.evaluations",
            bootstrap_servers=self.bootstrap,
            auto_offset_reset="earliest",
            consumer_timeout_ms=3000,
            enable_auto_commit=False,
        )
        found = [orjson.loads(record.value) for record in consumer]
        consumer.close()
        return found


NAMES = ("vitals", "clinical.resource", "alerts", "alert.evaluations")


def counts(data: DataDir, query: str) -> Mapping[str, int]:
    return {row["name"]: row["n"] for row in reader.query(data, query).to_pylist()}


def test_bad_input_a_kill_and_a_lost_commit_leave_every_record_in_its_place_once(stack: Stack) -> None:
    bad = [value for values in (*DEAD.values(), *QUARANTINED.values()) for value in values]
    stack.send([*bad, *(orjson.dumps(message(number)) for number in range(100, 1100))])
    stack.start()
    stack.wait_until_landed()

    dead = counts(stack.data, "SELECT reason AS name, count(*) AS n FROM silver.dead_letter GROUP BY reason")
    assert dead == {reason: len(values) for reason, values in DEAD.items()}
    quarantined = counts(
        stack.data,
        "SELECT array_to_string(failed_constraints, '+') AS name, count(*) AS n"
        " FROM silver.observation_quarantine GROUP BY 1",
    )
    assert quarantined == {reason: len(values) for reason, values in QUARANTINED.items()}
    evaluated = stack.evaluations()
    assert {observation["band"] for row in evaluated for observation in row["observations"]} == {"normal", "none"}
    assert len(evaluated) == 1000 + sum(map(len, QUARANTINED.values()))

    stack.send([orjson.dumps(message(number)) for number in range(1100, 2100)])
    time.sleep(2)
    stack.kill()
    stack.send([orjson.dumps(message(number)) for number in range(2100, 2200)])
    stack.start()
    stack.wait_until_landed()
    assert stack.stop() == 0

    for flow in (DEVICE_MESSAGE, OBSERVATION):
        stack.forget_last_commit(flow)
    stack.send([orjson.dumps(message(number)) for number in range(2200, 2300)])
    stack.start()
    stack.wait_until_ready()
    stack.wait_until_landed()
    assert stack.stop() == 0

    ledger = prove(Settings(), stack.data, stack.bootstrap, "1g")
    assert [check for check in ledger.checks if not check.holds] == []
    assert {name: ledger.totals[name] for name in ("bronze_rows", "observations", "quarantined", "dead_letters")} == {
        "bronze_rows": len(bad) + 2200,
        "observations": 2200,
        "quarantined": sum(map(len, QUARANTINED.values())),
        "dead_letters": sum(map(len, DEAD.values())),
    }
