"""Snapshots: tables as they stood, kept for good, with a manifest that says what they contained.

A snapshot is a folder under ``snapshots``, laid out as a data dir: every reader takes it as one. Its tables hold the
files of the pinned Delta version as hard links, with the part of the log that leads to it, under the same number.
So they cost no space while the tables hold the same files, and neither VACUUM, nor a clean-up of old log entries, nor a
rewrite of the tables takes anything from them.
"""

import json
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from lakehouse import digest, reader, storage
from lakehouse.datadir import DataDir
from lakehouse.known_at import as_known_at
from lakehouse.table import Table
from lakehouse.tables import OBSERVATION, VITAL_SIGN_MINUTE

if TYPE_CHECKING:
    import deltalake

    from lakehouse.storage import Place

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_LOG_ENTRY = re.compile(r"(\d{20})\.(json|checkpoint\..*parquet)")
_MANIFEST = "manifest.json"


class SnapshotError(ValueError):
    """A snapshot cannot be made or read; the text says what to do."""


class UnsettledError(SnapshotError):
    """The tables were between two steps of one batch: gold is not yet what silver gives."""


@dataclass(frozen=True)
class Pin:
    """One table of a snapshot: which version, and what it contained. ``columns`` has Delta types by name."""

    name: str
    version: int
    committed_at: datetime
    columns: Mapping[str, str]
    rows: int
    digest: str


@dataclass(frozen=True)
class Manifest:
    """What a snapshot contains and what it was made by.

    ``software`` has versions by name, ``configuration`` a SHA-256 by part of what the data was made with.
    """

    name: str
    created_at: datetime
    tables: tuple[Pin, ...]
    software: Mapping[str, str | None]
    configuration: Mapping[str, str]
    algorithm: str = digest.ALGORITHM

    @cached_property
    def digest(self) -> str:
        """One digest of all tables: names, columns, rows and digests, whatever their Delta versions are."""
        contents = [[pin.name, list(pin.columns.items()), pin.rows, pin.digest] for pin in self.tables]
        return sha256(json.dumps(contents).encode()).hexdigest()

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(pin.rows for pin in self.tables)

    @property
    def citation(self) -> dict[str, str]:
        """The snapshot as a reference, ``plain`` and as ``bibtex``."""
        made_by = f"Wardhouse {self.software.get('wardhouse')}"
        what = f"{len(self.tables)} Delta tables, {self.rows:,} rows, SHA-256 {self.digest}"
        return {
            "plain": f"Wardhouse snapshot {self.name}, {self.created_at:%Y-%m-%d}: {what}. Made by {made_by}.",
            "bibtex": "\n".join(
                [
                    f"@misc{{wardhouse_{re.sub('[^a-z0-9]', '_', self.name)},",
                    f"  title = {{Wardhouse snapshot {self.name}}},",
                    f"  year = {{{self.created_at:%Y}}},",
                    f"  month = {{{self.created_at.month}}},",
                    f"  howpublished = {{{what}}},",
                    f"  note = {{Made by {made_by}}}",
                    "}",
                ]
            ),
        }


@dataclass(frozen=True)
class Difference:
    """What of a snapshot is not as its manifest says."""

    table: str
    what: str


def place_of(data: DataDir, name: str) -> DataDir:
    """The snapshot as a data dir. Raises SnapshotError for a text that cannot name one."""
    if not _NAME.fullmatch(name):
        raise SnapshotError(f"{name!r} cannot name a snapshot: up to 64 of a-z, 0-9, dot, dash and underscore")
    return DataDir(data.snapshots / name)


def create(
    data: DataDir,
    name: str,
    now: datetime,
    *,
    software: Mapping[str, str | None],
    configuration: Mapping[str, str],
    tables: Collection[str] = (),
) -> Manifest:
    """Pin these tables (full names; none: all that there are) and write the manifest. All of it appears at once.

    Raises UnsettledError where a batch is being written: try again in some seconds. Raises SnapshotError,
    TableMissingError.
    """
    place = place_of(data, name)
    names = sorted(set(tables)) or reader.tables_there(data)
    if place.root.exists():
        raise SnapshotError(f"there is a snapshot {name} already: snapshots do not change, give another name")
    if not names:
        raise SnapshotError(f"nothing to pin: {data.root} has no tables")
    # All are opened before the first is linked, so that they stand for one moment.
    opened = {table: reader.open_table(data, table) for table in map(reader.table_named, names)}
    with appearing(place.root) as folder:
        scratch = DataDir(folder)
        for table, at in opened.items():
            link(at, data.table(table), scratch.table(table))
        pins = tuple(_pin(scratch, table, at) for table, at in opened.items())
        if found := _not_derived(scratch, {pin.name: pin for pin in pins}):
            raise UnsettledError(f"{found.table}: {found.what}; is a batch being written? Try again in some seconds")
        manifest = Manifest(name, now, pins, software, configuration)
        (folder / _MANIFEST).write_text(json.dumps(_as_json(manifest), indent=2) + "\n", encoding="utf-8")
    return manifest


@contextmanager
def appearing(place: Path) -> Iterator[Path]:
    """A folder beside ``place`` that becomes it at the end of the block, and is gone where the block fails."""
    scratch = place.with_name(f".{place.name}.{os.getpid()}")
    scratch.mkdir(parents=True)
    try:
        yield scratch
        scratch.rename(place)
    except BaseException:
        shutil.rmtree(scratch)
        raise


def link(table: "deltalake.DeltaTable", source: "Place", target: "Place") -> None:
    """Lay the opened version of the table at ``source`` out at ``target``, under the same version number."""
    import pyarrow as pa

    assert isinstance(target, Path)  # noqa: S101 - a snapshot lies in its data dir, wherever the tables are
    (target / "_delta_log").mkdir(parents=True)
    files = pa.table(table.get_add_actions()).column("path").to_pylist()
    log = [f"_delta_log/{entry}" for entry in _log_of(source / "_delta_log", table.version())]
    for name in (*map(unquote, files), *log):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        _link(source / name, target / name)


def _log_of(log: "Place", version: int) -> list[str]:
    """The entries that lead to a version: the newest checkpoint up to it, and the commits from there on."""
    found = (_LOG_ENTRY.fullmatch(path.name) for path in log.iterdir())
    entries = [(int(match[1]), match[0], match[2] != "json") for match in found if match and int(match[1]) <= version]
    start = max((number for number, _, checkpoint in entries if checkpoint), default=0)
    return [name for number, name, checkpoint in entries if number == start or (number > start and not checkpoint)]


def _link(source: "Place", target: Path) -> None:
    # A copy protects as well, at the price of its bytes: some file systems have no hard links, and storage has none.
    if not isinstance(source, Path):
        storage.copy(source, target)
        return
    try:
        target.hardlink_to(source)
    except PermissionError:
        storage.copy(source, target)


def _pin(place: DataDir, table: Table, at: "deltalake.DeltaTable") -> Pin:
    found = digest.content(reader.open(place, table))
    committed_at = reader.committed_at(place, table, at.version())
    return Pin(table.full_name, at.version(), committed_at, _columns(at), found.rows, found.digest)


def _columns(table: "deltalake.DeltaTable") -> dict[str, str]:
    fields = json.loads(table.schema().to_json())["fields"]
    return {field["name"]: json.dumps(field["type"]).strip('"') for field in fields}


def _not_derived(place: DataDir, pins: Mapping[str, Pin]) -> Difference | None:
    """What is wrong with pinned minutes: silver, derived anew, gives others."""
    silver, gold = pins.get(OBSERVATION.full_name), pins.get(VITAL_SIGN_MINUTE.full_name)
    if silver is None or gold is None:
        return None
    columns = ", ".join(f'"{name}"' for name in gold.columns)
    derived = digest.content(as_known_at(place, VITAL_SIGN_MINUTE, None, version=silver.version).project(columns))
    if (derived.rows, derived.digest) == (gold.rows, gold.digest):
        return None
    return Difference(gold.name, f"{derived.rows:,} other rows follow from {silver.name} than the {gold.rows:,} it has")


def load(data: DataDir, name: str) -> Manifest:
    """The manifest of a snapshot. Raises SnapshotError."""
    path = place_of(data, name).root / _MANIFEST
    try:
        return _from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise SnapshotError(f"there is no snapshot {name}: `ward snapshot list` names those that there are") from None
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise SnapshotError(f"{path} is damaged: {error!r}") from error


def snapshots(data: DataDir) -> tuple[Manifest, ...]:
    """Every snapshot, the oldest first. Raises SnapshotError for a damaged manifest."""
    found = (load(data, path.parent.name) for path in data.snapshots.glob(f"[!.]*/{_MANIFEST}"))
    return tuple(sorted(found, key=lambda manifest: (manifest.created_at, manifest.name)))


def verify(data: DataDir, manifest: Manifest) -> tuple[Difference, ...]:
    """Everything that is not as the manifest says, and what does not follow from what it should be derived from.

    Raises SnapshotError for a manifest whose digests are of another kind than ours.
    """
    if manifest.algorithm != digest.ALGORITHM:
        raise SnapshotError(f"its digests are {manifest.algorithm}, this version of ward makes {digest.ALGORITHM}")
    place = place_of(data, manifest.name)
    found = [difference for pin in manifest.tables for difference in _changed(place, pin)]
    changed = {difference.table for difference in found}
    # What cannot be read cannot be derived from either.
    whole = {pin.name: pin for pin in manifest.tables if pin.name not in changed}
    derived = _not_derived(place, whole)
    return (*found, *([derived] if derived else []))


def _changed(place: DataDir, pin: Pin) -> Iterator[Difference]:
    import duckdb

    try:
        table = reader.open_table(place, pin.name, pin.version)
        found = digest.content(reader.open(place, pin.name, version=pin.version))
    except (LookupError, OSError, duckdb.Error) as error:
        yield Difference(pin.name, f"version {pin.version} cannot be read: {str(error).splitlines()[0]}")
        return
    if _columns(table) != pin.columns:
        yield Difference(pin.name, f"columns are {_columns(table)}, the manifest has {dict(pin.columns)}")
    if found.rows != pin.rows:
        yield Difference(pin.name, f"{found.rows:,} rows, the manifest has {pin.rows:,}")
    elif found.digest != pin.digest:
        yield Difference(pin.name, f"digest {found.digest}, the manifest has {pin.digest}")


def _as_json(manifest: Manifest) -> dict[str, Any]:
    document = asdict(manifest) | {"digest": manifest.digest, "citation": manifest.citation}
    return json.loads(json.dumps(document, default=datetime.isoformat))  # type: ignore[no-any-return]


def _from_json(document: Mapping[str, Any]) -> Manifest:
    pins = (Pin(**pin | {"committed_at": datetime.fromisoformat(pin["committed_at"])}) for pin in document["tables"])
    manifest = Manifest(
        name=document["name"],
        created_at=datetime.fromisoformat(document["created_at"]),
        tables=tuple(pins),
        software=document["software"],
        configuration=document["configuration"],
        algorithm=document["algorithm"],
    )
    if manifest.digest != document["digest"]:
        raise ValueError("its tables do not give its digest")
    return manifest
