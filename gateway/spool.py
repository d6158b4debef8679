"""Records on disk while the broker is away: synced before they are acknowledged, sent in order when it is back.

A folder of files, each a line a record: a checksum and the record as JSON. A file is removed when the broker has all of
it. A gateway that is killed leaves a successor that sends the oldest file from its start: records may come twice, under
the same ids, and none is missing.
"""

import fcntl
import os
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from zlib import crc32

import orjson

from gateway.ingest import Record

_FILE_BYTES = 4 * 1024 * 1024  # what is sent again after a kill, at most: a second's worth at the full rate
_SUFFIX = ".spool"
_PLACES = 12


class SpoolError(OSError):
    """The spool's folder cannot be used; the text says why and what to do."""


class SpoolFullError(Exception):
    """The spool cannot take these records."""


@dataclass(frozen=True)
class Batch:
    """The oldest records that the broker lacks; ``end`` is the place in their file behind them."""

    records: tuple[Record, ...]
    file: Path
    end: int


class Spool:
    """The spool in one folder, of at most ``limit`` bytes. Safe between threads; one process at a time.

    Raises SpoolError where the folder cannot be used.
    """

    def __init__(self, folder: Path, limit: int, file_bytes: int = _FILE_BYTES) -> None:
        self._folder, self._limit, self._file_bytes = folder, limit, file_bytes
        self._guard = threading.Lock()
        self._sent = 0  # of the oldest file
        self._writing: FileIO | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / "lock").open("wb")
        except OSError as error:
            raise SpoolError(f"cannot write to the spool {folder}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise SpoolError(f"another gateway uses the spool {folder}: give each one a folder of its own") from error
        self._files = sorted(folder.glob(f"*{_SUFFIX}"))
        self._next = int(self._files[-1].stem) + 1 if self._files else 0
        self.bytes = sum(_whole(file, is_last=file == self._files[-1]) for file in self._files)

    @property
    def limit(self) -> int:
        """The most that it takes, in bytes."""
        return self._limit

    @property
    def empty(self) -> bool:
        """Whether the broker has everything."""
        return not self._files

    @property
    def full(self) -> bool:
        """Whether nothing more is taken."""
        return self.bytes >= self._limit

    def append(self, records: Sequence[Record]) -> None:
        """Put records on the disk: they are there when this returns. Raises SpoolFullError; then none of them is."""
        lines = b"".join(_line(record) for record in records)
        with self._guard:
            if self.bytes + len(lines) > self._limit:
                raise SpoolFullError(f"the spool holds {self.bytes} of {self._limit} bytes")
            try:
                self._write(lines)
            except OSError as error:
                raise SpoolFullError(f"the spool cannot be written: {error.strerror}") from error
            self.bytes += len(lines)

    def _write(self, lines: bytes) -> None:
        if self._writing is None or self._writing.tell() >= self._file_bytes:
            self._new_file()
        file = self._writing
        assert file is not None  # noqa: S101 - made above
        before = file.tell()
        try:
            while lines:
                lines = lines[file.write(lines) :]
            os.fsync(file.fileno())
        except OSError:
            # What may stand there half must not be taken for records, nor stand before others.
            self._writing = None
            file.truncate(before)
            file.close()
            raise

    def _new_file(self) -> None:
        if self._writing is not None:
            self._writing.close()
        path = self._folder / f"{self._next:0{_PLACES}}{_SUFFIX}"
        self._writing = path.open("xb", buffering=0)
        self._next += 1
        self._files.append(path)
        _sync_folder(self._folder)

    def oldest(self, most: int) -> Batch | None:
        """The oldest records, ``most`` of them and of one file; None where there are none."""
        with self._guard:
            while self._files:
                file = self._files[0]
                records, end = _read(file, self._sent, most)
                if records:
                    return Batch(records, file, end)
                self._drop(file)
            return None

    def sent(self, batch: Batch) -> None:
        """Note that the broker has a batch of :meth:`oldest`."""
        with self._guard:
            self._sent = batch.end
            if batch.end >= batch.file.stat().st_size:
                self._drop(batch.file)

    def _drop(self, file: Path) -> None:
        if self._writing is not None and Path(self._writing.name) == file:
            self._writing.close()
            self._writing = None
        self.bytes -= file.stat().st_size
        file.unlink()
        self._files.remove(file)
        self._sent = 0

    def close(self) -> None:
        """Let another process have the folder; what is in it stays."""
        with self._guard:
            if self._writing is not None:
                self._writing.close()
                self._writing = None
            self._lock.close()


def _line(record: Record) -> bytes:
    texts = {name: value.decode() if isinstance(value, bytes) else value for name, value in asdict(record).items()}
    content = orjson.dumps(texts)
    return b"%08x %s\n" % (crc32(content), content)


def _record(line: bytes) -> Record | None:
    """The record of a line; None where the line is not whole."""
    if not line.endswith(b"\n") or b"%08x" % crc32(line[9:-1]) != line[:8]:
        return None
    texts = orjson.loads(line[9:-1])
    return Record(texts["message_id"], texts["key"].encode(), texts["value"].encode(), texts["topic"])


def _read(file: Path, start: int, most: int) -> tuple[tuple[Record, ...], int]:
    records: list[Record] = []
    with file.open("rb") as content:
        content.seek(start)
        while len(records) < most and (record := _record(content.readline())):
            records.append(record)
            start += len(_line(record))
    return tuple(records), start


def _whole(file: Path, *, is_last: bool) -> int:
    """The bytes of a file, less a line that a kill has cut: nobody was told that it is safe. Raises SpoolError."""
    whole = 0
    with file.open("rb+") as content:
        for line in content:
            if _record(line) is None:
                break
            whole += len(line)
        size = content.seek(0, os.SEEK_END)
        if whole < size and not is_last:
            raise SpoolError(f"{file} is damaged at byte {whole}: move it away, and send what it held again")
        content.truncate(whole)
    return whole


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
