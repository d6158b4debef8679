"""The commands around alerts, as far as they need no broker."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from alerting.in_force import started_with
from alerting.pack import load
from lakehouse import progress
from lakehouse.datadir import DataDir
from lakehouse.table import Table
from lakehouse.tables import (
    ALERT_DELIVERY,
    ALERT_EVENT,
    ALERT_NOTIFICATION,
    DEVICE_MESSAGE,
    OBSERVATION,
    OBSERVATION_QUARANTINE,
)
from tests.fixtures.delta import append
from tests.fixtures.packs import KINDS_FILE
from wardhouse.commands import alerts, limits, rules

START = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    hurried = {"from_end": False, "timeout_s": 0.3}
    monkeypatch.setattr("alerting.compacted.Following.__init__.__kwdefaults__", hurried)


def call(app: typer.Typer, *arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.stdout, done.stderr


def write(folder: Path, table: Table, *rows: dict[str, Any]) -> None:
    append(DataDir(folder), table, *rows)


def write_events(folder: Path) -> None:
    rows = [
        row("a", 0, "active", "high"),
        row("a", 1, "resolved", "high"),
        row("b", 0, "active", "low", title="Temperature high", location_unit="ICU"),
        row("b", 1, "acknowledged", "low", title="Temperature high", location_unit="ICU", actor="nurse"),
        row("c", 0, "active", "high"),
        row("c", 1, "escalated", "high", escalation_step=1),
        row("d", 0, "active", "low", category="technical", title="Lead off", limit_value=None),
        row("d", 1, "silenced", "low", category="technical", title="Lead off", limit_value=None, muted_by="s1"),
    ]
    write(folder, ALERT_EVENT, *rows)


def row(alert_id: str, sequence: int, state: str, priority: str, **more: Any) -> dict[str, Any]:
    return {
        "alert_id": alert_id,
        "sequence": sequence,
        "state": state,
        "reason": "breach",
        "priority": priority,
        "category": "physiological",
        "rule_id": "spo2-low",
        "title": "SpO2 low",
        "pack": "adult@2",
        "patient_id": f"hospital/{alert_id}",
        "limit_value": 90.0,
        "observed_at": START + timedelta(minutes=ord(alert_id) - ord("a") + sequence),
        "emitted_at": START,
        **more,
    }


def listed(*arguments: str) -> list[str]:
    """The ids and headings of ``ward alerts list``."""
    code, out, err = call(alerts.app, "list", *arguments)
    assert (code, err) == (0, "no broker answers: these are the alerts of gold.alert_event\n")
    return [line if line.startswith("technical") else line.split()[-1] for line in out.splitlines()]


def test_without_a_broker_open_alerts_come_from_gold_most_urgent_first_and_technical_ones_apart(tmp_path: Path) -> None:
    write_events(tmp_path)
    code, out, err = call(alerts.app, "list", "--data-dir", str(tmp_path))
    assert (code, err) == (0, "no broker answers: these are the alerts of gold.alert_event\n")
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        "high escalated hospital/c SpO2 low limit 90 since 2026-01-01 12:02:00Z step 1 c",
        "low acknowledged hospital/b Temperature high limit 90 since 2026-01-01 12:01:00Z by nurse b",
        "technical alarms: what devices say of themselves",
        "low silenced hospital/d Lead off since 2026-01-01 12:03:00Z by s1 d",
    ]


def test_alerts_are_listed_by_unit_state_and_category(tmp_path: Path) -> None:
    write_events(tmp_path)
    place = ("--data-dir", str(tmp_path))
    heading = "technical alarms: what devices say of themselves"
    assert listed("--unit", "ICU", *place) == ["b"]
    assert listed("--state", "escalated", "--state", "silenced", *place) == ["c", heading, "d"]
    assert listed("--technical", *place) == [heading, "d"]
    assert listed("--physiological", *place) == ["c", "b"]
    assert listed("--resolved", *place) == ["a", "c", "b", heading, "d"]
    assert listed("hospital/c", *place) == ["c"]
    code, out, _ = call(alerts.app, "list", "--json", "--technical", *place)
    assert (code, json.loads(out)["muted_by"]) == (0, "s1")
    code, _, err = call(alerts.app, "list", "--state", "gone", *place)
    assert (code, "--state: gone; known: pending, active" in err) == (2, True)


def write_story(folder: Path) -> None:
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
    write(folder, ALERT_EVENT, *rows)


def test_an_alert_is_told_with_what_made_each_transition(tmp_path: Path) -> None:
    write_story(tmp_path)
    code, out, err = call(alerts.app, "show", "aa1", "--data-dir", str(tmp_path))
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "SpO2 low (high, physiological), rule spo2-low of adult@1",
        "patient hospital/7, MED MED-03, device monitor-1",
        "alert aa11",
        "  2026-01-01 12:00:00Z  active        breach: 86 % (limit 90), message m0, written 2026-01-01 12:00:01Z",
        "  2026-01-01 12:01:00Z  resolved      cleared: 93 % (limit 90), message m1, written 2026-01-01 12:01:01Z",
    ]
    code, out, _ = call(alerts.app, "show", "aa22", "--json", "--data-dir", str(tmp_path))
    assert (code, json.loads(out)["value"]) == (0, 80.0)


def test_an_alert_is_explained_with_who_was_told_where_that_has_landed(tmp_path: Path) -> None:
    write_story(tmp_path)
    place = ("--data-dir", str(tmp_path))
    code, out, err = call(alerts.app, "explain", "aa1", *place)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[:4] == [
        "SpO2 low (high, physiological), rule spo2-low of adult@1",
        "patient hospital/7, MED MED-03, device monitor-1",
        "alert aa11",
        "why it fired",
    ]
    assert lines[lines.index("who was told") + 1] == "  not known: gold.alert_notification is not there"

    decided = {
        "notification_id": "n1",
        "patient_id": "hospital/7",
        "reason": "raised",
        "step": 0,
        "priority": "high",
        "channels": ["nurse"],
        "pack": "adult@1",
        "alert_ids": ["aa11"],
        "sequences": [0],
        "decided_at": START,
        "emitted_at": START,
    }
    ended = {
        "notification_id": "n1",
        "channel": "nurse",
        "status": "delivered",
        "attempts": 1,
        "alert_ids": ["aa11"],
        "ended_at": START + timedelta(seconds=1),
    }
    write(tmp_path, ALERT_NOTIFICATION, decided)
    write(tmp_path, ALERT_DELIVERY, ended)
    lines = call(alerts.app, "explain", "aa1", *place)[1].splitlines()
    told = "  2026-01-01 12:00:00Z  raised, nurse: delivered 2026-01-01 12:00:01Z, 1 attempt"
    assert lines[lines.index("who was told") + 1] == told
    lines = call(alerts.app, "explain", "aa2", *place)[1].splitlines()
    nobody = (
        "  nobody: gold.alert_notification has nothing of it: the rule tells nobody, or it lands within half a minute"
    )
    assert lines[lines.index("who was told") + 1] == nobody


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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--for", "30m"), "give --patient, --rule, --unit or several of them"),
        (("--unit", "ICU"), "give --for or --until"),
        (("--unit", "ICU", "--for", "30m", "--until", "2099-01-01T00:00:00Z"), "give --for or --until"),
        (("--unit", "ICU", "--for", "25h"), "a silence of more than 24 h is forgotten by who made it"),
        (("--unit", "ICU", "--until", "2020-01-01T00:00:00Z"), "--until: 2020-01-01T00:00:00Z has passed"),
        (("--unit", "ICU", "--until", "2099-01-01"), "give an instant with its offset"),
        (("--unit", "ICU", "--for", "soon"), "give a time such as 60s, 2m or 1h"),
    ],
)
def test_a_silence_without_bounds_is_refused(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    done = call(alerts.app, "silence", *arguments, "--reason", "r", "--by", "b", "--data-dir", str(tmp_path))
    # Errors of usage stand in a box, which breaks lines.
    assert (done[0], done[1]) == (2, "")
    assert said in " ".join(done[2].replace("\u2502", " ").split())


def test_a_silence_needs_a_reason(tmp_path: Path) -> None:
    empty = call(alerts.app, "silence", "--unit", "ICU", "--for", "30m", "--reason", " ", "--data-dir", str(tmp_path))
    assert (empty[0], "--reason: say why" in empty[2]) == (2, True)
    assert call(alerts.app, "silence", "--unit", "ICU", "--for", "30m", "--data-dir", str(tmp_path))[0] == 2


@pytest.mark.parametrize(
    ("app", "arguments"),
    [
        (alerts.app, ("ack", "a")),
        (alerts.app, ("silence", "--unit", "ICU", "--for", "30m", "--reason", "r")),
        (alerts.app, ("silence", "--rule", "spo2-low", "--for", "25h", "--long", "--reason", "r")),
        (alerts.app, ("unsilence", "a")),
        (alerts.app, ("silences",)),
        (rules.app, ("apply", "child")),
        (rules.app, ("reset",)),
        (rules.app, ("show",)),
    ],
)
def test_commands_say_that_no_broker_answers(tmp_path: Path, app: typer.Typer, arguments: tuple[str, ...]) -> None:
    code, out, err = call(app, *arguments, "--data-dir", str(tmp_path))
    assert (code, out) == (1, "")
    assert err == (
        "ward: no Kafka broker answers at 127.0.0.1:1: start one with 'ward broker',"
        " or correct KAFKA_BOOTSTRAP_SERVERS\n"
    )


def test_a_pack_is_shown_in_words() -> None:
    code, out, err = call(rules.app, "show", "child")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("child@1: ")
    assert out.count("\n  why: ") == 7


def test_a_pack_that_is_broken_is_not_applied(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("name: broken\n")
    code, out, err = call(rules.app, "apply", str(tmp_path / "broken.yaml"), "--data-dir", str(tmp_path))
    assert (code, out) == (1, "")
    assert err.startswith(f"ward: {tmp_path}/broken.yaml: version: Field required")


def observed(code: str, value: float, second: int, **more: Any) -> dict[str, Any]:
    return {
        "topic": "vitals",
        "partition": 0,
        "offset": second + 1000,
        "patient_id": "hospital/7",
        "device_id": "monitor-1",
        "source": "simulator",
        "code": code,
        "value": value,
        "status": "final",
        "observed_at": START + timedelta(seconds=second),
        "received_at": START + timedelta(seconds=second, milliseconds=20),
        "recorded_at": START + timedelta(seconds=second),
        "message_id": f"m{second}",
        **more,
    }


def asked(
    folder: Path, rule: str, time: str = "2026-01-01T12:00:00Z", rules: tuple[str, ...] = ("--rules", str(KINDS_FILE))
) -> tuple[str, list[str]]:
    code, out, err = call(alerts.app, "why-not", "hospital/7", rule, time, "--json", *rules, "--data-dir", str(folder))
    assert (code, err) == (0, "")
    answer = json.loads(out)
    return answer["kind"], answer["lines"]


SPO2, HEART_RATE = "59408-5", "8867-4"
NO_BROKER = "no broker answers: own limits of the patient and silences are left out"


def test_why_nobody_was_told_is_answered_from_the_tables(tmp_path: Path) -> None:
    write(tmp_path, OBSERVATION, *(observed(HEART_RATE, 100.0 + second % 7, second) for second in range(-90, 90)))
    write(
        tmp_path, OBSERVATION, observed(SPO2, 97.0, -70), *(observed(SPO2, 84.0, second) for second in range(-60, -50))
    )
    write(tmp_path, OBSERVATION, *(observed(SPO2, 96.0, second) for second in range(-50, 90)))
    gone = {"failed_constraints": ["sensor_disconnected"]}
    write(tmp_path, OBSERVATION_QUARANTINE, *(observed("9279-1", 0.0, second, **gone) for second in range(-5, 5)))
    # Another patient's, and another time's.
    write(tmp_path, OBSERVATION, observed(HEART_RATE, 150.0, 0, patient_id="hospital/8"), observed(SPO2, 80.0, -9000))
    judged = "judged by kinds@1, named with --rules"
    tail = [judged, NO_BROKER, "gold.alert_event is not there"]

    assert asked(tmp_path, "heart-rate-high") == (
        "no_breach",
        [
            "nobody was told: none of 180 messages then had a breach; it tells of heart_rate above 120 /min",
            "nearest to it: 106 /min (clear, message m-85, 2026-01-01 11:58:35Z)",
            "the rule: heart_rate above 120 /min, for 15 s, kinds@1",
            *tail,
        ],
    )
    assert asked(tmp_path, "spo2-low") == (
        "too_short",
        [
            (
                "nobody was told at 2026-01-01 12:00:00Z: it ended (cleared) after 10 s, before it had"
                " lasted for the rule's"
                " 15 s (gold.alert_event is not there: so say the values)"
            ),
            "  2026-01-01 11:59:00Z  pending: breach, 84 %",
            "  2026-01-01 11:59:10Z  resolved: cleared, 96 %",
            "the rule: spo2 below 90 %, for 15 s, kinds@1",
            *tail,
        ],
    )
    assert asked(tmp_path, "respiratory-rate-low")[0] == "quarantined"
    assert asked(tmp_path, "temperature-high")[0] == "no_signal"
    # The one value of 09:30 stands until another is seen, so that its alert should be open half an hour later.
    assert asked(tmp_path, "spo2-low", "2026-01-01T10:00:00Z")[0] == "not_recorded"
    assert asked(tmp_path, "spo2-low", "2026-01-01T09:00:00Z")[0] == "nothing_heard"
    assert asked(tmp_path, "pulse-high")[0] == "no_rule"
    kind, lines = asked(tmp_path, "news2-high")
    assert (kind, lines[1]) == ("no_breach", "nearest to it: 4 points (clear, message m-60, 2026-01-01 11:59:00Z)")

    write(tmp_path, ALERT_EVENT, row("e", 0, "pending", "high", patient_id="hospital/7", emitted_at=START))
    write(tmp_path, ALERT_EVENT, row("e", 1, "active", "high", patient_id="hospital/7", emitted_at=START))
    kind, lines = asked(tmp_path, "spo2-low", "2026-01-01T12:00:01Z")
    assert (kind, lines[0]) == (
        "not_known",
        "it was active at 2026-01-01 12:00:01Z; who was told is not known: gold.alert_notification is not there",
    )


def test_what_a_device_said_of_itself_is_looked_up_in_its_messages(tmp_path: Path) -> None:
    write(tmp_path, OBSERVATION, *(observed(HEART_RATE, 80.0, second) for second in range(-60, 60)))
    body = {"device_status": {"battery": 22.0}}
    sent = [
        {
            "topic": "vitals",
            "partition": 0,
            "offset": second + 1000,
            "received_at": START + timedelta(seconds=second),
            "key": b"hospital/7",
            "value": json.dumps(body).encode(),
        }
        for second in range(-60, 60)
    ]
    kind, lines = asked(tmp_path, "battery-low")
    assert (kind, lines[-1]) == ("no_breach", "bronze.device_message is not there")
    write(tmp_path, DEVICE_MESSAGE, *sent)
    kind, lines = asked(tmp_path, "battery-low")
    assert (kind, lines[1]) == ("margin", "nearest to it: 22 (margin, message m-60, 2026-01-01 11:59:00Z)")


def test_the_scale_of_a_patient_counts_however_long_ago_it_was_set(tmp_path: Path) -> None:
    scale = observed("wardhouse-spo2-scale", 2.0, -30 * 86_400)
    write(tmp_path, OBSERVATION, *(observed(SPO2, 88.0, second) for second in range(-10, 10)))
    assert asked(tmp_path, "news2-medium")[1][1].startswith("nearest to it: 3 points (")
    write(tmp_path, OBSERVATION, scale)
    assert asked(tmp_path, "news2-medium")[1][1].startswith("nearest to it: 0 points (")


def test_without_any_table_the_answer_says_what_is_not_there(tmp_path: Path) -> None:
    kind, lines = asked(tmp_path, "spo2-low")
    assert kind == "not_known"
    assert lines == [
        "nothing can be said: silver.observation is not there, nor an alert of the rule at 2026-01-01 12:00:00Z",
        "judged by kinds@1, named with --rules",
        NO_BROKER,
        "gold.alert_event is not there",
        "silver.observation is not there",
    ]
    code, out, err = call(alerts.app, "why-not", "hospital/7", "spo2-low", "noon", "--data-dir", str(tmp_path))
    assert (code, out, "give an instant with its offset" in err) == (2, "", True)


def test_a_pack_of_the_sites_own_that_the_router_was_started_with_is_known_by_its_name_alone(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    default = f"judged by {load().label}, the default: no router has told of another one"
    assert asked(tmp_path, "spo2-low", rules=())[1][1] == default
    progress.append(data.progress("alert_router"), {"at": START.isoformat(), "pack": "child@1"})
    assert started_with(data).pack.label == "child@1"
    assert asked(tmp_path, "spo2-low", rules=())[1][1] == "judged by child@1, what the router runs"
    for label in ("ward-7@3", "adult@1"):
        progress.append(data.progress("alert_router"), {"at": START.isoformat(), "pack": label})
        code, out, err = call(
            alerts.app, "why-not", "hospital/7", "spo2-low", "2026-01-01T12:00:00Z", "--data-dir", str(tmp_path)
        )
        said = f"ward: the router runs {label}, which does not come with ward: name its .yaml file\n"
        assert (code, out, err) == (1, "", said)
