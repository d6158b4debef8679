"""Faust (the maintained fork faust-streaming): ``python -m bench.peers.with_faust alerts|land SERVERS TABLE``.

Settings: orjson for JSON (its ``fast`` bundle), the web server off, no linger, which is the default
(faust-streaming.github.io/faust/userguide/settings.html); ``take_events`` for batches. One worker: its tables and
offsets are its own, and a second one takes a second core.
"""

import sys
import tempfile

import faust
import orjson

from bench.peers.landing import Landed, land
from bench.peers.rules import ALERTS, LAND_EVERY_S, VITALS, breaches, limits

what, servers, table = sys.argv[1:]
app = faust.App(
    what,
    broker=f"kafka://{servers}",
    value_serializer="raw",
    consumer_auto_offset_reset="earliest",
    topic_disable_leader=True,
    web_enabled=False,
    datadir=tempfile.mkdtemp(),
)
vitals = app.topic(VITALS, value_type=bytes)
alerts = app.topic(ALERTS, value_type=bytes)
by_code = limits()


async def alert(stream: faust.StreamT) -> None:
    """One record for each breach."""
    async for event in stream.events():
        for breach in breaches(orjson.loads(event.value), by_code):
            await alerts.send(key=event.key, value=orjson.dumps(breach))


async def keep(stream: faust.StreamT) -> None:
    """One Delta commit a batch."""
    async for events in stream.take_events(1_000_000, within=LAND_EVERY_S):
        messages = (event.message for event in events)
        land(table, (Landed(m.partition, m.offset, int(m.timestamp * 1000), m.key, bytes(m.value)) for m in messages))


if __name__ == "__main__":
    app.agent(vitals)(keep if what == "land" else alert)
    sys.argv[1:] = ["worker", "-l", "warn", "--without-web"]
    app.main()
