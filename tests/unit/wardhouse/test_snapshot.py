"""``ward snapshot``: what it prints, its exit codes, and what a manifest says of software and configuration."""

from pathlib import Path

import deltalake
import pytest
from typer.testing import CliRunner, Result

from lakehouse import snapshot
from lakehouse.datadir import DataDir
from lakehouse.known_at import as_known_at
from lakehouse.tables import DEVICE_MESSAGE, OBSERVATION, VITAL_SIGN_MINUTE
from tests.fixtures.delta import append
from tests.fixtures.observations import observation
from wardhouse import __version__
from wardhouse.cli import app
from wardhouse.commands import snapshot as command
from wardhouse.snapshots import configuration, files_hash


@pytest.fixture
def filled(data: DataDir) -> DataDir:
    append(data, DEVICE_MESSAGE)
    append(data, OBSERVATION, observation("a", 0, 60.0), observation("b", 1, 61.0))
    minutes = as_known_at(data, VITAL_SIGN_MINUTE, None).to_arrow_table()
    deltalake.write_deltalake(data.table(VITAL_SIGN_MINUTE), minutes)
    return data


def ward(data: DataDir, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["snapshot", *arguments, "--data-dir", str(data.root)])


def test_a_snapshot_is_made_listed_shown_and_verified(filled: DataDir) -> None:
    assert ward(filled, "list").output == "no snapshots: `ward snapshot create NAME` makes one\n"

    made = ward(filled, "create", "paper")
    digest = snapshot.load(filled, "paper").digest

    assert made.exit_code == 0
    assert "silver.observation               version      0               2 rows" in made.output
    assert "paper" in ward(filled, "list").output
    assert f"SHA-256 {digest}. Made by Wardhouse" in ward(filled, "show", "paper").output
    assert ward(filled, "show", "paper", "--bibtex").output.startswith("@misc{wardhouse_paper,")
    verified = ward(filled, "verify", "paper")
    assert (verified.exit_code, verified.output) == (0, f"ok   3 tables, 3 rows, digest {digest}\n")


def test_a_difference_is_a_line_and_exit_code_1(filled: DataDir) -> None:
    ward(filled, "create", "paper")
    for file in snapshot.place_of(filled, "paper").table(OBSERVATION).glob("*.parquet"):
        file.unlink()

    found = ward(filled, "verify", "paper")

    assert found.exit_code == 1
    (line,) = found.output.splitlines()
    assert line.startswith("FAIL silver.observation: version 0 cannot be read: ")


def test_what_was_made_by_other_software_is_a_note(filled: DataDir, monkeypatch: pytest.MonkeyPatch) -> None:
    ward(filled, "create", "paper")
    monkeypatch.setattr("wardhouse.snapshots.__version__", "9.9")

    found = ward(filled, "verify", "paper")

    assert found.exit_code == 0
    assert found.output.splitlines()[0] == f"note wardhouse was {__version__}, is 9.9"


def test_tables_between_two_steps_of_a_batch_are_tried_again_and_then_told(
    filled: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(filled, OBSERVATION, observation("c", 2, 62.0))
    pauses: list[float] = []

    def settle(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            minutes = as_known_at(filled, VITAL_SIGN_MINUTE, None).to_arrow_table()
            deltalake.write_deltalake(filled.table(VITAL_SIGN_MINUTE), minutes, mode="overwrite")

    monkeypatch.setattr(command, "sleep", settle)
    assert ward(filled, "create", "paper").exit_code == 0
    assert pauses == [5.0, 5.0]

    append(filled, OBSERVATION, observation("d", 3, 63.0))
    failed = ward(filled, "create", "never")
    assert failed.exit_code == 1
    assert "is a batch being written? Try again in some seconds" in failed.output


def test_an_export_needs_a_key_to_be_deidentified_and_says_what_never_leaves(filled: DataDir, tmp_path: Path) -> None:
    ward(filled, "create", "paper")
    key, to = tmp_path / "key", tmp_path / "out"
    key.write_text("0123456789abcdef" * 4)

    assert ward(filled, "export", "paper", "--to", str(to), "--deidentify").exit_code == 2
    assert ward(filled, "export", "paper", "--to", str(to), "--key-file", str(key)).exit_code == 2
    done = ward(filled, "export", "paper", "--to", str(to), "--deidentify", "--key-file", str(key))

    assert (done.exit_code, [line.split() for line in done.output.splitlines()]) == (
        0,
        [
            ["gold.vital_sign_minute.parquet", "1", "rows"],
            ["silver.observation.parquet", "2", "rows"],
            ["bronze.device_message", "never", "leaves"],
        ],
    )
    one = ward(filled, "export", "paper", "--to", str(tmp_path / "one"), "--table", "silver.observation")
    assert (one.exit_code, len(one.output.splitlines())) == (0, 1)
    none = ward(filled, "export", "paper", "--to", str(tmp_path / "none"), "--table", "gold.alert")
    assert "does not pin gold.alert" in none.output


def test_an_unknown_snapshot_is_one_line(filled: DataDir) -> None:
    found = ward(filled, "verify", "draft")

    assert found.exit_code == 1
    assert "there is no snapshot draft: `ward snapshot list` names those that there are" in found.output


def test_the_hash_of_files_changes_with_a_name_and_with_a_byte(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1")
    first = files_hash(tmp_path, ["*.csv"])
    (tmp_path / "notes.txt").write_text("not one of them")
    assert files_hash(tmp_path, ["*.csv"]) == first
    (tmp_path / "a.csv").write_text("2")
    second = files_hash(tmp_path, ["*.csv"])
    (tmp_path / "a.csv").rename(tmp_path / "b.csv")

    assert len({first, second, files_hash(tmp_path, ["*.csv"])}) == 3


def test_every_part_of_the_configuration_has_files_behind_it() -> None:
    empty = files_hash(Path("tests/no such folder"), ["*"])

    assert sorted(configuration()) == ["dbt project", "rule packs", "score declarations", "vocabulary"]
    assert empty not in configuration().values()
