"""Bytewax: ``python -m bench.peers.with_bytewax alerts|land SERVERS TABLE``.

Settings: one worker (Python holds one core whatever their number), Kafka operators with their defaults
(docs.bytewax.io/stable/api/bytewax/bytewax.connectors.kafka.operators.html), ``collect`` with a timeout for batches. No
recovery store: with one, a worker writes its state at each epoch.
"""

import sys
from datetime import timedelta

import bytewax.operators as op
import orjson
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSourceMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main

from bench.peers.landing import Landed, land
from bench.peers.rules import ALERTS, LAND_EVERY_S, VITALS, breaches, limits


class DeltaPartition(StatelessSinkPartition):
    """Batches of one worker, a commit each."""

    def __init__(self, table: str) -> None:
        self._table = table

    def write_batch(self, items: list[list[Landed]]) -> None:
        """Append each batch."""
        for records in items:
            land(self._table, records)


class DeltaSink(DynamicSink):
    """Appends batches of records to a Delta table."""

    def __init__(self, table: str) -> None:
        self._table = table

    def build(self, step_id: str, worker_index: int, worker_count: int) -> DeltaPartition:
        """The sink of one worker."""
        del step_id, worker_index, worker_count
        return DeltaPartition(self._table)


def as_landed(message: KafkaSourceMessage) -> Landed:
    """A record as it is kept."""
    return Landed(message.partition, message.offset, message.timestamp[1], message.key, message.value)


def flow(what: str, servers: str, table: str) -> Dataflow:
    """One of the two dataflows."""
    made = Dataflow(what)
    records = kop.input("vitals", made, brokers=[servers], topics=[VITALS]).oks
    if what == "land":
        keyed = op.map("keyed", records, lambda message: ("all", as_landed(message)))
        batches = op.collect("batch", keyed, timeout=timedelta(seconds=LAND_EVERY_S), max_size=1_000_000)
        op.output("delta", op.map("rows", batches, lambda batch: batch[1]), DeltaSink(table))
        return made
    by_code = limits()

    def alerts_of(record: KafkaSourceMessage) -> list[KafkaSinkMessage]:
        found = breaches(orjson.loads(record.value), by_code)
        return [KafkaSinkMessage(record.key, orjson.dumps(breach)) for breach in found]

    alerts = op.flat_map("breaches", records, alerts_of)
    kop.output("alerts", alerts, brokers=[servers], topic=ALERTS)
    return made


if __name__ == "__main__":
    cli_main(flow(*sys.argv[1:]))
