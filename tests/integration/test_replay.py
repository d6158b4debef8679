import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kafka import KafkaConsumer, TopicPartition

from lakehouse.message import encode
from lakehouse.sources.mimic_iii import SOURCE as MIMIC_III
from lakehouse.sources.monitor_csv import SOURCE as MONITOR_CSV
from lakehouse.sources.registry import SOURCES
from lakehouse.sources.source import Event, Selection, Tally
from lakehouse.topics import VITALS
from streaming.producer import Producer
from streaming.replay import Pace, Sent, pauses, run
from tests.fixtures.mimic import write_mimic_iii, write_monitor
from wardhouse.commands.replay import SourceName
from wardhouse.topics import end_offsets

Topics = Callable[[], dict[str, str]]
AS_FAST_AS_IT_GOES = Pace(speed=0)

COMMAND = "import typer; from wardhouse.commands.replay import replay; typer.run(replay)"


def ward_replay(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", COMMAND, *arguments], capture_output=True, text=True, check=False)


def records(bootstrap: str, topic: str) -> list[tuple[int, bytes, bytes]]:
    """Partition, key and value of everything on a topic, partition by partition."""
    ends = end_offsets(bootstrap, [topic])
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=20_000)
    found = []
    for (name, partition), end in sorted(ends.items()):
        if end:
            consumer.assign([TopicPartition(name, partition)])
            consumer.seek_to_beginning()
            for record in consumer:
                found.append((partition, record.key, record.value))
                if record.offset == end - 1:
                    break
    consumer.close()
    return found


def at(instant: str) -> Event:
    return Event(Path("x.csv"), 2, {"observed_at": instant, "patient_id": "x/1"})


def test_what_a_source_reads_is_on_the_topic_in_order_and_by_patient(
    broker: str, topics: Topics, tmp_path: Path
) -> None:
    written = write_mimic_iii(tmp_path)
    topic = topics()[VITALS.name]
    with Producer(broker) as producer:
        events = MIMIC_III.events(tmp_path, Selection(), Tally())
        sent = run(events, producer, topic, pace=AS_FAST_AS_IT_GOES, stop=threading.Event())
    assert (sent.messages, sent.observations, sent.stopped) == (written.messages, written.messages, False)
    expected = [event.message for event in MIMIC_III.events(tmp_path, Selection(), Tally())]
    arrived = records(broker, topic)
    partition_of = {key: partition for partition, key, _ in arrived}
    assert {(partition, key) for partition, key, _ in arrived} == {(p, key) for key, p in partition_of.items()}
    in_partitions = sorted(expected, key=lambda message: partition_of[message["patient_id"].encode()])
    assert [value for _, _, value in arrived] == [encode(message) for message in in_partitions]


def test_replaying_twice_sends_the_same_bytes_again(broker: str, topics: Topics, tmp_path: Path) -> None:
    file = write_monitor(tmp_path / "made-up.csv", minutes=20)
    topic = topics()[VITALS.name]
    for _ in range(2):
        with Producer(broker) as producer:
            run(
                MONITOR_CSV.events(file, Selection(), Tally()),
                producer,
                topic,
                pace=AS_FAST_AS_IT_GOES,
                stop=threading.Event(),
            )
    values = [value for _, _, value in records(broker, topic)]
    assert len(values) == 40
    assert values[:20] == values[20:]


def test_a_stop_ends_the_sending_and_what_was_sent_is_there(broker: str, topics: Topics, tmp_path: Path) -> None:
    file = write_monitor(tmp_path / "made-up.csv", minutes=20)
    topic, stop = topics()[VITALS.name], threading.Event()

    def events() -> Iterator[Event]:
        for number, event in enumerate(MONITOR_CSV.events(file, Selection(), Tally())):
            if number == 5:
                stop.set()
            yield event

    with Producer(broker) as producer:
        sent = run(events(), producer, topic, pace=Pace(speed=60, longest_pause_s=0.001), stop=stop)
    assert (sent.messages, sent.stopped) == (5, True)
    assert len(records(broker, topic)) == 5


def test_pauses_are_those_between_observations_divided_by_the_speed_and_cut() -> None:
    events = [
        at("2150-01-01T00:00:00Z"),
        at("2150-01-01T00:01:00Z"),
        at("2150-01-01T00:01:00Z"),
        at("2150-01-01T00:03:00Z"),
        at("2180-01-01T00:00:00Z"),
    ]
    sent = Sent()
    assert list(pauses(events, Pace(speed=60, longest_pause_s=5), sent)) == list(
        zip([0.0, 1.0, 0.0, 2.0, 5.0], events, strict=True)
    )
    assert sent.pauses_cut == 1
    assert [pause for pause, _ in pauses(events, Pace(speed=0), Sent())] == [0.0] * 5


def test_the_command_knows_every_source() -> None:
    assert [name.value for name in SourceName] == [source.name for source in SOURCES]


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        (None, b"", "missing.csv: there is no such file or folder"),
        (
            "missing.csv",
            b"time,HR\n2896-10-10 00:00:00,60\n",
            "missing.csv:1: the header has no charttime; it has time, hr",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line_and_starts_nothing(
    tmp_path: Path, name: str | None, content: bytes, text: str
) -> None:
    if name:
        (tmp_path / name).write_bytes(content)
    path, data = tmp_path / "missing.csv", tmp_path / "ward"
    done = ward_replay("--source", "monitor-csv", "--path", str(path), "--data-dir", str(data))
    # On a busy machine lines that tell of progress come before.
    assert (done.returncode, done.stdout, done.stderr.splitlines()[-1]) == (1, "", f"ward: {tmp_path}/{text}")
    assert not (data / "run").exists()


def test_rows_that_are_none_of_ours_are_counted_and_nothing_is_started(tmp_path: Path) -> None:
    file = tmp_path / "chartevents.csv"
    file.write_text(
        "subject_id,stay_id,charttime,itemid,valuenum\n1,2,2150-01-01 00:00:00,226512,39.4\n", encoding="utf-8"
    )
    report, data = tmp_path / "report.json", tmp_path / "ward"
    done = ward_replay(
        "--source", "mimic-iv", "--path", str(file), "--data-dir", str(data), "--report", str(report)
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "            1  rows read",
        "            0  messages sent",
        "            0  observations sent",
        "            1  not mapped, rows (items: 1)",
    ]
    told = json.loads(report.read_text(encoding="utf-8"))
    assert told.pop("resources")["rows_read"] == 0
    assert told == {
        "source": "mimic-iv",
        "path": str(file),
        "speed": 60.0,
        "landed": True,
        "messages_sent": 0,
        "observations_sent": 0,
        "resources_sent": 0,
        "pauses_cut": 0,
        "stopped": False,
        "elapsed_s": 0.0,
        "messages_per_s": None,
        "rows_left": 0,
        "rows_read": 1,
        "messages": 0,
        "observations": 0,
        "not_selected": 0,
        "unmapped_rows": {"226512": 1},
        "rows_without_value": {},
        "rejected_rows": {},
        "flawed_rows": {},
        "text_values": {},
        "unmapped_cells": {},
        "empty_cells": {},
        "lines_within_rows": 0,
        "missing_files": [],
        "problems": [],
    }
    assert not (data / "run").exists()
