"""Bronze: every record of the topic of waveforms as it came, raw bytes, exactly once."""

from typing import TYPE_CHECKING

from lakehouse.pipeline import Flow
from lakehouse.tables import WAVEFORM_MESSAGE
from lakehouse.topics import WAVEFORM
from streaming import device_message
from streaming.config import StreamConfig

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

MAX_RECORDS = 50_000
"""A micro-batch's bound for each heap: a second of a lead takes 0.7 kB, but a record may take 2 MiB."""


def start(spark: "SparkSession", flow: Flow, config: StreamConfig) -> "StreamingQuery":
    """Start the flow, as that of bronze.device_message."""
    return device_message.land(spark, flow, config, (WAVEFORM,), WAVEFORM_MESSAGE, MAX_RECORDS)
