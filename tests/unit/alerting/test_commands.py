"""The commands around alerts, as far as they need no broker."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from lakehouse.datadir import DataDir
from lakehouse.tables import ALERT_EVENT
from wardhouse.commands import alerts, limits, rules

START = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setattr("alerting.compacted.newest.__kwdefaults__", {"timeout_s": 0.3})


def call(app: typer.Typer, *arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.stdout, done.stderr


def write_events(folder: Path) -> None:
    import pyarrow as pa
    from deltalake import write_deltalake

    rows = [
        ("a", 0, "active", "high"),
        ("a", 1, "resolved", "high"),
        ("b", 0, "active", "low"),
        ("c", 0, "active", "high"),
    ]
    write_deltalake(
        str(DataDir(folder).table(ALERT_EVENT)),
        pa.table(
            {
                "alert_id": [row[0] for row in rows],
                "sequence": pa.array([row[1] for row in rows], pa.int32()),
                "state": [row[2] for row in rows],
                "priority": [row[3] for row in rows],
                "rule_id": ["spo2-low"] * 4,
                "title": ["SpO2 low"] * 4,
                "patient_id": [f"hospital/{row[0]}" for row in rows],
                "limit_value": [90.0] * 4,
                "observed_at": pa.array([START + timedelta(minutes=n) for n in range(4)], pa.timestamp("us", tz="UTC")),
            }
        ),
    )


def test_without_a_broker_open_alerts_come_from_gold_most_urgent_first(tmp_path: Path) -> None:
    write_events(tmp_path)
    code, out, err = call(alerts.app, "list", "--data-dir", str(tmp_path))
    assert (code, [(line.split()[0], line.split()[-1]) for line in out.splitlines()]) == (
        0,
        [("high", "c"), ("low", "b")],
    )
    assert "since 2026-01-01 12:03:00Z" in out
    assert err == "no broker answers: these are the alerts of gold.alert_event\n"


def write_story(folder: Path) -> None:
    import pyarrow as pa
    from deltalake import write_deltalake

    steps = [
        ("aa11", 0, "active", "breach", 86.0),
        ("aa11", 1, "resolved", "cleared", 93.0),
        ("aa22", 0, "active", "breach", 80.0),
    ]
    rows = [
        {
            "alert_id": alert_id,
            "sequence": sequence,
            "state": state,
            "reason": reason,
            "rule_id": "spo2-low",
            "title": "SpO2 low",
            "pack": "adult@1",
            "priority": "high",
            "category": "physiological",
            "patient_id": "hospital/7",
            "location_unit": "MED",
            "location_bed": "MED-03",
            "device_id": "monitor-1",
            "code": "59408-5",
            "value": value,
            "limit_value": 90.0,
            "observed_at": START + timedelta(minutes=sequence),
            "message_id": f"m{sequence}",
            "message_received_at": START + timedelta(minutes=sequence),
            "emitted_at": START + timedelta(minutes=sequence, seconds=1),
        }
        for alert_id, sequence, state, reason, value in steps
    ]
    write_deltalake(str(DataDir(folder).table(ALERT_EVENT)), pa.Table.from_pylist(rows))


def test_an_alert_is_told_with_what_made_each_transition(tmp_path: Path) -> None:
    write_story(tmp_path)
    code, out, err = call(alerts.app, "show", "aa1", "--data-dir", str(tmp_path))
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "SpO2 low (high, physiological), rule spo2-low of adult@1",
        "patient hospital/7, MED MED-03, device monitor-1",
        "alert aa11",
        "  2026-01-01 12:00:00Z  active    breach: 86 (limit 90), message m0, told 2026-01-01 12:00:01Z",
        "  2026-01-01 12:01:00Z  resolved  cleared: 93 (limit 90), message m1, told 2026-01-01 12:01:01Z",
    ]
    code, out, _ = call(alerts.app, "show", "aa22", "--json", "--data-dir", str(tmp_path))
    assert (code, json.loads(out)["value"]) == (0, 80.0)


@pytest.mark.parametrize(
    ("alert", "said"),
    [
        ("aa", "ward: aa begins the ids of 2 alerts: give more of it\n"),
        ("b", "ward: no alert b in gold.alert_event: it lands half a minute after it was raised\n"),
    ],
)
def test_an_alert_that_cannot_be_named_is_said_so(tmp_path: Path, alert: str, said: str) -> None:
    write_story(tmp_path)
    assert call(alerts.app, "show", alert, "--data-dir", str(tmp_path)) == (1, "", said)


def test_without_the_table_it_says_which_command_makes_it(tmp_path: Path) -> None:
    code, _, err = call(alerts.app, "show", "a", "--data-dir", str(tmp_path))
    assert code == 1
    assert err.startswith("ward: gold.alert_event is not in")


def test_without_broker_and_gold_the_command_says_what_to_do(tmp_path: Path) -> None:
    code, out, err = call(alerts.app, "list", "--data-dir", str(tmp_path))
    assert (code, out) == (1, "")
    assert err.startswith("ward: no Kafka broker answers at 127.0.0.1:1: start one with 'ward broker'")


def test_rules_check_names_each_pack_and_each_error(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("name: broken\nversion: 1\ntitle: t\nrules: []\nextra: 1\n")
    listed = "adult@2: 25 rules, own limits in RESP\nchild@1: 7 rules\n"
    assert call(rules.app, "check") == (0, listed, "")
    assert call(rules.app, "check", str(tmp_path / "broken.yaml")) == (
        1,
        "",
        f"ward: {tmp_path}/broken.yaml: extra: Extra inputs are not permitted\n",
    )


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("hospital/1", "heart_rate"), 2, "give --high, --low or both"),
        (("hospital/1", "pulse", "--high", "1"), 1, "ward: pulse: no such signal"),
        (("hospital/1", "heart_rate", "--high", "1"), 1, "ward: no Kafka broker answers"),
    ],
)
def test_limits_that_cannot_be_set_are_one_clear_error(
    tmp_path: Path, arguments: tuple[str, ...], code: int, text: str
) -> None:
    done = call(limits.app, "set", *arguments, "--data-dir", str(tmp_path))
    assert (done[0], done[1]) == (code, "")
    assert text in done[2]
