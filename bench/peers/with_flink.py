"""PyFlink: ``python -m bench.peers.with_flink alerts|land SERVERS TABLE``; FLINK_JARS is the folder of its connector.

Settings: Table API, so that no record of the alert job meets Python; ``execution.buffer-timeout.interval`` 5 ms and
object reuse, as Flink's page on execution configuration advises for latency (nightlies.apache.org/flink/flink-docs-
stable/docs/dev/datastream/execution/execution_configuration); parallelism 2, one a partition; sink at least once,
checkpoints every 10 s. The limits are literals of the query: a join with a table of them would keep state for each
record. There is no Delta sink for Flink 2: rows are landed in Python by a window of ten seconds.
"""

import os
import sys
from pathlib import Path

from pyflink.common import Configuration, Time
from pyflink.datastream import ProcessWindowFunction, StreamExecutionEnvironment
from pyflink.datastream.window import TumblingProcessingTimeWindows
from pyflink.table import StreamTableEnvironment

from bench.peers.landing import Landed, land
from bench.peers.rules import ALERTS, LAND_EVERY_S, VITALS, limits

SETTINGS = {
    "execution.buffer-timeout.interval": "5 ms",
    "execution.checkpointing.interval": "10 s",
    # A fault ends the process and is seen, instead of being tried again for ever.
    "restart-strategy.type": "none",
    "pipeline.object-reuse": "true",
    "parallelism.default": "2",
    "rest.port": "0",
    "rest.bind-address": "127.0.0.1",
}


class Land(ProcessWindowFunction):
    """One Delta commit a window."""

    def __init__(self, table: str) -> None:
        self._table = table

    def process(self, key, context, elements):  # type: ignore[no-untyped-def]
        """Append the window's records."""
        del key, context
        land(self._table, (Landed(r[0], r[1], r[2].to_epoch_milli(), bytes(r[3]), bytes(r[4])) for r in elements))
        return []


def source(servers: str, columns: str, format_: str) -> str:
    """The table of messages."""
    return f"""CREATE TABLE vitals ({columns}) WITH ('connector' = 'kafka', 'topic' = '{VITALS}',
        'properties.bootstrap.servers' = '{servers}', 'scan.startup.mode' = 'earliest-offset', {format_})"""


def side(name: str, default: float) -> str:
    """One side of the limits, by the code of an observation."""
    cases = " ".join(
        f"WHEN '{code}' THEN CAST({getattr(limit, name)} AS DOUBLE)"
        for code, limit in limits().items()
        if getattr(limit, name) is not None
    )
    return f"CASE code {cases} ELSE CAST({default} AS DOUBLE) END"


def alert(tables: StreamTableEnvironment, servers: str) -> None:
    """One record for each breach, in SQL."""
    columns = "message_id STRING, patient_id STRING, observations ARRAY<ROW<code STRING, `value` DOUBLE>>"
    tables.execute_sql(source(servers, columns, "'format' = 'json'"))
    tables.execute_sql(f"""CREATE TABLE alerts (message_id STRING, patient_id STRING, code STRING, `value` DOUBLE,
        `limit` DOUBLE) WITH ('connector' = 'kafka', 'topic' = '{ALERTS}', 'key.format' = 'raw',
        'key.fields' = 'patient_id', 'properties.bootstrap.servers' = '{servers}', 'format' = 'json',
        'sink.delivery-guarantee' = 'at-least-once')""")
    tables.execute_sql(f"""INSERT INTO alerts
        SELECT message_id, patient_id, code, `value`, CASE WHEN `value` < low THEN low ELSE high END FROM (
            SELECT message_id, patient_id, code, `value`, {side("low", -1e300)} AS low, {side("high", 1e300)} AS high
            FROM vitals CROSS JOIN UNNEST(observations) AS o (code, `value`))
        WHERE `value` < low OR `value` > high""").wait()  # noqa: S608 - our own text


def keep(environment: StreamExecutionEnvironment, tables: StreamTableEnvironment, servers: str, table: str) -> None:
    """Raw records to Delta."""
    columns = """`partition` INT METADATA VIRTUAL, `offset` BIGINT METADATA VIRTUAL,
        received_at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL, k BYTES, v BYTES"""
    formats = "'key.format' = 'raw', 'key.fields' = 'k', 'value.format' = 'raw', 'value.fields-include' = 'EXCEPT_KEY'"
    tables.execute_sql(source(servers, columns, formats))
    rows = tables.to_data_stream(tables.from_path("vitals"))
    windows = rows.key_by(lambda _: 0).window(TumblingProcessingTimeWindows.of(Time.seconds(LAND_EVERY_S)))
    windows.process(Land(table))
    environment.execute()


def main() -> None:
    """Run one of the two jobs until stopped."""
    what, servers, table = sys.argv[1:]
    jars = ";".join(path.resolve().as_uri() for path in Path(os.environ["FLINK_JARS"]).glob("*.jar"))
    settings = Configuration()
    for name, value in {**SETTINGS, "pipeline.jars": jars, "python.executable": sys.executable}.items():
        settings.set_string(name, value)
    environment = StreamExecutionEnvironment.get_execution_environment(settings)
    tables = StreamTableEnvironment.create(environment)
    if what == "land":
        keep(environment, tables, servers, table)
    else:
        alert(tables, servers)


if __name__ == "__main__":
    main()
