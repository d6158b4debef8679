"""Tables and checkpoints on a real S3 server and a real HDFS, which are killed meanwhile; for `make test-cluster`."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lakehouse import reader, snapshot
from lakehouse.datadir import DataDir
from tests.fixtures.hdfs import Hdfs
from tests.fixtures.object_store import ObjectStore
from tests.fixtures.stack import LONGEST_S, WARD, component, ready, wait_until

pytestmark = pytest.mark.cluster

_MAKE_AND_READ = """
import sys
from pathlib import Path
from lakehouse import delta
from lakehouse.datadir import DataDir
from lakehouse.reader import open_table
from lakehouse.session import build_session
from lakehouse.tables import PATIENT
data = DataDir(Path(sys.argv[1]))
spark = build_session("test", Path(".jars"), lake=data.lake)
delta.create(spark, PATIENT, data.table(PATIENT))
spark.stop()
print("version", open_table(data, PATIENT).version())
"""


_FORK_AFTER_LOOKING = """
import subprocess, sys
from pathlib import Path
from lakehouse.datadir import DataDir
assert DataDir(Path(sys.argv[1])).table_root.exists()
subprocess.run(["echo", "forked"], preexec_fn=lambda: None, check=True)
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    with ObjectStore(tmp_path / "store") as running:
        _found_by(monkeypatch, running)
        yield running


@pytest.fixture
def hdfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hdfs]:
    with Hdfs(tmp_path / "hdfs") as running:
        _found_by(monkeypatch, running)
        yield running


def _found_by(monkeypatch: pytest.MonkeyPatch, store: ObjectStore | Hdfs) -> None:
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)


def ward(data: DataDir, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [WARD, *arguments, "--data-dir", str(data.root)]
    return subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S, check=False)


def test_storage_is_tried_before_it_is_used_and_stays_what_it_is(
    store: ObjectStore, data: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = store.uri
    wrong = ward(data, "storage", "use", "s3a://nowhere/wards")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1), wrong.stderr
    assert "s3a://nowhere/wards cannot be used" in wrong.stderr
    assert not data.root.exists()

    used = ward(data, "storage", "use", place)
    assert used.returncode == 0, used.stderr
    assert str(data.lake) == place
    assert ward(data, "storage", "use", place).returncode == 0
    other = ward(data, "storage", "use", f"s3a://{store.bucket}/others")
    assert (other.returncode, "give another --data-dir" in other.stderr) == (1, True)
    plain = ward(data, "storage", "check")
    assert (plain.returncode, "unencrypted" in plain.stderr) == (1, True)
    store.encrypt()
    encrypted = ward(data, "storage", "check")
    assert (encrypted.returncode, "encrypted (AES256)" in encrypted.stdout) == (0, True), encrypted.stderr

    credentials = data.root / "credentials"
    given = store.environment
    credentials.write_text(
        f"[default]\naws_access_key_id = {given['AWS_ACCESS_KEY_ID']}\n"
        f"aws_secret_access_key = {given['AWS_SECRET_ACCESS_KEY']}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    # Java makes the table and deltalake reads it.
    by_file = subprocess.run(
        [sys.executable, "-c", _MAKE_AND_READ, data.root],
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    assert by_file.stdout.splitlines()[-1:] == ["version 0"], by_file.stderr
    heir = ward(DataDir(data.root.with_name("heir")), "storage", "use", place)
    assert (heir.returncode, "there are tables already" in heir.stdout) == (0, True), heir.stderr

    credentials.write_text(credentials.read_text().replace("a secret", "another"))
    refused = ward(data, "storage", "check")
    assert (refused.returncode, "cannot be used" in refused.stderr) == (1, True)
    store.kill()
    for command in ("checkpoint list", "snapshot create one"):
        away = ward(data, *command.split())
        assert (away.returncode, away.stderr.count("\n")) == (1, 1), away.stderr
        assert "the store of tables and checkpoints" in away.stderr


def test_hdfs_is_tried_before_it_is_used_and_stays_what_it_is(
    hdfs: Hdfs, data: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ward(data, "storage", "use", hdfs.uri).returncode == 0
    again = ward(data, "storage", "check")
    assert (again.returncode, "`hdfs crypto -listZones` says" in again.stdout) == (0, True), again.stderr
    made = subprocess.run(
        [sys.executable, "-c", _MAKE_AND_READ, data.root], capture_output=True, text=True, check=False
    )
    assert made.stdout.splitlines()[-1:] == ["version 0"], made.stderr

    # Java is started by a fork: a client that was used before must not keep it from starting.
    forked = [sys.executable, "-c", _FORK_AFTER_LOOKING, data.root]
    assert subprocess.run(forked, capture_output=True, text=True, timeout=60, check=True).stdout == "forked\n"

    monkeypatch.setenv("HADOOP_USER_NAME", "somebody")
    refused = ward(data, "storage", "check")
    assert (refused.returncode, "cannot be used" in refused.stderr) == (1, True), refused.stderr


@pytest.mark.parametrize("kind", ["store", "hdfs"])
def test_a_stack_over_object_storage_loses_nothing_though_store_and_lakehouse_are_killed(
    kind: str, request: pytest.FixtureRequest, data: DataDir, tmp_path: Path
) -> None:
    store: ObjectStore | Hdfs = request.getfixturevalue(kind)

    def up(duration: str, meanwhile: Callable[["subprocess.Popen[str]"], None]) -> "dict[str, Any]":
        report_file = tmp_path / "report.json"
        options = ("--patients", "40", "--rate", "40", "--duration", duration, "--broker-port", "0")
        with subprocess.Popen(
            [WARD, "up", *options, "--report", str(report_file), "--data-dir", str(data.root)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            meanwhile(process)
            said, _ = process.communicate(timeout=LONGEST_S)
        assert process.returncode == 0, said
        report: dict[str, Any] = json.loads(report_file.read_text())
        assert (report["lost"], report["duplicated"], report["landed"]) == (0, 0, True), said
        return report

    def broken(process: "subprocess.Popen[str]") -> None:
        wait_until(ready(data, "simulator"), process)
        wait_until(lambda: (data.table_root / "bronze" / "device_message" / "_delta_log").exists(), process)
        store.kill()
        component(data, "stream-lakehouse").kill()
        store.start()

    assert ward(data, "storage", "use", store.uri).returncode == 0
    report = up("100s", broken)
    assert report["bronze_rows"] == report["messages_sent"] > 1_000
    assert not (data.root / "tables").exists()
    assert [path.name for path in (data.root / "checkpoints").iterdir()] == ["alert_limits"]
    assert _observations(data) == report["observations"]

    for command in (
        "checkpoint backup first",
        "maintain",
        "snapshot create first",
        "dbt run --select icu_stay",
        "checkpoint restore first --yes",
        "checkpoint rewind observation --to beginning --yes",
    ):
        done = ward(data, *command.split())
        assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    assert snapshot.verify(data, snapshot.load(data, "first")) == ()
    assert reader.query(data, "SELECT count(*) AS n FROM mart.icu_stay").to_pylist() == [{"n": 0}]

    again = up("30s", lambda _: None)
    assert again["bronze_rows"] == again["messages_sent"] > 0
    assert _observations(data) == report["observations"] + again["observations"]


def _observations(data: DataDir) -> int:
    return int(reader.query(data, "SELECT count(*) AS n FROM silver.observation").to_pylist()[0]["n"])
