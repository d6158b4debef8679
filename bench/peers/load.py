"""Send lines ``start`` to ``start + count`` of a file of messages at a rate, by librdkafka: it takes little of a core.

    python -m bench.peers.load SERVERS FILE START COUNT RATE

A line is key, tab, value. Each message gets the instant at which it is sent: of an old one no alert is made. Prints
seconds that it took and how far it was behind at worst, as JSON. Exits with 1 where a message was not acknowledged.
"""

import itertools
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from bench.peers.rules import VITALS

OBSERVED = b'"observed_at":"'
INSTANT = len("2026-01-01T00:00:00.000Z")
TICK_S = 0.02
"""As the project's own sender: records of a fiftieth of a second go out together."""


def sent_at(value: bytes, instant: bytes) -> bytes:
    """The message with this instant as that of its observations."""
    at = value.index(OBSERVED) + len(OBSERVED)
    return value[:at] + instant + value[at + INSTANT :]


def main() -> int:
    """Send, wait for every acknowledgement, print."""
    from confluent_kafka import Producer

    servers, file, start, count, rate = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:6])
    producer = Producer({"bootstrap.servers": servers, "acks": "all", "linger.ms": 5, "message.timeout.ms": 60_000})
    with file.open("rb") as lines:
        load = [line.rstrip(b"\n").split(b"\t", 1) for line in itertools.islice(lines, start, start + count)]
    refused = 0

    def delivered(error: object, _: object) -> None:
        nonlocal refused
        refused += error is not None

    began, sent, behind = time.monotonic(), 0, 0.0
    while sent < count:
        now = time.monotonic() - began
        due = min(int(now * rate) + 1, count)
        behind = max(behind, now - sent / rate)
        instant = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()
        for key, value in load[sent:due]:
            while True:
                try:
                    producer.produce(VITALS, key=key, value=sent_at(value, instant), on_delivery=delivered)
                    break
                except BufferError:
                    producer.poll(0.01)
        sent = due
        producer.poll(0)
        time.sleep(TICK_S)
    left = producer.flush(60)
    print(json.dumps({"seconds": round(time.monotonic() - began, 2), "most_behind_s": round(behind, 2)}))
    return 1 if refused or left else 0


if __name__ == "__main__":
    sys.exit(main())
