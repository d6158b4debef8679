"""What the simulator sent, written down: JSON lines, one file a run, that a run can be audited against.

The first line describes the run, the last is the summary of a run that ended in order. Between them is a line for every
record that the broker acknowledged, with its coordinates, every message left out on purpose, and every episode. A kill
leaves at most one broken last line, no summary, and lacks the lines of the last second: then Kafka may have records
that the file lacks, but the file has none that Kafka lacks. Read it with lakehouse.progress.read.
"""

from pathlib import Path
from types import TracebackType
from typing import Self

import orjson

from streaming.simulator.lines import Line


class TruthError(RuntimeError):
    """The truth cannot be written; nothing more is sent, since it could not be audited."""


class TruthFile:
    """Lines of one run, collected by ``add`` and written by ``flush`` in one piece. Raises TruthError."""

    def __init__(self, folder: Path, run: str) -> None:
        self.path = folder / f"{run}.jsonl"
        self._lines: list[Line] = []
        if self.path.exists():
            raise TruthError(f"{self.path} exists: this run was sent before; choose another --start or --seed")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("xb")
        except OSError as error:
            raise TruthError(f"cannot write {self.path}: {error.strerror}") from error

    def add(self, line: Line) -> None:
        """Take one line; it is written with the next flush."""
        self._lines.append(line)

    def flush(self) -> None:
        """Write what was added."""
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        try:
            self._file.write(b"".join([orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines]))
            self._file.flush()
        except OSError as error:
            raise TruthError(f"cannot write {self.path}: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.flush()
        finally:
            self._file.close()
