"""What people do about alerts and rules, against a real broker and a router that runs."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import typer
from typer.testing import CliRunner

from alerting.compacted import newest
from alerting.pack import Pack
from alerting.router import Topics
from lakehouse import progress
from lakehouse.datadir import DataDir
from lakehouse.pipeline import ALERT_ROUTER
from tests.fixtures.packs import prompt_pack
from tests.integration.test_router import HR, SPO2, Running, evaluation, send, wait_for
from wardhouse.commands import alerts, limits, rules

MakeTopics = Callable[[], dict[str, str]]
ADULT = prompt_pack()


@pytest.fixture
def names(broker: str, topics: MakeTopics, monkeypatch: pytest.MonkeyPatch) -> Topics:
    made = topics()
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", broker)
    monkeypatch.setenv("WARD_TOPIC_NAMES", json.dumps(made))
    return Topics.of(made)


def ward(data: DataDir, app: typer.Typer, *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a command on a data dir."""
    done = CliRunner().invoke(app, [*arguments, "--data-dir", str(data.root)])
    return done.exit_code, done.stdout, done.stderr


@contextmanager
def routing(broker: str, names: Topics, data: DataDir, pack: Pack = ADULT) -> Iterator[Running]:
    router = Running(broker, names, data.root, pack=pack)
    router.progress = data.progress(ALERT_ROUTER.name)
    router.start()
    try:
        yield router
    finally:
        router.close()


def breach(offset: int, patient: str = "hospital/1", code: str = HR, value: float = 130.0) -> tuple[bytes, bytes]:
    return evaluation(offset, int(time.time() * 1000), patient, (code, value))


def listed(data: DataDir, *options: str) -> dict[str, dict[str, Any]]:
    """What ``ward alerts list`` shows, by patient."""
    code, out, _ = ward(data, alerts.app, "list", "--json", *options)
    assert code == 0
    return {alert["patient_id"]: alert for alert in map(json.loads, out.splitlines())}


def test_an_alert_is_acknowledged_by_the_beginning_of_its_id_and_the_router_has_taken_it(
    broker: str, names: Topics, data: DataDir
) -> None:
    with routing(broker, names, data) as router:
        send(broker, names.evaluations, breach(0), breach(1, "hospital/2"))
        wait_for(lambda: len(router.shown) == 2)
        alert_id = next(event["alert_id"] for event in router.shown if event["patient_id"] == "hospital/1")
        done = ward(data, alerts.app, "ack", alert_id[:10], "--by", "nurse on duty", "--note", "on my way")
        said = f"Heart rate high of hospital/1 ({alert_id})"
        assert done == (0, f"acknowledged {said} as nurse on duty\n", "")
        # The router's state says so first: the event follows.
        wait_for(lambda: router.shown[-1].get("note") == "on my way")
        again = ward(data, alerts.app, "ack", alert_id, "--by", "dr on duty")
        assert again == (0, f"{said} is acknowledged already, by nurse on duty\n", "")
        found = listed(data)
        assert [(found[name]["state"], found[name]["acknowledged_by"]) for name in ("hospital/1", "hospital/2")] == [
            ("acknowledged", "nurse on duty"),
            ("active", None),
        ]
        send(broker, names.evaluations, breach(2, value=80.0))
        wait_for(lambda: router.shown[-1]["state"] == "resolved")
    gone = ward(data, alerts.app, "ack", alert_id)
    assert gone == (1, "", f"ward: {said} is not open any more: it is resolved\n")
    assert ward(data, alerts.app, "ack", "zz")[0] == 1
    assert "begins the ids of 2 alerts" in ward(data, alerts.app, "ack", "")[2]


def test_an_acknowledgement_that_no_router_takes_is_said_and_taken_later(
    broker: str, names: Topics, data: DataDir
) -> None:
    with routing(broker, names, data) as router:
        send(broker, names.evaluations, breach(0))
        wait_for(lambda: len(router.shown) == 1)
    alert_id = router.shown[0]["alert_id"]
    code, out, err = ward(data, alerts.app, "ack", alert_id, "--by", "nurse on duty", "--wait", "0.5")
    assert (code, out) == (1, "")
    assert "as nurse on duty, but the router has not taken it yet. It stays on alert.command" in err
    with routing(broker, names, data) as router:
        wait_for(lambda: len(router.shown) == 1)
    assert (router.shown[0]["state"], router.shown[0]["actor"]) == ("acknowledged", "nurse on duty")


def test_a_silence_mutes_what_it_names_until_it_is_taken_back(broker: str, names: Topics, data: DataDir) -> None:
    with routing(broker, names, data) as router:
        send(broker, names.evaluations, breach(0), breach(1, "hospital/2"), breach(2, "hospital/2", SPO2, 80.0))
        wait_for(lambda: len(router.shown) == 3)
        unknown = ward(data, alerts.app, "silence", "--rule", "pulse", "--for", "30m", "--reason", "r")
        # The router runs a pack of the test's own under the name of the default one: by label they are the same.
        assert unknown[:2] == (1, "")
        assert unknown[2].startswith(f"ward: pulse: {ADULT.label} has no such rule; it has heart-rate-high, ")
        options = ("--patient", "hospital/2", "--rule", "heart-rate-high", "--for", "30m")
        who = ("--by", "dr on duty", "--reason", "dressing")
        code, out, err = ward(data, alerts.app, "silence", *options, *who)
        assert (code, err) == (0, "")
        assert out.startswith("silence ")
        assert out.endswith(": mutes 1 open alert\n")
        wait_for(lambda: (router.shown[-1]["state"], router.shown[-1]["patient_id"]) == ("silenced", "hospital/2"))
        silence_id = out.split()[1]
        assert router.shown[-1]["muted_by"] == silence_id
        of = f"silence {silence_id} of patient hospital/2, rule heart-rate-high"
        assert out.startswith(of)
        code, out, _ = ward(data, alerts.app, "silences")
        assert out.startswith(f"{of} by dr on duty, until ")
        assert out.endswith("Z: dressing\n")
        assert listed(data, "--state", "silenced")["hospital/2"]["muted_by"] == silence_id
        done = ward(data, alerts.app, "unsilence", silence_id[:6], "--by", "nurse on duty", "--reason", "done")
        assert done == (0, f"{of} is over, by nurse on duty\n", "")
        wait_for(lambda: router.shown[-1]["reason"] == "unmuted")
        assert ward(data, alerts.app, "silences") == (0, "", "no silences\n")
        none = ward(data, alerts.app, "unsilence", silence_id)
        said = f"ward: no silence {silence_id} is in force: `ward alerts silences` shows those that are\n"
        assert none == (1, "", said)
    assert [json.loads(line) for line in ward(data, alerts.app, "silences", "--json")[1].splitlines()] == []


QUICK = """
name: quick
version: 1
title: Quick
rules:
  - {id: spo2-low, kind: limit, title: SpO2 low, signal: spo2, direction: below, limit: 92, clear_margin: 2,
     priority: high, category: physiological, rationale: r, reference: r}
"""


class Flow:
    """Stands for the alert flow: it evaluates a message now and then, with the pack of this label."""

    def __init__(self, broker: str, topic: str) -> None:
        self.label = ADULT.label
        self._broker, self._topic = broker, topic
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        offset = 0
        while not self._stop.wait(0.3):
            record = orjson.loads(breach(offset, "hospital/9", SPO2, 97.0)[1])
            send(self._broker, self._topic, (b"hospital/9", orjson.dumps({**record, "pack": self.label})))
            offset += 1

    def __enter__(self) -> "Flow":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)


def test_a_pack_is_applied_shown_and_taken_back(broker: str, names: Topics, data: DataDir, tmp_path: Path) -> None:
    file = tmp_path / "quick.yaml"
    file.write_text(QUICK)
    with routing(broker, names, data) as router:
        dry = ward(data, rules.app, "apply", str(file), "--dry-run")
        assert (dry[0], dry[1].splitlines()[:2]) == (0, ["name: adult -> quick", f"version: {ADULT.version} -> 1"])
        assert dry[1].endswith(f"quick@1 could be put in force in place of {ADULT.label}\n")
        assert ward(data, rules.app, "reset")[1].startswith("no pack is applied")
        assert router.said == []

        code, out, err = ward(
            data, rules.app, "apply", str(file), "--by", "dr on duty", "--reason", "try", "--wait", "9"
        )
        assert (code, out.splitlines()[-2:]) == (
            1,
            [f"quick@1 is applied in place of {ADULT.label}", "router: quick@1 is in force"],
        )
        assert err == (
            "alert flow: no message was evaluated meanwhile, so that it cannot be told;"
            " it takes the pack when it runs\n"
        )
        assert router.said == ["pack quick@1 is in force"]
        shown = ward(data, rules.app, "show")[1].splitlines()
        assert shown[0].startswith("quick@1: Quick, 1 rules; in force since 2")
        assert shown[0].endswith("Z by dr on duty: try")
        assert ward(data, rules.app, "apply", str(file)) == (0, "quick@1 is in force already\n", "")
        file.write_text(QUICK.replace("92", "93"))
        code, out, err = ward(data, rules.app, "apply", str(file))
        assert (code, out) == (1, "~ spo2-low: limit: 92 -> 93\n")
        assert err == "ward: quick@1 is in force with other rules: raise the version, since alerts name it\n"

        with Flow(broker, names.evaluations) as flow:
            code, out, err = ward(data, rules.app, "reset", "--wait", "9")
            assert (code, out.splitlines(), err) == (
                0,
                [
                    "the pack that was applied is taken back",
                    f"router: {ADULT.label} is in force",
                    f"alert flow: it evaluates with {ADULT.label}",
                ],
                "",
            )
            flow.label = "other@1"
            file.write_text(QUICK)
            code, out, err = ward(data, rules.app, "apply", str(file), "--wait", "9")
            assert (code, err) == (1, "alert flow: it still evaluates with other@1: see `ward status`\n")


def test_a_pack_that_no_router_takes_stays_applied(broker: str, names: Topics, data: DataDir, tmp_path: Path) -> None:
    file = tmp_path / "quick.yaml"
    file.write_text(QUICK)
    code, out, err = ward(data, rules.app, "apply", str(file), "--wait", "0.5")
    assert (code, out.splitlines()[-1]) == (1, f"quick@1 is applied in place of {ADULT.label}")
    assert err.startswith("router: it has not said so yet; it takes the pack when it runs on this data dir")
    with routing(broker, names, data) as router:
        assert router.said == ["pack quick@1 is in force"]


def test_a_pack_is_applied_also_where_what_is_in_force_cannot_be_compared(
    broker: str, names: Topics, data: DataDir, tmp_path: Path
) -> None:
    file = tmp_path / "quick.yaml"
    file.write_text(QUICK)
    progress.append(data.progress(ALERT_ROUTER.name), {"at": "2026-01-01T12:00:00+00:00", "pack": "ward-7@3"})
    done = ward(data, rules.app, "apply", str(file), "--dry-run")
    assert done == (
        0,
        "quick@1 could be put in force in place of what the router runs\n",
        (
            "not compared with what is in force: the router runs ward-7@3, which does not come with ward:"
            " name its .yaml file\n"
        ),
    )
    assert newest(broker, names.rules) == {}


@pytest.mark.usefixtures("names")
def test_own_limits_are_held_against_the_pack_in_force(data: DataDir, tmp_path: Path) -> None:
    oximetry = tmp_path / "oximetry.yaml"
    oximetry.write_text(
        "name: oximetry\nversion: 1\ntitle: Oximetry\nrules:\n  - {id: spo2-low, kind: limit, title: SpO2 low,"
        " signal: spo2, direction: below, limit: 90, clear_margin: 1, priority: high, category: physiological,"
        " rationale: r, reference: r}\n"
    )
    heart_rate = ("set", "hospital/1", "heart_rate", "--high", "140")
    assert ward(data, limits.app, *heart_rate)[0] == 0
    ward(data, rules.app, "apply", str(oximetry), "--wait", "0")  # nobody runs who could confirm it
    refused = ward(data, limits.app, *heart_rate)
    assert refused == (1, "", "ward: the pack has no high limit of heart_rate that could be replaced\n")
    assert ward(data, limits.app, *heart_rate, "--rules", "adult")[0] == 0
    assert ward(data, limits.app, "set", "hospital/1", "spo2", "--low", "86")[0] == 0
    shown = "hospital/1  spo2  alert below 86\nhospital/1  heart_rate  alert above 140\n"
    assert ward(data, limits.app, "list") == (0, shown, "")
