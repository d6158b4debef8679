"""Observations to minute statistics: which values count, and that their order never matters."""

import itertools
import math
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from lakehouse.transforms.vital_sign_minute import vital_sign_minute

STATISTICS = ("patient_id", "code", "CAST(minute AS STRING)", "unit", "count", "min", "mean", "max", "first", "last")
START = datetime(2026, 3, 1, 11, 0, tzinfo=UTC)
SILVER = (
    "observation_id BINARY, version BINARY, patient_id STRING, code STRING, value DOUBLE, unit STRING, status STRING,"
    " observed_at TIMESTAMP, recorded_at TIMESTAMP, topic STRING, partition INT, offset BIGINT"
)


def at(second: float, value: float | None, *, id: str | None = None, patient: str = "mrn/1", **changes: object) -> dict:  # noqa: A002
    """One version of an observation this long after the start; versions of one observation share an ``id``."""
    instant = START + timedelta(seconds=second)
    return {
        "observation_id": f"{patient} {id or second}".encode(),
        "patient_id": patient,
        "code": "8867-4",
        "value": None if value is None else float(value),
        "unit": "/min",
        "status": "final",
        "observed_at": instant,
        "recorded_at": instant,
    } | changes


@pytest.fixture(scope="module")
def silver(frame):
    """These observations as silver holds them; bronze had them in their order."""

    def make(*rows: dict):
        bronze = [{"version": b"%d" % n, "topic": "vitals", "partition": 0, "offset": n} for n in range(len(rows))]
        names = [part.split()[0] for part in SILVER.split(", ")]
        values = [tuple((place | row)[name] for name in names) for place, row in zip(bronze, rows, strict=True)]
        return frame(values, SILVER)

    return make


def statistics(rows) -> list[tuple]:
    return sorted(tuple(row) for row in vital_sign_minute(rows).selectExpr(*STATISTICS).collect())


def test_a_minute_has_the_statistics_of_its_values_and_no_other_minute_has_a_row(silver):
    rows = silver(
        at(0, 70),
        at(59.999999, 80),
        at(30, 91),
        at(60, 100),
        at(185, 60),
        at(5, 50, patient="mrn/2"),
        at(5, 36.65, id="t", code="8310-5", unit="Cel"),
        at(5, None, id="c", code="67775-7", unit=None),
    )

    assert statistics(rows) == [
        ("mrn/1", "8310-5", "2026-03-01 11:00:00", "Cel", 1, 36.65, 36.65, 36.65, 36.65, 36.65),
        ("mrn/1", "8867-4", "2026-03-01 11:00:00", "/min", 3, 70.0, 241 / 3, 91.0, 70.0, 80.0),
        ("mrn/1", "8867-4", "2026-03-01 11:01:00", "/min", 1, 100.0, 100.0, 100.0, 100.0, 100.0),
        ("mrn/1", "8867-4", "2026-03-01 11:03:00", "/min", 1, 60.0, 60.0, 60.0, 60.0, 60.0),
        ("mrn/2", "8867-4", "2026-03-01 11:00:00", "/min", 1, 50.0, 50.0, 50.0, 50.0, 50.0),
    ]


def test_of_a_corrected_value_the_newest_version_counts_and_of_one_entered_in_error_none(silver):
    corrected = [at(1, 70), at(1, 75, status="corrected")]
    withdrawn = [at(2, 90), at(2, 90, status="entered-in-error")]
    restored = [
        at(3, 60, recorded_at=START + timedelta(minutes=30)),
        at(3, 61, status="corrected", recorded_at=START + timedelta(minutes=40)),
        at(3, 62, status="entered-in-error", recorded_at=START + timedelta(minutes=35)),
    ]
    emptied = [at(65, 70), at(65, 70, status="entered-in-error")]

    assert statistics(silver(*corrected, *withdrawn, *restored, *emptied)) == [
        ("mrn/1", "8867-4", "2026-03-01 11:00:00", "/min", 2, 61.0, 68.0, 75.0, 75.0, 61.0)
    ]


def test_statistics_are_the_same_bits_in_whatever_order_values_arrive_and_lie(silver):
    random = Random(7)
    values = [round(random.uniform(30, 250), random.randint(0, 6)) for _ in range(60)]
    # Of two values at one instant one is first, and the same one always.
    sent = [at(n // 2, value, id=f"r{n}") for n, value in enumerate(values)]
    orders = [sent, sent[::-1], random.sample(sent, len(sent))]

    found = [statistics(silver(*order)) for order in orders]
    found.append(statistics(silver(*sent).repartition(3, "value")))

    assert found == [found[0]] * 4
    mean = found[0][0][STATISTICS.index("mean")]
    assert mean == pytest.approx(math.fsum(values) / 60, abs=1e-6)


def test_a_mean_lies_between_the_smallest_and_the_largest_value(silver):
    tenths = [value / 10 for value in range(300, 450, 7)]
    cases = [[value] * n for value, n in itertools.product([*tenths, 36.123456789], (1, 3, 7))]
    rows = silver(
        *(at(n, value, patient=f"mrn/{case}") for case, values in enumerate(cases) for n, value in enumerate(values))
    )

    found = {row.patient_id: (row.min, row.mean, row.max) for row in vital_sign_minute(rows).collect()}

    assert found == {f"mrn/{case}": (values[0],) * 3 for case, values in enumerate(cases)}


def test_values_of_any_size_give_statistics_and_stop_nothing(silver):
    cases = {
        "mrn/1": [1e300],
        "mrn/2": [5e-324],
        "mrn/3": [1e15, 1e9, 3.5],
        "mrn/4": [9.9e8, 1.0],
        "mrn/5": [1.7976931348623157e308, 1.6e308],
        # Their millionths are more than a 64-bit sum holds.
        "mrn/6": [9.99e8] * 9_300,
    }
    rows = silver(*(at(5, v, id=str(n), patient=p) for p, values in cases.items() for n, v in enumerate(values)))

    found = {row.patient_id: (row["count"], row.min, row.mean, row.max) for row in vital_sign_minute(rows).collect()}

    # A sum beyond what a double holds gives the largest value for a mean, since a mean lies between the values.
    means = {p: math.fsum(values) / len(values) for p, values in cases.items() if p != "mrn/5"} | {
        "mrn/5": max(cases["mrn/5"])
    }
    assert found == {
        p: (len(values), min(values), pytest.approx(means[p], rel=1e-12), max(values)) for p, values in cases.items()
    }
