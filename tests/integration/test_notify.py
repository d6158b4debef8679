"""``ward notify`` against a real broker, a real SMTP server and a real HTTP receiver, all on the loopback address."""

import email
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from email.message import Message as Mail
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as MailHandler
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from alerting import channels
from alerting.notification import Delivery, Notification, Told, decode_delivery, encode, key
from alerting.notifier import NotifierError, Topics, run
from lakehouse import progress
from lakehouse.datadir import DataDir
from lakehouse.topics import TOPICS
from wardhouse.broker import Broker, free_port
from wardhouse.component import read_state
from wardhouse.topics import end_offsets, ensure

MakeTopics = Callable[[], dict[str, str]]
TOLD = Told(
    alert_id="a" * 32,
    sequence=0,
    rule_id="spo2-low",
    title="SpO2 low",
    priority="high",
    category="physiological",
    state="active",
    since=1772366400000,
    code="59408-5",
    value=84.0,
    limit_value=90.0,
)

NOTIFIER = """
import sys, threading
from pathlib import Path
import orjson
from alerting import notifier
from alerting.channels import load
from alerting.notifier import Topics, run
notifier._COMMIT_EVERY_S = float(sys.argv[5])
topics = Topics(**orjson.loads(sys.argv[2]))
run(bootstrap_servers=sys.argv[1], topics=topics, destinations=load(Path(sys.argv[3]), {}),
    progress_file=Path(sys.argv[4]), stop=threading.Event(), on_ready=lambda: print("ready", flush=True), say=print,
    group=topics.deliveries, member="one")
"""


def notification(name: str, *told_by: str, **changes: Any) -> Notification:
    usual = Notification(
        notification_id=name,
        patient_id="hospital/4711",
        reason="raised",
        step=0,
        priority="high",
        channels=told_by,
        at=1772366401000,
        pack="adult@1",
        alerts=(TOLD,),
        location_unit="ICU",
        location_bed="ICU-03",
    )
    return replace(usual, **changes)


def send(bootstrap: str, topic: str, *notifications: Notification) -> None:
    send_raw(bootstrap, topic, *((key(one), encode(one)) for one in notifications))


def send_raw(bootstrap: str, topic: str, *records: tuple[bytes, bytes | None]) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=20)
    for record_key, value in records:
        producer.send(topic, key=record_key, value=value)
    producer.flush(30)
    producer.close()


def deliveries(bootstrap: str, topic: str) -> list[Delivery]:
    """Every delivery that is recorded now."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False)
    places = [TopicPartition(topic, partition) for partition in consumer.partitions_for_topic(topic)]
    consumer.assign(places)
    ends = consumer.end_offsets(places)
    found: list[Delivery] = []
    while any(consumer.position(place) < ends[place] for place in places):
        for records in consumer.poll(timeout_ms=500).values():
            assert all(record.key == decode_delivery(record.value).notification_id.encode() for record in records)
            found += [decode_delivery(record.value) for record in records]
    consumer.close()
    return found


def statuses(found: list[Delivery]) -> Counter[tuple[str, str, str]]:
    return Counter((one.notification_id, one.channel, one.status) for one in found)


def wait_for(condition: Callable[[], bool], within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def recorded(bootstrap: str, names: Topics, count: int, within_s: float = 30) -> list[Delivery]:
    """All deliveries, once there are so many."""
    wait_for(lambda: sum(end_offsets(bootstrap, [names.deliveries]).values()) >= count, within_s)
    return deliveries(bootstrap, names.deliveries)


class Receiver:
    """A webhook on a free port: keeps what it is sent, and answers what ``answer`` says."""

    def __init__(self, port: int = 0) -> None:
        self.got: list[dict[str, Any]] = []
        self.answer: Callable[[dict[str, Any]], int] = lambda _: 200
        self.took_s = 0.0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                payload = orjson.loads(self.rfile.read(int(self.headers["Content-Length"])))
                time.sleep(receiver.took_s)
                receiver.got.append(payload)
                self.send_response(receiver.answer(payload))
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Not into the tests' output."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"json://ward:a-secret@127.0.0.1:{self.port}/hook"

    def ids(self) -> list[str]:
        return [payload["notification_id"] for payload in self.got if "notification_id" in payload]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


class Mails(MailHandler):
    def __init__(self) -> None:
        super().__init__()
        self.got: list[Mail] = []

    def prepare_message(self, session: Any, envelope: Any) -> Mail:  # noqa: ARG002
        return email.message_from_bytes(envelope.content, policy=default)

    def handle_message(self, message: Mail) -> None:
        self.got.append(message)


@pytest.fixture
def mails() -> Iterator[tuple[Mails, str]]:
    """What an SMTP server got, and the URL that sends to it."""
    handler, port = Mails(), free_port()
    controller = Controller(handler, hostname="127.0.0.1", port=port)
    controller.start()
    yield handler, f"mailto://hospital.test:{port}?smtp=127.0.0.1&from=ward@hospital.test&to=nurse@hospital.test"
    controller.stop()


class Running:
    """A notifier in a thread of this process."""

    def __init__(self, bootstrap: str, names: Topics, folder: Path, file: str) -> None:
        self.said: list[str] = []
        self.progress = folder / "progress.jsonl"
        self.stop, self.ready = threading.Event(), threading.Event()
        self.failure: BaseException | None = None
        self._bootstrap, self._names = bootstrap, names
        self._destinations = channels.parse(file, "channels.yaml", {})
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        wait_for(lambda: self.ready.is_set() or not self._thread.is_alive())

    def _run(self) -> None:
        try:
            run(
                bootstrap_servers=self._bootstrap,
                topics=self._names,
                destinations=self._destinations,
                progress_file=self.progress,
                stop=self.stop,
                on_ready=self.ready.set,
                say=self.said.append,
                group=self._names.deliveries,
                member="one",
            )
        except Exception as error:  # noqa: BLE001 - told to the test by close()
            self.failure = error

    def close(self) -> None:
        self.stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()
        if self.failure:
            raise self.failure

    def last(self) -> dict[str, Any]:
        return progress.last(self.progress) or {}


@contextmanager
def notifying(bootstrap: str, names: Topics, folder: Path, file: str) -> Iterator[Running]:
    notifier = Running(bootstrap, names, folder, file)
    try:
        yield notifier
    finally:
        notifier.close()


def one_channel(name: str, url: str, **settings: float) -> str:
    return str(orjson.dumps({"channels": {name: {"urls": [url], **settings}}}), "utf-8")


def test_a_notification_arrives_as_mail_and_as_webhook_with_its_fields(
    broker: str, topics: MakeTopics, tmp_path: Path, receiver: Receiver, mails: tuple[Mails, str]
) -> None:
    names = Topics.of(topics())
    file = orjson.dumps({"channels": {"nurse": {"urls": [mails[1]]}, "pager": {"urls": [receiver.url]}}}).decode()
    with notifying(broker, names, tmp_path, file) as notifier:
        send(broker, names.notifications, notification("n1", "nurse", "pager"))
        found = recorded(broker, names, 2)
    assert sorted((one.channel, one.status, one.attempts, one.alert_ids, one.error) for one in found) == [
        ("nurse", "delivered", 1, ("a" * 32,), None),
        ("pager", "delivered", 1, ("a" * 32,), None),
    ]
    (mail,) = mails[0].got
    assert (mail["Subject"], mail["To"]) == ("HIGH SpO2 low, ICU ICU-03, hospital/4711", "nurse@hospital.test")
    assert "SpO2 (pulse oximetry): 84 %, limit 90 %" in str(mail)
    (payload,) = receiver.got
    assert payload["title"] == "HIGH SpO2 low, ICU ICU-03, hospital/4711"
    assert payload["message"] == (
        "SpO2 low (high, physiological), active\n"
        "  SpO2 (pulse oximetry): 84 %, limit 90 %\n"
        "  since 2026-03-01 12:00:00 UTC\n"
        f"  acknowledge: ward alerts ack {'a' * 32}\n"
        "\n"
        "Raised at 2026-03-01 12:00:01 UTC, escalation step 0, rules adult@1."
    )
    assert {name: payload[name] for name in ("type", "notification_id", "patient_id", "priority", "step")} == {
        "type": "failure",
        "notification_id": "n1",
        "patient_id": "hospital/4711",
        "priority": "high",
        "step": 0,
    }
    assert (payload["alert_ids"], payload["alerts"][0]["value"]) == (["a" * 32], 84.0)
    last = notifier.last()
    assert {name: last[name] for name in ("records", "delivered", "repeats", "rejected", "lag", "waiting")} == {
        "records": 1,
        "delivered": 2,
        "repeats": 0,
        "rejected": 0,
        "lag": 0,
        "waiting": {},
    }


@pytest.mark.parametrize("kind", ["plain", "html"])
def test_no_text_of_a_device_becomes_a_header_or_markup_of_a_mail(
    broker: str, topics: MakeTopics, tmp_path: Path, mails: tuple[Mails, str], kind: str
) -> None:
    names = Topics.of(topics())
    evil = notification(
        "n1",
        "nurse",
        patient_id="hospital/1\r\nBcc: all@example.org\r\n\r\n<script>alert(1)</script>",
        location_bed="<b>03</b>\nX-Evil: 1",
        alerts=(replace(TOLD, title="<img src=x onerror=alert(1)>", code="<i>"),),
    )
    url = mails[1] + ("&format=html" if kind == "html" else "")
    with notifying(broker, names, tmp_path, one_channel("nurse", url)):
        send(broker, names.notifications, evil)
        recorded(broker, names, 1)
    (mail,) = mails[0].got
    assert (mail["Bcc"], mail["X-Evil"]) == (None, None)
    assert mail["Subject"].startswith("HIGH <img src=x onerror=alert(1)>, ICU <b>03</b> X-Evil: 1, hospital/1 Bcc: all")
    html = [part.get_content() for part in mail.walk() if part.get_content_type() == "text/html"]  # type: ignore[attr-defined]
    assert len(html) == (kind == "html")
    for text in html:
        assert "&lt;img" in text
        assert not any(tag in text for tag in ("<img", "<i>", "<b>03", "<script"))


def test_a_receiver_that_fails_three_times_gets_it_in_the_end(
    broker: str, topics: MakeTopics, tmp_path: Path, receiver: Receiver
) -> None:
    names = Topics.of(topics())
    receiver.answer = lambda _: 503 if len(receiver.got) <= 3 else 200
    with notifying(broker, names, tmp_path, one_channel("pager", receiver.url)):
        send(broker, names.notifications, notification("n1", "pager"))
        (found,) = recorded(broker, names, 1)
    assert (found.status, found.attempts, found.error) == ("delivered", 4, None)
    assert receiver.ids() == ["n1"] * 4


def test_a_channel_that_is_down_is_recorded_as_undeliverable_and_another_is_not_held_up(
    broker: str, topics: MakeTopics, tmp_path: Path, receiver: Receiver
) -> None:
    names = Topics.of(topics())
    down = {"urls": [f"json://ward:a-secret@127.0.0.1:{free_port()}/very-secret-token"], "give_up_s": 4.0}
    file = orjson.dumps({"channels": {"down": down, "pager": {"urls": [receiver.url]}}}).decode()
    sent = [notification(f"n{number}", "down", "pager") for number in range(20)]
    with notifying(broker, names, tmp_path, file) as notifier:
        send(broker, names.notifications, *sent)
        wait_for(lambda: len(receiver.got) == 20, within_s=3.5)  # before the other channel gives up
        found = recorded(broker, names, 40)
    assert statuses(found) == Counter(
        {
            (one.notification_id, name, status): 1
            for one in sent
            for name, status in (("down", "undeliverable"), ("pager", "delivered"))
        }
    )
    errors = {one.error for one in found if one.channel == "down"}
    assert errors == {"A Connection error occurred sending JSON notification to 127.0.0.1."}
    assert 1 <= len(notifier.said) <= 20
    for text in notifier.said:
        assert text.startswith("not delivered on channel down within 4 s: notification n")
        assert text.endswith(": A Connection error occurred sending JSON notification to 127.0.0.1.")
    assert not any("secret" in text for text in notifier.said)
    assert notifier.last()["undeliverable"] == 20


def test_a_notifier_that_is_killed_again_and_again_tells_everything_and_repeats_only_what_was_not_recorded(
    broker: str, topics: MakeTopics, tmp_path: Path, receiver: Receiver
) -> None:
    names = Topics.of(topics())
    receiver.took_s = 0.005
    file = tmp_path / "channels.yaml"
    file.write_text(one_channel("pager", receiver.url))
    sent = [notification(f"n{number}", "pager", patient_id=f"hospital/{number % 7}") for number in range(400)]
    send(broker, names.notifications, *sent)
    arguments = [broker, orjson.dumps(vars(names)).decode(), str(file), str(tmp_path / "killed.jsonl")]
    repeatable: set[str] = set()
    # Killed soon after a commit, and long after the last one.
    for commit_every_s in ("0.05", "0.05", "3600"):
        before = len(receiver.got)
        with subprocess.Popen(
            [sys.executable, "-c", NOTIFIER, *arguments, commit_every_s], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            wait_for(lambda before=before: len(receiver.got) > before + 30)  # type: ignore[misc]
            process.send_signal(signal.SIGKILL)
        assert len(set(receiver.ids())) < 400, "killed too late to be of use"
        known = {one.notification_id for one in deliveries(broker, names.deliveries)}
        repeatable |= set(receiver.ids()) - known
    with notifying(broker, names, tmp_path, file.read_text()) as notifier:
        recorded(broker, names, 400)
        wait_for(lambda: notifier.last().get("lag") == 0)
    found = deliveries(broker, names.deliveries)
    assert {one.notification_id for one in found} == set(receiver.ids()) == {one.notification_id for one in sent}
    repeated = {name for name, times in Counter(receiver.ids()).items() if times > 1}
    assert repeated <= repeatable
    assert statuses(found).most_common(1)[0][1] == 1
    assert notifier.last()["repeats"] > 0


def test_a_notification_that_the_router_sends_twice_is_told_once(
    broker: str, topics: MakeTopics, tmp_path: Path, receiver: Receiver
) -> None:
    names = Topics.of(topics())
    with notifying(broker, names, tmp_path, one_channel("pager", receiver.url)):
        send(broker, names.notifications, notification("n1", "pager"), notification("n1", "pager"))
        recorded(broker, names, 1)
    with notifying(broker, names, tmp_path, one_channel("pager", receiver.url)) as notifier:
        send(broker, names.notifications, notification("n1", "pager"), notification("n2", "pager"))
        found = recorded(broker, names, 2)
    assert receiver.ids() == ["n1", "n2"]
    assert statuses(found) == {("n1", "pager", "delivered"): 1, ("n2", "pager", "delivered"): 1}
    assert (notifier.last()["records"], notifier.last()["repeats"]) == (2, 1)


def test_a_flood_is_told_in_a_digest_and_high_priority_at_once(
    broker: str, topics: MakeTopics, tmp_path: Path, receiver: Receiver
) -> None:
    names = Topics.of(topics())
    flood = [notification(f"n{number}", "pager", priority="medium") for number in range(200)]
    with notifying(broker, names, tmp_path, one_channel("pager", receiver.url, per_minute=5, digest_s=3.0)):
        send(broker, names.notifications, *flood)
        send(broker, names.notifications, notification("urgent", "pager"))
        wait_for(lambda: "urgent" in receiver.ids(), within_s=2)
        found = recorded(broker, names, 201)
    alone = [f"n{number}" for number in range(5)]
    digests = [payload for payload in receiver.got if "digest_id" in payload]
    assert sorted(receiver.ids()) == sorted([*alone, "urgent"])
    assert len(digests) == 1
    assert digests[0]["title"] == "MEDIUM 195 notifications on 1 patient"
    assert digests[0]["message"].startswith("More than 5 messages within a minute: these are told together.\n")
    assert {one["notification_id"] for one in digests[0]["notifications"]} == {f"n{number}" for number in range(5, 200)}
    assert statuses(found) == Counter(
        {
            (one.notification_id, "pager", "delivered" if one.notification_id in alone else "digested"): 1
            for one in flood
        }
        | {("urgent", "pager", "delivered"): 1}
    )
    assert {one.digest_id for one in found} == {None, digests[0]["digest_id"]}


def test_a_channel_that_nobody_configured_is_recorded_and_said_once(
    broker: str, topics: MakeTopics, tmp_path: Path, receiver: Receiver
) -> None:
    names = Topics.of(topics())
    with notifying(broker, names, tmp_path, one_channel("pager", receiver.url)) as notifier:
        send(broker, names.notifications, *(notification(f"n{number}", "nurse", "pager") for number in range(3)))
        found = recorded(broker, names, 6)
    assert Counter((one.channel, one.status) for one in found) == {
        ("nurse", "unconfigured"): 3,
        ("pager", "delivered"): 3,
    }
    assert notifier.said == ["no channel nurse in the channels file: nobody is told by it (said once)"]


def test_a_care_unit_with_urls_of_its_own_is_told_by_those(
    broker: str, topics: MakeTopics, tmp_path: Path, receiver: Receiver
) -> None:
    names = Topics.of(topics())
    other = Receiver()
    try:
        settings = {"urls": [receiver.url], "units": {"ICU": [other.url]}}
        with notifying(broker, names, tmp_path, orjson.dumps({"channels": {"nurse": settings}}).decode()):
            send(
                broker,
                names.notifications,
                notification("icu", "nurse"),
                notification("ward", "nurse", location_unit="WARD"),
                notification("nowhere", "nurse", location_unit=None),
            )
            recorded(broker, names, 3)
        assert (other.ids(), sorted(receiver.ids())) == (["icu"], ["nowhere", "ward"])
    finally:
        other.close()


def test_what_was_decided_long_ago_is_told_together(
    broker: str, topics: MakeTopics, tmp_path: Path, receiver: Receiver
) -> None:
    names = Topics.of(topics())
    send(broker, names.notifications, notification("n1", "pager"), notification("n2", "pager", priority="low"))
    time.sleep(1.1)
    with notifying(broker, names, tmp_path, one_channel("pager", receiver.url, give_up_s=1.0, digest_s=0.5)):
        found = recorded(broker, names, 2)
    (payload,) = receiver.got
    assert payload["title"] == "HIGH 2 notifications on 1 patient"
    assert payload["message"].startswith("These could not be told in time and are told together now.\n")
    assert {one.status for one in found} == {"digested"}


def test_what_is_no_notification_is_left_out_and_said_once(
    broker: str, topics: MakeTopics, tmp_path: Path, receiver: Receiver
) -> None:
    names = Topics.of(topics())
    with notifying(broker, names, tmp_path, one_channel("pager", receiver.url)) as notifier:
        send_raw(broker, names.notifications, (b"hospital/1", b"{"), (b"hospital/1", None), (b"hospital/1", b"[]"))
        send(broker, names.notifications, notification("n1", "pager"))
        recorded(broker, names, 1)
    assert notifier.last()["rejected"] == 3
    assert [text.split(":")[0] for text in notifier.said] == ["not a notification, left out"]


def test_a_broker_that_goes_away_and_comes_back_costs_no_notification(
    jars: Path, tmp_path: Path, receiver: Receiver
) -> None:
    data, names = DataDir(tmp_path / "ward"), Topics()
    with Broker(data, jars) as running:
        address = running.address
        ensure(address, TOPICS)
        notifier = Running(address, names, tmp_path, one_channel("pager", receiver.url))
        receiver.took_s = 1.0
        send(address, names.notifications, notification("n1", "pager"))
        wait_for(lambda: sum(end_offsets(address, [names.notifications]).values()) == 1)
    try:
        wait_for(lambda: bool(notifier.said))
        with Broker(data, jars, port=int(address.split(":")[1])):
            send(address, names.notifications, notification("n2", "pager"))
            found = recorded(address, names, 2, within_s=60)
            wait_for(lambda: len(notifier.said) == 2)
            notifier.close()
    finally:
        notifier.stop.set()
    assert set(receiver.ids()) == {"n1", "n2"}
    assert {one.notification_id for one in found} == {"n1", "n2"}
    assert [text.split(",")[0] for text in notifier.said] == ["no answer from Kafka", "Kafka answers again"]


def test_a_stop_waits_for_what_is_being_sent_and_leaves_the_rest_to_the_next(
    broker: str, topics: MakeTopics, tmp_path: Path, receiver: Receiver
) -> None:
    names = Topics.of(topics())
    receiver.took_s = 0.5
    sent = [notification(f"n{number}", "pager") for number in range(6)]
    with notifying(broker, names, tmp_path, one_channel("pager", receiver.url)):
        send(broker, names.notifications, *sent)
        wait_for(lambda: len(receiver.got) == 1)
    first = receiver.ids()
    assert sorted(one.notification_id for one in deliveries(broker, names.deliveries)) == sorted(first)
    assert len(first) < 6
    receiver.took_s = 0.0
    with notifying(broker, names, tmp_path, one_channel("pager", receiver.url)):
        recorded(broker, names, 6)
    assert sorted(receiver.ids()) == sorted(one.notification_id for one in sent)


def test_a_channel_that_is_down_for_long_stops_the_reading_at_a_bound_and_all_is_told_when_it_is_back(
    broker: str, topics: MakeTopics, tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alerting.notifier._AHEAD_RECORDS", 5)
    monkeypatch.setattr("alerting.notifier._BATCH_RECORDS", 2)
    names = Topics.of(topics())
    receiver.answer = lambda _: 503
    sent = [notification(f"n{number}", "pager") for number in range(30)]
    with notifying(broker, names, tmp_path, one_channel("pager", receiver.url)) as notifier:
        send(broker, names.notifications, *sent)
        wait_for(lambda: notifier.last().get("records", 0) > 0)
        assert (notifier.last()["records"], notifier.last()["waiting"]) == (6, {"pager": 6})
        receiver.answer = lambda _: 200
        found = recorded(broker, names, 30, within_s=60)
    assert statuses(found) == Counter({(one.notification_id, "pager", "delivered"): 1 for one in sent})


def test_no_broker_and_no_topic_are_clear_errors(
    broker: str, topics: MakeTopics, tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = replace(Topics.of(topics()), deliveries="not-there")
    with pytest.raises(NotifierError, match="has no topic not-there: run 'ward apply'"):
        Running(broker, names, tmp_path, one_channel("pager", receiver.url)).close()
    monkeypatch.setattr("alerting.member._STARTUP_MS", 500)
    with pytest.raises(NotifierError, match=r"no Kafka broker answers at 127.0.0.1:1: start one with 'ward broker'"):
        Running("127.0.0.1:1", names, tmp_path, one_channel("pager", receiver.url)).close()


def ward(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(Path(sys.executable).parent / "ward"), *arguments]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=60
    )


def test_the_command_checks_and_tests_a_channels_file_without_showing_a_secret(
    tmp_path: Path, receiver: Receiver
) -> None:
    file = tmp_path / "channels.yaml"
    url = f"json://ward:${{PAGER_PASSWORD}}@127.0.0.1:{receiver.port}/"
    file.write_text(
        orjson.dumps({"channels": {"pager": {"urls": [url]}, "down": {"urls": [url], "per_minute": 3}}}).decode()
    )
    environment = {"WARD_CHANNELS": str(file), "PAGER_PASSWORD": "very-secret"}
    checked = ward("notify", "--check", **environment)
    assert (checked.returncode, checked.stdout.splitlines()) == (
        0,
        [
            "pager: JSON at 127.0.0.1; 30 a minute, then a digest every 60 s; given up after 900 s",
            "down: JSON at 127.0.0.1; 3 a minute, then a digest every 60 s; given up after 900 s",
        ],
    )
    tested = ward("notify", "--test", "pager", **environment)
    assert (tested.returncode, tested.stdout) == (0, "pager: 1 of 1 sent\n")
    said = ward("notify", "--say", "the models were not built", "--channel", "pager", **environment)
    assert (said.returncode, said.stdout) == (0, "pager: 1 of 1 sent\n")
    assert [(payload["title"], payload["message"]) for payload in receiver.got] == [
        ("Test of Wardhouse", "A test. No patient is concerned."),
        ("Wardhouse", "the models were not built"),
    ]
    receiver.answer = lambda _: 500
    failed = ward("notify", "--test", "down", **environment)
    assert (failed.returncode, failed.stdout) == (1, "down: 0 of 1 sent\n")
    assert failed.stderr.startswith("ward: down, url 1: Failed to send JSON POST notification: ")
    nobody = ward("notify", "--test", "nurse", **environment)
    assert nobody.stderr == "ward: no channel nurse in the channels file; there are pager, down\n"
    unset = ward("notify", "--check", WARD_CHANNELS=str(file))
    assert unset.stderr.splitlines() == [
        f"ward: {file}: channel pager: urls.0: not set in the environment: PAGER_PASSWORD",
        f"{file}: channel down: urls.0: not set in the environment: PAGER_PASSWORD",
    ]
    none = ward("notify", "--check")
    assert none.stderr.startswith("ward: no channels file: give --channels FILE or set WARD_CHANNELS")
    assert not any("very-secret" in done.stdout + done.stderr for done in (checked, tested, failed, nobody))


def test_the_command_delivers_until_it_is_stopped(
    broker: str, topics: MakeTopics, data: DataDir, receiver: Receiver
) -> None:
    site = topics()
    names = Topics.of(site)
    file = data.root.parent / "channels.yaml"
    file.write_text(one_channel("pager", receiver.url))
    command = [sys.executable, str(Path(sys.executable).parent / "ward"), "notify", "--channels", str(file)]
    environment = {"KAFKA_BOOTSTRAP_SERVERS": broker, "WARD_TOPIC_NAMES": orjson.dumps(site).decode()}
    with subprocess.Popen(
        [*command, "--data-dir", str(data.root)], env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(lambda: (state := read_state(data, "notify")) is not None and state.state == "ready")
        send(broker, names.notifications, notification("n1", "pager", "nurse"))
        recorded(broker, names, 2)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (
        0,
        "notify: no channel nurse in the channels file: nobody is told by it (said once)\n",
    )
    assert receiver.ids() == ["n1"]
    assert read_state(data, "notify") is None
    last = progress.last(data.progress("alert_notify")) or {}
    assert (last["delivered"], last["unconfigured"], last["lag"]) == (1, 1, 0)
