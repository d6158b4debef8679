"""The pack that ``ward rules apply`` puts in force: one record on the compacted topic ``alert.rules``.

The router takes it over at once, the alert flow when it has started anew, within seconds. Without a record, or after a
tombstone, the pack counts with which they were started.
"""

from dataclasses import dataclass
from datetime import datetime

import orjson

from alerting.pack import Pack, PackError, parse

SCHEMA_VERSION = 1
KEY = b"pack"


def encode(text: str, *, at: datetime, by: str | None, reason: str | None) -> bytes:
    """The record value: a pack's YAML text, when it was applied, by whom and why."""
    record = {"schema_version": SCHEMA_VERSION, "text": text, "at": at.isoformat(), "by": by, "reason": reason}
    return orjson.dumps({name: value for name, value in record.items() if value is not None})


@dataclass(frozen=True, slots=True)
class Applied:
    """A pack that was applied: when (aware), by whom and why."""

    pack: Pack
    at: datetime
    by: str | None = None
    reason: str | None = None


def applied(value: bytes | None) -> Applied | None:
    """What a record says, None for a tombstone. Raises PackError."""
    if value is None:
        return None
    try:
        record = orjson.loads(value)
        text, at = record["text"], datetime.fromisoformat(record["at"])
        by, reason = record.get("by"), record.get("reason")
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise PackError(f"topic alert.rules: not a pack: {error!r}") from error
    if not isinstance(text, str):
        raise PackError(f"topic alert.rules: not a pack: its text is {type(text).__name__}")
    return Applied(parse(text, "topic alert.rules"), at, by, reason)


def decode(value: bytes | None) -> Pack | None:
    """The pack in a record, None for a tombstone. Raises PackError."""
    found = applied(value)
    return found.pack if found is not None else None
