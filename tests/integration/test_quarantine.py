"""``ward quarantine`` on real tables: a small chart lands, what is wrong in it is mended, and silver has it, once."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from lakehouse import delta, reader
from lakehouse.checkpoint import position
from lakehouse.datadir import DataDir
from lakehouse.ledger import Check
from lakehouse.pipeline import OBSERVATION as SILVER
from lakehouse.session import build_session
from lakehouse.tables import DEAD_LETTER, DEVICE_MESSAGE, OBSERVATION, OBSERVATION_QUARANTINE, VITAL_SIGN_MINUTE
from lakehouse.transforms.clinical_resource import TABLES as RESOURCE_TABLES
from streaming import verify
from tests.fixtures.mimic import write_mimic_iii
from tests.fixtures.streams import config_of
from wardhouse.cli import app
from wardhouse.landing import application
from wardhouse.settings import Settings

Ward = Callable[..., Result]


@pytest.fixture
def ward(data: DataDir) -> Iterator[Ward]:
    """The command, beside a lakehouse application that runs on the data dir: one start of Spark for all of it."""
    runner = CliRunner()

    def call(*arguments: str) -> Result:
        return runner.invoke(app, [*arguments, "--data-dir", str(data.root)], catch_exceptions=False)

    with application(Settings(), data):
        yield call


def query(data: DataDir, sql: str) -> list[dict[str, Any]]:
    return list(reader.query(data, sql).to_pylist())


def faults(data: DataDir) -> list[Check]:
    """What the ledger finds at fault from bronze to gold."""
    config = config_of(data)
    spark = build_session("wardhouse-tests", config.jars)
    layers = (DEVICE_MESSAGE, OBSERVATION, OBSERVATION_QUARANTINE, DEAD_LETTER, VITAL_SIGN_MINUTE, *RESOURCE_TABLES)
    tables = {table.full_name: delta.read(spark, data.table(table)) for table in layers}
    checks, _ = verify._parsed(spark, config, tables, position(data.checkpoint(SILVER)))
    return [check for check in (*checks, verify._derived(tables)) if not check.holds]


def test_what_is_in_quarantine_is_found_mended_and_valid_once_and_says_who_mended_it(
    data: DataDir, ward: Ward, tmp_path: Path
) -> None:
    folder = write_mimic_iii(tmp_path / "mimic", patients=1, hours=2).folder
    assert ward("backfill", "--source", "mimic-iii", "--path", str(folder)).exit_code == 0
    found = orjson.loads(ward("quarantine", "list", "--by", "reason", "--json").stdout)
    assert {group["reason"]: group["open"] for group in found["groups"]} == {
        "out_of_range": 3,
        "sensor_disconnected": 1,
        "unknown_value_code": 1,
    }
    mend = ("quarantine", "fix", "--constraint", "out_of_range", "--of-code", "8310-5", "--unit", "degF")
    why = ("--reason", "charted in Fahrenheit", "--by", "anna")

    tried = ward(*mend, *why)
    assert "8310-5 98.6 Cel (out_of_range) -> 8310-5 98.6 degF, valid" in tried.stdout
    assert "nothing was sent" in tried.stdout
    assert query(data, "FROM operation.quarantine_fix") == []

    sent = ward(*mend, *why, "--yes")
    assert "1 valid in silver.observation" in sent.stdout
    (fix,) = query(data, "FROM operation.quarantine_fix")
    assert (fix["action"], fix["actor"], fix["reason"]) == ("fix", "anna", "charted in Fahrenheit")
    assert fix["failed_constraints"] == ["out_of_range"]
    (valid,) = query(data, f"FROM silver.observation WHERE topic = '{fix['sent_topic']}'")
    assert (valid["value"], valid["unit"], valid["status"]) == (37.0, "Cel", "corrected")
    assert (valid["observation_id"], valid["message_id"], valid["offset"]) == (
        fix["observation_id"],
        fix["message_id"],
        fix["sent_offset"],
    )
    (before,) = query(data, "FROM silver.observation_quarantine WHERE code = '8310-5'")
    assert before["observation_id"] == valid["observation_id"]
    assert before["recorded_at"] < valid["recorded_at"]

    again = ward(*mend, *why, "--yes")
    assert (again.exit_code, "nothing is open: 1 observations match, all settled" in again.stdout) == (0, True)
    replayed = ward("quarantine", "replay")
    assert (replayed.exit_code, "0 can be sent, 4 cannot" in replayed.stdout) == (0, True)
    withdrawn = ward("quarantine", "fix", "--constraint", "unknown_value_code", "--entered-in-error", "--yes", *why)
    assert "1 withdrawn" in withdrawn.stdout
    left = orjson.loads(ward("quarantine", "list", "--json").stdout)["total"]
    assert left == {"rows": 6, "observations": 5, "open": 3}
    shown = ward("quarantine", "show", valid["observation_id"].hex()[:12]).stdout
    assert "settled" in shown
    assert "out_of_range: the value is not plausible for this signal" in shown
    assert "fix by anna" in shown
    assert faults(data) == []
