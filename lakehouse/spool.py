"""The spool: rows of published files on their way into bronze, as parquet files that the flow ``backfill`` takes up.

A backfilled file is a topic of its own, ``file:SOURCE/NAME@SHA`` (of resources ``file:SOURCE/resource/NAME@SHA``), in
which a row's offset is its line. So bronze knows each row by the same key as a record of Kafka, and a row that is there
already is known by its line.

Files are made in a folder that nothing reads, which becomes the run's folder in the inbox when all of them are whole.
"""

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import orjson

from lakehouse.datadir import DataDir
from lakehouse.message import Message, encode, encode_resource, key
from lakehouse.reader import TableMissingError, connect
from lakehouse.sources.source import Event
from lakehouse.tables import DEVICE_MESSAGE
from lakehouse.topics import RESOURCE_FILES

if TYPE_CHECKING:
    import pyarrow as pa

PARTITION = 0
PART_ROWS = 50_000
"""Messages in one file of the spool: some 25 MB in memory, a few on disk."""
BUCKET_ROWS = 10_000
"""Messages in one file of a bucket: of all buckets together some are in memory."""
_COUNTS = "counts.json"
_LANDED = "landed"
_READ_ROWS = 200_000


def topic(source: str, file: Path) -> str:
    """The topic that a file is, by its content: a file that is fetched again under its name is the same one."""
    return f"file:{source}/{file.name}@{_fingerprint(file, file.stat().st_mtime_ns)}"


@cache
def _fingerprint(file: Path, _changed: int) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:16]


class Lines:
    """A set of line numbers, a bit for each: the 313 million lines of MIMIC-IV take 40 MB."""

    def __init__(self) -> None:
        self._bits = np.zeros(1024, np.uint8)
        self._count = 0

    def add(self, lines: "np.ndarray[Any, np.dtype[np.int64]]") -> None:
        """Put these in; none of them may be in yet."""
        if not len(lines):
            return
        places = lines >> 3
        if (wanted := int(places.max()) + 1) > len(self._bits):
            self._bits = np.concatenate([self._bits, np.zeros(max(wanted, 2 * len(self._bits)), np.uint8)])
        np.bitwise_or.at(self._bits, places, np.left_shift(1, lines & 7).astype(np.uint8))
        self._count += len(lines)

    def __contains__(self, line: int) -> bool:
        place = line >> 3
        return place < len(self._bits) and bool(self._bits[place] >> (line & 7) & 1)

    def __len__(self) -> int:
        return self._count


def landed(data: DataDir, topic: str) -> Lines:
    """The lines of a file that bronze has; none where there is no bronze yet."""
    lines = Lines()
    try:
        database = connect(data, (DEVICE_MESSAGE,))
    except TableMissingError:
        return lines
    with database:
        sql = f'SELECT "offset" FROM {DEVICE_MESSAGE.full_name} WHERE topic = $topic'  # noqa: S608 - a declared name
        for batch in database.sql(sql, params={"topic": topic}).to_arrow_reader(_READ_ROWS):
            lines.add(batch.column(0).to_numpy())
    return lines


def parts(
    events: Iterable[Event],
    source: str,
    known: dict[str, Lines],
    data: DataDir,
    encode: Callable[[Message], bytes] = encode,
) -> Iterator["pa.Table"]:
    """The messages as records for bronze, PART_ROWS at a time, without those that it has.

    Columns topic, partition, offset, key and value. ``known`` gets the lines of each file (by topic) that bronze had.
    """

    def fresh() -> Iterator[Record]:
        for event in events:
            name = topic(source, event.file)
            if name not in known:
                known[name] = landed(data, name)
            if event.line not in known[name]:
                yield name, event.line, event.message

    return tables(fresh(), encode)


Record = tuple[str, int, Message]
"""Topic, offset and message of a record for bronze."""


def tables(records: Iterable[Record], encode: Callable[[Message], bytes] = encode) -> Iterator["pa.Table"]:
    """Records as the spool holds them, PART_ROWS at a time: columns topic, partition, offset, key and value."""
    found = iter(records)
    while some := list(islice(found, PART_ROWS)):
        yield _table(some, encode)


def resource_parts(
    events: Iterable[Event], source: str, known: dict[str, Lines], data: DataDir
) -> Iterator["pa.Table"]:
    """As :func:`parts`, for records of resources."""
    return parts(events, f"{source}/{RESOURCE_FILES}", known, data, encode_resource)


def _table(some: Iterable[Record], encode: Callable[[Message], bytes]) -> "pa.Table":
    import pyarrow as pa

    topics, offsets, messages = zip(*some, strict=True)
    columns = {
        "topic": pa.array(topics, pa.string()),
        "partition": pa.array([PARTITION] * len(topics), pa.int32()),
        "offset": pa.array(offsets, pa.int64()),
        "key": pa.array([key(message) for message in messages], pa.binary()),
        "value": pa.array([encode(message) for message in messages], pa.binary()),
    }
    return pa.table(columns)


def split(tables: Iterable["pa.Table"], folder: Path, count: int, counts: Callable[[], dict[str, Any]]) -> list[Path]:
    """Part the rows by patient into ``count`` folders of parquet files, which appear in ``folder`` all at once.

    A bucket has all of its patients, in the order of the rows. One without a row is not made. ``counts`` is asked when
    all is read, and kept beside the buckets. Returns the buckets.
    """
    making = folder.with_name(f"{folder.name}.making")
    making.mkdir(parents=True)
    try:
        _fill(making, tables, count)
        (making / _COUNTS).write_bytes(orjson.dumps(counts(), option=orjson.OPT_INDENT_2))
    except BaseException:
        shutil.rmtree(making)
        raise
    making.rename(folder)
    return sorted(bucket for bucket in folder.iterdir() if bucket.is_dir())


def _fill(making: Path, tables: Iterable["pa.Table"], count: int) -> None:
    import pyarrow as pa

    waiting: dict[int, list[pa.Table]] = {}
    files: Counter[int] = Counter()

    def write(bucket: int) -> None:
        _write(pa.concat_tables(waiting.pop(bucket)), making / f"{bucket:03}" / f"{files[bucket]:05}.parquet")
        files[bucket] += 1

    for table in tables:
        buckets = np.array([crc32(key.as_py()) % count for key in table.column("key")])
        for bucket in np.unique(buckets).tolist():
            some = waiting.setdefault(bucket, [])
            some.append(table.filter(buckets == bucket))
            if sum(part.num_rows for part in some) >= BUCKET_ROWS:
                write(bucket)
    for bucket in sorted(waiting):
        write(bucket)


def split_from(bucket: Path) -> dict[str, Any]:
    """The counts of what a bucket was split from."""
    counts: dict[str, Any] = orjson.loads((bucket.parent / _COUNTS).read_bytes())
    return counts


def is_bucket(path: Path) -> bool:
    """Whether a path is a bucket that :func:`split` has made, landed or not."""
    return path.name.isdecimal() and ((path / _LANDED).exists() or any(path.glob("[0-9]*.parquet")))


def empty(bucket: Path) -> None:
    """Note that all of a bucket has landed, and take its rows away."""
    (bucket / _LANDED).touch()
    for file in bucket.glob("*.parquet"):
        file.unlink()


def fresh(bucket: Path, known: dict[str, Lines], data: DataDir) -> Iterator["pa.Table"]:
    """The rows of a bucket without those that bronze has by now; ``known`` is as in :func:`parts`."""
    import pyarrow.parquet as pq

    for file in sorted(bucket.glob("[0-9]*.parquet")):
        table = pq.read_table(file)
        for name in table.column("topic").unique().to_pylist():
            if name not in known:
                known[name] = landed(data, name)
        rows = zip(table.column("topic").to_pylist(), table.column("offset").to_pylist(), strict=True)
        missing = table.filter([line not in known[name] for name, line in rows])
        if missing.num_rows:
            yield missing


def _write(table: "pa.Table", file: Path) -> None:
    import pyarrow.parquet as pq

    file.parent.mkdir(exist_ok=True)
    pq.write_table(table, file, compression="zstd")


class Spool:
    """The spool of a data dir: a folder for each run in ``inbox``, which appears there whole."""

    def __init__(self, data: DataDir) -> None:
        self.inbox = data.spool / "inbox"
        self.buckets = data.spool / "buckets"
        self._making = data.spool / "making"

    def put(self, run: str, tables: Iterable["pa.Table"]) -> int:
        """Put the tables into the inbox under the run's name, all at once; how many rows they have.

        What an earlier run has left unfinished is removed. A run's name must be new: what was taken up under one name
        is not taken up again.
        """
        self.inbox.mkdir(parents=True, exist_ok=True)
        if self._making.exists():
            shutil.rmtree(self._making)
        self._making.mkdir()
        rows = 0
        for number, table in enumerate(tables):
            _write(table, self._making / f"{number:05}.parquet")
            rows += table.num_rows
        if rows:
            self._making.rename(self.inbox / run)
        return rows

    def files(self) -> frozenset[str]:
        """Each file in the inbox as ``RUN/NAME``."""
        return frozenset(f"{file.parent.name}/{file.name}" for file in self.inbox.glob("*/*.parquet"))

    def clear(self) -> None:
        """Take away every run in the inbox: all of it has landed."""
        for run in self.inbox.glob("*"):
            shutil.rmtree(run)
