"""Progress of a flow or component: JSON lines that every process appends and that status, report and metrics read."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

Record = dict[str, Any]
"""``at`` (RFC 3339) and whatever the writer counts; durations in ms, rows and records as counts."""


_LONGEST_LINE = 64 * 1024
"""A line is about 1 kB."""


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Add one line. A line is written in one call, so a kill leaves at most one broken last line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))


def read(path: Path) -> Iterator[Record]:
    """Every whole line, oldest first; nothing where there is no file yet."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield orjson.loads(line)


def last(path: Path) -> Record | None:
    """The newest whole line, or None. Reads the end of the file alone, however long it is."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _LONGEST_LINE))
        lines = file.read().split(b"\n")[:-1]
    return orjson.loads(lines[-1]) if lines else None
