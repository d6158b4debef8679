"""Batches of bronze into silver and gold, over real tables: repeated, late, corrected, and cut off at every write."""

import random
import shutil
from dataclasses import replace
from functools import wraps
from itertools import pairwise

import pytest

from lakehouse import delta, progress
from lakehouse.datadir import DataDir
from lakehouse.pipeline import OBSERVATION as FLOW
from lakehouse.tables import DEAD_LETTER, OBSERVATION, OBSERVATION_QUARANTINE, PATIENT, VITAL_SIGN_MINUTE
from lakehouse.transforms.vital_sign_minute import vital_sign_minute
from streaming import observation
from tests.fixtures.vitals import encoded, encoded_patient, heart_rate

MINUTE_COLUMNS = [column.name for column in VITAL_SIGN_MINUTE.columns]


def sent(at: str, value: float, **changes: object) -> bytes:
    """A heart rate at a time of day; its message is named after both unless it is named otherwise."""
    return encoded(heart_rate(value), observed_at=f"2026-03-01T{at}Z", **{"message_id": f"{at} {value}", **changes})


class Lake:
    """What the tests look at."""

    def __init__(self, spark, config):
        self.spark, self.data = spark, config.data

    def rows(self, table, *columns: str) -> list[tuple]:
        frame = delta.read(self.spark, self.data.table(table)).selectExpr(*columns)
        return sorted(tuple(row) for row in frame.collect())

    def everything(self) -> dict[str, list[tuple]]:
        return {
            "silver": self.rows(OBSERVATION, "hex(observation_id)", "hex(version)", "offset"),
            "quarantine": self.rows(OBSERVATION_QUARANTINE, "hex(observation_id)", "hex(version)", "offset"),
            "dead": self.rows(DEAD_LETTER, "topic", "partition", "offset", "reason"),
            "patients": self.rows(PATIENT, "patient_id", "offset"),
            "gold": self.gold(),
        }

    def gold(self) -> list[tuple]:
        names = ("patient_id", "code", "date_format(minute, 'HH:mm')", "count", "min", "mean", "max", "first", "last")
        return self.rows(VITAL_SIGN_MINUTE, *names)

    def differing(self) -> int:
        """Gold rows that are not what silver gives, and the other way round."""
        fresh = vital_sign_minute(delta.read(self.spark, self.data.table(OBSERVATION))).select(*MINUTE_COLUMNS)
        kept = delta.read(self.spark, self.data.table(VITAL_SIGN_MINUTE)).select(*MINUTE_COLUMNS)
        return fresh.exceptAll(kept).union(kept.exceptAll(fresh)).count()


@pytest.fixture
def found(spark, lake) -> Lake:
    return Lake(spark, lake)


FIRST = (
    sent("11:00:00", 70), sent("11:00:10", 80), sent("11:00:20", 90), sent("11:00:20", 90),
    sent("11:05:00", 60), b"{", sent("11:00:30", 0), sent("11:06:00", 999), None,
    encoded({"code": "67775-7", "value_code": "A"}, observed_at="2026-03-01T11:07:00Z"),
)  # fmt: skip


# Minutes of both kinds in one batch: the test of a batch that is cut off.
@pytest.mark.parametrize("dense_rows", [1, 1_000_000], ids=["dense", "sparse"])
def test_batches_land_each_record_once_and_gold_is_always_what_silver_gives(
    lake, found, records, monkeypatch, dense_rows
):
    monkeypatch.setattr(observation, "DENSE_ROWS", dense_rows)
    monkeypatch.setattr(observation, "JOINED_EACH", 2)
    write = observation.write_batch(FLOW, lake)

    first = records(*FIRST).union(records(encoded_patient("7"), b"{}", topic="clinical.resource"))
    write(first, 0)
    landed = found.everything()
    parsed = (progress.last(lake.data.progress(progress.PARSED)) or {})["parsed"]
    assert parsed == {"observation": 6, "quarantine": 2, "dead_letter": 2}
    assert sorted(row[2] for row in landed["silver"]) == [0, 1, 2, 4, 9]
    assert sorted(row[2] for row in landed["quarantine"]) == [6, 7]
    assert landed["dead"] == [
        ("clinical.resource", 0, 1, "missing_field"),
        ("vitals", 0, 5, "malformed_json"),
        ("vitals", 0, 8, "tombstone"),
    ]
    assert landed["patients"] == [("mrn/7", 0)]
    assert landed["gold"] == [
        ("mrn/1", "8867-4", "11:00", 3, 70.0, 80.0, 90.0, 70.0, 90.0),
        ("mrn/1", "8867-4", "11:05", 1, 60.0, 60.0, 60.0, 60.0, 60.0),
    ]

    # The same batch again, and the same observations sent again.
    write(first, 0)
    assert found.everything() == landed
    write(records(*(value for value in FIRST if value and value != b"{"), first=100), 1)
    assert found.everything() == landed

    late = sent("11:00:05", 100)
    corrected = sent("11:00:20", 95, status="corrected", message_id="c")
    withdrawn = sent("11:05:00", 60, status="entered-in-error", message_id="e")
    write(records(late, corrected, withdrawn, sent("11:08:00", 50), first=200), 2)
    assert found.gold() == [
        ("mrn/1", "8867-4", "11:00", 4, 70.0, 86.25, 100.0, 70.0, 95.0),
        ("mrn/1", "8867-4", "11:08", 1, 50.0, 50.0, 50.0, 50.0, 50.0),
    ]
    assert found.differing() == 0
    assert len(delta.read(found.spark, lake.data.table(VITAL_SIGN_MINUTE)).inputFiles()) == 1


class Killed(Exception):  # noqa: N818
    """The process dies here."""


def killed_after(monkeypatch, writes: int) -> None:
    """Every Delta write works; after so many of them the process dies."""
    done, depth = 0, 0

    def counted(write):
        @wraps(write)
        def call(*args, **kwargs):
            nonlocal done, depth
            depth += 1
            try:
                write(*args, **kwargs)
            finally:
                depth -= 1
            if depth == 0:
                done += 1
                if done == writes:
                    raise Killed

        return call

    for name in ("append", "insert_missing", "replace_where", "replace_keys"):
        monkeypatch.setattr(delta, name, counted(getattr(delta, name)))


def test_a_batch_that_is_cut_off_after_any_write_and_runs_again_changes_nothing(lake, found, records, monkeypatch):
    monkeypatch.setattr(observation, "DENSE_ROWS", 3)
    observation.write_batch(FLOW, lake)(records(sent("11:00:01", 75), sent("11:05:00", 60), first=50), 0)
    batch = (*FIRST, sent("11:05:00", 60, status="entered-in-error", message_id="e"))

    cuts = 0
    for writes in range(1, 20):
        with monkeypatch.context() as patch:
            killed_after(patch, writes)
            try:
                observation.write_batch(FLOW, lake)(records(*batch, first=100), 1)
            except Killed:
                cuts += 1
            else:
                break

    assert cuts == 5  # dead letters, quarantine, silver, and gold for dense and for sparse minutes
    assert found.gold() == [("mrn/1", "8867-4", "11:00", 4, 70.0, 78.75, 90.0, 70.0, 90.0)]
    everything = found.everything()
    assert sorted(row[2] for row in everything["silver"]) == [50, 51, 100, 101, 102, 109, 110]
    assert sorted(row[2] for row in everything["quarantine"]) == [106, 107]
    assert [row[2] for row in everything["dead"]] == [105, 108]
    assert found.differing() == 0


def test_a_new_generation_of_the_checkpoint_counts_its_batches_anew(lake, found, records):
    observation.write_batch(FLOW, lake)(records(sent("11:00:00", 70)), 0)
    (lake.data.checkpoints / FLOW.name / "2").mkdir(parents=True)
    observation.write_batch(FLOW, lake)(records(sent("11:00:10", 80), first=1), 0)
    assert found.gold() == [("mrn/1", "8867-4", "11:00", 2, 70.0, 75.0, 80.0, 70.0, 80.0)]


def test_instants_at_the_ends_of_what_is_accepted_land(lake, found, records):
    ends = [
        encoded(observed_at=at, source="mimic-iv", message_id=at)
        for at in ("1900-01-01T00:00:00+14:00", "2999-12-31T23:59:59.999999-14:00")
    ]
    observation.write_batch(FLOW, lake)(records(*ends), 0)
    assert found.rows(OBSERVATION, "CAST(observed_at AS STRING)") == [
        ("1899-12-31 10:00:00",),
        ("3000-01-01 13:59:59.999999",),
    ]
    assert found.differing() == 0


@pytest.mark.parametrize("dense_rows", [1, 1_000_000], ids=["dense", "sparse"])
def test_a_correction_that_names_another_signal_moves_its_value(lake, found, records, monkeypatch, dense_rows):
    monkeypatch.setattr(observation, "DENSE_ROWS", dense_rows)
    write = observation.write_batch(FLOW, lake)
    write(records(encoded(heart_rate(70, record_id="r"))), 0)
    corrected = encoded(heart_rate(70, record_id="r", code="8889-8"), message_id="c", status="corrected")
    write(records(corrected, first=1), 1)
    assert [row[:4] for row in found.gold()] == [("mrn/1", "8889-8", "12:00", 1)]


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_comes_twice_and_in_whatever_order_and_batches_gives_the_same_rows(
    spark, lake, empty_tables, records, monkeypatch, tmp_path, seed
):
    chance = random.Random(seed)
    monkeypatch.setattr(observation, "DENSE_ROWS", 8)
    messages = [
        sent(f"11:0{chance.randrange(4)}:{chance.randrange(60):02}", chance.choice((70, 80, 999)), patient_id=patient)
        for patient in ("mrn/1", "mrn/2")
        for _ in range(15)
    ]
    changed = [
        encoded(heart_rate(90, record_id="r"), message_id="first", observed_at="2026-03-01T11:01:30Z"),
        encoded(
            heart_rate(95, record_id="r"), message_id="then", observed_at="2026-03-01T11:01:30Z", status="corrected"
        ),
        sent("11:02:10", 60, message_id="gone"),
        sent("11:02:10", 60, message_id="gone", status="entered-in-error"),
    ]
    once = [*dict.fromkeys(messages), *changed]
    again = [*once, *chance.sample(once, len(once) // 2)]
    chance.shuffle(again)
    # Versions of one observation count in the order in which they came: what repeats the first one changes nothing.
    for before, after in (changed[:2], changed[2:]):
        first, then = again.index(before), again.index(after)
        if then < first:
            again[first], again[then] = again[then], again[first]
    shutil.copytree(empty_tables.root, tmp_path / "other")
    other = replace(lake, data=DataDir(tmp_path / "other"))

    observation.write_batch(FLOW, lake)(records(*once), 0)
    write, cuts = observation.write_batch(FLOW, other), sorted(chance.sample(range(1, len(again)), 3))
    for number, (first, last) in enumerate(pairwise((0, *cuts, len(again)))):
        for _ in range(chance.choice((1, 2))):
            write(records(*again[first:last], first=first), number)

    def found(config):
        seen = Lake(spark, config)
        keys = ("hex(observation_id)", "hex(version)", "patient_id", "observed_at", "value", "status")
        assert seen.differing() == 0
        return seen.rows(OBSERVATION, *keys), seen.rows(OBSERVATION_QUARANTINE, *keys[:2]), seen.gold()

    silver, quarantine, gold = found(other)
    assert (silver, quarantine, gold) == found(lake)
    assert len(silver) == len({row[:2] for row in silver})
    assert len(quarantine) == len(set(quarantine)) > 0
    assert len(silver) + len(quarantine) == len(once)
