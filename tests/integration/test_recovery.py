"""A data dir of an earlier state of the project goes on under today's, here or at another site: docs/recovery.md.

``earlier.tar.xz`` was written by ``ward up --patients 6 --rate 6 --duration 60s`` of commit 1148089, and lacks logs:
378 messages, 8 alerts, before there were resources of FHIR, an audit, risks and waveforms.
"""

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lakehouse import reader
from lakehouse.datadir import DataDir
from lakehouse.topics import TOPICS
from tests.fixtures.stack import LONGEST_S, WARD
from wardhouse.broker import Broker
from wardhouse.settings import Settings

EARLIER = Path(__file__).parents[1] / "fixtures" / "earlier.tar.xz"
SILVER = "SELECT observation_id, version, patient_id, code, value, observed_at FROM silver.observation ORDER BY ALL"
ALERTS = "SELECT alert_id, sequence, state, emitted_at FROM gold.alert_event ORDER BY ALL"


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    with tarfile.open(EARLIER) as archive:
        archive.extractall(tmp_path / "ward", filter="data")
    # What a simulator wrote down of its messages is of its own version, and names the topics of its own site.
    shutil.rmtree(tmp_path / "ward" / "truth")
    return DataDir(tmp_path / "ward")


def ward(
    data: DataDir, *arguments: str, kafka: str | None = None, topics: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a command; without ``kafka`` it finds the data dir's own broker, or starts it."""
    environment = dict(os.environ)
    if kafka:
        environment["KAFKA_BOOTSTRAP_SERVERS"] = kafka
    if topics:
        environment["WARD_TOPIC_NAMES"] = json.dumps(topics)
    command = [WARD, *arguments, "--data-dir", str(data.root)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LONGEST_S, check=False)


def rows(data: DataDir, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in reader.query(data, sql).to_pylist()]


def test_what_an_earlier_state_wrote_is_made_as_declared_and_goes_on_without_loss(
    data: DataDir, tmp_path: Path
) -> None:
    observations, events = rows(data, SILVER), rows(data, ALERTS)
    assert (len(observations), len(events)) == (2_182, 19)

    with Broker(data, Settings().jars.resolve()) as broker:
        before = ward(data, "plan", kafka=broker.address)
        assert (before.returncode, "table silver.patient: missing" in before.stdout) == (2, True), before.stderr
        assert "table silver.observation: constraint out_of_range differs" in before.stdout
        applied = ward(data, "apply", kafka=broker.address)
        assert applied.returncode == 0, applied.stderr
        after = ward(data, "plan", kafka=broker.address)
        assert (after.returncode, "tables and topics are as declared" in after.stdout) == (0, True), after.stdout
        rewound = ward(data, "checkpoint", "rewind", "observation", "--to", "beginning", "--yes", kafka=broker.address)
        assert rewound.returncode == 0, rewound.stderr

    goes_on(data, tmp_path / "report.json")

    assert set(observations) < set(rows(data, SILVER))
    assert set(events) < set(rows(data, ALERTS))


def test_a_copy_of_a_lost_site_goes_on_with_brokers_that_have_never_had_a_record(data: DataDir, tmp_path: Path) -> None:
    observations, events = rows(data, SILVER), rows(data, ALERTS)
    shutil.rmtree(data.kafka)
    # Coordinates hold the topic's name: under the same one, new records would pass for those of the lost brokers.
    topics = {topic.name: f"second.{topic.name}" for topic in TOPICS}

    with Broker(data, Settings().jars.resolve()) as broker:
        given: Any = {"kafka": broker.address, "topics": topics}
        before = ward(data, "checkpoint", "rewind", "device_message", "--to", "beginning", **given)
        assert (before.returncode, "`ward apply` makes" in before.stderr) == (1, True), before.stderr
        for names in (None, topics):
            applied = ward(data, "apply", kafka=broker.address, topics=names)
            assert applied.returncode == 0, applied.stderr
        same_name = ward(data, "checkpoint", "rewind", "device_message", "--to", "beginning", kafka=broker.address)
        assert (same_name.returncode, "it is not the same topic" in same_name.stderr) == (1, True), same_name.stderr
        for flow in ("device_message", "alert_event", "alert_notification", "audit_event", "observation"):
            rewound = ward(data, "checkpoint", "rewind", flow, "--to", "beginning", "--yes", **given)
            assert rewound.returncode == 0, rewound.stderr

    goes_on(data, tmp_path / "report.json", topics)

    assert set(observations) < set(rows(data, SILVER))
    assert set(events) < set(rows(data, ALERTS))


def goes_on(data: DataDir, report_file: Path, topics: Mapping[str, str] | None = None) -> None:
    """A short run over all that is there, which must be proven whole."""
    options = (
        "--patients",
        "6",
        "--rate",
        "6",
        "--duration",
        "20s",
        "--broker-port",
        "0",
        "--report",
        str(report_file),
    )
    up = ward(data, "up", *options, topics=topics)
    assert up.returncode == 0, up.stdout + up.stderr
    report = json.loads(report_file.read_text())
    assert (report["lost"], report["duplicated"], report["landed"]) == (0, 0, True), up.stdout
    assert report["ledger"]["totals"]["bronze_rows"] == 378 + report["messages_sent"]
