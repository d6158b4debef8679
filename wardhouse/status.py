"""How a data dir's stack stands: components, flows, topics; and whether everything sent has landed.

Read from state files, progress files, checkpoints and the broker, without Spark.
"""

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event
from typing import Any

from alerting.router import GROUP
from lakehouse import pause
from lakehouse.checkpoint import position
from lakehouse.datadir import DataDir
from lakehouse.flow_status import FlowStatus, flow_tails
from lakehouse.pause import Pause
from lakehouse.pipeline import (
    ALERT_EVENT,
    ALERT_NOTIFICATION,
    ALERT_ROUTER,
    AUDIT_EVENT,
    DEVICE_MESSAGE,
    OBSERVATION,
    WAVEFORM_CHUNK,
    WAVEFORM_MESSAGE,
    Flow,
)
from lakehouse.reader import TableMissingError, open_table
from lakehouse.table import Table
from lakehouse.tables import DEVICE_MESSAGE as BRONZE
from lakehouse.tables import WAVEFORM_MESSAGE as WAVEFORM_BRONZE
from lakehouse.topics import (
    ALERT_DELIVERY,
    ALERT_EVALUATIONS,
    ALERTS,
    AUDIT,
    CLINICAL_RESOURCE,
    TOPICS,
    VITALS,
    WAVEFORM,
)
from lakehouse.topics import ALERT_NOTIFICATION as NOTIFICATIONS
from wardhouse import pausing
from wardhouse.broker import bootstrap_servers
from wardhouse.component import State, read_state, states
from wardhouse.errors import Failure
from wardhouse.settings import Settings
from wardhouse.topics import Offsets, Refused, administration, end_offsets

_QUIET_S = 10.0
"""Evaluations count as complete when none has come for this long: what cannot be parsed has none, so that the count of
records says nothing, and real-time mode commits its offsets only every few minutes."""
_BEFORE_ALERTS = frozenset({DEVICE_MESSAGE.name, OBSERVATION.name, ALERT_ROUTER.name})
_LANDING_POLL_S = 1.0
_DATA_OPERATIONS = frozenset({"STREAMING UPDATE", "WRITE", "MERGE", "RESTORE"})


@dataclass(frozen=True)
class TopicStatus:
    """One declared topic on the broker: the records ever written to it (end offsets)."""

    topic: str
    end_offset: int | None


@dataclass(frozen=True)
class Status:
    """Everything ``ward status`` shows: ``bootstrap`` is None where no broker answers, ``paused`` a pause asked for."""

    data_dir: str
    bootstrap: str | None
    components: tuple[State, ...]
    paused: Pause | None
    flows: tuple[FlowStatus, ...]
    topics: tuple[TopicStatus, ...]


def read_status(settings: Settings, data: DataDir, now: datetime) -> Status:
    """The stack of this data dir as it is now."""
    tails = flow_tails(data)
    for tail, follower in tails:
        tail.add(follower.poll())
    bootstrap = bootstrap_servers(settings, data)
    names = settings.topics()
    ends: Offsets | None = None
    with contextlib.suppress(Failure):
        ends = end_offsets(bootstrap, names.values(), timeout_s=2)
    return Status(
        data_dir=str(data.root),
        bootstrap=bootstrap if ends is not None else None,
        components=states(data),
        paused=pause.asked(data),
        flows=tuple(tail.status(now) for tail, _ in tails),
        topics=tuple(TopicStatus(names[topic.name], _end(ends, names[topic.name])) for topic in TOPICS),
    )


def unlanded(settings: Settings, data: DataDir, ends: Offsets, router_at: Offsets) -> dict[str, int]:
    """What each flow still has to take, given the broker's end offsets and the router's committed ones.

    Records of Kafka, but for ``observation`` and ``waveform_chunk``, where it is versions of bronze. A flow that has it
    all is not in it; waveforms count where an application runs that lands them.
    """
    names = settings.topics()
    bronze, events, told, audited = (
        position(data.checkpoint(flow)) for flow in (DEVICE_MESSAGE, ALERT_EVENT, ALERT_NOTIFICATION, AUDIT_EVENT)
    )
    found = {
        DEVICE_MESSAGE.name: records_behind(
            ends, bronze.kafka() if bronze else {}, names, VITALS.name, CLINICAL_RESOURCE.name
        ),
        OBSERVATION.name: versions_behind(data, OBSERVATION, newest_data(data, BRONZE)),
        ALERT_ROUTER.name: sum(
            max(0, end - router_at.get(place, 0))
            for place, end in ends.items()
            if place[0] == names[ALERT_EVALUATIONS.name]
        ),
        ALERT_EVENT.name: records_behind(ends, events.kafka() if events else {}, names, ALERTS.name),
        ALERT_NOTIFICATION.name: records_behind(
            ends, told.kafka() if told else {}, names, NOTIFICATIONS.name, ALERT_DELIVERY.name
        ),
        AUDIT_EVENT.name: records_behind(ends, audited.kafka() if audited else {}, names, AUDIT.name),
    }
    if read_state(data, pausing.WAVEFORM):
        landed = position(data.checkpoint(WAVEFORM_MESSAGE))
        found |= {
            WAVEFORM_MESSAGE.name: records_behind(ends, landed.kafka() if landed else {}, names, WAVEFORM.name),
            WAVEFORM_CHUNK.name: versions_behind(data, WAVEFORM_CHUNK, newest_data(data, WAVEFORM_BRONZE)),
        }
    return {flow: count for flow, count in found.items() if count}


def wait_until_landed(
    settings: Settings,
    data: DataDir,
    timeout_s: float,
    *,
    stop: Event | None = None,
    tell: Callable[[dict[str, int]], None] = lambda _: None,
) -> bool:
    """Block until every record on the broker is in bronze, silver, gold and the router; whether that came in time.

    It ends only where nobody sends any more. What the router tells counts up to where it has read everything: after
    that only time passes, and alerts go on changing with it for a quarter of an hour. So does what people look at
    meanwhile. ``tell`` gets what is not there
    yet, about once a second; ``stop`` ends the wait, with False.
    """
    stop = stop or Event()
    bootstrap = bootstrap_servers(settings, data)
    names = settings.topics()
    told = {names[topic.name] for topic in (ALERTS, NOTIFICATIONS, ALERT_DELIVERY, AUDIT)}
    told_up_to: Offsets = {}
    evaluations, changed_at = -1, time.monotonic()
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            ends = end_offsets(bootstrap, names.values())
            count = sum(end for (topic, _), end in ends.items() if topic == names[ALERT_EVALUATIONS.name])
            if count != evaluations:
                evaluations, changed_at = count, time.monotonic()
            settling = time.monotonic() - changed_at < _QUIET_S
            remaining = unlanded(settings, data, {**ends, **told_up_to}, _committed(bootstrap))
            if not (told_up_to or settling or remaining.keys() & _BEFORE_ALERTS):
                told_up_to = {place: end for place, end in ends.items() if place[0] in told}
            tell(remaining)
            if not remaining and not settling:
                return True
        except Failure as error:
            # A broker that is away comes back, or the wait ends; either is for its supervisor to say. A right does not.
            if isinstance(error, Refused):
                raise
        if stop.wait(_LANDING_POLL_S):
            return False
    return False


def wait_until_stored(
    settings: Settings,
    data: DataDir,
    ends: Offsets,
    timeout_s: float,
    *,
    stop: Event | None = None,
    tell: Callable[[dict[str, int]], None] = lambda _: None,
) -> bool:
    """Block until every device record before ``ends`` is in silver and gold; whether that came in time.

    Others may go on sending. ``tell`` and ``stop`` are as for :func:`wait_until_landed`.
    """
    stop, names = stop or Event(), settings.topics()
    version: int | None = None
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        bronze = position(data.checkpoint(DEVICE_MESSAGE))
        records = records_behind(ends, bronze.kafka() if bronze else {}, names, VITALS.name, CLINICAL_RESOURCE.name)
        if not records and version is None:
            version = newest_data(data, BRONZE)
        versions = versions_behind(data, OBSERVATION, version) if version is not None else 1
        tell({name: count for name, count in ((DEVICE_MESSAGE.name, records), (OBSERVATION.name, versions)) if count})
        if not records and not versions:
            return True
        if stop.wait(_LANDING_POLL_S):
            return False
    return False


def _end(ends: Offsets | None, topic: str) -> int | None:
    found = [end for (name, _), end in (ends or {}).items() if name == topic]
    return sum(found) if found else None


def records_behind(ends: Offsets, at: Mapping[str, Mapping[int, int]], names: Mapping[str, str], *declared: str) -> int:
    """Records between these offsets and the ends of the declared topics, by the site's names of them."""
    wanted = {names[name] for name in declared}
    return sum(
        max(0, end - at.get(topic, {}).get(partition, 0)) for (topic, partition), end in ends.items() if topic in wanted
    )


def versions_behind(data: DataDir, flow: Flow, version: int) -> int:
    """Versions of its Delta source, up to this one, that a flow has not committed."""
    at = position(data.checkpoint(flow))
    taken = at.delta_version() if at else None
    return max(0, version - (-1 if taken is None else taken))


def newest_data(data: DataDir, table: Table) -> int:
    """The last version that brought rows, -1 for none; others are nothing that a stream has to take.

    Raises LogError.
    """
    try:
        actual = open_table(data, table)
    except TableMissingError:
        return -1
    # Nearly always it is among the last few; after a rewind many versions may bring nothing.
    for limit in (50, None):
        found = [entry["version"] for entry in actual.history(limit) if _brings_rows(entry)]
        if found:
            return int(max(found))
    return -1


def _brings_rows(entry: dict[str, Any]) -> bool:
    """Whether a version brings rows: maintenance does not, nor a write that finds all of its rows there already."""
    metrics = entry.get("operationMetrics") or {}
    written = metrics.get("numRestoredFiles" if entry.get("operation") == "RESTORE" else "numOutputRows")
    return entry.get("operation") in _DATA_OPERATIONS and str(written) != "0"


def _committed(bootstrap: str) -> Offsets:
    with administration(bootstrap) as client:
        found = client.list_group_offsets([GROUP])[GROUP]
        return {(place.topic, place.partition): at.offset for place, at in found.items()}


def utc_now() -> datetime:
    """The clock of the entry points."""
    return datetime.now(UTC)
