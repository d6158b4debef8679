"""Tables of a snapshot as Parquet files with a manifest, as they are or de-identified, to hand to somebody else."""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse import deidentify, digest, reader
from lakehouse.datadir import DataDir
from lakehouse.deidentify import Key, KeyFileError
from lakehouse.digest import Content
from lakehouse.privacy import Privacy, exportable, may_leave
from lakehouse.snapshot import Manifest, Pin, SnapshotError, appearing, place_of

if TYPE_CHECKING:
    import duckdb

_BATCH_ROWS = 100_000
"""Rows that are held at a time: tens of megabytes, and row groups that readers can skip."""


@dataclass(frozen=True)
class ExportedTable:
    """One file: its rows and digest, the rows of ``left_out`` small cells, and what became of each column."""

    name: str
    file: str
    rows: int
    digest: str
    left_out: int
    columns: dict[str, Privacy]


@dataclass(frozen=True)
class Export:
    """What was written. ``not_exported`` has the tables that never leave."""

    snapshot: str
    snapshot_digest: str
    deidentified: bool
    algorithm: str
    tables: tuple[ExportedTable, ...]
    not_exported: tuple[str, ...]


def export(data: DataDir, manifest: Manifest, to: Path, key: Key | None = None, tables: Collection[str] = ()) -> Export:
    """Write the snapshot's tables, or only these, and ``manifest.json`` to a folder that appears as a whole.

    With a key, de-identified. Raises SnapshotError where the folder holds something or a table is not pinned,
    PrivacyError, before anything is written, for a table that must not leave, and what the reader raises.
    """
    if to.exists() and any(to.iterdir()):
        raise SnapshotError(f"{to} is not empty: give a new folder")
    if missing := set(tables) - {pin.name for pin in manifest.tables}:
        raise SnapshotError(f"snapshot {manifest.name} does not pin {', '.join(sorted(missing))}")
    wanted = [pin for pin in manifest.tables if not tables or pin.name in tables]
    leaving = [pin for pin in wanted if may_leave(pin.name)]
    if key is not None:
        for pin in leaving:
            exportable(pin.name, pin.columns)
    with appearing(to) as scratch:
        made = Export(
            snapshot=manifest.name,
            snapshot_digest=manifest.digest,
            deidentified=key is not None,
            algorithm=digest.ALGORITHM,
            tables=tuple(_export(data, manifest, pin, scratch, key) for pin in leaving),
            not_exported=tuple(pin.name for pin in wanted if pin not in leaving),
        )
        (scratch / "manifest.json").write_text(json.dumps(asdict(made), indent=2) + "\n", encoding="utf-8")
    return made


def check_key_place(path: Path, data: DataDir, to: Path) -> None:
    """Raise KeyFileError for a key that lies with what it protects."""
    for place in (data.root, to):
        if path.resolve().is_relative_to(place.resolve()):
            raise KeyFileError(f"{path} lies in {place}: keep the key apart from the data")


def _export(data: DataDir, manifest: Manifest, pin: Pin, folder: Path, key: Key | None) -> ExportedTable:
    place = place_of(data, manifest.name)
    with reader.connection(data.spill) as connection:
        rows = connection.from_arrow(reader.open_table(place, pin.name, pin.version).to_pyarrow_dataset())
        fates = dict.fromkeys(pin.columns, Privacy.KEPT)
        if key is not None:
            table = exportable(pin.name, pin.columns)
            fates = dict(table.columns)
            deidentify.teach(connection, key)
            rows = deidentify.deidentified(rows, table, manifest.created_at)
        path = folder / f"{pin.name}.parquet"
        _write(rows, path)
        found = _content(path)
    return ExportedTable(pin.name, path.name, found.rows, found.digest, pin.rows - found.rows, fates)


def _write(rows: "duckdb.DuckDBPyRelation", path: Path) -> None:
    import pyarrow.parquet as pq

    batches = rows.to_arrow_reader(_BATCH_ROWS)
    with pq.ParquetWriter(path, batches.schema, compression="zstd") as file:
        for batch in batches:
            file.write_batch(batch)


def _content(path: Path) -> Content:
    """Of the file as it lies there, so that the manifest says what was written and not what was meant."""
    import pyarrow.dataset as ds

    with reader.connection() as connection:
        return digest.content(connection.from_arrow(ds.dataset(path)))
