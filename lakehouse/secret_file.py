"""Files that hold secrets: readable by their owner alone, replaced in one step."""

import os
from pathlib import Path
from secrets import token_hex

_FOLDER_MODE = 0o700
_FILE_MODE = 0o600


def write(path: Path, content: bytes) -> None:
    """Replace a file, synced to disk: a reader sees the old content or the new one, and never half of it."""
    path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{token_hex(4)}")
    # With its mode from the first: there is no instant in which others could read it.
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
