"""Plain Spark micro-batches, as Spark's guide has them: ``python -m bench.peers.with_spark alerts|land SERVERS TABLE``.

Settings: a trigger as soon as the last batch is over, progress written beside the batch and not before it
(``asyncProgressTrackingEnabled``, spark.apache.org/docs/latest/streaming/performance-tips.html), a broadcast join with
the limits; and this project's own session (lakehouse/session.py), which is the better tuned one.
"""

import sys
import tempfile

from bench.peers.rules import ALERTS, LAND_EVERY_S, VITALS, limits
from lakehouse.session import build_session
from wardhouse.settings import Settings

MESSAGE = "message_id STRING, patient_id STRING, observations ARRAY<STRUCT<code: STRING, value: DOUBLE>>"


def main() -> None:
    """Run one of the two queries until stopped."""
    what, servers, table = sys.argv[1:]
    spark = build_session(f"plain {what}", Settings().jars)
    options = {"kafka.bootstrap.servers": servers, "subscribe": VITALS, "startingOffsets": "earliest"}
    records = spark.readStream.format("kafka").options(**options).load()
    with tempfile.TemporaryDirectory() as checkpoint:
        if what == "land":
            rows = records.selectExpr("partition", "offset", "timestamp AS received_at", "key", "value")
            query = rows.writeStream.format("delta").option("checkpointLocation", checkpoint)
            query.trigger(processingTime=f"{LAND_EVERY_S} seconds").start(table).awaitTermination()
            return
        from pyspark.sql import functions as F  # noqa: N812

        table_of_limits = spark.createDataFrame(
            [(code, limit.low, limit.high) for code, limit in limits().items()], "code STRING, low DOUBLE, high DOUBLE"
        )
        messages = records.select("key", F.from_json(F.col("value").cast("string"), MESSAGE).alias("m"))
        values = messages.selectExpr("key", "m.message_id", "m.patient_id", "inline(m.observations)")
        beyond = values.join(F.broadcast(table_of_limits), "code").where("value < low OR value > high")
        alerts = beyond.selectExpr(
            "key",
            """to_json(named_struct('message_id', message_id, 'patient_id', patient_id, 'code', code, 'value', value,
                'limit', CASE WHEN value < low THEN low ELSE high END)) AS value""",
        )
        writer = alerts.writeStream.format("kafka").option("kafka.bootstrap.servers", servers).option("topic", ALERTS)
        writer = writer.option("checkpointLocation", checkpoint).option("asyncProgressTrackingEnabled", "true")
        writer.trigger(processingTime="0 seconds").start().awaitTermination()


if __name__ == "__main__":
    main()
