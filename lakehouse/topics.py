"""Every Kafka topic, declared: partitions, retention and compaction. Names are settings; these are the defaults."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

MAX_RECORD_BYTES = 2 * 1024 * 1024
"""What the broker takes. Twice the largest message a device may wrongly send (1 MiB), so that it arrives, is kept in
bronze and becomes a named dead letter instead of an error that only its sender sees."""

SAFELY: Mapping[str, Any] = {"acks": "all", "enable_idempotence": False, "max_in_flight_requests_per_connection": 1}
"""How producers that must not stand still send: to every replica in sync, in order, twice where an answer is lost.

Whatever reads our topics takes a repeat for what it is. Idempotence would spare it that, but when a broker was killed a
producer of kafka-python 3.0.12 may wait for a new identity for good: what it was given is neither sent nor failed.
"""


RESOURCE_FILES = "resource"
"""A backfilled file of FHIR resources is the topic ``file:SOURCE/resource/NAME@SHA``, one of messages
``file:SOURCE/NAME@SHA``."""


@dataclass(frozen=True)
class Topic:
    """One topic. ``retention`` is ``None`` for a compacted topic, which keeps the last record of each key."""

    name: str
    holds: str
    partitions: int
    retention: timedelta | None
    may_grow: bool = False
    """Whether more partitions than declared are as good: nothing depends on which one a key is in."""

    @property
    def compacted(self) -> bool:
        """Whether the topic keeps the last record of each key instead of a span of time."""
        return self.retention is None

    def config(self) -> dict[str, str]:
        """Topic-level broker settings."""
        common = {
            # received_at is the broker's instant: a sender's clock must not move it.
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": str(MAX_RECORD_BYTES),
        }
        if self.retention is None:
            # Kafka compacts closed segments only, and closes one at 1 GiB by default: much to read for a start.
            return {**common, "cleanup.policy": "compact", "segment.bytes": str(16 * 1024 * 1024)}
        return {**common, "cleanup.policy": "delete", "retention.ms": str(int(self.retention.total_seconds() * 1000))}


# Two partitions per busy topic: real-time mode holds a task slot for each, and two cores serve no more.
VITALS = Topic("vitals", "messages from devices, one instant of one patient each", 2, timedelta(days=7), may_grow=True)
CLINICAL_RESOURCE = Topic(
    "clinical.resource", "FHIR resources: patients, encounters and what stands beside them", 1, timedelta(days=30)
)
ALERT_EVALUATIONS = Topic("alert.evaluations", "every parsed message held against the rule pack", 2, timedelta(days=1))
ALERT_RULES = Topic("alert.rules", "the rule pack in force", 1, None)
ALERT_COMMAND = Topic("alert.command", "acknowledge, silence and their undoing", 2, timedelta(days=30))
ALERT_LIMIT = Topic("alert.limit", "the limits of one patient", 2, None)
ALERT_STATE = Topic("alert.state", "the router's state of each patient", 2, None)
ALERTS = Topic("alerts", "transitions of alerts", 2, timedelta(days=30))
ALERT_NOTIFICATION = Topic(
    "alert.notification", "decisions to tell somebody of a patient's alerts", 2, timedelta(days=30)
)
ALERT_DELIVERY = Topic("alert.delivery", "how each notification ended on each of its channels", 2, timedelta(days=30))
RISK = Topic("risk", "the newest risk of each patient that the model in service has given", 2, None)
# Hundreds of samples a second of each lead: kept for as long as it may take until somebody starts what lands them.
WAVEFORM = Topic("waveform", "chunks of waveforms, some seconds of one lead each", 2, timedelta(days=2))
# One partition: some hundred records a second at most, in the order in which they came.
AUDIT = Topic("audit", "who read or ordered what of whom, and who was refused", 1, timedelta(days=30))

TOPICS = (
    VITALS,
    CLINICAL_RESOURCE,
    ALERT_EVALUATIONS,
    ALERT_RULES,
    ALERT_COMMAND,
    ALERT_LIMIT,
    ALERT_STATE,
    ALERTS,
    ALERT_NOTIFICATION,
    ALERT_DELIVERY,
    RISK,
    WAVEFORM,
    AUDIT,
)


def declared(partitions: int | None) -> tuple[Topic, ...]:
    """Every topic; those that are divided by patient have so many partitions where a site asks for a number.

    All of them have the same number: what the router reads and keeps of one patient is in one partition's share.
    """
    if partitions is None:
        return TOPICS
    return tuple(replace(topic, partitions=partitions) if topic.partitions > 1 else topic for topic in TOPICS)
