"""``ward backfill``: published files into real tables, again, interrupted, and beside a replay over Kafka."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from lakehouse.datadir import DataDir
from lakehouse.reader import query
from tests.fixtures.mimic import write_mimic_iii, write_mimic_iv

WARD = Path(sys.executable).parent / "ward"
COLUMNS = {
    "silver.observation": '* EXCLUDE (topic, partition, "offset", received_at)',
    "silver.observation_quarantine": '* EXCLUDE (topic, partition, "offset", received_at)',
    # Of a patient nothing says when it became known but its arrival.
    "silver.patient": '* EXCLUDE (topic, partition, "offset", received_at, recorded_at)',
    "silver.encounter": '* EXCLUDE (topic, partition, "offset", received_at)',
    "gold.vital_sign_minute": "*",
    "gold.score_input": "*",
    "gold.early_warning_score": "*",
}
"""What a value is, wherever it came from."""


def ward(data: DataDir, *arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [WARD, *map(str, arguments), "--data-dir", str(data.root)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=400)


def backfill(data: DataDir, folder: Path, *options: object, source: str = "mimic-iii") -> dict[str, Any]:
    """The report of a backfill that went well."""
    file = folder / "report.json"
    done = ward(data, "backfill", "--source", source, "--path", folder, "--report", file, *options)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(file.read_text())
    return report


def contents(data: DataDir) -> dict[str, list[dict[str, Any]]]:
    """Every row of the tables, in order."""
    return {
        name: query(data, f"SELECT {columns} FROM {name} ORDER BY ALL").to_pylist() for name, columns in COLUMNS.items()
    }


def runs(data: DataDir) -> list[tuple[Any, ...]]:
    columns = "status, written, already_there, subjects, reason"
    rows = query(data, f"SELECT {columns} FROM operation.backfill_run ORDER BY recorded_at")
    return [tuple(row.values()) for row in rows.to_pylist()]


def test_a_backfill_that_is_killed_goes_on_where_it_ended_and_again_changes_nothing(
    data: DataDir, tmp_path: Path
) -> None:
    written = write_mimic_iii(tmp_path / "mimic")
    tried = backfill(data, written.folder, "--dry-run")
    assert not data.table_root.exists()
    command = [WARD, "backfill", "--source", "mimic-iii", "--path", written.folder, "--data-dir", data.root]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "still to land" in line:
                process.kill()
    whole = backfill(data, written.folder, "--reason", "the first was killed")
    assert whole["rows_read"] == written.rows
    assert whole["written"] + whole["already_there"] == written.messages
    assert (whole["observations_total"], whole["quarantined_total"]) == (
        tried["would_be"]["observation"],
        sum(count for fate, count in tried["would_be"].items() if fate.startswith("quarantine")),
    )
    assert whole["observations_total"] + whole["quarantined_total"] == written.messages
    assert whole["resources_written"] + whole["resources_already_there"] == tried["would_be"]["patient or encounter"]
    assert (whole["patients_total"], whole["encounters_total"]) == (4, 8)
    before = contents(data)
    again = backfill(data, written.folder, "--subjects", "10001,10002")
    assert (again["written"], again["already_there"]) == (0, written.messages)
    assert contents(data) == before
    assert len(before["silver.observation"]) == whole["observations_total"]
    assert before["gold.early_warning_score"]
    assert runs(data) == [
        ("started", None, None, None, None),
        ("started", None, None, None, "the first was killed"),
        (
            "landed",
            whole["written"] + whole["resources_written"],
            whole["already_there"] + whole["resources_already_there"],
            None,
            "the first was killed",
        ),
        ("started", None, None, ["10001", "10002"], None),
        ("landed", 0, written.messages + again["resources_already_there"], ["10001", "10002"], None),
    ]


def test_history_in_parts_and_a_replay_over_kafka_give_the_same_rows(data: DataDir, tmp_path: Path) -> None:
    written = write_mimic_iv(tmp_path / "mimic", patients=2)
    part = backfill(data, written.folder, "--subjects", "10000001", source="mimic-iv")
    whole = backfill(data, written.folder, source="mimic-iv")
    assert 0 < part["written"] < written.messages
    assert (whole["written"], whole["already_there"]) == (written.messages - part["written"], part["written"])
    live = DataDir(tmp_path / "live")
    sent = ward(live, "replay", "--source", "mimic-iv", "--path", written.folder, "--speed", "0")
    assert sent.returncode == 0, sent.stderr
    # A replay does not wait for scores. A backfill does, also one of nobody.
    backfill(live, written.folder, "--subjects", "1", source="mimic-iv")
    replayed, landed = contents(live), contents(data)
    assert {name: len(rows) for name, rows in replayed.items()} == {name: len(rows) for name, rows in landed.items()}
    assert replayed == landed


def test_a_file_that_is_damaged_starts_and_writes_nothing(data: DataDir, tmp_path: Path) -> None:
    folder = write_mimic_iii(tmp_path / "mimic").folder
    file = folder / "CHARTEVENTS.csv.gz"
    for content, said in (
        (file.read_bytes()[:-500], "ends too early"),
        (gzip.compress(b"row_id,subject\n1,2\n"), "the header has no subject_id"),
        (gzip.compress(b""), "the file is empty"),
    ):
        file.write_bytes(content)
        done = ward(data, "backfill", "--source", "mimic-iii", "--path", folder)
        assert done.returncode == 1
        assert said in done.stderr
        assert str(file) in done.stderr
    missing = ward(data, "backfill", "--source", "mimic-iv", "--path", tmp_path / "nowhere")
    assert (missing.returncode, "there is no such file or folder" in missing.stderr) == (1, True)
    assert not data.table_root.exists()
