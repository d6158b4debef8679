"""Administration of the declared topics on a running broker: create what is missing, name what differs."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec
from kafka.errors import AuthorizationError, KafkaError, TopicAlreadyExistsError

from lakehouse import kafka_access
from lakehouse.topics import TOPICS, Topic
from wardhouse.errors import Failure

Names = Mapping[str, str]
"""A site's own topic names by declared name; a topic that is not in it keeps its declared name."""

CONNECT_TIMEOUT_S = 10.0

Offsets = dict[tuple[str, int], int]
"""Offsets by topic and partition."""


class Refused(Failure):
    """The user of this process lacks a right, and will lack it tomorrow."""


@dataclass(frozen=True)
class Difference:
    """One setting of one topic that is not as declared; ``setting`` is ``topic`` where the topic itself is missing."""

    topic: str
    setting: str
    wanted: str
    actual: str

    def __str__(self) -> str:
        if self.setting == "topic":
            return f"topic {self.topic} is missing"
        return f"topic {self.topic}: {self.setting} is {self.actual}, wanted {self.wanted}"


@contextmanager
def administration(bootstrap: str, timeout_s: float = CONNECT_TIMEOUT_S) -> Iterator[KafkaAdminClient]:
    """A connected admin client. Raises Failure where no Kafka answers at ``bootstrap``, and for its errors inside."""
    try:
        client = KafkaAdminClient(**kafka_access.client(bootstrap), bootstrap_timeout_ms=int(timeout_s * 1000))
    except (KafkaError, ValueError) as error:
        raise Failure(kafka_access.unanswered(bootstrap)) from error
    try:
        yield client
    except AuthorizationError as error:
        raise Refused(f"Kafka at {bootstrap} refuses it: {error}; `ward acl` shows who lacks which right") from error
    except KafkaError as error:
        raise Failure(f"Kafka at {bootstrap}: {error}") from error
    finally:
        client.close()


def differences(bootstrap: str, topics: Iterable[Topic] = TOPICS, names: Names | None = None) -> tuple[Difference, ...]:
    """All that is otherwise on the broker than declared, missing topics among it. Changes nothing."""
    with administration(bootstrap) as client:
        return _differences(client, tuple(topics), names or {})


def ensure(bootstrap: str, topics: Iterable[Topic] = TOPICS, names: Names | None = None) -> tuple[str, ...]:
    """Create the topics that are missing, check the others; the names of those created.

    Raises Failure, one clause a difference, where a topic exists with other partitions or settings than declared:
    they are never changed here, since a topic of this name may be another's.
    """
    topics, names = tuple(topics), names or {}
    with administration(bootstrap) as client:
        missing = {item.topic for item in _differences(client, topics, names) if item.setting == "topic"}
        wanted = {
            _name(topic, names): {"num_partitions": topic.partitions, "configs": topic.config()} for topic in topics
        }
        if missing:
            try:
                client.create_topics({name: wanted[name] for name in sorted(missing)}, wait_for_metadata=True)
            except TopicAlreadyExistsError:
                client.wait_for_topics(sorted(missing))
            except KafkaError as error:
                raise Failure(f"cannot create topics {', '.join(sorted(missing))} at {bootstrap}: {error}") from error
        if found := _differences(client, topics, names):
            raise Failure(
                "; ".join(str(item) for item in found)
                + ". Change the topic on the broker, or choose another name with WARD_TOPIC_NAMES"
            )
        return tuple(sorted(missing))


def require(bootstrap: str, names: Iterable[str], timeout_s: float) -> None:
    """Check that a broker answers and has these topics. Raises Failure, which says what to do."""
    with administration(bootstrap, timeout_s) as client:
        missing = sorted(set(names) - set(client.list_topics()))
    if missing:
        raise Failure(f"Kafka at {bootstrap} has no topic {', '.join(missing)}: run 'ward apply'")


def end_offsets(bootstrap: str, names: Iterable[str], timeout_s: float = CONNECT_TIMEOUT_S) -> Offsets:
    """The offset after the last record of each partition of the topics that exist. Raises Failure."""
    return _offsets(bootstrap, names, OffsetSpec.LATEST, timeout_s)


def first_offsets(bootstrap: str, names: Iterable[str]) -> Offsets:
    """The first offset that retention has left of each partition of the topics that exist. Raises Failure."""
    return _offsets(bootstrap, names, OffsetSpec.EARLIEST)


def offsets_since(bootstrap: str, names: Iterable[str], instant: datetime) -> Offsets:
    """The first offset received at an instant or later; a partition without one is not in it. Raises Failure."""
    found = _offsets(bootstrap, names, int(instant.timestamp() * 1000))
    return {place: at for place, at in found.items() if at >= 0}


def _offsets(
    bootstrap: str, names: Iterable[str], spec: OffsetSpec | int, timeout_s: float = CONNECT_TIMEOUT_S
) -> Offsets:
    wanted_names = set(names)
    with administration(bootstrap, timeout_s) as client:
        present = {
            item["name"]: item["partitions"] for item in client.describe_topics() if item["name"] in wanted_names
        }
        wanted = {
            TopicPartition(name, partition["partition_index"]): spec
            for name, partitions in present.items()
            for partition in partitions
        }
        found = client.list_partition_offsets(wanted) if wanted else {}
        return {(place.topic, place.partition): at.offset for place, at in found.items()}


def _name(topic: Topic, names: Names) -> str:
    return names.get(topic.name, topic.name)


def _differences(client: KafkaAdminClient, topics: tuple[Topic, ...], names: Names) -> tuple[Difference, ...]:
    partitions = {item["name"]: len(item["partitions"]) for item in client.describe_topics()}
    present = [name for topic in topics if (name := _name(topic, names)) in partitions]
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in present]
    described = client.describe_configs(resources, config_filter="all")["topic"] if resources else {}
    found: list[Difference] = []
    for topic in topics:
        name = _name(topic, names)
        if name not in partitions:
            found.append(Difference(name, "topic", "present", "missing"))
            continue
        count = max(topic.partitions, partitions[name]) if topic.may_grow else topic.partitions
        wanted = {"partitions": str(count), **topic.config()}
        actual = {"partitions": str(partitions[name])} | {key: item["value"] for key, item in described[name].items()}
        found += [
            Difference(name, setting, value, str(actual.get(setting)))
            for setting, value in wanted.items()
            if actual.get(setting) != value
        ]
    return tuple(found)
