"""Snapshots of real Delta tables: what they hold on to, what they prove, and how they appear."""

import json
from datetime import UTC, datetime
from pathlib import Path

import deltalake
import pytest

from lakehouse import reader
from lakehouse.datadir import DataDir
from lakehouse.known_at import as_known_at
from lakehouse.reader import TableMissingError
from lakehouse.snapshot import (
    Manifest,
    SnapshotError,
    UnsettledError,
    create,
    load,
    place_of,
    snapshots,
    verify,
)
from lakehouse.tables import DEAD_LETTER, OBSERVATION, VITAL_SIGN_MINUTE
from tests.fixtures.delta import append
from tests.fixtures.observations import observation

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def observe(data: DataDir, *names: str) -> None:
    append(data, OBSERVATION, *(observation(name, n, 60.0 + n) for n, name in enumerate(names)))


def derive(data: DataDir) -> None:
    minutes = as_known_at(data, VITAL_SIGN_MINUTE, None).to_arrow_table()
    deltalake.write_deltalake(data.table(VITAL_SIGN_MINUTE), minutes, mode="overwrite")


def snapshot(data: DataDir, name: str = "paper", tables: tuple[str, ...] = ()) -> Manifest:
    return create(data, name, NOW, software={"wardhouse": "1"}, configuration={"vocabulary": "abc"}, tables=tables)


@pytest.fixture
def filled(data: DataDir) -> DataDir:
    """A data dir whose gold follows from its silver."""
    observe(data, "a", "b")
    derive(data)
    return data


def test_a_snapshot_outlives_every_rewrite_vacuum_and_clean_up_of_the_tables(filled: DataDir) -> None:
    manifest = snapshot(filled)
    observe(filled, "c", "d")
    derive(filled)
    for table in (OBSERVATION, VITAL_SIGN_MINUTE):
        live = deltalake.DeltaTable(filled.table(table))
        live.optimize.compact()
        live.delete()
        live.vacuum(0, dry_run=False, enforce_retention_duration=False)
        live.create_checkpoint()
        for entry in (filled.table(table) / "_delta_log").glob("0*.json"):
            entry.unlink()

    assert reader.open(filled, OBSERVATION).fetchall() == []
    assert verify(filled, manifest) == ()
    kept = place_of(filled, "paper")
    assert reader.query(kept, "SELECT message_id FROM silver.observation ORDER BY ALL").to_pylist() == [
        {"message_id": "a"},
        {"message_id": "b"},
    ]
    assert reader.open(kept, OBSERVATION, version=0).count("*").fetchall() == [(2,)]


def test_a_snapshot_behind_a_checkpoint_keeps_the_version_number_and_needs_no_older_log(filled: DataDir) -> None:
    for n in range(3):
        observe(filled, f"more{n}")
    deltalake.DeltaTable(filled.table(OBSERVATION)).create_checkpoint()
    observe(filled, "last")
    derive(filled)

    (pin,) = snapshot(filled, tables=("silver.observation",)).tables

    log = place_of(filled, "paper").table(OBSERVATION) / "_delta_log"
    assert (pin.version, pin.rows) == (4, 6)
    assert sorted(path.name[18:] for path in log.iterdir()) == ["03.checkpoint.parquet", "03.json", "04.json"]
    assert verify(filled, load(filled, "paper")) == ()


def test_it_costs_no_space_while_the_tables_hold_the_same_files(filled: DataDir) -> None:
    snapshot(filled)

    ours = place_of(filled, "paper").table(OBSERVATION).glob("*.parquet")
    assert [path.stat().st_nlink for path in ours] == [2]


def test_equal_contents_have_equal_digests_whatever_their_files_and_versions_are(
    filled: DataDir, tmp_path: Path
) -> None:
    other = DataDir(tmp_path / "other")
    observe(other, "a", "b")
    derive(other)
    table = deltalake.DeltaTable(other.table(OBSERVATION)).to_pyarrow_table()
    deltalake.write_deltalake(other.table(OBSERVATION), table.take([1, 0]), mode="overwrite")

    assert snapshot(filled).digest == snapshot(other).digest


def test_a_changed_file_a_missing_file_and_a_changed_manifest_are_told(filled: DataDir) -> None:
    manifest = snapshot(filled)
    place = place_of(filled, "paper")
    (file,) = place.table(VITAL_SIGN_MINUTE).glob("*.parquet")
    file.unlink()
    append(place, OBSERVATION, observation("c", 0, 1.0))
    assert [(found.table, found.what[:26]) for found in verify(filled, manifest)] == [
        ("gold.vital_sign_minute", "version 0 cannot be read: "),
    ], "a version is what it was, whatever comes after it"

    document = json.loads((place.root / "manifest.json").read_text())
    document["tables"][0]["rows"] = 9
    (place.root / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(SnapshotError, match="its tables do not give its digest"):
        load(filled, "paper")


def test_another_value_in_a_file_is_told_by_the_digest(filled: DataDir) -> None:
    manifest = snapshot(filled)
    place = place_of(filled, "paper")
    (file,) = place.table(OBSERVATION).glob("*.parquet")
    file.unlink()
    forged = DataDir(filled.root / "forged")
    append(forged, OBSERVATION, observation("a", 0, 60.0), observation("b", 1, 61.5))
    next(forged.table(OBSERVATION).glob("*.parquet")).rename(file)

    found = verify(filled, manifest)

    assert [difference.table for difference in found] == ["silver.observation"]
    assert "digest" in found[0].what


def test_gold_that_does_not_follow_from_silver_is_not_pinned_and_leaves_nothing_behind(filled: DataDir) -> None:
    observe(filled, "of a batch that has not reached gold yet")

    with pytest.raises(UnsettledError, match=r"gold\.vital_sign_minute: 1 other rows follow from silver\.observation"):
        snapshot(filled)

    assert list(filled.snapshots.iterdir()) == []


def test_snapshots_are_listed_the_oldest_first(filled: DataDir) -> None:
    first = snapshot(filled, "first")
    observe(filled, "c")
    derive(filled)
    second = snapshot(filled, "second", tables=("silver.observation",))

    assert [manifest.name for manifest in snapshots(filled)] == ["first", "second"]
    assert (load(filled, "first"), load(filled, "second")) == (first, second)


def test_names_that_are_taken_or_no_names_and_tables_that_are_not_there_are_errors(
    filled: DataDir, tmp_path: Path
) -> None:
    snapshot(filled)

    with pytest.raises(SnapshotError, match="there is a snapshot paper already"):
        snapshot(filled)
    with pytest.raises(SnapshotError, match="cannot name a snapshot"):
        snapshot(filled, "../paper")
    with pytest.raises(SnapshotError, match="there is no snapshot draft"):
        load(filled, "draft")
    with pytest.raises(TableMissingError, match=r"silver\.dead_letter"):
        snapshot(filled, "draft", tables=(DEAD_LETTER.full_name,))
    with pytest.raises(SnapshotError, match="nothing to pin"):
        snapshot(DataDir(tmp_path / "empty"))


def test_a_citation_names_content_and_maker(filled: DataDir) -> None:
    manifest = snapshot(filled)

    assert manifest.citation["plain"] == (
        f"Wardhouse snapshot paper, 2026-03-02: 2 Delta tables, 3 rows, SHA-256 {manifest.digest}. Made by Wardhouse 1."
    )
    assert manifest.citation["bibtex"].startswith("@misc{wardhouse_paper,\n  title = {Wardhouse snapshot paper},\n")
