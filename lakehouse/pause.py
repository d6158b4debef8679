"""The pause of the lakehouse application: one file of the data dir, so that it outlasts every process.

Who wants a pause writes it, the application looks at it between two polls and says by its state when it is effective.
The alert flow is never paused.
"""

import json
import os
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from lakehouse.datadir import DataDir


@dataclass(frozen=True)
class Pause:
    """Since when (RFC 3339) the lakehouse is to stand still, and why.

    ``unfinished`` is a command that moves checkpoints, under way or cut off: no flow may start before it has ended.
    """

    since: str
    reason: str
    unfinished: str | None = None


def asked(data: DataDir) -> Pause | None:
    """The pause that is asked for; None where the lakehouse is to run."""
    try:
        return Pause(**json.loads(data.pause.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def ask(data: DataDir, reason: str, now: datetime) -> Pause:
    """Ask for a pause; one that is asked for already stays as it is."""
    pause = asked(data)
    if pause is None:
        pause = Pause(now.isoformat(timespec="seconds"), reason)
        _write(data, pause)
    return pause


def mark(data: DataDir, unfinished: str | None) -> None:
    """Note in the pause which command is under way, or that none is. A pause must be asked for."""
    pause = asked(data)
    assert pause is not None  # noqa: S101 - the caller has asked for it
    _write(data, replace(pause, unfinished=unfinished))


def end(data: DataDir) -> None:
    """Let the lakehouse run."""
    data.pause.unlink(missing_ok=True)


def _write(data: DataDir, pause: Pause) -> None:
    data.root.mkdir(parents=True, exist_ok=True)
    write_whole(data.pause, json.dumps(asdict(pause)) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Put a file in place in one step, on the disk before it is seen: a reader finds the old or the new one."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with fresh.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
