"""Batches of silver into the scores of patients, over real tables: late, corrected, withdrawn, repeated, cut off."""

import csv
import itertools
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from lakehouse import delta
from lakehouse.delta import Write
from lakehouse.pipeline import EARLY_WARNING_SCORE as FLOW
from lakehouse.render import schema
from lakehouse.scores import SCORES
from lakehouse.tables import EARLY_WARNING_SCORE, OBSERVATION, SCORE_INPUT
from streaming import early_warning_score, recent
from tests.fixtures.scores import DAY, SIGNALS, VALUES, Row, Version, expected

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


class Ward:
    """Lands versions in silver and then in gold, and looks at both."""

    def __init__(self, spark, frame, config):
        self.spark, self.frame, self.config = spark, frame, config
        self.sent: list[Version] = []
        self.batches = 0
        self.begin()

    def begin(self) -> None:
        """A process of its own: it knows nothing but the tables."""
        self.write = early_warning_score.write_batch(FLOW, self.config)

    def land(self, *versions: Version) -> None:
        self.gold(self.silver(*versions))

    def silver(self, *versions: Version):
        rows = [version.row(len(self.sent) + n) for n, version in enumerate(versions)]
        self.sent += versions
        batch = self.frame(rows, schema(OBSERVATION.columns))
        delta.append(batch, self.config.data.table(OBSERVATION), Write("silver", len(self.sent)))
        return batch

    def gold(self, batch) -> None:
        self.write(batch, self.batches)
        self.batches += 1

    def rows(self) -> list[Row]:
        path = self.config.data.table(EARLY_WARNING_SCORE)
        return sorted((read(row) for row in delta.read(self.spark, path).collect()), key=lambda row: row[:3])

    def inputs(self) -> list[tuple]:
        path = self.config.data.table(SCORE_INPUT)
        rows = delta.read(self.spark, path).collect()
        return sorted((r.patient_id, r.input, utc(r.minute), utc(r.observed_at), r.value, r.value_code) for r in rows)


def read(row) -> Row:
    parts = row.parts.asDict()
    names = [part.name for part in SCORES[row.score].parts]
    assert {name: points for name, points in parts.items() if name not in names and points is not None} == {}
    return (
        row.patient_id, row.score, utc(row.observed_at), row.total, row.total_min, row.total_max, row.risk,
        {name: parts[name] for name in names}, [(i.input, value_of(i), utc(i.observed_at)) for i in row.inputs],
    )  # fmt: skip


def value_of(one):
    if one.input == "on_oxygen":
        return bool(one.value)
    return one.value if one.value_code is None else one.value_code


def utc(instant: datetime) -> datetime:
    return instant.astimezone(UTC)


@pytest.fixture
def ward(spark, frame, lake) -> Ward:
    return Ward(spark, frame, lake)


def values(at: datetime, **signals: float | str) -> list[Version]:
    return [Version(name, value, at) for name, value in signals.items()]


WELL = {
    "respiratory_rate": 16.0, "spo2": 98.0, "oxygen_flow": 0.0, "systolic_bp": 120.0, "heart_rate": 70.0,
    "consciousness": "A", "temperature": 37.0,
}  # fmt: skip


INPUTS = ["respiratory_rate", "spo2", "on_oxygen", "systolic_bp", "heart_rate", "consciousness", "temperature"]


def totals(rows: list[Row], score: str = "news2") -> list[tuple]:
    return [(f"{row[2]:%d %H:%M:%S}", *row[3:7]) for row in rows if row[1] == score]


def test_a_row_stands_for_each_change_and_inputs_are_carried_until_they_are_stale(ward):
    at = DAY + timedelta(hours=8)
    ward.land(
        *values(at + timedelta(seconds=5), **WELL),
        # Within a minute the last counts; a minute that says the same has no row.
        *values(at + timedelta(minutes=1, seconds=5), heart_rate=140.0),
        *values(at + timedelta(minutes=1, seconds=50), heart_rate=72.0),
        *values(at + timedelta(minutes=2), heart_rate=95.0),
        *values(at + timedelta(minutes=3), heart_rate=71.0),
        # What monitors send is stale after two hours and what is charted after six, to the second.
        *values(at + timedelta(hours=2, seconds=5), temperature=37.2),
        *values(at + timedelta(hours=2, seconds=6) + MINUTE, temperature=37.2),
    )
    assert totals(ward.rows()) == [
        ("01 08:00:05", 0, 0, 0, "low"),
        ("01 08:02:00", 1, 1, 1, "low"),
        ("01 08:03:00", 0, 0, 0, "low"),
        ("01 10:01:06", None, 0, 9, None),
    ]
    (_, *_, last) = [row for row in ward.rows() if row[1] == "news2"]
    assert last[7] == {
        "respiratory_rate": None, "spo2": None, "oxygen": 0, "systolic_bp": None, "heart_rate": 0,
        "consciousness": 0, "temperature": 0,
    }  # fmt: skip
    assert [(name, value) for name, value, _ in last[8]] == [
        ("on_oxygen", False), ("heart_rate", 71.0), ("consciousness", "A"), ("temperature", 37.2),
    ]  # fmt: skip
    assert ward.rows() == expected(ward.sent)


def test_a_correction_and_a_withdrawal_change_what_followed_and_no_more(ward):
    at = DAY + timedelta(hours=8)
    ward.land(
        *values(at, **WELL),
        Version("heart_rate", 135.0, at + 10 * MINUTE, record="r"),
        *values(at + 20 * MINUTE, heart_rate=75.0),
    )
    assert [row[1] for row in totals(ward.rows())] == [0, 3, 0]
    ward.land(Version("heart_rate", 115.0, at + 10 * MINUTE, record="r", status="corrected", recorded=60))
    assert [row[1] for row in totals(ward.rows())] == [0, 2, 0]
    ward.land(
        Version("heart_rate", 115.0, at + 10 * MINUTE, record="r", status="entered-in-error", recorded=120),
        # The first version again, sent late under another message: what is newer stays.
        Version("heart_rate", 135.0, at + 10 * MINUTE, record="r", recorded=-1),
    )
    assert [row[1] for row in totals(ward.rows())] == [0]
    assert ward.rows() == expected(ward.sent)


def test_a_value_that_comes_after_days_changes_only_what_it_can_reach(ward, monkeypatch):
    at = DAY + timedelta(hours=8)
    ward.land(*values(at, **WELL))
    ward.land(*values(at + 72 * HOUR, **WELL))
    # A process that looks the patient up in the table; the range is wide enough for a write key by key.
    ward.begin()
    replaced = []
    real = delta.replace_keys

    def seen(rows, *args, **kwargs):
        replaced.append(sorted(utc(row.observed_at) for row in rows.collect()))
        real(rows, *args, **kwargs)

    monkeypatch.setattr(delta, "replace_keys", seen)
    ward.land(*values(at + 2 * HOUR, wbc=15.0), Version("spo2", 85.0, at + HOUR))
    assert replaced
    assert max(instant for rows in replaced for instant in rows) < at + 72 * HOUR
    assert ward.rows() == expected(ward.sent)


def some_versions(seed: int) -> list[Version]:
    """Values of two patients in clusters with short and long gaps, with versions that arrive in any order."""
    chance = random.Random(seed)
    gaps = (MINUTE, MINUTE, 2 * MINUTE, 15 * MINUTE, 70 * MINUTE, 2 * HOUR, 5 * HOUR, 6 * HOUR, 7 * HOUR, 26 * HOUR)
    made: list[Version] = []
    for patient in ("mrn/1", "mrn/2"):
        at = DAY + timedelta(minutes=chance.randrange(60))
        for _ in range(16):
            at += chance.choice(gaps)
            for n in range(chance.randrange(1, 9)):
                signal = chance.choice(SIGNALS)
                instant = at + timedelta(seconds=chance.choice((0, 0, 10, 30, 59)))
                first = Version(signal, chance.choice(VALUES[signal]), instant, patient, record=f"{signal} {n}")
                made.append(first)
                for later in range(1, chance.choice((1, 1, 1, 2, 3))):
                    status = chance.choice(("corrected", "entered-in-error", "final"))
                    other = chance.choice((signal, signal, chance.choice(SIGNALS)))
                    value = chance.choice(VALUES[other])
                    made.append(Version(other, value, instant, patient, first.record, status, 60 * later))
    chance.shuffle(made)
    return made


@pytest.mark.parametrize(
    ("seed", "restarts", "few_minutes"),
    [(1, False, 1_000_000), (2, True, 0)],
    ids=["one process, whole minutes", "a process a batch, key by key"],
)
def test_any_order_over_several_batches_gives_what_everything_at_once_gives(
    ward, monkeypatch, seed, restarts, few_minutes
):
    monkeypatch.setattr(early_warning_score, "FEW_MINUTES", few_minutes)
    monkeypatch.setattr(recent, "DEPTH", 2)
    monkeypatch.setattr(recent, "CURRENT", timedelta(days=3))
    versions = some_versions(seed)
    cuts = [0, *sorted(random.Random(seed).sample(range(1, len(versions)), 2)), len(versions)]
    for low, high in itertools.pairwise(cuts):
        if restarts:
            ward.begin()
        ward.land(*versions[low:high])
        assert ward.rows() == expected(ward.sent)
    assert len(ward.rows()) > 50


class Killed(Exception):  # noqa: N818
    """The process dies here."""


@pytest.mark.parametrize(("writes", "few_minutes"), [(1, 60), (2, 0)], ids=["whole minutes", "key by key"])
def test_a_batch_that_is_cut_off_after_any_write_and_runs_again_loses_nothing(ward, monkeypatch, writes, few_minutes):
    monkeypatch.setattr(early_warning_score, "FEW_MINUTES", few_minutes)
    at = DAY + timedelta(hours=8)
    ward.land(*values(at, **WELL), Version("heart_rate", 135.0, at + 10 * MINUTE, record="r"))
    batch = ward.silver(
        Version("heart_rate", 135.0, at + 10 * MINUTE, record="r", status="entered-in-error", recorded=9),
        *values(at + 5 * MINUTE, spo2=90.0),
    )
    done = 0

    def killing(name):
        real = getattr(delta, name)

        def call(*args, **kwargs):
            nonlocal done
            real(*args, **kwargs)
            done += 1
            if done == writes:
                raise Killed

        return call

    with monkeypatch.context() as patched:
        for name in ("replace_where", "replace_keys"):
            patched.setattr(delta, name, killing(name))
        with pytest.raises(Killed):
            ward.gold(batch)
    ward.begin()
    ward.gold(batch)
    assert ward.rows() == expected(ward.sent)
    assert [row[:2] for row in ward.inputs()] == [("mrn/1", name) for name in sorted([*INPUTS, "spo2"])]


def test_silver_that_is_ahead_of_the_batch_ends_in_the_same_rows(ward):
    at = DAY + timedelta(hours=8)
    first = ward.silver(*values(at, **WELL), Version("heart_rate", 135.0, at + MINUTE, record="r"))
    changes = {"record": "r", "status": "corrected", "recorded": 9}
    second = ward.silver(Version("respiratory_rate", 30.0, at + MINUTE, **changes))
    ward.gold(first)
    ward.gold(second)
    assert ward.rows() == expected(ward.sent)


def test_the_published_cases_have_their_published_scores_in_gold(ward, shared_data):
    with (shared_data / "scores" / "news2_published_cases.csv").open(encoding="utf-8") as file:
        cases = list(csv.DictReader(file))
    for n, case in enumerate(cases):
        signals = {
            "respiratory_rate": float(case["respiration_rate"]),
            "spo2": float(case["spo2"]),
            "spo2_scale": 2.0 if case["hypercapnic_scale2"] == "1" else 1.0,
            "oxygen_flow": 0.0 if case["supplemental_o2"] == "Room air" else 2.0,
            "systolic_bp": float(case["systolic_bp"]),
            "heart_rate": float(case["heart_rate"]),
            "consciousness": case["consciousness"][0],
            "temperature": float(case["temperature_c"]),
        }
        cases[n] |= {"versions": [Version(name, value, DAY, f"case/{n}") for name, value in signals.items()]}
    ward.land(*(version for case in cases for version in case["versions"]))
    found = [row for row in ward.rows() if row[1] == "news2"]
    names = {
        "rr": "respiratory_rate",
        "spo2": "spo2",
        "sbp": "systolic_bp",
        "pulse": "heart_rate",
        "temp": "temperature",
    }
    assert [(row[0], row[3], row[6], [row[7][name] for name in names.values()]) for row in found] == [
        (f"case/{n}", int(float(case["rcp_table_total"])), case["exp_risk"].lower(), [
            int(float(case[f"exp_{name}"])) for name in names
        ])
        for n, case in enumerate(cases)
    ]  # fmt: skip
    assert len(found) == 6


def test_the_flow_reads_silver_as_a_stream_and_a_second_start_goes_on(ward):
    at = DAY + timedelta(hours=8)
    flow = replace(FLOW, trigger=timedelta(seconds=1))
    for versions in (values(at, **WELL), values(at + HOUR, heart_rate=140.0)):
        query = early_warning_score.start(ward.spark, flow, ward.config)
        try:
            ward.silver(*versions)
            query.processAllAvailable()
        finally:
            query.stop()
    assert [row[1] for row in totals(ward.rows())] == [0, 3]
    assert ward.rows() == expected(ward.sent)
