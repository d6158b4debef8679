"""``ward checkpoint backup`` and ``restore``: checkpoints and the table versions that go with them.

A backup copies checkpoints and notes versions; the data files stay in the tables, so it lasts as long as VACUUM leaves
them. A restore brings the tables back to those versions by Delta's RESTORE, and each flow goes on from there by a new
generation: what came since lands again. Nothing is deleted.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse import checkpoint, delta, pause, storage
from lakehouse.checkpoint import Position, Sources, position
from lakehouse.datadir import DataDir
from lakehouse.delta_log import commits, unreadable
from lakehouse.pipeline import BACKFILL, DEVICE_MESSAGE, Flow
from lakehouse.reader import TableMissingError, VersionMissingError, connect, open_table
from lakehouse.table import Table
from lakehouse.tables import DEVICE_MESSAGE as BRONZE
from lakehouse.tables import TABLES
from wardhouse import __version__
from wardhouse.errors import Failure
from wardhouse.pausing import require_still
from wardhouse.rewind import (
    LAKEHOUSE_FLOWS,
    Generation,
    Kafka,
    bronze_start,
    carry_out,
    come_to,
    flat,
    held_by_bronze,
    kafka_start,
    nested,
    require_empty_spool,
    source_table,
    topics_of,
)
from wardhouse.topics import Offsets, end_offsets, first_offsets

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakehouse.storage import Place

FORMAT = 1
_MANIFEST = "manifest.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class BackupError(Failure):
    """A backup cannot be made, is damaged, or cannot be restored without losing something; the text says what."""


@dataclass(frozen=True)
class Manifest:
    """What a backup holds: the generation of each flow, the version of each table, SHA-256 of each file by its path."""

    name: str
    made_at: str
    code_version: str
    generations: Mapping[str, int]
    versions: Mapping[str, int]
    checksums: Mapping[str, str]
    format: int = FORMAT


@dataclass(frozen=True)
class TableStep:
    """A table that goes back to ``version``.

    A stream that reads it had read up to ``read`` when the backup was made, where that is another one: the table goes
    there first, so that the second step brings what is left to read as news. None: there is no such step.
    """

    table: Table
    version: int
    read: int | None = None


@dataclass(frozen=True)
class Restoration:
    """What a restore would do: ``tables`` go back, then ``generations`` are made.

    The sources of a flow in ``following`` are known when its table is back: they are where that then ends, or, where
    nothing is left to read, behind it.
    """

    name: str
    tables: tuple[TableStep, ...]
    generations: tuple[Generation, ...]
    following: frozenset[str]


def tables_of(flow: Flow) -> tuple[Table, ...]:
    """The tables that a flow writes as a stream; the record of runs is none."""
    return tuple(table for table in TABLES if table.full_name in flow.writes and table.layer != "operation")


def make(data: DataDir, name: str, now: datetime) -> Manifest:
    """Back up the checkpoints of a lakehouse that stands still. Raises BackupError. It appears whole or not at all."""
    if not _NAME.fullmatch(name):
        raise BackupError(f"{name}: a backup's name is letters, digits, dots, dashes and underscores")
    require_still(data)
    folder, making, before = data.backups / name, data.backups / f".{name}", pause.asked(data)
    if folder.exists():
        raise BackupError(f"there is a backup {name}: choose another name")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    newest = {flow.name: data.checkpoint(flow) for flow in LAKEHOUSE_FLOWS if data.checkpoint(flow).exists()}
    for flow, generation in newest.items():
        storage.copy(generation, making / "checkpoints" / flow / generation.name)
    manifest = Manifest(
        name=name,
        made_at=now.isoformat(timespec="seconds"),
        code_version=__version__,
        generations={flow: int(generation.name) for flow, generation in newest.items()},
        versions=_versions(data),
        checksums=_checksums(making),
    )
    if not manifest.generations:
        raise BackupError(f"{data.root} has no checkpoint of the lakehouse yet: there is nothing to back up")
    (making / _MANIFEST).write_text(json.dumps(asdict(manifest), indent=2) + "\n", encoding="utf-8")
    require_still(data)
    if pause.asked(data) != before:
        raise BackupError("the lakehouse was resumed meanwhile: pause it, then give this again")
    making.rename(folder)
    return manifest


def names(data: DataDir) -> tuple[str, ...]:
    """Every backup of the data dir, by name."""
    return tuple(sorted(path.parent.name for path in data.backups.glob(f"[!.]*/{_MANIFEST}")))


def read(data: DataDir, name: str) -> Manifest:
    """A backup's manifest, its files held against their checksums. Raises BackupError."""
    folder = data.backups / name
    try:
        manifest = Manifest(**json.loads((folder / _MANIFEST).read_text(encoding="utf-8")))
    except FileNotFoundError:
        known = ", ".join(names(data)) or "none"
        raise BackupError(f"there is no backup {name} in {data.backups}; there are: {known}") from None
    except (json.JSONDecodeError, TypeError) as error:
        raise BackupError(f"the manifest of backup {name} is damaged: {error}") from error
    if manifest.format != FORMAT:
        raise BackupError(f"backup {name} is of format {manifest.format}, and this version of ward reads {FORMAT}")
    present = _checksums(folder)
    if wrong := sorted(path for path, digest in manifest.checksums.items() if present.get(path) != digest):
        raise BackupError(f"backup {name} is damaged: {len(wrong)} files differ or are missing, {wrong[0]} first")
    return manifest


def position_of(data: DataDir, manifest: Manifest, flow: Flow) -> Position | None:
    """How far a flow had come; None where it had committed nothing."""
    if flow.name not in manifest.generations:
        return None
    return position(data.backups / manifest.name / "checkpoints" / flow.name / str(manifest.generations[flow.name]))


def plan(
    data: DataDir, manifest: Manifest, keep: Collection[str], bootstrap: str, topics: Mapping[str, str]
) -> Restoration:
    """What a restore would do, but for the flows to ``keep``, which stay as they are with their tables.

    ``topics`` are the site's names. Raises BackupError or RewindError where something would be lost or doubled.
    """
    # Both write bronze, which goes back for both or for none.
    kept = {*keep, BACKFILL.name} if DEVICE_MESSAGE.name in keep else {*keep}
    flows = [flow for flow in LAKEHOUSE_FLOWS if flow.name not in kept]
    back = {table for flow in flows for table in tables_of(flow) if table.full_name in manifest.versions}
    if BRONZE in back:
        require_empty_spool(data)
        _require_no_later_files(data, manifest.versions[BRONZE.full_name])
    steps = {table: _table_step(data, manifest, table, flows) for table in TABLES if table in back}
    generations, following = [], set()
    for flow in flows:
        source, lines = _sources(data, manifest, flow, steps, bootstrap, topics)
        table = source_table(flow)
        if table in steps and steps[table].read is not None:
            following.add(flow.name)
        generations.append(Generation(flow, data.next_checkpoint(flow), source, lines))
    return Restoration(manifest.name, tuple(steps.values()), tuple(generations), frozenset(following))


def restore(spark: "SparkSession", data: DataDir, restoration: Restoration, now: datetime) -> None:
    """Do it, while no flow can start. Where it is cut off, the same restore is done again from its first step."""
    for step in restoration.tables:
        if step.read is not None and step.read != step.version:
            delta.restore(spark, data.table(step.table), step.read)
        delta.restore(spark, data.table(step.table), step.version)
    unread = {step.table: step.read != step.version for step in restoration.tables}
    for generation in restoration.generations:
        carry_out(_placed(data, generation, restoration, unread), f"restore {restoration.name}", now)


def _placed(
    data: DataDir, generation: Generation, restoration: Restoration, unread: Mapping[Table, bool]
) -> Generation:
    table = source_table(generation.flow)
    if table is None or generation.flow.name not in restoration.following:
        return generation
    newest = open_table(data, table).version()
    sources = checkpoint.delta_sources(newest if unread[table] else newest + 1)
    return Generation(generation.flow, generation.folder, sources, generation.lines)


def _sources(
    data: DataDir,
    manifest: Manifest,
    flow: Flow,
    steps: Mapping[Table, TableStep],
    bootstrap: str,
    topics: Mapping[str, str],
) -> tuple[Sources, tuple[str, ...]]:
    at, table = position_of(data, manifest, flow), source_table(flow)
    if flow == BACKFILL:
        require_empty_spool(data)
        return (), ("the spool is empty: nothing is read again",)
    if table is not None:
        return _table_sources(data, at, table, steps)
    names = topics_of(flow, topics)
    kafka = Kafka(first_offsets(bootstrap, names), end_offsets(bootstrap, names))
    come = come_to(data, flow)
    if flow == DEVICE_MESSAGE:
        held = held_by_bronze(data, names, manifest.versions.get(BRONZE.full_name))
        refuse_lost(flow, held, held_by_bronze(data, names), kafka)
        start, lines = bronze_start(held, come, held, kafka)
    else:
        before = flat(at.kafka()) if at else {}
        refuse_lost(flow, before, come, kafka)
        at_least = {place: max(come.get(place, 0), before.get(place, 0)) for place in kafka.first}
        start, lines = kafka_start({**dict.fromkeys(kafka.first, 0), **before}, at_least, kafka)
    return checkpoint.kafka_sources(nested(start)), lines


def _table_sources(
    data: DataDir, at: Position | None, table: Table, steps: Mapping[Table, TableStep]
) -> tuple[Sources, tuple[str, ...]]:
    read = at.delta_version() if at else None
    whole = steps[table].read is None if table in steps else unreadable_after(data, table, read)
    if read is None or read < 0 or whole:
        return (), (f"{table.full_name} is read again as a whole; nothing is written twice",)
    if table in steps:
        return (), (f"{table.full_name}: goes on behind version {read}, with what the backup had not read yet",)
    return checkpoint.delta_sources(read + 1), (f"{table.full_name}: stays, and is read again behind version {read}",)


def refuse_lost(flow: Flow, restart: Offsets, has: Offsets, kafka: Kafka) -> None:
    """Raise BackupError where the flow's tables have records after ``restart`` that Kafka has no more."""
    lost = {
        place: min(first, has.get(place, 0)) - restart.get(place, 0)
        for place, first in kafka.first.items()
        if min(first, has.get(place, 0)) > restart.get(place, 0)
    }
    if lost:
        of = ", ".join(f"{count:,} of {topic}-{partition}" for (topic, partition), count in sorted(lost.items()))
        raise BackupError(
            f"Kafka no longer has records that {flow.name} has landed since: {of} would be lost."
            f" `--keep {flow.name}` restores the rest"
        )


def unreadable_after(data: DataDir, table: Table, read: int | None) -> bool:
    """Whether a stream that has read up to a version of the table cannot go on behind it."""
    newest = open_table(data, table).version()
    return read is not None and read < newest and unreadable(data.table(table), read + 1) is not None


def _require_no_later_files(data: DataDir, version: int) -> None:
    """Backfilled rows come from files, which nobody sends again."""
    sql = "SELECT count(*) FROM bronze.device_message WHERE topic LIKE 'file:%'"

    def rows(versions: Mapping[Table, int] | None) -> int:
        with connect(data, (BRONZE,), versions) as database:
            found: int = database.sql(sql).fetchall()[0][0]
            return found

    if later := rows(None) - rows({BRONZE: version}):
        raise BackupError(
            f"{later:,} rows of files were backfilled since, and would be lost. `--keep {DEVICE_MESSAGE.name}` restores"
            " the rest, and what comes of bronze is derived again"
        )


def _table_step(data: DataDir, manifest: Manifest, table: Table, flows: Collection[Flow]) -> TableStep:
    version = manifest.versions[table.full_name]
    files = _files(data, table, version)
    reader = next((flow for flow in flows if source_table(flow) == table), None)
    at = position_of(data, manifest, reader) if reader else None
    read = at.delta_version() if at else None
    if read is None or read < 0:
        return TableStep(table, version)
    if read >= version or not any(
        commit.added for commit in commits(data.table(table)) if read < commit.version <= version
    ):
        return TableStep(table, version, version)
    try:
        # Where files were merged since, the second step would take some away, and a stream would pass over it.
        appended = _files(data, table, read) <= files
    except BackupError:
        appended = False
    return TableStep(table, version, read if appended else None)


def _files(data: DataDir, table: Table, version: int) -> "frozenset[Place]":
    """The data files of a version. Raises BackupError where one is gone."""
    try:
        files = frozenset(map(storage.of_uri, open_table(data, table, version).file_uris()))
    except VersionMissingError as error:
        raise BackupError(f"{error}: the backup is older than what the table's log keeps") from error
    if gone := [file for file in files if not file.exists()]:
        raise BackupError(f"VACUUM has taken {len(gone)} files of {table.full_name} at version {version}")
    return files


def _versions(data: DataDir) -> dict[str, int]:
    found = {}
    for table in (table for flow in LAKEHOUSE_FLOWS for table in tables_of(flow)):
        try:
            found[table.full_name] = open_table(data, table).version()
        except TableMissingError:
            continue
    return found


def _checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of each file below the checkpoints of a backup, by its path."""
    files = sorted(path for path in (folder / "checkpoints").rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
