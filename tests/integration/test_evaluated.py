"""Where the alert flow goes on, read from a real broker."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import orjson
import pytest
from kafka import KafkaProducer
from kafka.admin import NewPartitions

from lakehouse.datadir import DataDir
from lakehouse.pipeline import ALERT_LIMITS
from lakehouse.topics import ALERT_EVALUATIONS, VITALS
from streaming import evaluated
from streaming.alert_limits import resumption, tell
from streaming.config import StreamConfig
from streaming.evaluated import Evaluated
from tests.fixtures.streams import config_of
from wardhouse.topics import administration


@pytest.fixture
def config(data: DataDir, broker: str, topics: Callable[[], dict[str, str]]) -> StreamConfig:
    return replace(config_of(data), bootstrap=broker, topics=topics())


@pytest.fixture
def kafka(config: StreamConfig) -> Iterator["Kafka"]:
    with closing(KafkaProducer(bootstrap_servers=config.bootstrap, acks="all")) as producer:
        yield Kafka(config, producer)


class Kafka:
    """Messages and their evaluations, with the broker's timestamps."""

    def __init__(self, config: StreamConfig, producer: KafkaProducer) -> None:
        self._config, self._producer = config, producer

    def vitals(self, partition: int, count: int) -> None:
        futures = [
            self._producer.send(self._config.topic(VITALS), value=b"{}", partition=partition) for _ in range(count)
        ]
        self._producer.flush()
        assert all(future.succeeded() for future in futures)

    def evaluation(self, partition: int, offset: int, *, on: int, later_than: int = 0) -> int:
        """An evaluation of one message on a partition of its own; sent again until the broker's clock has moved on."""
        value = {
            "pack": "adult@1",
            "message_id": "m",
            "patient_id": "mrn/1",
            "device_id": "d",
            "source": "ward",
            "status": "final",
            "partition": partition,
            "offset": offset,
            "observed_at": 0,
            "received_at": 0,
            "observations": [],
        }
        at = later_than
        while at <= later_than:
            sent = self._producer.send(self._config.topic(ALERT_EVALUATIONS), orjson.dumps(value), partition=on)
            at = sent.get(10).timestamp
        return at

    def noise(self, *, on: int) -> None:
        self._producer.send(self._config.topic(ALERT_EVALUATIONS), b"no evaluation", partition=on).get(10)


def test_a_flow_that_has_written_nothing_begins_at_the_first_message(kafka: Kafka, config: StreamConfig) -> None:
    kafka.vitals(0, 3)
    with Evaluated(config) as told:
        assert (told.delivered(), told.newest(), told.count()) == ({}, {}, 0)
        assert told.ends() == {0: 3, 1: 0}
    assert resumption(ALERT_LIMITS, config) == {0: -2, 1: -2}


def test_what_was_written_before_the_delivery_timeout_is_behind_the_flow_and_what_came_after_is_done_again(
    kafka: Kafka, config: StreamConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka.vitals(0, 20)
    kafka.vitals(1, 20)
    old = kafka.evaluation(0, 9, on=0)
    old = kafka.evaluation(1, 4, on=0, later_than=old)
    kafka.noise(on=1)
    kafka.evaluation(0, 15, on=1, later_than=old)
    with Evaluated(config) as told:
        assert told.newest() == {0: 16, 1: 5}
        # All of it is younger than the timeout: message 3, say, may still be on its way.
        assert told.delivered() == {}
    monkeypatch.setattr(evaluated, "REPEATED_S", 0)
    with Evaluated(config) as told:
        assert told.delivered() == {0: 10, 1: 5}
    assert resumption(ALERT_LIMITS, config) == {0: 10, 1: 5}


def test_evaluations_of_a_topic_that_was_made_anew_say_nothing(
    kafka: Kafka, config: StreamConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluated, "REPEATED_S", 0)
    kafka.vitals(0, 5)
    old = kafka.evaluation(0, 900, on=0)
    kafka.evaluation(0, 901, on=0, later_than=old)
    with Evaluated(config) as told:
        assert told.delivered() == {}
    assert resumption(ALERT_LIMITS, config) == {0: -2, 1: -2}


def test_a_commit_counts_where_it_is_further_than_what_the_evaluations_tell(kafka: Kafka, config: StreamConfig) -> None:
    kafka.vitals(0, 5)
    kafka.vitals(1, 5)
    for generation, offsets in (("1", {"0": 2, "1": 3}), ("2", None)):
        root = config.data.checkpoints / ALERT_LIMITS.name / generation
        for folder in ("offsets", "commits"):
            (root / folder).mkdir(parents=True)
        if offsets:
            source = orjson.dumps({config.topic(VITALS): offsets}).decode()
            (root / "offsets" / "0").write_text(f"v1\n{{}}\n{source}\n")
            (root / "commits" / "0").write_text("v1\n{}\n")
    assert resumption(ALERT_LIMITS, config) == {0: 2, 1: 3}
    assert config.data.next_checkpoint(ALERT_LIMITS).name == "3"


def test_the_flow_starts_anew_behind_what_is_evaluated_when_the_topic_gets_a_partition(
    kafka: Kafka, config: StreamConfig
) -> None:
    class Query:
        """What stands for Spark's: it runs until it is stopped, or for a minute."""

        def __init__(self) -> None:
            self._stopped, self._until = False, time.monotonic() + 60

        @property
        def isActive(self) -> bool:  # noqa: N802 - Spark's name
            return not self._stopped and time.monotonic() < self._until

        def stop(self) -> None:
            self._stopped = True

    kafka.vitals(0, 3)
    query: Any = Query()
    with administration(config.bootstrap) as client:
        client.create_partitions({config.topic(VITALS): NewPartitions(3)})
    tell(query, ALERT_LIMITS, config, {0, 1})
    assert query._stopped
    assert resumption(ALERT_LIMITS, config) == {0: -2, 1: -2, 2: -2}
