"""How far the alert flow has come, told by what it has written.

Real-time mode commits its offsets only when its batch ends, and each end holds messages up for a second. So its batches
are long, and a flow that starts again goes on behind the last evaluations that are safely on the broker instead of
repeating everything since its last commit.
"""

import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaTimeoutError

from alerting.evaluation import EvaluationError, decode
from lakehouse import kafka_access
from lakehouse.topics import ALERT_EVALUATIONS, VITALS
from streaming.config import StreamConfig

DELIVERY_TIMEOUT_S = 60
"""How long the flow's producer tries to deliver an evaluation before its query fails: a broker may be away so long.
What was handed over before has been delivered, or the query ends."""
REPEATED_S = DELIVERY_TIMEOUT_S + 30
"""What a start repeats. The margin is for a query that takes a while to end when one delivery has failed, and meanwhile
delivers others."""
_LOOK_BACK = 500
"""Evaluations that are read of each partition: every partition of ``vitals`` that is not idle is found among them."""
_POLL_MS = 500
_ANSWER_S = 10.0

Offsets = dict[int, int]
"""Partition of ``vitals`` -> offset of the next message."""


class Evaluated:
    """Reads the end of ``alert.evaluations``. Raises KafkaError where the broker does not answer."""

    def __init__(self, config: StreamConfig) -> None:
        self._consumer = KafkaConsumer(
            **kafka_access.client(config.bootstrap),
            bootstrap_timeout_ms=int(_ANSWER_S * 1000),
            enable_auto_commit=False,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )
        self._evaluations = self._partitions(config.topic(ALERT_EVALUATIONS))
        self._topic = config.topic(VITALS)
        self._vitals = self._partitions(self._topic)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._consumer.close()

    def count(self) -> int:
        """How many evaluations were ever written."""
        return sum(self._consumer.end_offsets(self._evaluations).values())

    def ends(self) -> Offsets:
        """Where ``vitals`` ends now."""
        return {place.partition: end for place, end in self._consumer.end_offsets(self._vitals).items()}

    def partitions(self) -> set[int]:
        """The partitions that ``vitals`` has now."""
        # Without it the client would go by what it knows for five minutes.
        self._consumer.topics()
        self._vitals = self._partitions(self._topic)
        return {place.partition for place in self._vitals}

    def newest(self) -> Offsets:
        """What follows the newest evaluated messages; a partition without any is not in it."""
        return _furthest(self._before(self._consumer.end_offsets(self._evaluations)))

    def delivered(self) -> Offsets:
        """Up to where every message of ``vitals`` that can be evaluated surely is.

        Evaluations go by patient, so the newest one may have overtaken another on its way to another partition, but
        none that was handed over ``REPEATED_S`` before. A partition of which nothing is known is not in it.
        """
        ends = self._consumer.end_offsets(self._evaluations)
        latest = max((record.timestamp for record in self._before(ends, 1)), default=None)
        if latest is None:
            return {}
        then = max(0, latest - REPEATED_S * 1000)
        later = self._consumer.offsets_for_times(dict.fromkeys(self._evaluations, then))
        until = {place: later[place].offset if later.get(place) else ends[place] for place in self._evaluations}
        held = self.ends()
        # An offset beyond the end is of a topic that was there before this one.
        return {number: at for number, at in _furthest(self._before(until)).items() if at <= held.get(number, 0)}

    def _partitions(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, number) for number in sorted(self._consumer.partitions_for_topic(topic) or ())]

    def _before(self, until: Mapping[TopicPartition, int], count: int = _LOOK_BACK) -> list[Any]:
        """The last records of each partition before an offset."""
        first = self._consumer.beginning_offsets(list(until))
        wanted = {place: end for place, end in until.items() if end > first[place]}
        self._consumer.assign(list(wanted))
        for place, end in wanted.items():
            self._consumer.seek(place, max(first[place], end - count))
        records: list[Any] = []
        deadline = time.monotonic() + _ANSWER_S
        while any(self._consumer.position(place) < end for place, end in wanted.items()):
            if time.monotonic() > deadline:
                raise KafkaTimeoutError("the end of the evaluations was not read in time")
            for place, fetched in self._consumer.poll(timeout_ms=_POLL_MS).items():
                records += [record for record in fetched if record.offset < wanted[place]]
        return records


def _furthest(records: Iterable[Any]) -> Offsets:
    offsets: Offsets = {}
    for record in records:
        try:
            evaluation = decode(record.value)
        except EvaluationError:
            # Not written by the flow: it says nothing of it.
            continue
        offsets[evaluation.partition] = max(offsets.get(evaluation.partition, 0), evaluation.offset + 1)
    return offsets
