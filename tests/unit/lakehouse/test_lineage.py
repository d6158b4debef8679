import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from openlineage.client.serde import Serde

from lakehouse.datadir import DataDir
from lakehouse.lineage import Job, LineageError, Parent, Places, Sender, event, of_flow, parent, sender
from lakehouse.pipeline import DEVICE_MESSAGE

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
RUN = "0b2d8f4e-8f3c-4d5e-9a61-2f1f0a7b3c11"


def test_an_event_names_topics_by_their_brokers_and_tables_by_their_files(tmp_path: Path) -> None:
    places = Places(DataDir(tmp_path), "kafka-1:9092,kafka-2:9092", {"vitals": "icu.vitals"})
    told = json.loads(Serde.to_json(event(of_flow(DEVICE_MESSAGE), RUN, ("START", AT), places)))
    assert (told["eventType"], told["eventTime"], told["run"]["runId"]) == ("START", "2026-03-01T12:00:00+00:00", RUN)
    assert (told["job"]["namespace"], told["job"]["name"]) == ("wardhouse", "device_message")
    assert told["job"]["facets"]["jobType"]["processingType"] == "STREAMING"
    (read,) = (one for one in told["inputs"] if one["name"] == "icu.vitals")
    assert read["namespace"] == "kafka://kafka-1:9092"
    (written,) = (one for one in told["outputs"] if one["name"].endswith("device_message"))
    assert (written["namespace"], written["name"]) == ("file", str(tmp_path / "tables/bronze/device_message"))
    assert written["facets"]["symlinks"]["identifiers"][0]["name"] == "bronze.device_message"
    assert "received_at" in {field["name"] for field in written["facets"]["schema"]["fields"]}


def test_a_run_that_failed_says_so_and_what_is_no_declared_table_has_no_schema(tmp_path: Path) -> None:
    job = Job("dbt.icu_stay", "Stays.", "data-engineering", "DBT", "BATCH", (), ("mart.icu_stay",))
    told = json.loads(Serde.to_json(event(job, RUN, ("FAIL", AT), Places(DataDir(tmp_path)), "no such column")))
    assert told["run"]["facets"]["errorMessage"]["message"] == "no such column"
    assert set(told["outputs"][0]["facets"]) == {"symlinks"}


def test_a_parent_is_named_by_the_environment() -> None:
    assert parent({}) is None
    assert parent({"OPENLINEAGE_PARENT_ID": ""}) is None
    given = f"https://airflow.example/prod/cohorts.build_models/{RUN}"
    assert parent({"OPENLINEAGE_PARENT_ID": given}) == Parent(
        "https://airflow.example/prod", "cohorts.build_models", RUN
    )


@pytest.mark.parametrize("given", ["cohorts", f"a/{RUN}", "a/b/7"])
def test_a_parent_that_is_none_is_told(given: str) -> None:
    with pytest.raises(LineageError, match="wanted NAMESPACE/JOB/RUN, the last a UUID"):
        parent({"OPENLINEAGE_PARENT_ID": given})


class Receiver:
    """Takes events, or stands still, or fails."""

    def __init__(self, *, fails: bool = False) -> None:
        self.taken: list[Any] = []
        self.go_on = threading.Event()
        self._fails = fails

    def emit(self, one: Any) -> None:
        self.go_on.wait(30)
        if self._fails:
            raise ConnectionError("away")
        self.taken.append(one)


def test_nobody_waits_for_a_receiver_and_what_is_on_its_way_is_sent_before_the_end() -> None:
    receiver = Receiver()
    told = Sender(receiver)
    for number in range(5):
        told.send(number)  # type: ignore[arg-type]
    assert receiver.taken == []
    receiver.go_on.set()
    told.close()
    assert receiver.taken == [0, 1, 2, 3, 4]


def test_a_receiver_that_takes_nothing_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    receiver = Receiver(fails=True)
    receiver.go_on.set()
    told = Sender(receiver)
    for number in range(3):
        told.send(number)  # type: ignore[arg-type]
    told.close()
    assert [record.getMessage() for record in caplog.records] == [
        "lineage events are not taken (ConnectionError): they are dropped until they are"
    ]


def test_nothing_is_sent_unless_the_environment_says_where_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert sender({}) is None
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "pigeon")
    with pytest.raises(LineageError, match="OpenLineage: "):
        sender()
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "file")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__LOG_FILE_PATH", str(tmp_path / "events"))
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__APPEND", "true")
    told = sender()
    assert told is not None
    told.send(event(of_flow(DEVICE_MESSAGE), RUN, ("START", AT), Places(DataDir(tmp_path), "kafka-1:9092")))
    told.close()
    assert json.loads((tmp_path / "events").read_text())["run"]["runId"] == RUN
