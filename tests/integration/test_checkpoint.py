"""``ward stream pause`` and ``ward checkpoint`` on the real thing: flows go back, and the tables end the same."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest
from kafka import KafkaProducer
from typer.testing import CliRunner

from alerting.notification import Delivery, Notification, Told, encode, encode_delivery
from lakehouse import audit, reader
from lakehouse.audit import Event
from lakehouse.checkpoint import position
from lakehouse.datadir import DataDir
from lakehouse.pipeline import ALERT_NOTIFICATION, EARLY_WARNING_SCORE
from lakehouse.tables import DEVICE_MESSAGE, OBSERVATION
from tests.fixtures.alert_event import event
from wardhouse.backup import tables_of
from wardhouse.broker import Broker
from wardhouse.cli import app
from wardhouse.commands.verify import prove
from wardhouse.component import read_state
from wardhouse.pausing import lakehouse_state
from wardhouse.rewind import LAKEHOUSE_FLOWS
from wardhouse.settings import Settings
from wardhouse.status import newest_data, unlanded, versions_behind
from wardhouse.topics import end_offsets, ensure

WARD = str(Path(sys.executable).parent / "ward")
LONGEST_S = 600.0
NAMES = ("vitals", "clinical.resource", "alerts", "alert.notification", "alert.delivery", "audit")
WRITTEN = tuple(table for flow in LAKEHOUSE_FLOWS for table in tables_of(flow))


def vitals(numbers: range) -> list[tuple[str, bytes]]:
    """Messages of ten patients; of each ten one value that is quarantined, and a record that is a dead letter."""
    found = []
    for number in numbers:
        message = {
            "schema_version": 1,
            "message_id": f"m{number}",
            "patient_id": f"test/{number % 10}",
            "device_id": "d",
            "source": "test",
            "observed_at": datetime.fromtimestamp(1_760_000_000 + number, UTC).isoformat(),
            "status": "final",
            "observations": [{"code": "8867-4", "value": 900.0 if number % 10 == 3 else 80.0, "unit": "/min"}],
        }
        found.append(("vitals", b"{" if number % 10 == 7 else orjson.dumps(message)))
    return found


def told(number: int) -> list[tuple[str, bytes]]:
    """What the router and the notifier send of one alert, the first transition twice, and who looked at it, twice.

    Of the two words on how telling it ended the last one counts.
    """
    alert = Told(f"{number:032}", 0, "hr-high", "heart rate", "high", "physiological", "active", 1772366400000)
    decided = Notification(
        f"n{number}", "test/1", "opened", 0, "high", ("nurse",), 1772366400000, "adult@1", (alert,), None, None
    )
    ended = Delivery(f"n{number}", "test/1", "nurse", "undeliverable", 1, 1772366401000, (alert.alert_id,), error="no")
    looked = Event("gateway", "key", "ward 5", "read alerts", "done", "test/1", event_id=f"e{number}")
    opened, resolved = event(alert_id=alert.alert_id), event(alert_id=alert.alert_id, sequence=1, state="resolved")
    return [
        *(("alerts", value) for value in (opened, opened, resolved)),
        ("alert.notification", encode(decided)),
        ("alert.delivery", encode_delivery(ended)),
        ("alert.delivery", encode_delivery(replace(ended, status="delivered", error=None))),
        *(("audit", audit.encode(looked)) for _ in range(2)),
    ]


class Stack:
    """Both Spark applications in one process, the commands, and what the tables hold."""

    def __init__(self, data: DataDir, bootstrap: str) -> None:
        self.data, self.bootstrap = data, bootstrap
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.data.logs.mkdir(parents=True, exist_ok=True)
        with (self.data.logs / "stream.log").open("ab") as log:
            command = [WARD, "stream", "--data-dir", str(self.data.root)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self) -> None:
        if self._process is None:
            return
        family = [psutil.Process(self._process.pid), *psutil.Process(self._process.pid).children(recursive=True)]
        for process in family:
            process.kill()
        self._process.wait()
        psutil.wait_procs(family)
        self._process = None

    def ward(self, *arguments: str, code: int = 0) -> str:
        """A command, in this process: most of each would else be the start of Python."""
        done = CliRunner().invoke(app, [*arguments, "--data-dir", str(self.data.root)])
        assert done.exit_code == code, (arguments, done.output, done.exception)
        return done.output

    def send(self, records: list[tuple[str, bytes]]) -> None:
        producer = KafkaProducer(bootstrap_servers=self.bootstrap, acks="all")
        for number, (topic, value) in enumerate(records):
            producer.send(topic, key=b"k%d" % (number % 10) if topic == "vitals" else b"k", value=value)
        producer.flush()
        producer.close()

    def ends(self, *topics: str) -> int:
        return sum(end_offsets(self.bootstrap, topics).values())

    def wait(self, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + LONGEST_S
        while not condition():
            alive = self._process is None or self._process.poll() is None
            assert alive, (self.data.logs / "stream.log").read_text()[-3000:]
            assert time.monotonic() < deadline, (self.data.logs / "stream.log").read_text()[-6000:]
            time.sleep(0.3)

    def wait_until_landed(self) -> None:
        self.wait(lambda: not unlanded(Settings(), self.data, end_offsets(self.bootstrap, NAMES), {}))

    def wait_until_scored(self) -> None:
        """Scores come every five minutes, and at once when the flow starts."""
        self.ward("checkpoint", "backup", f"{time.monotonic_ns()}", "--pause")
        assert not lakehouse_state(self.data).paused
        newest = newest_data(self.data, OBSERVATION)
        self.wait(lambda: not versions_behind(self.data, EARLY_WARNING_SCORE, newest))

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        return {
            table.full_name: reader.query(self.data, f"SELECT * FROM {table.full_name} ORDER BY ALL").to_pylist()
            for table in WRITTEN
        }

    def generations(self) -> dict[str, str]:
        return {flow.name: self.data.checkpoint(flow).name for flow in LAKEHOUSE_FLOWS}


@pytest.fixture
def stack(data: DataDir, jars: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    with Broker(data, jars) as broker:
        ensure(broker.address)
        monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", broker.address)
        stack = Stack(data, broker.address)
        yield stack
        stack.kill()


def test_flows_go_back_and_tables_are_restored_and_every_row_is_there_once(stack: Stack) -> None:
    data = stack.data
    assert "no stream runs" in stack.ward("stream", "pause", code=1)
    assert "no stream runs" in stack.ward("stream", "resume", code=1)

    stack.send([*vitals(range(300)), *told(1)])
    stack.start()
    stack.wait_until_landed()

    # A lakehouse that runs is neither backed up nor moved.
    assert "ward stream pause" in stack.ward("checkpoint", "backup", "first", code=1)
    assert "ward stream pause" in stack.ward("checkpoint", "rewind", "observation", "--to", "0", "--yes", code=1)
    assert "after `ward stream pause`" in stack.ward("checkpoint", "rewind", "observation", "--to", "beginning")

    # A pause ends the lakehouse and leaves the alerts.
    stack.ward("stream", "pause", "--reason", "a test")
    assert lakehouse_state(data).paused
    assert "a test" in stack.ward("status")
    bronze = newest_data(data, DEVICE_MESSAGE)
    evaluated = stack.ends("alert.evaluations")
    stack.ward("checkpoint", "backup", "first")
    stack.send([*vitals(range(300, 500)), *told(2)])
    stack.wait(lambda: stack.ends("alert.evaluations") >= evaluated + 180)
    assert newest_data(data, DEVICE_MESSAGE) == bronze
    breach = stack.ward("checkpoint", "list", "--max-lag", "100", code=1)
    assert "device_message: 200 records behind, 100 allowed" in breach

    stack.ward("stream", "resume")
    stack.wait_until_landed()
    stack.wait_until_scored()
    whole = stack.tables()
    counts = {name: len(rows) for name, rows in whole.items()}
    derived = {name: counts.pop(name) for name in ("gold.vital_sign_minute", "gold.score_input")}
    assert all(derived.values())
    assert counts == {
        "bronze.device_message": 500,
        "silver.observation": 400,
        "silver.observation_quarantine": 50,
        "silver.dead_letter": 50,
        "silver.patient": 0,
        "silver.encounter": 0,
        "silver.clinical_resource": 0,
        "gold.early_warning_score": counts["gold.early_warning_score"],
        "gold.alert_event": 4,
        "gold.alert": 2,
        "gold.alert_notification": 2,
        "gold.alert_delivery": 2,
        "gold.audit_event": 2,
    }
    assert counts["gold.early_warning_score"] > 0
    assert {row["status"] for row in whole["gold.alert_delivery"]} == {"delivered"}

    # Each flow reads all again, which changes nothing.
    stack.ward("stream", "pause")
    assert "would skip" in stack.ward("checkpoint", "rewind", "alert_event", "--to", "alerts-0=99999", code=1)
    for flow in LAKEHOUSE_FLOWS:
        stack.ward("checkpoint", "rewind", flow.name, "--to", "beginning", "--yes")
    assert set(stack.generations().values()) == {"2"}
    assert position(data.checkpoint(ALERT_NOTIFICATION)).kafka()["alert.notification"] == {0: 0, 1: 0}
    stack.ward("stream", "resume")
    stack.wait_until_landed()
    stack.wait(lambda: position(data.checkpoint(EARLY_WARNING_SCORE)) is not None)
    assert stack.tables() == whole

    # The tables go back to the first backup; what came after it lands again, after a kill and a start as well.
    stack.ward("stream", "pause")
    planned = stack.ward("checkpoint", "restore", "first")
    assert "back to" in planned
    assert stack.tables() == whole
    stack.ward("checkpoint", "restore", "first", "--yes")
    assert {name: len(stack.tables()[name]) for name in ("bronze.device_message", "gold.early_warning_score")} == {
        "bronze.device_message": 300,
        "gold.early_warning_score": 0,
    }
    assert set(stack.generations().values()) == {"3"}
    stack.kill()
    assert "paused" in stack.ward("status")
    stack.start()
    stack.wait(lambda: (state := read_state(data, "stream")) is not None and state.state == "ready")
    assert lakehouse_state(data).paused
    stack.ward("stream", "resume")
    stack.wait_until_landed()
    stack.wait_until_scored()
    assert stack.tables() == whole
    stack.kill()

    ledger = prove(Settings(), data, stack.bootstrap, "1g")
    assert [check for check in ledger.checks if not check.holds] == []
    assert ledger.totals["bronze_rows"] == 500
