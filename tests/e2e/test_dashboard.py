"""The dashboard as people meet it: ``ward dashboard`` in a process of its own, seen by a headless Chromium."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest

from alerting.compacted import whole
from alerting.router import Topics
from dashboard.period import last_week
from lakehouse.datadir import DataDir
from lakehouse.scores import PARTS
from lakehouse.tables import (
    ALERT,
    ALERT_EVENT,
    EARLY_WARNING_SCORE,
    OBSERVATION,
    OBSERVATION_QUARANTINE,
    VITAL_SIGN_MINUTE,
)
from tests.fixtures.browser import Browser
from tests.fixtures.delta import append
from tests.fixtures.issuer import issuing
from tests.fixtures.stack import WARD
from tests.integration.test_alert_commands import breach, listed, names, routing
from tests.integration.test_router import send, wait_for
from tests.unit.dashboard.test_app import noted

__all__ = ["names"]


def write_ward(data: DataDir, now: datetime) -> None:
    """Two patients of one unit over two hours: one with a high heart rate, an open alert and a value in quarantine."""
    values = {"ward/calm": [72.0] * 120, "ward/ill": [135.0 - number / 2 for number in range(120)]}
    statistics = ("min", "mean", "max", "first", "last")
    for patient, series in values.items():
        of_signal = {"patient_id": patient, "code": "8867-4", "unit": "/min", "count": 60}
        minutes = [
            {**of_signal, "minute": now - timedelta(minutes=number), **dict.fromkeys(statistics, value)}
            for number, value in enumerate(series, 1)
        ]
        append(data, VITAL_SIGN_MINUTE, *minutes)
    came = {"observed_at": now, "received_at": now, "topic": "vitals", "source": "ward", "device_id": "monitor-1"}
    for bed, patient in enumerate(values, 1):
        named = {"patient_id": patient, "location_unit": "ICU", "location_bed": str(bed)}
        append(data, OBSERVATION, {"observation_id": bytes([bed]), "version": b"1", **named, **came})
    bad = {"observation_id": b"bad", "version": b"1", "failed_constraints": ["unknown_unit"]}
    append(data, OBSERVATION_QUARANTINE, {**bad, **came})
    scores = (("ward/ill", 90, 2, 2, "low"), ("ward/ill", 25, 5, 5, "medium"), ("ward/calm", 40, 0, 3, None))
    for patient, minutes_ago, least, most, risk in scores:
        total = {"total": least if least == most else None, "total_min": least, "total_max": most, "risk": risk}
        parts = {"parts": {**dict.fromkeys(PARTS), "heart_rate": least, "spo2": 0, "temperature": 0}}
        seen = {"patient_id": patient, "score": "news2", "observed_at": now - timedelta(minutes=minutes_ago)}
        append(data, EARLY_WARNING_SCORE, {**seen, **total, **parts})
    at = now - timedelta(minutes=28)
    alert = {
        "alert_id": "a",
        "sequence": 0,
        "state": "active",
        "rule_id": "heart-rate-high",
        "title": "Heart rate high",
        "pack": "adult@1",
        "priority": "medium",
        "category": "physiological",
        "patient_id": "ward/ill",
        "location_unit": "ICU",
        "location_bed": "2",
        "code": "8867-4",
        "value": 121.0,
        "limit_value": 120.0,
    }
    append(data, ALERT_EVENT, {**alert, "observed_at": at, "emitted_at": at})
    append(data, ALERT, {**alert, "opened_at": at, "active_at": at, "changed_at": at, "escalations": 0})


@contextmanager
def serving(data: DataDir, **environment: str) -> Iterator[str]:
    """The address of a running dashboard over the data dir."""
    arguments = ["dashboard", "--data-dir", str(data.root), "--port", "0", "--gateway", "http://127.0.0.1:1"]
    state = data.run / "dashboard.json"
    with subprocess.Popen(
        [WARD, *arguments], stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    ) as process:
        # Whatever fails: who leaves this block waits for the process.
        try:
            deadline = time.monotonic() + 60
            while not (state.exists() and json.loads(state.read_text())["state"] == "ready"):
                assert process.poll() is None, "the dashboard ended"
                assert time.monotonic() < deadline, "the dashboard did not become ready"
                time.sleep(0.1)
            yield json.loads(state.read_text())["address"]
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    assert process.returncode == 0
    assert not state.exists()


@pytest.fixture
def dashboard(data: DataDir, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A running dashboard over two patients, without a broker."""
    # One of somebody else's may listen on the usual port.
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    write_ward(data, datetime.now(UTC).replace(second=0, microsecond=0))
    with serving(data) as address:
        yield address


def test_from_the_ward_a_click_on_the_patient_in_need_leads_to_the_trend(
    browser: Browser, dashboard: str, tmp_path: Path
) -> None:
    pictures = Path(os.environ.get("WARD_TEST_OUTPUT", tmp_path))
    browser.open(dashboard)
    browser.wait_for("Open alerts (1)")
    assert "!! Heart rate high" in browser.text()
    assert "NEWS2 5 \N{UPWARDS ARROW} medium risk" in browser.text()
    assert "NEWS2 0 to 3 risk open: a part is not known" in browser.text()
    assert browser.script("document.querySelector('.ward-tile .ward-id').innerText") == "ward/ill"
    browser.screenshot(pictures / "ward.png")

    browser.script("document.querySelector('.ward-tile').click()")
    browser.wait_for("Alerts in this span (1)")
    assert browser.script("location.pathname + location.search") == "/patient?id=ward%2Fill"
    assert "Europe/London" in browser.text()
    browser.wait_for_element("svg.marks, canvas.marks")
    browser.screenshot(pictures / "patient.png")


def test_what_a_page_shows_can_be_taken_along_as_a_file(browser: Browser, dashboard: str, tmp_path: Path) -> None:
    pictures = Path(os.environ.get("WARD_TEST_OUTPUT", tmp_path))
    browser.open(f"{dashboard}/patient?id=ward%2Fill")
    browser.wait_for("Alerts in this span (1)")
    beginnings = {"PDF": b"%PDF-", "PNG": b"\x89PNG", "CSV": b"kind,at,code"}
    for kind, beginning in beginnings.items():
        file = browser.downloaded(kind, tmp_path / "patient")
        assert file.suffix == f".{kind.lower()}"
        assert file.read_bytes().startswith(beginning)

    # Of its own the page shows a week that is over, which on a Monday the stored values reach into.
    running = last_week(datetime.now(UTC) + timedelta(days=7), ZoneInfo("Europe/London"))
    browser.open(f"{dashboard}/trends?week={quote(running.words)}")
    browser.wait_for("By rule", within_s=60)
    assert "The period is not over" in browser.text()
    browser.screenshot(pictures / "trends.png")
    report = browser.downloaded("Report as PDF", tmp_path / "trends")
    figures = browser.downloaded("Figures as CSV", tmp_path / "trends")
    assert report.name.startswith("trend-ICU-")
    assert report.read_bytes().startswith(b"%PDF-")
    assert figures.read_text().startswith("care_unit,period,measure,")


PAGES = ("Ward", "Patient", "Alerts", "Trends", "Alarm burden", "Data quality", "Research", "Models")
SAYS = {
    "": "Open alerts (1)",
    "patient": "Alerts in this span",
    "alerts": "nothing can be ordered",
    "burden": "What if",
    "quality": "In quarantine",
    "research": "No cohort has been built",
    "models": "No model has been trained",
}


def test_every_page_opens_on_a_desk_and_in_the_dark_on_a_phone(
    browser: Browser, dashboard: str, tmp_path: Path
) -> None:
    pictures = Path(os.environ.get("WARD_TEST_OUTPUT", tmp_path))
    for name, look in (("light", {}), ("dark-phone", {"dark": True, "width": 390, "height": 844})):
        browser.looks(**look)
        for page, says in SAYS.items():
            browser.open(f"{dashboard}/{page}")
            browser.wait_for(says)
            assert browser.script("document.documentElement.scrollWidth <= window.innerWidth"), (page, look)
            browser.wait_for_rest()
            assert "Page not found" not in browser.text()
            browser.screenshot(pictures / f"{page or 'ward'}-{name}.png")
    browser.looks()
    browser.open(f"{dashboard}/burden?period=1+hour")
    for page in PAGES:
        browser.wait_for(page)
    browser.click("Compare")
    browser.wait_for("tells 0% less often than", within_s=60)
    browser.screenshot(pictures / "what-if.png")


def test_an_alert_that_is_acknowledged_in_the_browser_is_acknowledged_for_the_commands(
    browser: Browser, broker: str, names: Topics, data: DataDir, tmp_path: Path
) -> None:
    pictures = Path(os.environ.get("WARD_TEST_OUTPUT", tmp_path))
    with routing(broker, names, data) as router:
        send(broker, names.evaluations, breach(0), breach(1, "hospital/2"))
        wait_for(lambda: len(router.shown) == 2)
        first = next(event["alert_id"] for event in router.shown if event["patient_id"] == "hospital/1")
        with serving(data) as address:
            browser.open(f"{address}/alerts?alert={first}")
            browser.wait_for("Live: what the router holds")
            # The look is on record by then; a name that is typed before ends that run of the page.
            browser.wait_for("Give your name above")
            browser.type("Your name", "nurse on duty")
            browser.wait_for("You take it on")
            browser.type("Comment (optional)", "on my way")
            browser.click("Acknowledge")
            browser.wait_for("is acknowledged by nurse on duty: the router has taken it.")
            browser.screenshot(pictures / "acknowledged.png")
            browser.click("Alarm burden")
            browser.wait_for("Nothing has been stored yet")
            browser.click("Alerts")
            browser.wait_for("Live: what the router holds")
            assert browser.script("document.querySelector('input[aria-label=\"Your name\"]').value") == "nurse on duty"
        found = listed(data)["hospital/1"]
        assert (found["state"], found["acknowledged_by"]) == ("acknowledged", "nurse on duty")
        # Time goes on for the other patient's alert.
        (taken,) = [event for event in router.shown if event["state"] == "acknowledged"]
        assert (taken["alert_id"], taken["note"]) == (first, "on my way")
    topic = json.loads(os.environ["WARD_TOPIC_NAMES"])["audit"]
    # Partitions come one after the other.
    recorded = sorted((json.loads(record.value) for record in whole(broker, topic)), key=lambda one: one["at"])
    assert [(one["actor"], one["action"], one["patient_id"], one["outcome"]) for one in recorded] == [
        ("local", "look at the page Alerts", "hospital/1", "done"),
        ("nurse on duty", "look at the page Alerts", "hospital/1", "done"),
        ("nurse on duty", "acknowledge", "hospital/1", "done"),
    ]


def test_who_must_sign_in_sees_nothing_before_and_is_on_record_by_name_after(
    browser: Browser, data: DataDir, tmp_path: Path
) -> None:
    write_ward(data, datetime.now(UTC).replace(second=0, microsecond=0))
    secret = tmp_path / "secret"
    secret.write_text("known to the provider")
    with issuing("wardhouse") as issuer:
        settings = {
            "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
            "WARD_OIDC_ISSUER": issuer.url,
            "WARD_OIDC_AUDIENCE": "wardhouse",
            "WARD_OIDC_CLIENT_ID": "wardhouse",
            "WARD_OIDC_CLIENT_SECRET_FILE": str(secret),
            "WARD_OIDC_UNITS_CLAIM": "units",
        }
        issuer.person["units"] = ["ICU"]
        with serving(data, **settings) as address:
            browser.open(f"{address}/patient?id=ward%2Fill")
            browser.wait_for("Please sign in")
            assert "ward/ill" not in browser.text()
            browser.click("Sign in")
            browser.wait_for("Open alerts (1)")
            browser.open(f"{address}/patient?id=ward%2Fill")
            browser.wait_for("Alerts in this span (1)")
            (look,) = noted(data)
            browser.click("Sign out")
            browser.wait_for("Please sign in")
            issuer.person["units"] = ["CARD"]
            browser.click("Sign in")
            browser.wait_for("No patient of your care units is being monitored")
    assert (look["actor_kind"], look["actor"], look["patient_id"]) == ("user", "ada", "ward/ill")
    assert secret.read_text() not in browser.text()
