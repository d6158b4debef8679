"""The pack that ``ward rules apply`` puts in force: one record on the compacted topic ``alert.rules``.

The router takes it over at once, the alert flow when it has started anew, within seconds. Without a record, or after a
tombstone, the pack counts with which they were started.
"""

from datetime import datetime

import orjson

from alerting.pack import Pack, PackError, parse

SCHEMA_VERSION = 1
KEY = b"pack"


def encode(text: str, *, at: datetime, by: str | None, reason: str | None) -> bytes:
    """The record value: a pack's YAML text, when it was applied, by whom and why."""
    record = {"schema_version": SCHEMA_VERSION, "text": text, "at": at.isoformat(), "by": by, "reason": reason}
    return orjson.dumps({name: value for name, value in record.items() if value is not None})


def decode(value: bytes | None) -> Pack | None:
    """The pack in a record, None for a tombstone. Raises PackError."""
    if value is None:
        return None
    try:
        text = orjson.loads(value)["text"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise PackError(f"topic alert.rules: not a pack: {error!r}") from error
    if not isinstance(text, str):
        raise PackError(f"topic alert.rules: not a pack: its text is {type(text).__name__}")
    return parse(text, "topic alert.rules")
