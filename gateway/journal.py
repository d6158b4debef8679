"""Audit records that stay on this machine: a file a day, a line a record, synced before its answer leaves."""

import asyncio
import os
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from gateway.ingest import Receipt, Record


class Journal:
    """One folder, readable by its owner alone. Nothing in it is ever removed here."""

    def __init__(self, folder: Path, clock: Callable[[], datetime]) -> None:
        self._folder, self._clock = folder, clock
        self._one = asyncio.Lock()

    async def take(self, records: Sequence[Record]) -> list[Receipt]:
        """Have all records on the disk. Raises OSError."""
        async with self._one:
            await asyncio.to_thread(self._write, b"".join(record.value + b"\n" for record in records))
        return [Receipt(record.message_id, None, None) for record in records]

    def _write(self, lines: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{self._clock():%Y-%m-%d}.jsonl"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
