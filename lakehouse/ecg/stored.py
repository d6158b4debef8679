"""Chunks as rows of silver.waveform_chunk, and back; and what becomes of records that are none.

A row keeps the integers that were sent, packed, with their scale. What was sent twice has one digest, whatever its
message is called; two chunks that differ have two, and both stay.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from lakehouse.ecg.chunk import WaveformChunk, packed, unpacked
from lakehouse.ecg.message import NotJsonError, WaveformMessage, WaveformMessageError, read
from lakehouse.tables import COORDINATES, WAVEFORM_CHUNK
from lakehouse.verdict import broken

Row = dict[str, Any]

DEAD_LETTER_REASONS = {
    "tombstone": "the record has no value",
    "empty": "the value has no bytes",
    "malformed_json": "the bytes are not JSON",
    "breaks_contract": "the message is not what contracts/waveform.v1.schema.json says, or its samples cannot be read",
    "bad_timestamp": "an instant is not of the years 1900 to 2999",
    **{constraint.name: constraint.comment for constraint in WAVEFORM_CHUNK.constraints},
}
"""Every reason a record of a waveform can become a dead letter, in the order in which they are looked for."""

_FIRST_YEAR, _LAST_YEAR = 1900, 2999
_DETAIL_CHARACTERS = 200


@dataclass(frozen=True)
class Sorted:
    """Rows of silver.waveform_chunk, and of silver.waveform_dead_letter."""

    chunks: tuple[Row, ...]
    dead: tuple[Row, ...]


def sort_out(records: Iterable[Mapping[str, Any]]) -> Sorted:
    """Records of bronze (coordinates, received_at, value), each as a chunk or as a dead letter."""
    rows: list[Row] = []
    dead: list[Row] = []
    for record in records:
        row = _row_or_letter(record)
        (dead if "reason" in row else rows).append(row)
    chunks = []
    for row, faults in zip(rows, broken(WAVEFORM_CHUNK, rows), strict=True):
        if faults:
            dead.append(_letter(row, faults[0], f"{row['started_at'].isoformat()} to {row['ended_at'].isoformat()}"))
        else:
            chunks.append(row)
    return Sorted(tuple(chunks), tuple(dead))


def row_of(message: WaveformMessage) -> Row:
    """A row without received_at and coordinates. Raises OverflowError where the chunk ends in no year that there is."""
    chunk = message.chunk
    content = packed(chunk.samples)
    return {
        "patient_id": chunk.patient_id,
        "device_id": chunk.device_id,
        "lead": chunk.signal,
        "started_at": chunk.started_at,
        "ended_at": chunk.ended_at,
        "rate": chunk.rate,
        "unit": chunk.unit,
        "gain": chunk.gain,
        "baseline": chunk.baseline,
        "lowest": chunk.lowest,
        "highest": chunk.highest,
        "samples": len(chunk.samples),
        "packed": content,
        "digest": _digest(chunk),
        "source": message.source,
        "message_id": message.message_id,
    }


def chunk_of(row: Mapping[str, Any]) -> WaveformChunk:
    """The chunk of a row. Raises CodecError, ChunkError."""
    same = ("patient_id", "device_id", "started_at", "rate", "unit", "gain", "baseline", "lowest", "highest")
    return WaveformChunk(
        **{name: row[name] for name in same}, signal=row["lead"], samples=unpacked(row["packed"], row["samples"])
    )


def _digest(chunk: WaveformChunk) -> bytes:
    # Of the samples and not of their packed bytes, which another version of zstd may write otherwise.
    scale = (chunk.rate, chunk.unit, chunk.gain, chunk.baseline, chunk.lowest, chunk.highest)
    return blake2b(repr(scale).encode() + chunk.samples.astype("<i4").tobytes(), digest_size=16).digest()


def _row_or_letter(record: Mapping[str, Any]) -> Row:
    value = record["value"]
    if not value:
        return _letter(record, "tombstone" if value is None else "empty", None)
    try:
        row = row_of(read(bytes(value)))
    except WaveformMessageError as error:
        reason = "malformed_json" if isinstance(error, NotJsonError) else "breaks_contract"
        return _letter(record, reason, str(error))
    except OverflowError as error:
        return _letter(record, "bad_timestamp", str(error))
    if row["started_at"].year < _FIRST_YEAR or row["ended_at"].year > _LAST_YEAR:
        return _letter(record, "bad_timestamp", row["started_at"].isoformat())
    return row | _place(record)


def _letter(record: Mapping[str, Any], reason: str, detail: str | None) -> Row:
    return _place(record) | {"reason": reason, "detail": detail and detail[:_DETAIL_CHARACTERS]}


def _place(record: Mapping[str, Any]) -> Row:
    return {name: record[name] for name in (*(column.name for column in COORDINATES), "received_at")}
