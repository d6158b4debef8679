"""Pathway: ``python -m bench.peers.with_pathway alerts|land SERVERS TABLE``.

Settings: a commit of the engine's time every 10 ms instead of 1,500 (``autocommit_duration_ms``, which its reference
names as what sets latency: pathway.com/developers/api-docs/pathway-io/kafka), no persistence, one worker, its default.
Its own Delta sink refuses to run without a licence key, so rows are landed in Python (``pw.io.subscribe``).
"""

import queue
import sys
import threading
import time
from typing import Any

import orjson
import pathway as pw

from bench.peers.landing import Landed, land
from bench.peers.rules import ALERTS, LAND_EVERY_S, VITALS, breaches, limits

BY_CODE = limits()
AUTOCOMMIT_MS = 10


class Landing:
    """Rows that wait for the next commit."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._waiting: queue.SimpleQueue[Landed] = queue.SimpleQueue()

    def add(self, key: object, row: dict[str, Any], time: int, is_addition: bool) -> None:
        """Take a row, as ``pw.io.subscribe`` gives it."""
        del key, time, is_addition
        place = row["_metadata"].as_dict()
        partition, offset, at = (int(place[name]) for name in ("partition", "offset", "timestamp_millis"))
        self._waiting.put(Landed(partition, offset, at, row["key"], row["data"]))

    def keep_on(self) -> None:
        """Commit what waits, every ten seconds."""
        while True:
            time.sleep(LAND_EVERY_S)
            land(self._table, [self._waiting.get() for _ in range(self._waiting.qsize())])


@pw.udf
def alerts_of(data: bytes) -> list[bytes]:
    """One record for each breach."""
    return [orjson.dumps(breach) for breach in breaches(orjson.loads(data), BY_CODE)]


def main() -> None:
    """Run one of the two graphs until stopped."""
    what, servers, table = sys.argv[1:]
    settings = {"bootstrap.servers": servers, "group.id": what, "auto.offset.reset": "earliest"}
    records = pw.io.kafka.read(
        settings,
        topic=VITALS,
        format="raw",
        with_metadata=what == "land",
        autocommit_duration_ms=1000 if what == "land" else AUTOCOMMIT_MS,
    )
    if what == "land":
        landing = Landing(table)
        pw.io.subscribe(records, landing.add)
        threading.Thread(target=landing.keep_on, daemon=True).start()
    else:
        alerts = records.select(alert=alerts_of(pw.this.data)).flatten(pw.this.alert)
        pw.io.kafka.write(alerts, settings, ALERTS, format="raw")
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)


if __name__ == "__main__":
    main()
