import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewPartitions
from kafka.errors import KafkaTimeoutError

from lakehouse.datadir import DataDir
from lakehouse.topics import ALERT_STATE, ALERTS, MAX_RECORD_BYTES, TOPICS, VITALS
from wardhouse.broker import Broker, bootstrap_servers, free_port, serve
from wardhouse.component import read_state
from wardhouse.errors import Failure
from wardhouse.settings import Settings
from wardhouse.topics import Difference, administration, differences, end_offsets, ensure

Topics = Callable[[], dict[str, str]]

SERVE = """
import sys
from pathlib import Path
from lakehouse.datadir import DataDir
from wardhouse.broker import serve
from wardhouse.settings import Settings
from wardhouse.signals import stop_on_signals
with stop_on_signals() as stop:
    serve(Settings(), DataDir(Path(sys.argv[1])), stop, port=0, on_ready=lambda address: print(address, flush=True))
"""


@pytest.fixture
def served(data: DataDir) -> Iterator["subprocess.Popen[str]"]:
    """``ward broker`` as a process of its own, serving."""
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(data.root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("127.0.0.1:")
    yield process
    for leftover in psutil.Process(process.pid).children() if process.poll() is None else []:
        leftover.kill()
    process.kill()
    process.wait()
    process.stdout.close()


def send(bootstrap: str, topic: str, value: bytes) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap, max_request_size=2 * MAX_RECORD_BYTES)
    producer.send(topic, value, partition=0).get(20)
    producer.close()


def first(bootstrap: str, topic: str) -> tuple[int, bytes | None]:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=20_000)
    consumer.assign([TopicPartition(topic, 0)])
    record = next(consumer)
    consumer.close()
    return record.offset, record.value


def test_what_was_sent_is_still_there_after_a_restart_on_another_port(data: DataDir, jars: Path) -> None:
    with Broker(data, jars) as broker:
        ensure(broker.address, [VITALS])
        send(broker.address, "vitals", b"before")
    with Broker(data, jars) as broker:
        assert end_offsets(broker.address, ["vitals"]) == {("vitals", 0): 1, ("vitals", 1): 0}
        assert first(broker.address, "vitals") == (0, b"before")


def test_a_record_just_below_the_limit_is_taken(broker: str, topics: Topics) -> None:
    name = topics()["vitals"]
    value = bytes(MAX_RECORD_BYTES - 200)
    send(broker, name, value)
    assert first(broker, name) == (0, value)


def test_a_data_dir_whose_path_has_blanks_commas_and_umlauts_serves(tmp_path: Path, jars: Path) -> None:
    with Broker(DataDir(tmp_path / "a b,c" / "stationär"), jars) as broker:
        assert ensure(broker.address, [ALERTS]) == ("alerts",)


def test_a_cluster_id_that_looks_like_an_option_serves(
    data: DataDir, jars: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wardhouse.broker.uuid.uuid4", lambda: uuid.UUID(bytes=b"\xf8" + bytes(15)))
    with Broker(data, jars):
        assert "cluster.id=-" in (data.kafka / "log" / "meta.properties").read_text()


def test_a_port_that_the_system_names_twice_is_not_the_controllers_too(
    data: DataDir, jars: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = iter((first := free_port(), first, next(port for port in iter(free_port, 0) if port != first)))
    monkeypatch.setattr("wardhouse.broker.free_port", lambda: next(named))
    with Broker(data, jars) as running:
        assert running.address == f"127.0.0.1:{first}"


def test_a_taken_port_is_named_before_anything_starts(data: DataDir, jars: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(Failure, match=f"port {port} of 127.0.0.1 is taken"):
            Broker(data, jars, port=port).start()


def test_a_data_dir_that_cannot_be_written_is_named(tmp_path: Path, jars: Path) -> None:
    (tmp_path / "file").touch()
    data = DataDir(tmp_path / "file" / "ward")
    with pytest.raises(Failure, match=r"cannot write .*file/ward/kafka: Not a directory; choose another"):
        Broker(data, jars).start()


def test_without_jars_the_message_says_to_run_set_up(data: DataDir, tmp_path: Path) -> None:
    with pytest.raises(Failure, match="run 'make setup'"):
        Broker(data, tmp_path).start()


def test_a_broker_whose_files_are_damaged_says_why_it_does_not_start(data: DataDir, jars: Path) -> None:
    with Broker(data, jars):
        pass
    (data.kafka / "log" / "meta.properties").write_text("version=1\ncluster.id=x\nnode.id=7\n")
    with pytest.raises(Failure, match=r"did not start \(exit code 1\): .*broker\.log"):
        Broker(data, jars).start()


def test_a_second_broker_on_a_data_dir_is_refused(served: "subprocess.Popen[str]", data: DataDir, jars: Path) -> None:
    with pytest.raises(Failure, match=rf"broker already runs on .* \(process {served.pid}\)"):
        serve(Settings(), data, threading.Event(), port=0, on_ready=lambda _: None)
    with pytest.raises(Failure, match=r"a broker \(process \d+\) already runs"):
        Broker(data, jars).start()
    assert served.poll() is None


def test_sigterm_ends_the_broker_and_leaves_neither_process_nor_state(
    served: "subprocess.Popen[str]", data: DataDir
) -> None:
    (java,) = psutil.Process(served.pid).children()
    served.send_signal(signal.SIGTERM)
    assert served.wait(20) == 0
    assert not java.is_running()
    assert read_state(data, "broker") is None
    assert list(data.run.glob("*.json")) == []


def test_the_address_is_that_of_the_running_broker_and_one_left_behind_by_a_kill_is_replaced(
    served: "subprocess.Popen[str]", data: DataDir, jars: Path
) -> None:
    state = read_state(data, "broker")
    assert state is not None
    assert (state.state, state.pid) == ("ready", served.pid)
    assert bootstrap_servers(Settings(KAFKA_BOOTSTRAP_SERVERS=None), data) == state.address
    assert bootstrap_servers(Settings(KAFKA_BOOTSTRAP_SERVERS="elsewhere:9"), data) == "elsewhere:9"
    (java,) = psutil.Process(served.pid).children()
    served.kill()
    served.wait()
    assert bootstrap_servers(Settings(KAFKA_BOOTSTRAP_SERVERS=None), data) == "127.0.0.1:9092"
    assert java.is_running()
    with Broker(data, jars) as broker:
        assert not java.is_running()
        assert ensure(broker.address, [VITALS]) == ("vitals",)


def test_a_broker_that_dies_is_reported(data: DataDir, jars: Path) -> None:
    with Broker(data, jars) as broker:
        java = max(psutil.Process().children(), key=psutil.Process.create_time)
        java.kill()
        with pytest.raises(Failure, match=r"the broker ended by itself \(exit code -9\)"):
            broker.wait(threading.Event())


def test_declared_topics_are_created_once(broker: str) -> None:
    names = {topic.name: f"{topic.name}.once" for topic in TOPICS}
    assert ensure(broker, TOPICS, names) == tuple(sorted(names.values()))
    assert ensure(broker, TOPICS, names) == ()
    assert differences(broker, TOPICS, names) == ()


def test_a_topic_that_differs_is_named_with_every_setting_that_does(broker: str) -> None:
    names = {"vitals": "vitals.mismatch"}
    with administration(broker) as client:
        client.create_topics({"vitals.mismatch": {"num_partitions": 1, "configs": {"cleanup.policy": "compact"}}})
    # The broker answers before every one of its threads knows the topic.
    deadline = time.monotonic() + 10
    while not end_offsets(broker, ["vitals.mismatch"]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert differences(broker, [VITALS], names) == (
        Difference("vitals.mismatch", "partitions", "2", "1"),
        Difference("vitals.mismatch", "message.timestamp.type", "LogAppendTime", "CreateTime"),
        Difference("vitals.mismatch", "cleanup.policy", "delete", "compact"),
    )
    with pytest.raises(Failure, match=r"topic vitals\.mismatch: partitions is 1, wanted 2; .*WARD_TOPIC_NAMES"):
        ensure(broker, [VITALS], names)


def test_vitals_may_have_more_partitions_than_declared_and_what_is_kept_by_partition_may_not(broker: str) -> None:
    names = {"vitals": "vitals.wide", "alert.state": "alert.state.wide"}
    ensure(broker, [VITALS, ALERT_STATE], names)
    with administration(broker) as client:
        client.create_partitions({name: NewPartitions(3) for name in names.values()})
        client.wait_for_topics(list(names.values()))
    deadline = time.monotonic() + 10
    while len(end_offsets(broker, names.values())) < 6 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert differences(broker, [VITALS, ALERT_STATE], names) == (
        Difference("alert.state.wide", "partitions", "2", "3"),
    )


def test_a_missing_topic_is_a_difference_and_stays_missing(broker: str) -> None:
    absent = replace(VITALS, name="vitals.absent")
    assert differences(broker, [absent]) == (Difference("vitals.absent", "topic", "present", "missing"),)
    assert end_offsets(broker, ["vitals.absent"]) == {}


def test_a_wrong_address_is_one_clear_line() -> None:
    with (
        pytest.raises(Failure, match=r"no Kafka broker answers at 127\.0\.0\.1:1: start one"),
        administration("127.0.0.1:1", timeout_s=0.5),
    ):
        pass


def test_a_misspelt_topic_is_not_created_by_sending_to_it(broker: str) -> None:
    producer = KafkaProducer(bootstrap_servers=broker, max_block_ms=1000)
    with pytest.raises(KafkaTimeoutError):
        producer.send("misspelt", b"x").get(5)
    producer.close()
    with administration(broker) as client:
        assert "misspelt" not in client.list_topics()
