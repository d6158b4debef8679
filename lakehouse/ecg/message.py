"""The contract of the topic ``waveform``, contracts/waveform.v1.schema.json: a chunk as a message, and back.

A sender may write plain integers; what we send is packed.
"""

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import fastjsonschema
import orjson

from lakehouse.ecg.chunk import ABOVE, BELOW, NO_VALUE, ChunkError, CodecError, WaveformChunk, packed, unpacked
from lakehouse.ecg.lead import lead_codes
from lakehouse.message import SCHEMA_VERSION, schema

_MARKS = {"E": NO_VALUE, "L": BELOW, "U": ABOVE}


class WaveformMessageError(ValueError):
    """A message breaks the contract; the text names the field."""


class NotJsonError(WaveformMessageError):
    """The bytes are not JSON."""


@dataclass(frozen=True)
class WaveformMessage:
    """A chunk, who sent it, and the name of the message that brought it."""

    message_id: str
    source: str
    chunk: WaveformChunk


@cache
def _validator() -> Callable[[Any], object]:
    compiled: Callable[[Any], object] = fastjsonschema.compile(schema("waveform"))
    return compiled


def encode(chunk: WaveformChunk, message_id: str, source: str) -> bytes:
    """A chunk as the bytes to send. Raises WaveformMessageError where it is longer than a message may be."""
    message: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "message_id": message_id,
        "patient_id": chunk.patient_id,
        "device_id": chunk.device_id,
        "source": source,
        "signal": chunk.signal,
        "started_at": chunk.started_at.isoformat(),
        "rate": chunk.rate,
        "unit": chunk.unit,
        "gain": chunk.gain,
        "baseline": chunk.baseline,
    }
    message |= {name: end for name in ("lowest", "highest") if (end := getattr(chunk, name)) is not None}
    try:
        data = b64encode(packed(chunk.samples)).decode()
    except CodecError as error:
        raise WaveformMessageError(f"data.packed: {error}") from error
    message["packed"] = {"encoding": "delta-zstd", "count": len(chunk.samples), "data": data}
    _hold(message)
    return orjson.dumps(message)


def decode(content: bytes) -> WaveformChunk:
    """The chunk of a message. Raises WaveformMessageError."""
    return read(content).chunk


def read(content: bytes) -> WaveformMessage:
    """A message whole. Raises WaveformMessageError, of which NotJsonError is one."""
    try:
        message = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise NotJsonError(f"not JSON: {error}") from error
    _hold(message)
    return WaveformMessage(message["message_id"], message["source"], _chunk(message))


def _chunk(message: Mapping[str, Any]) -> WaveformChunk:
    try:
        return WaveformChunk(
            patient_id=message["patient_id"],
            device_id=message["device_id"],
            signal=message["signal"],
            started_at=datetime.fromisoformat(message["started_at"]),
            rate=float(message["rate"]),
            unit=message["unit"],
            gain=float(message["gain"]),
            baseline=float(message["baseline"]),
            samples=_samples(message),
            lowest=_end(message, "lowest"),
            highest=_end(message, "highest"),
        )
    except CodecError as error:
        raise WaveformMessageError(f"data.packed: {error}") from error
    except (ChunkError, ValueError) as error:
        raise WaveformMessageError(f"data: {error}") from error


def _hold(message: Any) -> None:
    try:
        _validator()(message)
    except fastjsonschema.JsonSchemaValueException as error:
        raise WaveformMessageError(error.message) from error
    if message["signal"] not in lead_codes():
        raise WaveformMessageError(f"data.signal is no lead of an ECG: {message['signal']}")


def _samples(message: Mapping[str, Any]) -> Any:
    if "samples" in message:
        # To JSON Schema 5.0 is an integer.
        return [_MARKS[sample] if isinstance(sample, str) else int(sample) for sample in message["samples"]]
    return unpacked(b64decode(message["packed"]["data"], validate=True), int(message["packed"]["count"]))


def _end(message: Mapping[str, Any], name: str) -> float | None:
    return float(message[name]) if name in message else None
