"""What came in and is no message of ours, where its sender cannot be told: kept for people to look at and send again.

A file holds one payload as JSON: ``topic``, ``refused_at``, ``faults``, and ``payload`` as text, or ``payload_base64``
where it is none.
"""

import base64
import hashlib
import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from lakehouse import secret_file

LIMIT_BYTES = 64 * 1024 * 1024
"""The most that is kept; then the oldest go."""

MOST_PAYLOAD_BYTES = 1024 * 1024
"""What is kept of one payload."""

_SUFFIX = ".json"

log = logging.getLogger(__name__)


class Refusals:
    """One folder, which one gateway writes; readable by its owner alone, since payloads speak of patients."""

    def __init__(self, folder: Path, limit: int = LIMIT_BYTES) -> None:
        self._folder, self._limit = folder, limit
        files = sorted(folder.glob(f"*{_SUFFIX}"), key=lambda file: file.stat().st_mtime)
        self._sizes = {file: file.stat().st_size for file in files}

    def keep(self, topic: str, payload: bytes, faults: Sequence[str], at: datetime) -> Path:
        """Have a payload on the disk; the same one again takes the place of the first. Raises OSError."""
        name = hashlib.sha256(topic.encode() + b"\0" + payload).hexdigest()[:32]
        path = self._folder / f"{name}{_SUFFIX}"
        content = orjson.dumps(
            {"topic": topic, "refused_at": at, "faults": faults, **_written(payload)}, option=orjson.OPT_APPEND_NEWLINE
        )
        secret_file.write(path, content)
        self._sizes.pop(path, None)
        self._sizes[path] = len(content)
        self._make_room()
        return path

    def _make_room(self) -> None:
        while sum(self._sizes.values()) > self._limit and len(self._sizes) > 1:
            oldest = next(iter(self._sizes))
            oldest.unlink(missing_ok=True)
            del self._sizes[oldest]
            log.warning("%s holds %d MiB: the oldest is gone, %s", self._folder, self._limit >> 20, oldest.name)


def _written(payload: bytes) -> dict[str, Any]:
    kept = payload[:MOST_PAYLOAD_BYTES]
    cut = {"payload_bytes": len(payload)} if len(kept) < len(payload) else {}
    try:
        return {"payload": kept.decode(), **cut}
    except UnicodeDecodeError:
        return {"payload_base64": base64.b64encode(kept).decode(), **cut}
