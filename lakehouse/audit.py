"""Who read or ordered what of whom: one record each, as topic ``audit`` carries it, without values and secrets.

What has no broker at hand notes its records as files, a record each, which are synced before anything is shown, and
which whoever has a broker sends on.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any, Literal

import orjson

from lakehouse import secret_file
from lakehouse.datadir import DataDir

SCHEMA_VERSION = 1

Outcome = Literal["done", "refused", "failed"]
"""As :data:`lakehouse.tables.AUDIT_OUTCOMES`."""


@dataclass(frozen=True)
class Event:
    """One thing that somebody asked for. ``at`` is when (epoch ms).

    ``patient_id`` and ``location_unit`` are what was asked about: a list is recorded as what was asked, and not by each
    patient on it.
    """

    application: str
    actor_kind: str
    actor: str
    action: str
    outcome: Outcome
    patient_id: str | None = None
    location_unit: str | None = None
    detail: str | None = None
    at: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    event_id: str = field(default_factory=lambda: token_hex(16))


def encode(event: Event) -> bytes:
    """The record value of topic ``audit``; its key is the event's id."""
    record: dict[str, Any] = {"schema_version": SCHEMA_VERSION, **asdict(event)}
    return orjson.dumps({name: value for name, value in record.items() if value is not None})


def _notes(data: DataDir) -> Path:
    return data.access / "audit-notes"


def note(data: DataDir, event: Event) -> None:
    """Keep a record on the disk until it is sent. Raises OSError where that cannot be."""
    secret_file.write(_notes(data) / f"{event.at:015}-{event.event_id}.json", encode(event))


def noted(data: DataDir) -> Iterator[tuple[Path, bytes, bytes]]:
    """File, key and value of each record that waits, the oldest first."""
    for path in sorted(_notes(data).glob("*.json")):
        yield path, path.stem.partition("-")[2].encode(), path.read_bytes()
