"""Scores as they were known at an instant: those of the versions known by then, worked out in plain Python."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from random import Random

import pytest

from lakehouse.datadir import DataDir
from lakehouse.known_at import as_known_at
from lakehouse.scores import PARTS
from lakehouse.tables import EARLY_WARNING_SCORE, OBSERVATION
from tests.fixtures.delta import append
from tests.fixtures.scores import DAY, SIGNALS, VALUES, Row, Version, expected


def land(data: DataDir, versions: Iterable[Version]) -> None:
    names = [column.name for column in OBSERVATION.columns]
    append(data, OBSERVATION, *(dict(zip(names, one.row(n), strict=True)) for n, one in enumerate(versions)))


def scores(data: DataDir, at: datetime | None) -> list[Row]:
    """What is derived, as ``expected`` writes it, with every part that a score has."""
    found = as_known_at(data, EARLY_WARNING_SCORE, at).to_arrow_table().to_pylist()
    return sorted(
        (
            (
                row["patient_id"], row["score"], row["observed_at"], row["total"], row["total_min"], row["total_max"],
                row["risk"], row["parts"],
                [(one["input"], _value(one), one["observed_at"]) for one in row["inputs"]],
            )
            for row in found
        ),
        key=lambda row: row[:3],
    )  # fmt: skip


def _value(one: dict[str, object]) -> object:
    if one["input"] == "on_oxygen":
        return one["value"] == 1.0
    return one["value"] if one["value_code"] is None else one["value_code"]


def in_full(rows: Iterable[Row]) -> list[tuple[object, ...]]:
    """With every part that a score has, None for those of others."""
    return [(*row[:7], {name: row[7].get(name) for name in PARTS}, row[8]) for row in rows]


def any_versions(random: Random, n: int) -> list[Version]:
    """One observed value, at times corrected two hours later, and at times withdrawn four hours later."""
    signal = random.choice(SIGNALS)
    at, patient = DAY + timedelta(seconds=random.randrange(0, 30 * 3600, 20)), f"mrn/{random.randrange(3)}"
    fates = (("final", 0), ("corrected", 7200), ("entered-in-error", 14400))[: random.choice((1, 1, 2, 3))]
    return [
        Version(signal, random.choice(VALUES[signal]), at, patient, f"{signal} {n}", status, recorded)
        for status, recorded in fates
    ]


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_the_versions_that_were_known(data: DataDir, seed: int) -> None:
    random = Random(seed)
    versions = [version for n in range(500) for version in any_versions(random, n)]
    land(data, versions)

    for at in (DAY + timedelta(hours=9), DAY + timedelta(hours=20), None):
        by_then = [one for one in versions if at is None or one.at + timedelta(seconds=one.recorded) <= at]
        rows = expected(by_then)
        assert len(rows) > 100
        assert scores(data, at) == in_full(rows)


def test_no_score_at_an_instant_changes_when_later_versions_land(data: DataDir) -> None:
    land(data, [Version("heart_rate", 60.0 + n, DAY + timedelta(minutes=n)) for n in range(90)])
    at = DAY + timedelta(minutes=89)
    before = scores(data, at)
    land(
        data,
        [Version("heart_rate", 150.0, DAY + timedelta(minutes=n), status="corrected", recorded=9000) for n in range(60)]
        + [Version("spo2", 80.0, DAY + timedelta(minutes=n), recorded=9000) for n in range(60)],
    )

    assert scores(data, at) == before
    assert scores(data, None) != before
