"""Quix Streams: ``python -m bench.peers.with_quixstreams alerts|land SERVERS TABLE``.

Settings: librdkafka's linger of 5 ms and an at-least-once commit every 5 s are its defaults
(quix.io/docs/quix-streams/configuration.html); a sink is called at each commit, hence 10 s where it lands
(quix.io/docs/quix-streams/connectors/sinks/custom-sinks.html).
"""

import sys

from quixstreams import Application
from quixstreams.sinks import BatchingSink, SinkBatch

from bench.peers.landing import Landed, land
from bench.peers.rules import ALERTS, LAND_EVERY_S, VITALS, breaches, limits


class DeltaSink(BatchingSink):
    """One Delta commit a partition and checkpoint."""

    def __init__(self, table: str) -> None:
        super().__init__()
        self._table = table

    def write(self, batch: SinkBatch) -> None:
        """Append a batch."""
        land(self._table, (Landed(batch.partition, i.offset, i.timestamp, i.key, i.value) for i in batch))


def main() -> None:
    """Run one of the two applications until stopped."""
    what, servers, table = sys.argv[1:]
    app = Application(
        broker_address=servers,
        consumer_group=what,
        auto_offset_reset="earliest",
        commit_interval=LAND_EVERY_S if what == "land" else 5.0,
    )
    if what == "land":
        app.dataframe(app.topic(VITALS, value_deserializer="bytes")).sink(DeltaSink(table))
    else:
        by_code = limits()
        frame = app.dataframe(app.topic(VITALS, value_deserializer="json"))
        frame = frame.apply(lambda message: breaches(message, by_code), expand=True)
        frame.to_topic(app.topic(ALERTS, value_serializer="json"))
    app.run()


if __name__ == "__main__":
    main()
