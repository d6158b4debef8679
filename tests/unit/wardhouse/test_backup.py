"""Backups: whole, checked, and only of a lakehouse that stands still."""

import json
from datetime import UTC, datetime

import pytest

from lakehouse import pause
from lakehouse.datadir import DataDir
from lakehouse.pipeline import ALERT_EVENT, OBSERVATION
from wardhouse.backup import BackupError, make, names, position_of, read, refuse_lost
from wardhouse.component import component
from wardhouse.errors import Failure
from wardhouse.rewind import Kafka

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def committed(data: DataDir) -> None:
    for folder, text in (("offsets", 'v1\n{}\n{"alerts": {"0": 7}}'), ("commits", "v1\n{}")):
        (data.checkpoint(ALERT_EVENT) / folder).mkdir(parents=True)
        (data.checkpoint(ALERT_EVENT) / folder / "3").write_text(text)


def test_a_backup_holds_the_newest_generation_of_each_flow(data: DataDir) -> None:
    committed(data)
    made = make(data, "first", NOON)
    assert read(data, "first") == made
    assert names(data) == ("first",)
    assert made.generations == {"alert_event": 1}
    assert sorted(made.checksums) == ["checkpoints/alert_event/1/commits/3", "checkpoints/alert_event/1/offsets/3"]
    at = position_of(data, made, ALERT_EVENT)
    assert at is not None
    assert at.kafka() == {"alerts": {0: 7}}
    assert position_of(data, made, OBSERVATION) is None


def test_a_backup_has_a_name_of_its_own_and_something_in_it(data: DataDir) -> None:
    with pytest.raises(BackupError, match="nothing to back up"):
        make(data, "first", NOON)
    assert names(data) == ()
    committed(data)
    make(data, "first", NOON)
    for name, why in (("first", "there is a backup first"), ("../x", "letters"), (".x", "letters")):
        with pytest.raises(BackupError, match=why):
            make(data, name, NOON)


def test_a_damaged_backup_is_told(data: DataDir) -> None:
    committed(data)
    make(data, "first", NOON)
    folder = data.backups / "first"
    (folder / "checkpoints/alert_event/1/offsets/3").write_text("v1\n{}\n{}")
    with pytest.raises(BackupError, match=r"1 files differ or are missing, checkpoints/alert_event/1/offsets/3"):
        read(data, "first")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "format": 2}))
    with pytest.raises(BackupError, match="format 2"):
        read(data, "first")
    (folder / "manifest.json").write_text("{")
    with pytest.raises(BackupError, match="damaged"):
        read(data, "first")
    with pytest.raises(BackupError, match="there is no backup second in"):
        read(data, "second")


def test_a_lakehouse_that_runs_is_not_backed_up_until_it_is_paused(data: DataDir) -> None:
    committed(data)
    with component(data, "stream-lakehouse") as running:
        running.ready()
        with pytest.raises(Failure, match="ward stream pause"):
            make(data, "first", NOON)
        pause.ask(data, "a test", NOON)
        running.paused(True)
        assert make(data, "first", NOON).name == "first"


def test_what_retention_has_taken_is_not_given_up() -> None:
    place = ("alerts", 0)
    kafka = Kafka(first={place: 10}, end={place: 30})
    refuse_lost(ALERT_EVENT, {place: 10}, {place: 30}, kafka)
    refuse_lost(ALERT_EVENT, {place: 5}, {place: 5}, kafka)
    with pytest.raises(BackupError, match=r"5 of alerts-0 would be lost. `--keep alert_event`"):
        refuse_lost(ALERT_EVENT, {place: 5}, {place: 30}, kafka)
    with pytest.raises(BackupError, match="2 of alerts-0"):
        refuse_lost(ALERT_EVENT, {place: 5}, {place: 7}, kafka)
