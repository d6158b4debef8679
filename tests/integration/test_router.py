import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from alerting import command, limits, rules_in_force
from alerting.bands import arms, band_of
from alerting.command import Acknowledge, Silence, Unsilence
from alerting.limits import OwnLimits
from alerting.member import ANSWER_S, lag
from alerting.notification import decode as decode_notification
from alerting.pack import Pack, parse
from alerting.risk import Risk
from alerting.risk import encode as encode_risk
from alerting.router import RouterError, Topics, run
from lakehouse import progress
from lakehouse.datadir import DataDir
from lakehouse.topics import TOPICS
from tests.fixtures.packs import prompt_pack, risk_pack
from wardhouse.broker import Broker
from wardhouse.topics import end_offsets, ensure

ADULT = prompt_pack(steps=False)
ARMS = arms(ADULT)
HR, SPO2 = "8867-4", "59408-5"
MakeTopics = Callable[[], dict[str, str]]

ROUTER = """
import sys, threading
from pathlib import Path
import orjson
from alerting.router import Topics, run
from tests.fixtures.packs import prompt_pack
topics = Topics(**orjson.loads(sys.argv[2]))
run(bootstrap_servers=sys.argv[1], topics=topics, pack=prompt_pack(steps=False), progress_file=Path(sys.argv[3]),
    stop=threading.Event(), on_ready=lambda: print("ready", flush=True), say=print, group=topics.state, member="one")
"""


def evaluation(offset: int, at: int, patient: str, *values: tuple[str, float | None]) -> tuple[bytes, bytes]:
    """Key and value of one record; ``at`` in epoch ms."""
    observations = []
    for code, value in values:
        band = band_of(ARMS, code, value)
        seen = {"code": code, "value": value, "band": band.band, "rule": band.rule, "limit": band.limit}
        observations.append({name: given for name, given in seen.items() if given is not None})
    record = {
        "quiet": all(seen["band"] == "normal" for seen in observations),
        "schema_version": 1,
        "pack": ADULT.label,
        "message_id": f"m{offset}",
        "partition": 0,
        "offset": offset,
        "received_at": at,
        "patient_id": patient,
        "device_id": "monitor-1",
        "source": "simulator",
        "observed_at": at,
        "status": "final",
        "observations": observations,
    }
    return patient.encode(), orjson.dumps(record)


def send(bootstrap: str, topic: str, *records: tuple[bytes, bytes | None]) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, batch_size=256 * 1024)
    for key, value in records:
        producer.send(topic, key=key, value=value)
    producer.flush(30)
    producer.close()


def read(bootstrap: str, topic: str) -> list[Any]:
    """Every record of a topic up to its end now."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False)
    places = [TopicPartition(topic, partition) for partition in consumer.partitions_for_topic(topic)]
    consumer.assign(places)
    ends = consumer.end_offsets(places)
    found: list[Any] = []
    while any(consumer.position(place) < ends[place] for place in places):
        for records in consumer.poll(timeout_ms=500).values():
            found += records
    consumer.close()
    return found


def events(bootstrap: str, topic: str) -> dict[tuple[str, int], bytes]:
    """The events of a topic without repeats; a repeat must be the same byte for byte."""
    found: dict[tuple[str, int], bytes] = {}
    for record in read(bootstrap, topic):
        event = orjson.loads(record.value)
        assert record.key == event["patient_id"].encode()
        assert found.setdefault((event["alert_id"], event["sequence"]), record.value) == record.value
    return found


def wait_for(condition: Callable[[], bool], within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def count(bootstrap: str, topic: str) -> int:
    return sum(end_offsets(bootstrap, [topic]).values())


class Running:
    """A router in a thread of this process."""

    def __init__(
        self, bootstrap: str, topics: Topics, folder: Path, member: str | None = None, pack: Pack = ADULT
    ) -> None:
        self.shown: list[dict[str, Any]] = []
        self.said: list[str] = []
        self.progress = folder / "progress.jsonl"
        self.ready = threading.Event()
        self.stop = threading.Event()
        self.failure: BaseException | None = None
        self.bootstrap, self.topics, self.member, self.pack = bootstrap, topics, member, pack
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            run(
                bootstrap_servers=self.bootstrap,
                topics=self.topics,
                # A group for each set of topics: tests leave each other's offsets alone.
                group=self.topics.state,
                member=self.member,
                pack=self.pack,
                progress_file=self.progress,
                stop=self.stop,
                on_ready=self.ready.set,
                show=self.shown.append,
                say=self.said.append,
            )
        except Exception as error:  # noqa: BLE001 - told to the test by close()
            self.failure = error

    def start(self) -> "Running":
        self.thread.start()
        wait_for(lambda: self.ready.is_set() or not self.thread.is_alive())
        return self

    def close(self) -> None:
        self.stop.set()
        self.thread.join(30)
        assert not self.thread.is_alive()
        if self.failure:
            raise self.failure


@contextmanager
def routing(
    bootstrap: str, topics: Topics, folder: Path, member: str | None = None, pack: Pack = ADULT
) -> Iterator[Running]:
    router = Running(bootstrap, topics, folder, member, pack).start()
    try:
        yield router
    finally:
        router.close()


def test_a_breach_becomes_an_event_and_a_state_and_outlives_the_router(
    broker: str, topics: MakeTopics, tmp_path: Path
) -> None:
    names = Topics.of(topics())
    now = int(time.time() * 1000)
    with routing(broker, names, tmp_path) as router:
        send(broker, names.evaluations, evaluation(0, now, "hospital/1", (HR, 130.0), (SPO2, 97.0)))
        wait_for(lambda: len(router.shown) == 1)
    with routing(broker, names, tmp_path) as router:
        send(broker, names.evaluations, evaluation(1, now + 1, "hospital/1", (HR, 100.0)))
        wait_for(lambda: len(router.shown) == 1)
    found = [orjson.loads(value) for value in events(broker, names.alerts).values()]
    assert [(event["rule_id"], event["state"], event["sequence"], event["value"]) for event in found] == [
        ("heart-rate-high", "active", 0, 130.0),
        ("heart-rate-high", "resolved", 1, 100.0),
    ]
    last = progress.last(router.progress)
    assert last is not None
    assert {name: last[name] for name in ("records", "events", "open", "lag", "rejected")} == {
        "records": 1,
        "events": 1,
        "open": 0,
        "lag": 0,
        "rejected": 0,
    }


def test_own_limits_that_were_set_before_and_during_are_in_force(
    broker: str, topics: MakeTopics, tmp_path: Path
) -> None:
    names = Topics.of(topics())
    now = int(time.time() * 1000)
    own = OwnLimits("hospital/1", HR, 100.0, None, set_at=now)
    send(broker, names.limits, (limits.key("hospital/1", HR), limits.encode(own)))
    with routing(broker, names, tmp_path) as router:
        send(broker, names.evaluations, evaluation(0, now, "hospital/1", (HR, 105.0)))
        wait_for(lambda: len(router.shown) == 1)
        send(broker, names.limits, (limits.key("hospital/1", HR), None))
        send(broker, names.limits, (limits.key("hospital/2", HR), limits.encode(replace(own, patient_id="hospital/2"))))
        send(broker, names.limits, (limits.key("hospital/3", HR), b"no record"))
        wait_for(lambda: bool(router.said))
        send(
            broker,
            names.evaluations,
            evaluation(1, now + 1, "hospital/1", (HR, 105.0)),
            evaluation(2, now + 2, "hospital/2", (HR, 105.0)),
        )
        wait_for(lambda: len(router.shown) == 3)
    assert sorted((event["patient_id"], event["state"], event["reason"]) for event in router.shown) == [
        ("hospital/1", "active", "own_limit_breach"),
        ("hospital/1", "resolved", "cleared"),
        ("hospital/2", "active", "own_limit_breach"),
    ]
    assert [text.split(":")[0] for text in router.said] == ["a patient's own limits are not in force"]


def notifications(bootstrap: str, topic: str) -> list[tuple[str, tuple[str, ...], list[str]]]:
    """Reason, channels and rules of each notification on a topic."""
    found = [decode_notification(record.value) for record in read(bootstrap, topic)]
    return [(one.reason, one.channels, [alert.rule_id for alert in one.alerts]) for one in found]


def test_commands_of_people_are_obeyed_and_those_before_a_start_too(
    broker: str, topics: MakeTopics, tmp_path: Path
) -> None:
    names = Topics.of(topics())
    now = int(time.time() * 1000)
    silence = Silence("s1", now, "dr on duty", "dressing", now + 600_000, patient_id="hospital/2")
    send(broker, names.commands, (b"s1", command.encode(silence)), (b"x", b'{"schema_version":1,"command":"dance"}'))
    with routing(broker, names, tmp_path, pack=prompt_pack()) as router:
        send(
            broker,
            names.evaluations,
            evaluation(0, now, "hospital/1", (HR, 130.0)),
            evaluation(1, now, "hospital/2", (HR, 130.0)),
        )
        wait_for(lambda: len(router.shown) == 3)
        alert_id = next(event["alert_id"] for event in router.shown if event["patient_id"] == "hospital/1")
        take_on = Acknowledge("a1", now + 1, "nurse on duty", "hospital/1", alert_id, "on my way")
        send(broker, names.commands, (b"hospital/1", command.encode(take_on)))
        wait_for(lambda: len(router.shown) == 4)
        send(broker, names.commands, (b"s1", command.encode(Unsilence("u1", now + 2, "dr on duty", "s1"))))
        wait_for(lambda: len(router.shown) == 5)
    assert sorted((e["patient_id"], e["sequence"], e["state"], e["reason"]) for e in router.shown) == [
        ("hospital/1", 0, "active", "breach"),
        ("hospital/1", 1, "acknowledged", "acknowledged"),
        ("hospital/2", 0, "active", "breach"),
        ("hospital/2", 1, "silenced", "silenced"),
        ("hospital/2", 2, "active", "unmuted"),
    ]
    assert notifications(broker, names.notifications) == [("raised", ("nurse",), ["heart-rate-high"])] * 2
    assert ["a command is left out" in text for text in router.said] == [True]


def test_an_acknowledgement_that_no_router_saw_is_obeyed_by_the_next(
    broker: str, topics: MakeTopics, tmp_path: Path
) -> None:
    names = Topics.of(topics())
    now = int(time.time() * 1000)
    with routing(broker, names, tmp_path) as router:
        send(broker, names.evaluations, evaluation(0, now, "hospital/1", (HR, 130.0)))
        wait_for(lambda: len(router.shown) == 1)
    take_on = Acknowledge("a1", now + 1, "nurse on duty", "hospital/1", router.shown[0]["alert_id"])
    send(broker, names.commands, (b"hospital/1", command.encode(take_on)))
    with routing(broker, names, tmp_path) as router:
        wait_for(lambda: len(router.shown) == 1)
    assert router.shown[0]["actor"] == "nurse on duty"


def test_a_pack_that_is_applied_is_in_force_without_a_restart(broker: str, topics: MakeTopics, tmp_path: Path) -> None:
    names = Topics.of(topics())
    now = int(time.time() * 1000)
    text = (
        "name: quick\nversion: 1\ntitle: Quick\nrules:\n  - {id: fast-fall, kind: rate, title: Fall, signal: spo2,"
        " direction: fall, change: 5, window_s: 60, clear_margin: 1, priority: high, category: physiological,"
        " rationale: r, reference: r}\n"
    )
    applied = rules_in_force.encode(text, at=datetime(2026, 1, 31, tzinfo=UTC), by="dr on duty", reason="try")
    with routing(broker, names, tmp_path) as router:
        send(broker, names.evaluations, evaluation(0, now, "hospital/1", (HR, 130.0)))
        wait_for(lambda: len(router.shown) == 1)
        send(broker, names.rules, (rules_in_force.KEY, applied))
        wait_for(lambda: len(router.shown) == 2)
        values = ((7000, 97.0), (14000, 90.0))
        send(
            broker,
            names.evaluations,
            *(evaluation(n, now + at, "hospital/1", (SPO2, value)) for n, (at, value) in enumerate(values, start=1)),
        )
        wait_for(lambda: len(router.shown) == 3)
    assert [(event["rule_id"], event["state"], event["pack"]) for event in router.shown] == [
        ("heart-rate-high", "active", ADULT.label),
        ("heart-rate-high", "resolved", ADULT.label),
        ("fast-fall", "active", "quick@1"),
    ]
    assert router.said == ["pack quick@1 is in force"]
    with routing(broker, names, tmp_path) as router:
        pass
    assert router.said == ["pack quick@1 is in force"]


def test_a_risk_that_a_model_has_given_is_held_against_the_pack(
    broker: str, topics: MakeTopics, tmp_path: Path
) -> None:
    names = Topics.of(topics())
    now = int(time.time() * 1000)
    high, low = (encode_risk(Risk("hospital/1", now + at, risk, "death", 3)) for at, risk in ((0, 0.35), (1, 0.1)))
    with routing(broker, names, tmp_path, pack=risk_pack(steps=False)) as router:
        send(broker, names.evaluations, evaluation(0, now, "hospital/1", (HR, 130.0)))
        wait_for(lambda: len(router.shown) == 1)
        send(broker, names.risk, (b"hospital/1", b"no risk"), (b"hospital/1", high))
        wait_for(lambda: len(router.shown) == 2)
    with routing(broker, names, tmp_path, pack=risk_pack(steps=False)) as router:
        send(broker, names.risk, (b"hospital/1", low))
        wait_for(lambda: len(router.shown) == 1)
    found = [orjson.loads(value) for value in events(broker, names.alerts).values()]
    assert [(event["rule_id"], event["state"], event["value"], event["device_id"]) for event in found] == [
        ("heart-rate-high", "active", 130.0, "monitor-1"),
        ("deterioration-risk", "active", 35.0, "death/3"),
        ("deterioration-risk", "resolved", 10.0, "death/3"),
    ]
    assert [text.split(":")[0] for text in router.said] == ["a risk is left out"]


QUIET = parse(
    "name: quiet\nversion: 1\ntitle: Quiet\nrules:\n  - {id: device-silent, kind: silence, title: No data,"
    " after_s: 8, priority: low, category: technical, rationale: r, reference: r}\n",
    "quiet.yaml",
)


def test_a_device_that_falls_silent_is_noticed_also_by_a_router_that_starts_after_it(
    broker: str, topics: MakeTopics, tmp_path: Path
) -> None:
    names = Topics.of(topics())
    send(broker, names.vitals, (b"hospital/1", b"evaluated, or no message at all"))
    with routing(broker, names, tmp_path, pack=QUIET) as router:
        # Ahead of the clock, so that the first router is gone before the silence is one, however slow the machine.
        last = int(time.time() * 1000) + 12_000
        records = [evaluation(n, last + (n - 11) * 1000, "hospital/1", (HR, 80.0)) for n in range(12)]
        send(broker, names.evaluations, *records)
        wait_for(lambda: (progress.last(router.progress) or {"records": 0})["records"] == 12)
    assert router.shown == []
    with routing(broker, names, tmp_path, pack=QUIET) as router:
        wait_for(lambda: len(router.shown) == 1)
        (event,) = router.shown
        assert (event["rule_id"], event["state"], event["observed_at"]) == ("device-silent", "active", last + 8000)
        send(broker, names.evaluations, evaluation(12, int(time.time() * 1000), "hospital/1", (HR, 80.0)))
        wait_for(lambda: len(router.shown) == 2)
    assert router.shown[1]["reason"] == "cleared"


def test_no_device_is_called_silent_while_messages_wait_for_the_alert_flow(
    broker: str, topics: MakeTopics, tmp_path: Path
) -> None:
    names = Topics.of(topics())
    a_minute_ago = int(time.time() * 1000) - 60_000
    heard = [evaluation(n, a_minute_ago + n * 1000, "hospital/1", (HR, 80.0)) for n in range(12)]
    send(broker, names.evaluations, *heard)
    send(broker, names.vitals, (b"hospital/1", b"not evaluated yet"))
    with routing(broker, names, tmp_path, pack=QUIET) as router:
        wait_for(lambda: (progress.last(router.progress) or {"records": 0})["records"] == 12)
        time.sleep(3)  # three ticks of its clock
        assert router.shown == []
        _, another = evaluation(12, int(time.time() * 1000), "hospital/2", (HR, 80.0))
        send(broker, names.evaluations, (b"hospital/1", another))
        wait_for(lambda: len(router.shown) == 1)
    assert router.shown[0]["patient_id"] == "hospital/1"


def test_what_is_no_evaluation_is_left_out_and_said_once(broker: str, topics: MakeTopics, tmp_path: Path) -> None:
    names = Topics.of(topics())
    now = int(time.time() * 1000)
    with routing(broker, names, tmp_path) as router:
        send(broker, names.evaluations, (b"hospital/1", b"{"), (b"hospital/1", None), (b"hospital/1", b'{"quiet":1}'))
        send(broker, names.evaluations, evaluation(0, now, "hospital/1", (HR, 130.0)))
        wait_for(lambda: len(router.shown) == 1)
    assert len(router.said) == 1
    assert (progress.last(router.progress) or {})["rejected"] == 3


def test_a_router_starts_though_the_broker_stands_still_once_it_has_answered(
    jars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Broker(DataDir(tmp_path / "broker"), jars) as own:
        ensure(own.address, TOPICS, {topic.name: topic.name for topic in TOPICS})
        (process,) = (one for one in psutil.Process().children() if str(tmp_path / "broker") in one.cwd())
        slept = threading.Timer(ANSWER_S + 3, process.resume)

        def then_still(**config: Any) -> KafkaProducer:
            producer = KafkaProducer(**config)
            process.suspend()
            slept.start()
            return producer

        monkeypatch.setattr("alerting.member.KafkaProducer", then_still)
        with routing(own.address, Topics.of({topic.name: topic.name for topic in TOPICS}), tmp_path) as router:
            assert slept.finished.is_set()
            send(own.address, "alert.evaluations", evaluation(0, int(time.time() * 1000), "hospital/1", (HR, 130.0)))
            wait_for(lambda: len(router.shown) == 1)


def load_of(patients: int, rounds: int) -> list[tuple[bytes, bytes]]:
    """A reproducible load: heart rates that wander over both limits, with repeats and late messages among them."""
    chance = random.Random(7)
    now = int(time.time() * 1000) - rounds * 1000
    rates = [chance.uniform(60, 110) for _ in range(patients)]
    records: list[tuple[bytes, bytes]] = []
    for second in range(rounds):
        for number in range(patients):
            rates[number] = min(max(rates[number] + chance.gauss(0, 12), 25), 190)
            at = now + second * 1000 - (chance.choice([0, 3000]) if chance.random() < 0.1 else 0)
            records.append(evaluation(len(records), at, f"hospital/{number}", (HR, rates[number])))
            if chance.random() < 0.02:
                records.append(records[-1])
    return records


def test_a_router_killed_again_and_again_leaves_the_events_of_one_that_was_not(
    broker: str, topics: MakeTopics, tmp_path: Path
) -> None:
    calm, killed = Topics.of(topics()), Topics.of(topics())
    killed = replace(killed, evaluations=calm.evaluations)
    send(broker, calm.evaluations, *load_of(patients=300, rounds=120))
    with routing(broker, calm, tmp_path) as router:
        wait_for(lambda: _lag(router) == 0)
    expected = events(broker, calm.alerts)
    assert len(expected) > 1000

    arguments = [broker, orjson.dumps(vars(killed)).decode(), str(tmp_path / "killed.jsonl")]
    for _ in range(4):
        before = count(broker, killed.alerts)
        process = subprocess.Popen([sys.executable, "-c", ROUTER, *arguments], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        wait_for(lambda before=before: count(broker, killed.alerts) > before)  # type: ignore[misc]
        process.kill()
        process.wait()
        process.stdout.close()
        assert count(broker, killed.alerts) < len(expected), "killed too late to be of use"
    (tmp_path / "last").mkdir()
    with routing(broker, killed, tmp_path / "last", member="one") as router:
        wait_for(lambda: _lag(router) == 0, within_s=240)
    found = events(broker, killed.alerts)
    missing, extra = expected.keys() - found.keys(), found.keys() - expected.keys()
    assert (missing, extra) == (set(), set())
    assert found == expected


def _lag(router: Running) -> int | None:
    last = progress.last(router.progress)
    return None if last is None or not last["records"] else int(last["lag"])


def test_the_lag_counts_partitions_that_nothing_was_handed_out_of_yet(broker: str, topics: MakeTopics) -> None:
    vitals = Topics.of(topics()).vitals
    send(broker, vitals, *((f"hospital/{n}".encode(), b"message") for n in range(200)))
    with closing(KafkaConsumer(bootstrap_servers=broker, auto_offset_reset="earliest", group_id=vitals)) as consumer:
        consumer.subscribe([vitals])
        read = 0
        while read < 200:
            read += sum(map(len, consumer.poll(timeout_ms=500, max_records=1).values()))
            assert lag(consumer) == 200 - read


def test_two_routers_share_the_patients_and_one_takes_over_from_the_other(
    broker: str, topics: MakeTopics, tmp_path: Path
) -> None:
    names = Topics.of(topics())
    now = int(time.time() * 1000)
    patients = [f"hospital/{number}" for number in range(20)]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with routing(broker, names, tmp_path / "a") as first:
        with routing(broker, names, tmp_path / "b") as second:
            send(
                broker,
                names.evaluations,
                *(evaluation(n, now, patient, (HR, 130.0)) for n, patient in enumerate(patients)),
            )
            wait_for(lambda: len(events(broker, names.alerts)) == 20)
            assert first.shown
            assert second.shown
        send(
            broker,
            names.evaluations,
            *(evaluation(20 + n, now + 1, patient, (HR, 100.0)) for n, patient in enumerate(patients)),
        )
        wait_for(lambda: len(events(broker, names.alerts)) == 40)
    assert len(read(broker, names.alerts)) == 40


def test_a_broker_that_goes_away_and_comes_back_costs_no_alert(jars: Path, tmp_path: Path) -> None:
    data = DataDir(tmp_path / "ward")
    names = Topics()
    now = int(time.time() * 1000)
    with ExitStack() as stack:
        with Broker(data, jars) as running:
            address = running.address
            ensure(address, TOPICS)
            router = stack.enter_context(routing(address, names, tmp_path))
            send(address, names.evaluations, evaluation(0, now, "hospital/1", (HR, 130.0)))
            wait_for(lambda: len(router.shown) == 1)
        wait_for(lambda: bool(router.said))
        stack.enter_context(Broker(data, jars, port=int(address.split(":")[1])))
        send(address, names.evaluations, evaluation(1, now + 1, "hospital/1", (HR, 100.0)))
        wait_for(lambda: len(router.shown) == 2 and len(router.said) == 2)
        router.close()
        assert len(events(address, names.alerts)) == len(read(address, names.alerts)) == 2
    assert [text.split(",")[0] for text in router.said] == ["no answer from Kafka", "Kafka answers again"]


def test_no_broker_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alerting.member._STARTUP_MS", 500)
    with pytest.raises(RouterError, match=r"no Kafka broker answers at 127.0.0.1:1: start one with 'ward broker'"):
        Running("127.0.0.1:1", Topics(), tmp_path).start().close()


def test_a_topic_that_is_not_there_is_named(broker: str, topics: MakeTopics, tmp_path: Path) -> None:
    names = replace(Topics.of(topics()), alerts="not-there")
    with pytest.raises(RouterError, match="has no topic not-there: run 'ward apply'"):
        Running(broker, names, tmp_path).start().close()
