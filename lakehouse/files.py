"""Which files of a table a condition can concern, by the statistics in the table's log: the others stay closed.

What the log says of the newest version is kept in memory until there is a newer one: to read a log of some thousand
commits takes longer than to read the rows of one patient.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    import deltalake
    import pyarrow as pa

    from lakehouse.storage import Place

Bounds = Mapping[str, tuple[Any, Any]]
"""The least and the greatest value that a reader wants of a column; None leaves an end open."""

_LEAST_STEP = timedelta(milliseconds=1)  # Delta cuts the greatest instant of a file to whole milliseconds
_MOST_KEPT = 64  # tables; all that are declared, of one data dir


@dataclass(frozen=True)
class Files:
    """The files of one version. ``empty`` has the table's columns and no row; ``statistics`` has a row a file.

    ``commit`` tells this version from one of the same number of a table that was made anew.
    """

    folder: Path
    version: int
    commit: tuple[int, int]
    empty: "pa.Table"
    statistics: "pa.Table"

    def within(self, bounds: Bounds) -> list[str]:
        """The paths of files that may hold rows within ``bounds``."""
        import pyarrow.compute as pc

        wanted = pc.scalar(True)
        for column, (least, greatest) in bounds.items():
            top, bottom = f"max.{column}", f"min.{column}"
            if least is not None and top in self.statistics.column_names:
                cut = least - _LEAST_STEP if isinstance(least, datetime) else least
                wanted &= (pc.field(top) >= cut) | pc.field(top).is_null()
            if greatest is not None and bottom in self.statistics.column_names:
                wanted &= (pc.field(bottom) <= greatest) | pc.field(bottom).is_null()
        chosen = self.statistics.filter(wanted)
        return [str(self.folder / unquote(path)) for path in chosen.column("path").to_pylist()]

    def is_newest(self) -> bool:
        """Whether the table has this version still, and none after it."""
        return self.commit == _commit(self.folder, self.version) and not _entry(self.folder, self.version + 1).exists()


_kept: dict[Path, Files] = {}


def newest(folder: "Place", opened: "Callable[[], deltalake.DeltaTable]") -> Files | None:
    """The files of the newest version; None where a reader needs more of the log than names of files.

    Object storage has none of it: DuckDB does not read it by itself.

    ``opened`` opens the table, where that has to be; what it raises passes through.
    """
    if not isinstance(folder, Path):
        return None
    kept = _kept.get(folder)
    if kept is not None and kept.is_newest():
        return kept
    table = opened()
    if table.protocol().min_reader_version > 1 or table.metadata().partition_columns:
        return None
    found = _read(folder, table)
    if found.commit != _GONE:
        if len(_kept) >= _MOST_KEPT:
            _kept.clear()
        _kept[folder] = found
    return found


def _read(folder: Path, table: "deltalake.DeltaTable") -> Files:
    import pyarrow as pa

    empty = pa.schema(table.schema().to_arrow()).empty_table()
    statistics = pa.table(table.get_add_actions(flatten=True))
    return Files(folder, table.version(), _commit(folder, table.version()), empty, statistics)


_GONE = (0, 0)


def _commit(folder: Path, version: int) -> tuple[int, int]:
    try:
        entry = _entry(folder, version).stat()
    except FileNotFoundError:
        return _GONE
    return entry.st_ino, entry.st_mtime_ns


def _entry(folder: Path, version: int) -> Path:
    return folder / "_delta_log" / f"{version:020}.json"
