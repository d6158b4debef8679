"""Rows of csv, csv.gz and parquet files with their line numbers, in bounded memory, and their order by time.

Nothing here knows what a column means. Every cell is text; a column that the file does not have is empty.
"""

import csv
import gzip
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from lakehouse.sources.source import (
    SourceFormatError,
    SourceHeaderError,
    SourceNotFoundError,
    SourceTruncatedError,
    Tally,
)

SUFFIXES = (".csv", ".csv.gz", ".parquet")
"""The formats, in the order in which a folder is searched for them."""

_BLOCK_BYTES = 4 * 1024 * 1024
"""Some 40,000 charted rows: large enough that work per block does not count, small enough that memory does not."""

_SORT_MEMORY = "768MB"
"""What sorting may hold; beyond it DuckDB goes to disk. The full MIMIC-IV has some 40 million mapped rows."""

_SORTED_ROWS = 20_000
"""Rows handed on at a time: as Python texts they take some 20 MB."""

LINE = "line"
LINE_BREAK = "line_break_in_row"
"""Reason for a row that goes over several lines: an unclosed quote takes the lines up to the next quote with it."""


@dataclass(frozen=True)
class Columns:
    """Columns to read, in lower case: ``required`` ones must be in the header."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Required, then optional."""
        return self.required + self.optional


def find(path: Path, *stems: str) -> Path:
    """The file itself, or the one in this folder that is named like a stem, in any case, in a format we read.

    Stems may name a subfolder (``icu/chartevents``). Raises SourceNotFoundError.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise SourceNotFoundError(f"{path}: there is no such file or folder")
    for stem in stems:
        *folders, name = stem.split("/")
        folder = path.joinpath(*folders)
        if not folder.is_dir():
            continue
        by_name = {file.name.lower(): file for file in sorted(folder.iterdir())}
        for suffix in SUFFIXES:
            if found := by_name.get(name + suffix):
                return found
    wanted = " or ".join(f"{stem}{{{','.join(SUFFIXES)}}}" for stem in stems)
    raise SourceNotFoundError(f"{path}: the folder has no {wanted}")


def header(file: Path) -> tuple[str, ...]:
    """The column names as the file spells them. Raises SourceError where there are none, or one comes twice."""
    try:
        if file.name.endswith(".parquet"):
            names = tuple(pq.read_schema(file).names)
        else:
            with _open(file) as lines:
                # The first line alone is decoded: rows below may hold other bytes than UTF-8.
                names = tuple(next(csv.reader([lines.readline().decode("utf-8-sig")]), ()))
    except (gzip.BadGzipFile, zlib.error, UnicodeDecodeError, csv.Error, pa.ArrowInvalid) as error:
        raise SourceFormatError(f"{file}:1: not a {_format(file)} file: {error}") from error
    except EOFError as error:
        raise SourceTruncatedError(f"{file}:1: the compressed file ends too early; fetch it again") from error
    except OSError as error:
        raise SourceNotFoundError(f"{file}: cannot be read: {error.strerror or error}") from error
    if not names:
        raise SourceHeaderError(f"{file}:1: the file is empty; expected a line of column names")
    lower = [name.lower() for name in names]
    if twice := sorted({name for name in lower if lower.count(name) > 1}):
        raise SourceHeaderError(f"{file}:1: column named twice: {', '.join(twice)}")
    return names


def read(file: Path, columns: Columns, tally: Tally) -> Iterator[Any]:
    """The file's rows as Arrow batches: the columns, cells as bytes, and ``line``; the header is line 1.

    A line break inside quotes belongs to its row, so that ``line`` counts rows. Rows of another width than the header
    are counted as rejected. Raises SourceError; a header that lacks a column is told before anything is read.
    """
    spelled = {name.lower(): name for name in header(file)}
    if missing := [name for name in columns.required if name not in spelled]:
        found = ", ".join(spelled)
        raise SourceHeaderError(f"{file}:1: the header has no {', '.join(missing)}; it has {found[:300]}")
    batches = (
        _parquet(file, spelled, columns) if file.name.endswith(".parquet") else _csv(file, spelled, columns, tally)
    )
    line = 1
    try:
        for batch in batches:
            tally.rows_read += batch.num_rows
            if batch.num_rows:
                line = batch.column(LINE)[-1].as_py()
            yield batch
    except pa.ArrowInvalid as error:
        raise SourceFormatError(f"{file}:{line + 1}: cannot be read from here on: {error}") from error
    except OSError as error:
        if "runcated" in str(error):
            text = f"{file}:{line + 1}: the file ends too early, in the {_BLOCK_BYTES >> 20} MiB after this line"
            raise SourceTruncatedError(f"{text}; fetch it again") from error
        raise SourceFormatError(f"{file}:{line + 1}: damaged from here on: {error}") from error


def in_order(batches: Iterator[Any], by: Sequence[str], scratch: Path | None) -> Iterator[list[tuple[Any, ...]]]:
    """All rows of the batches, sorted by columns, in lists of tuples; on disk in ``scratch`` where they are many.

    Takes everything before it gives the first row.
    """
    import duckdb

    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="sort-", dir=scratch) as folder,
        duckdb.connect(Path(folder) / "rows.duckdb") as database,
    ):
        database.execute(f"SET memory_limit = '{_SORT_MEMORY}'")
        database.execute("SET threads = 2")
        database.execute("SET enable_progress_bar = false")
        database.execute("SET preserve_insertion_order = false")
        for number, batch in enumerate(batches):
            database.register("batch", pa.table(batch))
            if number == 0:
                database.execute("CREATE TABLE rows AS SELECT * FROM batch LIMIT 0")
            database.execute("INSERT INTO rows SELECT * FROM batch")
        if database.execute("SHOW TABLES").fetchone() is None:
            return
        ordered = database.execute(f"SELECT * FROM rows ORDER BY {', '.join(by)}")  # noqa: S608 - names from code
        while rows := ordered.fetchmany(_SORTED_ROWS):
            yield rows


def as_text(column: Any) -> Any:
    """A column of bytes as text; what is not UTF-8 becomes U+FFFD. Line numbers stay numbers."""
    if pa.types.is_integer(column.type):
        return column
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([cell.decode("utf-8", "replace") for cell in column.to_pylist()], pa.string())


def _csv(file: Path, spelled: dict[str, str], columns: Columns, tally: Tally) -> Iterator[Any]:
    invalid: list[int] = []

    def skip(row: Any) -> str:
        invalid.append(row.number)
        reason = LINE_BREAK if "\n" in row.text else "wrong_number_of_columns"
        detail = f"{row.actual_columns} columns, the header has {row.expected_columns}: {row.text}"
        tally.rows_read += 1
        tally.reject(reason, file, row.number, detail)
        return "skip"

    here = [name for name in columns.all if name in spelled]
    before = tally.rows_read
    with pa.input_stream(str(file), compression="detect") as stream:
        counted = _CountedLines(stream)
        reader = pyarrow.csv.open_csv(
            pa.PythonFile(counted, mode="r"),
            read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
            parse_options=pyarrow.csv.ParseOptions(
                newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=skip
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=[spelled[name] for name in here],
                column_types={spelled[name]: pa.binary() for name in here},
                strings_can_be_null=False,
            ),
        )
        next_line = 2
        for batch in reader:
            lines, next_line = _lines(next_line, batch.num_rows, invalid)
            invalid = [line for line in invalid if line >= next_line]
            yield _shaped(dict(zip(here, batch.columns, strict=True)), columns, lines)
    rows = 1 + tally.rows_read - before
    tally.lines_within_rows += counted.lines - rows


class _CountedLines:
    """A stream of bytes that counts the lines which pass."""

    closed = False

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._line_breaks = 0
        self._last = b"\n"

    def read(self, size: int) -> bytes:
        block = bytes(self._stream.read(size))
        self._line_breaks += block.count(b"\n")
        self._last = block[-1:] or self._last
        return block

    @property
    def lines(self) -> int:
        return self._line_breaks + (self._last != b"\n")


def _lines(first: int, count: int, skipped: Sequence[int]) -> tuple[Any, int]:
    """The next ``count`` line numbers from ``first`` that were not skipped, and the one after them."""
    gone = [line for line in skipped if line >= first]
    lines = np.setdiff1d(np.arange(first, first + count + len(gone)), gone, assume_unique=True)[:count]
    return lines, int(lines[-1]) + 1 if count else first


def _parquet(file: Path, spelled: dict[str, str], columns: Columns) -> Iterator[Any]:
    here = [name for name in columns.all if name in spelled]
    next_line = 2
    for batch in pq.ParquetFile(file).iter_batches(columns=[spelled[name] for name in here]):
        cells = {name: _bytes(column) for name, column in zip(here, batch.columns, strict=True)}
        yield _shaped(cells, columns, np.arange(next_line, next_line + batch.num_rows))
        next_line += batch.num_rows


def _bytes(column: Any) -> Any:
    if pa.types.is_floating(column.type):
        # A whole-number column with gaps is often stored as floating point: "10006.0" is no id.
        with suppress(pa.ArrowInvalid):
            column = column.cast(pa.int64())
    return pc.fill_null(column.cast(pa.string()), "").cast(pa.binary())


def _shaped(cells: dict[str, Any], columns: Columns, lines: Any) -> Any:
    empty = pa.array([b""] * len(lines), pa.binary())
    arrays = [cells.get(name, empty) for name in columns.all]
    return pa.RecordBatch.from_arrays([*arrays, pa.array(lines, pa.int64())], [*columns.all, LINE])


def _open(file: Path) -> BinaryIO:
    return cast("BinaryIO", gzip.open(file)) if file.name.endswith(".gz") else file.open("rb")


def _format(file: Path) -> str:
    return next((suffix[1:] for suffix in reversed(SUFFIXES) if file.name.endswith(suffix)), "csv")
