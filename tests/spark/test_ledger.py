"""The ledger finds what is lost, doubled or changed, and nothing else."""

import shutil

import pytest

from lakehouse import delta
from lakehouse.checkpoint import Position
from lakehouse.datadir import DataDir
from lakehouse.delta import Write
from lakehouse.ledger import Check, Fault, Ledger, missing, repeated
from lakehouse.pipeline import OBSERVATION as FLOW
from lakehouse.tables import DEAD_LETTER, DEVICE_MESSAGE, OBSERVATION, OBSERVATION_QUARANTINE, VITAL_SIGN_MINUTE
from lakehouse.transforms.clinical_resource import TABLES as RESOURCE_TABLES
from streaming import verify
from streaming.observation import write_batch
from tests.fixtures.streams import config_of
from tests.fixtures.vitals import encoded, encoded_patient, heart_rate

LAYERS = (DEVICE_MESSAGE, OBSERVATION, OBSERVATION_QUARANTINE, DEAD_LETTER, VITAL_SIGN_MINUTE, *RESOURCE_TABLES)
SENT = (
    encoded(heart_rate(70), {"code": "8310-5", "value": 36.6, "unit": "Cel"}),
    encoded(heart_rate(70), {"code": "8310-5", "value": 36.6, "unit": "Cel"}),
    encoded(heart_rate(80), observed_at="2026-03-01T12:00:05Z", message_id="m2"),
    encoded(heart_rate(0), observed_at="2026-03-01T12:00:06Z", message_id="m3"),
    b"{",
    None,
)


def test_missing_and_repeated_count_rows_beyond_the_expected(frame):
    key = ("p", "o")
    expected = frame([(0, 1), (0, 2), (0, 3), (1, 1)], "p INT, o BIGINT")
    actual = frame([(0, 1), (0, 1), (0, 1), (1, 1), (1, 1), (2, 9)], "p INT, o BIGINT")
    assert (missing(expected, actual, key), missing(actual, expected, key)) == (2, 1)
    assert (repeated(expected, key), repeated(actual, key), repeated(actual.where("false"), key)) == (0, 3, 0)
    assert (missing(expected, expected, key), missing(expected.where("false"), actual, key)) == (0, 0)


def test_a_ledger_holds_when_nothing_is_at_fault_and_adds_up_what_is():
    good = Check("a", Fault.LOST, 0, "")
    bad = [Check("b", Fault.LOST, 2, "see"), Check("c", Fault.LOST, 1, ""), Check("d", Fault.DUPLICATED, 4, "")]
    assert Ledger((good,), {}).holds
    assert Ledger((good, *bad), {"rows": 9}, ("wait",)).as_dict() == {
        "holds": False,
        "lost": 3,
        "duplicated": 4,
        "unexplained": 0,
        "totals": {"rows": 9},
        "checks": [
            {"name": "a", "fault": "lost", "count": 0, "detail": ""},
            {"name": "b", "fault": "lost", "count": 2, "detail": "see"},
            {"name": "c", "fault": "lost", "count": 1, "detail": ""},
            {"name": "d", "fault": "duplicated", "count": 4, "detail": ""},
        ],
        "remarks": ["wait"],
    }


@pytest.fixture(scope="module")
def landed(spark, records, empty_tables, tmp_path_factory):
    """A data dir on which one batch has landed. Copy it: landing takes seconds."""
    config = config_of(DataDir(tmp_path_factory.mktemp("landed") / "ward"))
    shutil.copytree(empty_tables.root, config.data.root)
    bronze = config.data.table(DEVICE_MESSAGE)
    resources = records(encoded_patient("7"), topic="clinical.resource")
    delta.append(records(*SENT).union(resources), bronze, Write("bronze", 0))
    write_batch(FLOW, config)(delta.read(spark, bronze), 0)
    return config.data


@pytest.fixture
def lake(landed, stream_config):
    shutil.copytree(landed.root, stream_config.data.root)
    return stream_config


@pytest.fixture
def proven(spark, lake):
    """What the ledger finds at fault between bronze, silver and gold, by name; and how much there is."""

    def prove(whole: int = 1) -> tuple[dict[str, tuple[Fault, int]], dict[str, int]]:
        source = {"reservoirId": "0efa6ae4", "reservoirVersion": whole + 1, "index": -1}
        tables = {table.full_name: delta.read(spark, lake.data.table(table)) for table in LAYERS}
        checks, totals = verify._parsed(spark, lake, tables, Position(0, (source,), in_flight=False))
        faults = {c.name: (c.fault, c.count) for c in (*checks, verify._derived(tables)) if not c.holds}
        return faults, totals

    return prove


PARSED = "silver: every parsed value is an observation or in quarantine"
LETTERS = "silver: every record that cannot be parsed is a dead letter"
RESOURCES = "silver: every resource is in its table"
GOLD = "gold: every minute equals what silver gives"
TOTALS = {"observations": 3, "quarantined": 1, "dead_letters": 2, "duplicates_removed": 2}


def test_what_the_stream_has_written_holds_and_what_silver_has_not_read_yet_is_not_claimed(lake, records, proven):
    later = records(encoded(message_id="later"), b"}", first=100)
    delta.append(later, lake.data.table(DEVICE_MESSAGE), Write("bronze", 1))
    assert proven() == ({}, TOTALS)
    assert proven(whole=2)[0] == {PARSED: (Fault.LOST, 1), LETTERS: (Fault.LOST, 1)}


@pytest.mark.parametrize(
    ("statements", "faults"),
    [
        (
            [
                "DELETE FROM {observation} WHERE value = 80",
                "DELETE FROM {observation_quarantine}",
                "DELETE FROM {dead_letter} WHERE reason = 'tombstone'",
                "DELETE FROM {patient}",
            ],
            {
                PARSED: (Fault.LOST, 2),
                LETTERS: (Fault.LOST, 1),
                RESOURCES: (Fault.LOST, 1),
                GOLD: (Fault.UNEXPLAINED, 2),
            },
        ),
        (
            [
                "INSERT INTO {observation} SELECT * FROM {observation} WHERE value = 36.6",
                "INSERT INTO {observation_quarantine} SELECT * FROM {observation_quarantine}",
                "INSERT INTO {dead_letter} SELECT * FROM {dead_letter}",
                "INSERT INTO {patient} SELECT * FROM {patient}",
                "INSERT INTO {vital_sign_minute} SELECT * FROM {vital_sign_minute} WHERE count = 2",
            ],
            {
                "silver: one row a version": (Fault.DUPLICATED, 1),
                "silver: one quarantined row a version": (Fault.DUPLICATED, 1),
                "silver: one dead letter a record": (Fault.DUPLICATED, 2),
                "silver: one row a version of a resource": (Fault.DUPLICATED, 1),
                GOLD: (Fault.UNEXPLAINED, 1),
            },
        ),
        (
            [
                "UPDATE {observation} SET version = unhex('00') WHERE value = 36.6",
                "UPDATE {dead_letter} SET offset = 77 WHERE reason = 'tombstone'",
                "UPDATE {patient} SET version = unhex('00')",
                "UPDATE {vital_sign_minute} SET mean = mean + 1e-9 WHERE count = 2",
            ],
            {
                PARSED: (Fault.LOST, 1),
                "silver: nothing that bronze has not": (Fault.UNEXPLAINED, 1),
                LETTERS: (Fault.LOST, 1),
                "silver: no dead letter that bronze has not": (Fault.UNEXPLAINED, 1),
                RESOURCES: (Fault.LOST, 1),
                "silver: no resource that bronze has not": (Fault.UNEXPLAINED, 1),
                GOLD: (Fault.UNEXPLAINED, 2),
            },
        ),
        (["DELETE FROM {vital_sign_minute} WHERE count = 2"], {GOLD: (Fault.UNEXPLAINED, 1)}),
    ],
    ids=["lost", "doubled", "changed", "gold_lost"],
)
def test_every_planted_fault_is_found_and_named(spark, lake, proven, statements, faults):
    places = {table.name: f"delta.`{lake.data.table(table)}`" for table in LAYERS}
    for statement in statements:
        spark.sql(statement.format(**places))
    assert proven()[0] == faults
