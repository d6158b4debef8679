"""When a part of the stack has caught up with what was sent before an instant."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kafka.errors import KafkaError

from alerting.notifier import GROUP as NOTIFIER_GROUP
from bench.chaos.stack import Stack
from lakehouse.flow_status import Follower
from lakehouse.pipeline import ALERT_EVENT, ALERT_ROUTER, DEVICE_MESSAGE, OBSERVATION
from lakehouse.tables import DEVICE_MESSAGE as BRONZE
from lakehouse.topics import ALERT_EVALUATIONS, ALERT_NOTIFICATION, VITALS
from streaming.config import StreamConfig
from streaming.evaluated import Evaluated
from wardhouse.errors import Failure
from wardhouse.status import newest_data, unlanded, versions_behind
from wardhouse.topics import Offsets, administration, end_offsets


@dataclass
class Mark:
    """What the broker held at an instant, and what is known of the parts of the stack since."""

    stack: Stack
    ends: Offsets
    acknowledged: Callable[[], int]
    before: int
    router: Follower
    evaluations_seen: list[tuple[float, int]] = field(default_factory=list)
    bronze_version: int | None = None


def mark(stack: Stack, acknowledged: Callable[[], int]) -> Mark:
    """Note what was sent up to now. Raises Failure where no broker answers."""
    ends = end_offsets(stack.bootstrap, stack.settings.topics().values())
    router = Follower(stack.data.progress(ALERT_ROUTER.name))
    router.skip()
    return Mark(stack, ends, acknowledged, acknowledged(), router)


def since(at: Mark) -> None:
    """Count from now on what must be newer than the end of the fault."""
    at.before = at.acknowledged()
    at.router.skip()


def stored(at: Mark) -> bool:
    """Bronze, silver and minutes of gold have every message."""
    left = unlanded(at.stack.settings, at.stack.data, at.ends, {})
    if DEVICE_MESSAGE.name in left:
        return False
    if at.bronze_version is None:
        at.bronze_version = newest_data(at.stack.data, BRONZE)
    return not versions_behind(at.stack.data, OBSERVATION, at.bronze_version)


def evaluated(at: Mark) -> bool:
    """A message of each partition of ``vitals`` that is no older is held against the rules."""
    topic = at.stack.settings.topic(VITALS)
    with Evaluated(_config(at.stack)) as found:
        newest = found.newest()
    return all(newest.get(number, 0) >= end for (name, number), end in at.ends.items() if name == topic and end)


def routed(at: Mark) -> bool:
    """The router has taken every evaluation: what it has not read is less than what came later."""
    topic = at.stack.settings.topic(ALERT_EVALUATIONS)
    lines = [(datetime.fromisoformat(line["at"]).timestamp(), int(line["lag"])) for line in at.router.poll()]
    until = _sum(at.ends, topic)
    caught_up = any(
        seen - lag >= until for wrote, lag in lines for instant, seen in at.evaluations_seen if instant < wrote
    )
    ends = end_offsets(at.stack.bootstrap, [topic])
    at.evaluations_seen.append((time.time(), _sum(ends, topic)))
    return caught_up


def told(at: Mark) -> bool:
    """Every notification has ended on its channels, and the notifier has committed that."""
    topic = at.stack.settings.topic(ALERT_NOTIFICATION)
    with administration(at.stack.bootstrap) as client:
        offsets = client.list_group_offsets([NOTIFIER_GROUP])[NOTIFIER_GROUP]
    committed = {(place.topic, place.partition): found.offset for place, found in offsets.items()}
    return all(committed.get(place, 0) >= end for place, end in at.ends.items() if place[0] == topic)


def acknowledging(at: Mark) -> bool:
    """The gateway has acknowledged a message since."""
    return at.acknowledged() > at.before


def alerts_stored(at: Mark) -> bool:
    """Every transition of an alert is in gold."""
    return ALERT_EVENT.name not in unlanded(at.stack.settings, at.stack.data, at.ends, {})


PROBES: Mapping[str, Callable[[Mark], bool]] = {
    "stored": stored,
    "evaluated": evaluated,
    "routed": routed,
    "told": told,
    "acknowledging": acknowledging,
    "alerts stored": alerts_stored,
}
"""What may have to catch up, by name."""


def holds(probe: str, at: Mark) -> bool:
    """Ask a probe; a broker that does not answer yet says no."""
    try:
        return PROBES[probe](at)
    except (Failure, KafkaError):
        return False


def _config(stack: Stack) -> StreamConfig:
    settings = stack.settings
    return StreamConfig(stack.data, stack.bootstrap, settings.topics(), settings.jars, cores=1, memory="1g")


def _sum(offsets: Mapping[tuple[str, int], int], topic: str) -> int:
    return sum(end for (name, _), end in offsets.items() if name == topic)


def summary(seconds: list[float]) -> dict[str, Any]:
    """p50, p95 and max of some durations."""
    import numpy as np

    p50, p95 = (round(float(value), 1) for value in np.percentile(seconds, [50, 95]))
    return {"p50_s": p50, "p95_s": p95, "max_s": round(max(seconds), 1)}
