"""Progress of a flow or component: JSON lines that every process appends and that status, report and metrics read."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

Record = dict[str, Any]
"""``at`` (RFC 3339) and whatever the writer counts; durations in ms, rows and records as counts."""


PARSED = "parsed"
"""What silver made of bronze, as totals by outcome since the lakehouse started; no flow's own progress."""

LEDGER = "ledger"
"""What `ward verify` proved, a line each time."""

_LONGEST_LINE = 64 * 1024
"""A line is about 1 kB."""


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Add one line. A line is written in one call, so a kill leaves at most one broken last line; it is ended here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        if size := file.seek(0, os.SEEK_END):
            file.seek(size - 1)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))


def read(path: Path) -> Iterator[Record]:
    """Every whole line, oldest first; nothing where there is no file yet. What a kill cut off is passed over."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            if (record := _parsed(line)) is not None:
                yield record


def last(path: Path) -> Record | None:
    """The newest whole line, or None. Reads the end of the file alone, however long it is."""
    return next(newest(path), None)


def newest(path: Path) -> Iterator[Record]:
    """The whole lines at the end of the file, newest first: some sixty of them, however long it is."""
    if not path.exists():
        return
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _LONGEST_LINE))
        lines = file.read().splitlines(keepends=True)
    yield from (record for line in reversed(lines) if (record := _parsed(line)) is not None)


def _parsed(line: bytes) -> Record | None:
    """The record of a line; None for one that was cut off, at its end or at its beginning."""
    if not line.endswith(b"}\n"):
        return None
    try:
        record: Record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return record
