"""The simulator and its producer against a real broker: what the truth says was sent is there, whatever happens."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from kafka import KafkaConsumer, TopicPartition

from lakehouse import progress
from lakehouse.datadir import DataDir
from lakehouse.topics import TOPICS
from streaming.producer import BrokerUnavailableError, BufferFullError, DeliveryError, Producer, RecordTooLargeError
from streaming.simulator import regenerate
from streaming.simulator.faults import rates
from streaming.simulator.sender import Limits, run
from streaming.simulator.simulation import Options, Record, Simulation
from wardhouse.broker import Broker
from wardhouse.topics import ensure

Names = dict[str, str]
Landed = dict[tuple[str, int, int], tuple[bytes, bytes | None]]


def landed(broker: str, topics: list[str]) -> Landed:
    """Every record of some topics: key and value by topic, partition and offset."""
    consumer = KafkaConsumer(bootstrap_servers=broker, max_partition_fetch_bytes=4 << 20, consumer_timeout_ms=10_000)
    partitions = [TopicPartition(topic, number) for topic in topics for number in consumer.partitions_for_topic(topic)]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    left = sum(consumer.end_offsets(partitions).values())
    records: Landed = {}
    while len(records) < left:
        record = next(consumer)
        records[record.topic, record.partition, record.offset] = (record.key, record.value)
    consumer.close()
    return records


def test_every_record_of_the_simulation_lands_once_where_the_truth_says_bad_ones_too(
    broker: str, topics: Callable[[], Names], tmp_path: Path
) -> None:
    names = topics()
    start = datetime.now(UTC)
    options = Options(start, 50, cadence=0.02, fault_rates=rates("heavy", {"oversized": 0.001, "late": 0.02}))
    summary = run(options, broker, tmp_path, tmp_path / "progress.jsonl", limits=Limits(messages=3000), topics=names)
    found = landed(broker, sent_to(names))
    lines = list(progress.read(tmp_path / f"{options.run}.jsonl"))
    there = [line for line in lines if "offset" in line]
    assert len(there) == len(found) == summary["acknowledged"] == 3100
    made = {
        (record.line.get("message_id") or record.line["resource"], record.key, record.value)
        for record in Simulation(options).records(messages=3000)
        if isinstance(record, Record)
    }
    written = {
        (
            line.get("message_id") or line["resource"],
            *found[names[line["topic"]], line["partition"], line["offset"]],
        )
        for line in there
    }
    assert written == made
    assert {len(value) > 1 << 20 for _, _, value in written if value is not None} == {True, False}


def test_what_landed_is_made_again_from_the_truth_alone(
    broker: str, topics: Callable[[], Names], tmp_path: Path
) -> None:
    names = topics()
    faults = rates("heavy", {"oversized": 0.0, "late": 0.02, "out_of_order": 0.05})
    options = Options(datetime.now(UTC), 40, cadence=0.1, fault_rates=faults, transients_per_hour=200)
    stop_at = time.monotonic() + 5
    run(
        options,
        broker,
        tmp_path,
        tmp_path / "progress.jsonl",
        topics=names,
        stopping=lambda: time.monotonic() > stop_at,
    )
    found = landed(broker, [names["vitals"]])
    by_patient: dict[bytes, list[bytes | None]] = {}
    for _, (key, value) in sorted(found.items()):
        by_patient.setdefault(key, []).append(value)
    again: dict[bytes, list[bytes | None]] = {}
    for _, record in regenerate.records(regenerate.of_truth(tmp_path / f"{options.run}.jsonl")):
        again.setdefault(record.key, []).append(record.value)
    assert sum(map(len, again.values())) > 1000
    assert again == by_patient


def test_all_messages_of_a_patient_are_in_one_partition_that_other_clients_would_choose_too(
    broker: str, topics: Callable[[], Names]
) -> None:
    from kafka import KafkaProducer

    topic = topics()["vitals"]
    keys = [f"sim/1-{number:05d}".encode() for number in range(50)]
    with Producer(broker) as ours:
        for key in keys:
            ours.send(topic, key, b"ours")
    theirs = KafkaProducer(bootstrap_servers=broker)
    for key in keys:
        theirs.send(topic, key=key, value=b"theirs")
    theirs.flush()
    theirs.close()
    found = landed(broker, [topic])
    partition_of = {
        value: {key: place[1] for place, (key, v) in found.items() if v == value} for _, value in found.values()
    }
    assert partition_of[b"ours"] == partition_of[b"theirs"]
    assert set(partition_of[b"ours"].values()) == {0, 1}


def test_deliveries_are_told_with_their_coordinates_in_the_order_of_sending(
    broker: str, topics: Callable[[], Names]
) -> None:
    topic = topics()["clinical.resource"]
    told = []
    with Producer(broker, on_delivery=told.append) as producer:
        for number in range(5):
            producer.send(topic, b"k", b"v", token=number)
        assert producer.flush() == (5, 5, 0)
    assert [tuple(delivery) for delivery in told] == [(number, 0, number, None) for number in range(5)]


def test_a_topic_that_is_not_there_and_a_record_too_large_are_named(broker: str, topics: Callable[[], Names]) -> None:
    topic = topics()["vitals"]
    with Producer(broker, connect_s=2) as producer:
        with pytest.raises(RecordTooLargeError):
            producer.send(topic, b"k", bytes(3 << 20))
        with pytest.raises(BrokerUnavailableError, match="no-such-topic"):
            producer.send("no-such-topic", b"k", b"v")


def test_no_broker_is_told_with_what_to_do() -> None:
    with pytest.raises(BrokerUnavailableError, match=r"no Kafka broker answers at 127\.0\.0\.1:9: start one"):
        Producer("127.0.0.1:9", connect_s=1)


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory, jars: Path) -> Iterator[Broker]:
    """A broker that a test may stop, and starts again."""
    with Broker(DataDir(tmp_path_factory.mktemp("own-broker")), jars) as running:
        yield running


def test_a_broker_that_goes_away_is_waited_for_and_nothing_is_lost_or_doubled(
    own_broker: Broker, tmp_path: Path
) -> None:
    names = {topic.name: f"{topic.name}.outage" for topic in TOPICS}
    ensure(own_broker.address, TOPICS, names)
    options = Options(datetime.now(UTC), 100, cadence=0.5)
    limits = Limits(duration=6)

    def outage() -> None:
        time.sleep(2)
        own_broker.stop()
        own_broker.start()

    restart = threading.Thread(target=outage)
    restart.start()
    summary = run(options, own_broker.address, tmp_path, tmp_path / "progress.jsonl", limits=limits, topics=names)
    restart.join()
    assert (summary["complete"], summary["acknowledged"], summary["failed"]) == (True, 1400, 0)
    assert places(truth(tmp_path), names) == sorted(landed(own_broker.address, sent_to(names)))


def test_a_full_buffer_and_what_is_never_acknowledged_are_errors(own_broker: Broker) -> None:
    ensure(own_broker.address, TOPICS, {topic.name: f"{topic.name}.full" for topic in TOPICS})
    producer = Producer(own_broker.address, buffer_bytes=100_000, block_s=0.5)
    producer.send("vitals.full", b"k", b"first")
    producer.flush()
    own_broker.stop()
    for _ in range(50):
        producer.send("vitals.full", b"k", bytes(1000))
    with pytest.raises(BufferFullError, match=r"took nothing for 0\.5 s and 50 records are waiting"):
        producer.send("vitals.full", b"k", bytes(50_000))
    with pytest.raises(DeliveryError, match=r"records not acknowledged by .* within 1 s"):
        producer.close(timeout_s=1)
    assert (producer.counts, producer.pending) == ((51, 1, 50), 0)
    own_broker.start()


COMMAND = "import typer; from wardhouse.commands.simulate import simulate; typer.run(simulate)"


def command(data: DataDir, broker: str, names: Names, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, "--data-dir", str(data.root), *arguments],
        env={**os.environ, "KAFKA_BOOTSTRAP_SERVERS": broker, "WARD_TOPIC_NAMES": json.dumps(names)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def sent_to(names: Names) -> list[str]:
    return [names["vitals"], names["clinical.resource"]]


def places(lines: list[progress.Record], names: Names) -> list[tuple[str, int, int]]:
    """Where the truth says that records are."""
    return sorted((names[line["topic"]], line["partition"], line["offset"]) for line in lines if "offset" in line)


def truth(folder: Path) -> list[progress.Record]:
    [path] = folder.glob("*-seed*.jsonl")
    return list(progress.read(path))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_command_has_sent_and_written_everything(
    broker: str, topics: Callable[[], Names], data: DataDir, number: int
) -> None:
    names = topics()
    with command(data, broker, names, "--rate", "200", "--faults", "heavy", "--transients", "200") as process:
        assert process.stdout is not None
        assert "100 patients, 200 messages/s" in process.stdout.readline()
        while not list(data.truth.glob("*.jsonl")) or len(truth(data.truth)) < 400:
            time.sleep(0.1)
        process.send_signal(number)
        said, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert said.startswith("sent ")
    *lines, summary = truth(data.truth)
    assert summary["complete"]
    assert summary["transients"] == sum(line["type"] == "transient" for line in lines) > 0
    assert places(lines, names) == sorted(landed(broker, sent_to(names)))


def test_a_killed_command_leaves_a_truth_of_whole_lines_that_are_all_there(
    broker: str, topics: Callable[[], Names], data: DataDir
) -> None:
    names = topics()
    with command(data, broker, names, "--rate", "500") as process:
        while not list(data.truth.glob("*.jsonl")) or len(truth(data.truth)) < 1000:
            time.sleep(0.1)
        process.kill()
    lines = truth(data.truth)
    assert lines[-1]["type"] != "summary"
    assert set(places(lines, names)) <= set(landed(broker, sent_to(names)))


def test_a_wrong_address_is_one_line_and_exit_code_1(data: DataDir) -> None:
    with command(data, "127.0.0.1:9", {}) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors == (
        "ward: no Kafka broker answers at 127.0.0.1:9: start one with 'ward broker',"
        " or correct KAFKA_BOOTSTRAP_SERVERS\n"
    )
    assert not list(data.truth.glob("*"))
