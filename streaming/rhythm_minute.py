"""Gold: the rhythm of each lead by the minute, out of silver's chunks.

A batch touches minutes; each of them is worked out anew from all chunks that silver has around it
(lakehouse/ecg/stored_rhythm.py), so that late, repeated and contradicting chunks, in any order and any batches, end in
the same rows. Beats are searched in the driver, in Python: an executor has none.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lakehouse import delta
from lakehouse.ecg.chunk import WaveformChunk
from lakehouse.ecg.stored import chunk_of
from lakehouse.ecg.stored_rhythm import AFTER, LEAD_IN, LONGEST, MINUTE, rhythm_minute, touched
from lakehouse.pipeline import Flow
from lakehouse.tables import RHYTHM_MINUTE, WAVEFORM_CHUNK
from streaming import query
from streaming.config import StreamConfig

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

MAX_MIB = 8
"""A batch's bound on silver bytes: some ten hours of a lead, a minute or two of work."""

Lead = tuple[str, str, str]
_LEAD = ("patient_id", "device_id", "lead")
_CHUNK = (
    *_LEAD,
    *("started_at", "ended_at", "rate", "unit", "gain", "baseline", "lowest", "highest", "samples", "packed"),
)


def start(spark: "SparkSession", flow: Flow, config: StreamConfig) -> "StreamingQuery":
    """Start the flow on silver as a stream."""
    chunks = query.read_table(spark, WAVEFORM_CHUNK, flow, config, max_mib=MAX_MIB)
    writer = query.observed(chunks).writeStream.foreachBatch(write_batch(flow, config))
    return query.start(writer, flow, config)


def write_batch(flow: Flow, config: StreamConfig) -> Callable[["DataFrame", int], None]:
    """The function that derives the minutes anew which one batch of new chunks touches."""
    identity = query.identities(config.data, flow)

    def write(chunks: "DataFrame", batch_id: int) -> None:
        minutes = _minutes(chunks.select(*_LEAD, "started_at", "ended_at").toArrow().to_pylist())
        if not minutes:
            return
        rows = delta.frame(chunks.sparkSession, RHYTHM_MINUTE, _rows(_around(chunks.sparkSession, minutes, config)))
        path, near = config.data.table(RHYTHM_MINUTE), delta.within("t.minute", set().union(*minutes.values()), MINUTE)
        mark = identity("rhythm_minute", batch_id)
        delta.replace_keys(rows, RHYTHM_MINUTE, path, mark, gone="s.beats IS NULL", within=near)

    return write


def _minutes(spans: Iterable[Mapping[str, Any]]) -> dict[Lead, set[datetime]]:
    found: dict[Lead, set[datetime]] = defaultdict(set)
    for span in spans:
        found[_lead(span)].update(touched(span["started_at"], span["ended_at"]))
    return found


def _around(
    spark: "SparkSession", minutes: Mapping[Lead, set[datetime]], config: StreamConfig
) -> dict[tuple[Lead, datetime], list[WaveformChunk]]:
    """The chunks that each of these minutes may depend on."""
    from pyspark.sql import functions as F  # noqa: N812

    spans = [(minute - LEAD_IN, minute + MINUTE + AFTER) for minute in set().union(*minutes.values())]
    reach = [(start - LONGEST, end) for start, end in spans]
    stored = (
        delta.read(spark, config.data.table(WAVEFORM_CHUNK))
        .where(delta.between("started_at", delta.merged(reach)))
        .where(F.col("ended_at") > F.lit(min(start for start, _ in spans)))
        .where(F.col("patient_id").isin(sorted({patient for patient, _, _ in minutes})))
    )
    found: dict[tuple[Lead, datetime], list[WaveformChunk]] = {
        (lead, minute): [] for lead, wanted in minutes.items() for minute in wanted
    }
    for row in stored.select(*_CHUNK).toArrow().to_pylist():
        for minute in touched(row["started_at"], row["ended_at"]):
            if (members := found.get((_lead(row), minute))) is not None:
                members.append(chunk_of(row))
    return found


def _rows(found: Mapping[tuple[Lead, datetime], list[WaveformChunk]]) -> Iterator[dict[str, Any]]:
    """A row for each minute; one without a signal has no beats, which says that it has no row."""
    for (lead, minute), chunks in found.items():
        key = dict(zip(_LEAD, lead, strict=True)) | {"minute": minute}
        yield key | (rhythm_minute(chunks, minute) or {})


def _lead(row: Mapping[str, Any]) -> Lead:
    return row["patient_id"], row["device_id"], row["lead"]
