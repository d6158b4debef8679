"""Risks beside the ward: each minute the models in service and in shadow score every patient of whom gold has news.

A process of its own, without Spark: memory and time that scikit-learn takes are then nobody else's, and where no model
can be loaded nothing stops but this. A risk goes to the topic ``risk``, for rules of its signal, and with what it rests
on to gold.risk_score. It is sent first, and sent again after a kill between the two: readers take the newest.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

from kafka import KafkaProducer
from kafka.errors import KafkaError

from alerting.risk import Risk, encode
from lakehouse import kafka_access, progress, record
from lakehouse.datadir import DataDir
from lakehouse.models import scoring
from lakehouse.models.scoring import Row
from lakehouse.models.serving import Role, Serving
from lakehouse.tables import RISK_SCORE
from lakehouse.topics import SAFELY

EVERY = timedelta(minutes=1)
_ANSWER_S = 10.0
"""How long the broker may take to acknowledge a round: the next one brings newer risks anyway."""
_BLOCK_MS = 5_000


class Sender:
    """Puts risks on their topic, by patient."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._bootstrap, self._topic = bootstrap_servers, topic
        self._producer: KafkaProducer | None = None

    def send(self, rows: list[Row]) -> None:
        """Send and wait until all is acknowledged. Raises KafkaError where it is not in time."""
        if self._producer is None:
            self._producer = KafkaProducer(
                **kafka_access.client(self._bootstrap), client_id="ward-risk", max_block_ms=_BLOCK_MS, **SAFELY
            )
        waiting = [self._producer.send(self._topic, encode(_risk(row)), row["patient_id"].encode()) for row in rows]
        until = time.monotonic() + _ANSWER_S
        for one in waiting:
            one.get(timeout=max(until - time.monotonic(), 0.0))

    def close(self) -> None:
        """Let go of the broker."""
        if self._producer is not None:
            self._producer.close(timeout=_ANSWER_S)


def _risk(row: Row) -> Risk:
    landmark_at = round(row["landmark_at"].timestamp() * 1000)
    return Risk(row["patient_id"], landmark_at, row["risk"], row["model"], row["model_version"])


@dataclass
class Scorer:
    """Scores round by round. ``tell`` gets a text for engineers when something begins or ends to be wrong.

    What has been scored is remembered; of a version that is new here it is read from the table.
    """

    data: DataDir
    serving: Serving
    send: Callable[[list[Row]], None]
    tell: Callable[[str], None]
    progress_file: Path
    _done: defaultdict[int, dict[str, datetime]] = field(default_factory=lambda: defaultdict(dict))
    _wrong: tuple[str, ...] = ()

    def round(self, now: datetime) -> int:
        """Score once; the rows written. Raises TableMissingError."""
        began = time.monotonic()
        served, wrong = self.serving.models()
        for one in served:
            if one.version not in self._done:
                self._done[one.version] = scoring.scored_until(self.data, one.version, now)
        rows = scoring.beside_the_ward(self.data, served, self._done, now)
        in_service = [row for row in rows if row["role"] == Role.IN_SERVICE]
        if in_service:
            wrong += self._sent(in_service)
        if rows:
            record.add(self.data, RISK_SCORE, rows)
        for row in rows:
            self._done[row["model_version"]][row["patient_id"]] = row["landmark_at"]
        self._say(wrong)
        progress.append(
            self.progress_file,
            {
                "at": datetime.now(UTC).isoformat(),
                "idle": not rows,
                "rows": len(rows),
                "versions": {one.role.value: one.version for one in served},
                "wrong": list(wrong),
                "duration_ms": round((time.monotonic() - began) * 1000),
            },
        )
        return len(rows)

    def _sent(self, rows: list[Row]) -> tuple[str, ...]:
        try:
            self.send(rows)
        except KafkaError as error:
            return (f"rules do not see risks, the broker took none: {type(error).__name__}",)
        return ()

    def _say(self, wrong: tuple[str, ...]) -> None:
        for text in wrong:
            if text not in self._wrong:
                self.tell(f"risk scores: {text}")
        if self._wrong and not wrong:
            self.tell("risk scores: all is well again")
        self._wrong = wrong


def run(scorer: Scorer, stop: Event, on_ready: Callable[[], None], clock: Callable[[], datetime]) -> None:
    """Score at once and then each minute, until ``stop`` is set. Raises TableMissingError."""
    scorer.round(clock())
    on_ready()
    while not stop.wait(_until_next(clock())):
        scorer.round(clock())


def _until_next(now: datetime) -> float:
    """Seconds to the next full minute: the one before has then ended for every patient."""
    return EVERY.total_seconds() - now.timestamp() % EVERY.total_seconds()
