"""Maintenance of a data dir's tables, one after the other, with a record of what was done."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path

from lakehouse import delta, record
from lakehouse.cluster import Cluster, require
from lakehouse.datadir import DataDir
from lakehouse.maintenance import Maintained, maintain, tried
from lakehouse.session import build_session
from lakehouse.table import Table
from lakehouse.tables import TABLE_MAINTENANCE, TABLES
from wardhouse import __version__
from wardhouse.backup import names as backups
from wardhouse.backup import read as read_backup
from wardhouse.errors import Failure

LEAST_KEPT = timedelta(days=7)
"""Delta refuses less: a reader or a stream may still be at an older version."""


def wanted(data: DataDir, names: Sequence[str] | None) -> tuple[Table, ...]:
    """The declared tables of these names (all where none are given) that the data dir has. Raises Failure."""
    known = {table.full_name: table for table in TABLES}
    if unknown := [name for name in names or () if name not in known]:
        raise Failure(f"no table {', '.join(unknown)}: `ward plan` lists them")
    found = tuple(known[name] for name in names or known if (data.table(known[name]) / "_delta_log").is_dir())
    if not found:
        raise Failure(f"{data.root} has none of these tables yet: `ward apply --data-dir {data.root}` makes them")
    return found


def kept_for(data: DataDir, kept: timedelta, now: datetime) -> timedelta:
    """How long files must stay: as asked, and as long as a backup of the checkpoints may be restored.

    Raises Failure for less than Delta allows.
    """
    if kept < LEAST_KEPT:
        raise Failure(f"--keep {kept.days}d is too short: a stream or reader may need files for {LEAST_KEPT.days} days")
    ages = [now - datetime.fromisoformat(read_backup(data, name).made_at) for name in backups(data)]
    return max([kept, *(age + timedelta(hours=1) for age in ages)])


def run(
    data: DataDir,
    tables: Sequence[Table],
    kept: timedelta,
    now: datetime,
    *,
    jars: Path,
    memory: str,
    dry_run: bool,
    cluster: Cluster | None = None,
) -> Iterator[Maintained]:
    """Maintain each table, record it, and say what was done; with ``dry_run`` only what would be."""
    kept = kept_for(data, kept, now)
    spark = build_session("wardhouse-maintenance", jars, memory=memory, cluster=cluster, lake=data.lake)
    try:
        if cluster is not None:
            require(spark, cluster, data)
        if not dry_run:
            delta.create(spark, TABLE_MAINTENANCE, data.table(TABLE_MAINTENANCE))
        for table in tables:
            path = data.table(table)
            done = tried(spark, table, path, now) if dry_run else maintain(spark, table, path, now, kept)
            if not dry_run:
                row = {key: value for key, value in asdict(done).items() if key != "table"}
                row |= {"run_id": now.isoformat(), "maintained_at": now, "table_name": done.table}
                record.add(data, TABLE_MAINTENANCE, [row | {"code_version": __version__}])
            yield done
    finally:
        spark.stop()
