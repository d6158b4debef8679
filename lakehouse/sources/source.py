"""What a source is: the interface of a reader, what may be selected, what is counted, and how reading fails."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from lakehouse.message import Message

PROBLEMS_KEPT = 100
"""Problems named with file and line; all are counted. A file that is wrong throughout would fill the report."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SourceError(ValueError):
    """A source cannot be read; the text names the file, and the line where there is one."""


class SourceNotFoundError(SourceError):
    """The file or folder is not there, or may not be read."""


class SourceTruncatedError(SourceError):
    """A compressed file ends too early."""


class SourceHeaderError(SourceError):
    """The header does not name the columns of this source, or no row fits it."""


class SourceFormatError(SourceError):
    """The file is damaged, or not of the format that its name says."""


@dataclass(frozen=True)
class Selection:
    """Which part of a source is wanted; all of it by default.

    ``subjects`` are ids without the system (``10006``). Rows count from ``since`` up to, not including, ``until``
    (aware UTC, held against the time of observation). ``limit`` is the most messages, the earliest first.
    """

    subjects: frozenset[str] | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int | None = None

    def has_time(self, observed_at: datetime) -> bool:
        """Whether an instant lies within ``since`` and ``until``."""
        return (self.since is None or self.since <= observed_at) and (self.until is None or observed_at < self.until)


@dataclass(frozen=True, slots=True)
class Event:
    """One message, or record of a resource, and where it comes from. ``line`` 1 is the header of a csv file."""

    file: Path
    line: int
    message: Message


def timed(events: Iterable[Event]) -> Iterator[tuple[int, Message]]:
    """Instant of observation (epoch ms) and message of each event, for who replays a source in memory."""
    for event in events:
        yield _epoch_ms(event.message["observed_at"]), event.message


@lru_cache(maxsize=1024)
def _epoch_ms(observed_at: str) -> int:
    # Charted values share their instant with those before and after them.
    return (datetime.fromisoformat(observed_at) - _EPOCH) // timedelta(milliseconds=1)


@dataclass
class Tally:
    """What became of every row that was read. Nothing is left out: see ``accounted``."""

    rows_read: int = 0
    messages: int = 0
    """Rows that became a message."""
    observations: int = 0
    not_selected: int = 0
    """Rows that the selection leaves out."""
    unmapped_rows: Counter[str] = field(default_factory=Counter)
    """Rows of items that the map does not have, by item id."""
    rows_without_value: Counter[str] = field(default_factory=Counter)
    """Rows of mapped items in which no value is charted, by item id (``row`` for a monitor's)."""
    rejected_rows: Counter[str] = field(default_factory=Counter)
    """Rows that cannot be a message, by reason."""
    flawed_rows: Counter[str] = field(default_factory=Counter)
    """Rows that became a message with something left out or cut, by reason."""
    text_values: Counter[str] = field(default_factory=Counter)
    """Values that are not numbers, by item: sent as texts, which silver quarantines as unknown_value_code."""
    unmapped_cells: Counter[str] = field(default_factory=Counter)
    """Filled cells of a monitor's columns that the map does not have."""
    empty_cells: Counter[str] = field(default_factory=Counter)
    """Empty cells of a monitor's mapped columns: not measured."""
    lines_within_rows: int = 0
    """Lines that belong to the row before, inside its quotes. The published files have none: a quote was lost."""
    missing_files: list[str] = field(default_factory=list)
    """Files that a folder may have and this one has not."""
    problems: list[str] = field(default_factory=list)
    """The first rejected and flawed rows, with file, line and reason."""

    def reject(self, reason: str, file: Path, line: int, detail: str = "", rows: int = 1) -> None:
        """Count a row that cannot be a message."""
        self.rejected_rows[reason] += rows
        self._note(reason, file, line, detail)

    def flaw(self, reason: str, file: Path, line: int, detail: str = "") -> None:
        """Count a row that is sent although something of it had to be left out."""
        self.flawed_rows[reason] += 1
        self._note(reason, file, line, detail)

    def sent(self, message: Message) -> None:
        """Count a row that became a message; one of a resource has no observations."""
        self.messages += 1
        self.observations += len(message.get("observations", ()))

    @property
    def accounted(self) -> int:
        """The rows whose fate is known; at the end of a source this is ``rows_read``."""
        counted = (self.unmapped_rows, self.rows_without_value, self.rejected_rows)
        return self.messages + self.not_selected + sum(counter.total() for counter in counted)

    def as_report(self) -> dict[str, Any]:
        """All counts, as JSON has them; the most frequent first."""
        counts = ((part.name, getattr(self, part.name)) for part in fields(self))
        return {name: dict(value.most_common()) if isinstance(value, Counter) else value for name, value in counts}

    def _note(self, reason: str, file: Path, line: int, detail: str) -> None:
        if len(self.problems) < PROBLEMS_KEPT:
            shown = f": {detail[:80]!r}" if detail else ""
            self.problems.append(f"{file.name}:{line}: {reason}{shown}")


class Source(Protocol):
    """A reader of one published layout."""

    @property
    def name(self) -> str:
        """Name of the source, which its messages carry."""

    def events(self, path: Path, selection: Selection, tally: Tally, scratch: Path | None = None) -> Iterator[Event]:
        """Every selected row as a message, in order of observation; of one instant, as stored, then as in the file.

        ``path`` is the data set's folder or the file itself, csv, csv.gz or parquet. ``tally`` counts on the way.
        ``scratch`` is a folder for what does not fit in memory, the system's temporary folder by default.
        Reads the file once, in bounded memory, and to its end before the first message: a damaged file sends nothing.
        Raises SourceError.
        """

    def resources(self, path: Path, selection: Selection, tally: Tally) -> Iterator[Event]:
        """Patients and encounters of the selected subjects, as records of ``clinical.resource``; none of a single file.

        Raises SourceError.
        """
