"""Scores against the published tables, written out again here, at every boundary, and with every input missing."""

import csv
import itertools
import math
from datetime import timedelta
from pathlib import Path

import pytest

from lakehouse.scores import INPUT_OF_SIGNAL, NEWS2, QSOFA, SCORES, SIRS, STALE_AFTER, Scored, input_of, score
from lakehouse.vocabulary import signal_by_name

WELL = {
    "respiratory_rate": 16,
    "spo2": 98,
    "spo2_scale": 1,
    "on_oxygen": False,
    "systolic_bp": 120,
    "heart_rate": 70,
    "consciousness": "A",
    "temperature": 37.0,
}
# As the Royal College prints it: each band's first and last value in the table's own precision, and its points.
TABLE = {
    "respiratory_rate": [(1, 8, 3), (9, 11, 1), (12, 20, 0), (21, 24, 2), (25, 69, 3)],
    "systolic_bp": [(1, 90, 3), (91, 100, 2), (101, 110, 1), (111, 219, 0), (220, 399, 3)],
    "heart_rate": [(1, 40, 3), (41, 50, 1), (51, 90, 0), (91, 110, 1), (111, 130, 2), (131, 299, 3)],
    "spo2": [(1, 91, 3), (92, 93, 2), (94, 95, 1), (96, 100, 0)],
}
TEMPERATURE = [(30.0, 35.0, 3), (35.1, 36.0, 1), (36.1, 38.0, 0), (38.1, 39.0, 1), (39.1, 43.0, 2)]
SCALE_2 = {
    False: [(1, 83, 3), (84, 85, 2), (86, 87, 1), (88, 100, 0)],
    True: [(1, 83, 3), (84, 85, 2), (86, 87, 1), (88, 92, 0), (93, 94, 1), (95, 96, 2), (97, 100, 3)],
}


@pytest.mark.parametrize("name", TABLE)
def test_every_value_of_the_news2_table_has_its_points(name: str) -> None:
    for first, last, points in TABLE[name]:
        for value in range(first, last + 1):
            assert score(NEWS2, {**WELL, name: value}).parts[name] == points, value


def test_every_tenth_of_a_degree_has_its_points_and_what_falls_between_is_rounded() -> None:
    for first, last, points in TEMPERATURE:
        for tenths in range(round(first * 10), round(last * 10) + 1):
            assert score(NEWS2, {**WELL, "temperature": tenths / 10}).parts["temperature"] == points, tenths
    # 95.0 degF is 35.0 Cel, 96.9 is 36.06 and 100.5 is 38.06.
    for fahrenheit, points in ((95.0, 3), (95.1, 1), (96.9, 0), (96.8, 1), (100.4, 0), (100.5, 1)):
        assert score(NEWS2, {**WELL, "temperature": (fahrenheit - 32) / 1.8}).parts["temperature"] == points


@pytest.mark.parametrize("on_oxygen", [False, True])
def test_the_second_scale_of_oxygen_saturation_depends_on_oxygen(on_oxygen: bool) -> None:
    for first, last, points in SCALE_2[on_oxygen]:
        for value in range(first, last + 1):
            found = score(NEWS2, {**WELL, "spo2": value, "spo2_scale": 2, "on_oxygen": on_oxygen})
            assert found.parts["spo2"] == points, value
            assert found.parts["oxygen"] == (2 if on_oxygen else 0)


def test_anything_but_alert_has_three_points_and_a_glasgow_coma_score_stands_in_for_it() -> None:
    for code, points in (("A", 0), ("C", 3), ("V", 3), ("P", 3), ("U", 3)):
        assert score(NEWS2, {**WELL, "consciousness": code}).parts["consciousness"] == points
    for gcs, points in ((15, 0), (14, 3), (3, 3)):
        assert score(NEWS2, {**WELL, "consciousness": None, "gcs": gcs}).parts["consciousness"] == points
    assert score(NEWS2, {**WELL, "consciousness": "A", "gcs": 14}).parts["consciousness"] == 0


@pytest.mark.parametrize(
    ("eye", "verbal", "motor", "points"),
    [
        (4, 5, 6, (0, 0)),
        (3, 5, 6, (3, 3)),
        (4, 5, 1, (3, 3)),
        (1, 1, 1, (3, 3)),
        # Below the best of one part is below the full score, whatever the others are; at the best of some it is open.
        (3, None, None, (3, 3)),
        (None, 4, 6, (3, 3)),
        (4, None, 6, (0, 3)),
        (None, None, None, (0, 3)),
    ],
)
def test_parts_of_the_coma_score_stand_in_for_its_total(
    eye: int | None, verbal: int | None, motor: int | None, points: tuple[int, int]
) -> None:
    parts = {"gcs_eye": eye, "gcs_verbal": verbal, "gcs_motor": motor}
    found = score(NEWS2, {**WELL, "consciousness": None, **parts})
    assert (found.total_min, found.total_max) == points
    assert found.parts["consciousness"] == (points[0] if points[0] == points[1] else None)
    well = {"respiratory_rate": 16, "systolic_bp": 120}
    of_three = tuple(point // 3 for point in points)
    assert (score(QSOFA, {**well, **parts}).total_min, score(QSOFA, {**well, **parts}).total_max) == of_three
    for whole, total in ((15, 0), (14, 3)):
        assert score(NEWS2, {**WELL, "consciousness": None, "gcs": whole, **parts}).total == total


def test_the_risk_follows_from_the_total_and_from_a_single_part_of_three() -> None:
    found = {
        0: score(NEWS2, WELL),
        3: score(NEWS2, {**WELL, "consciousness": "V"}),
        4: score(NEWS2, {**WELL, "on_oxygen": True, "heart_rate": 91, "temperature": 38.1}),
        5: score(NEWS2, {**WELL, "on_oxygen": True, "consciousness": "V"}),
        6: score(NEWS2, {**WELL, "on_oxygen": True, "heart_rate": 111, "temperature": 39.1}),
        7: score(NEWS2, {**WELL, "on_oxygen": True, "heart_rate": 111, "consciousness": "P"}),
    }
    assert {total: one.total for total, one in found.items()} == {total: total for total in found}
    risks = ["low", "low-medium", "low", "medium", "medium", "high"]
    assert [one.risk for one in found.values()] == risks


def test_the_published_cases_have_their_published_scores(shared_data: Path) -> None:
    with (shared_data / "scores" / "news2_published_cases.csv").open(encoding="utf-8") as file:
        cases = list(csv.DictReader(file))
    for case in cases:
        inputs = {
            "respiratory_rate": float(case["respiration_rate"]),
            "spo2": float(case["spo2"]),
            "spo2_scale": 2 if case["hypercapnic_scale2"] == "1" else 1,
            "on_oxygen": case["supplemental_o2"] != "Room air",
            "systolic_bp": float(case["systolic_bp"]),
            "heart_rate": float(case["heart_rate"]),
            "consciousness": case["consciousness"][0],
            "temperature": float(case["temperature_c"]),
        }
        found = score(NEWS2, inputs)
        assert found.total == float(case["rcp_table_total"]), case["id"]
        assert found.risk == case["exp_risk"].lower(), case["id"]
        expected = [float(case[f"exp_{name}"]) for name in ("rr", "spo2", "sbp", "pulse", "temp")]
        parts = [found.parts[n] for n in ("respiratory_rate", "spo2", "systolic_bp", "heart_rate", "temperature")]
        assert parts == expected, case["id"]
    assert len(cases) == 6


@pytest.mark.parametrize(
    ("inputs", "parts", "risk"),
    [
        ({"respiratory_rate": 22, "systolic_bp": 101, "gcs": 15}, (1, 0, 0), "negative"),
        ({"respiratory_rate": 21.9, "systolic_bp": 100, "gcs": 14}, (0, 1, 1), "positive"),
        ({"respiratory_rate": 30, "systolic_bp": 90, "consciousness": "C"}, (1, 1, 1), "positive"),
        ({"respiratory_rate": 12, "systolic_bp": 120, "consciousness": "A"}, (0, 0, 0), "negative"),
    ],
)
def test_qsofa(inputs: dict[str, float | str], parts: tuple[int, ...], risk: str) -> None:
    found = score(QSOFA, inputs)
    assert (tuple(found.parts.values()), found.total, found.risk) == (parts, sum(parts), risk)


@pytest.mark.parametrize(
    ("inputs", "parts"),
    [
        ({"temperature": 36.0, "heart_rate": 90, "respiratory_rate": 20, "wbc": 4.0}, (0, 0, 0, 0)),
        ({"temperature": 35.9, "heart_rate": 91, "respiratory_rate": 21, "wbc": 3.9}, (1, 1, 1, 1)),
        ({"temperature": 38.0, "heart_rate": 60, "paco2": 32.0, "wbc": 12.0}, (0, 0, 0, 0)),
        ({"temperature": 38.1, "heart_rate": 60, "paco2": 31.9, "wbc": 12.1}, (1, 0, 1, 1)),
        ({"temperature": 37, "heart_rate": 9, "respiratory_rate": 12, "paco2": 31, "bands_percent": 11}, (0, 0, 1, 1)),
        ({"temperature": 37, "heart_rate": 60, "respiratory_rate": 12, "bands_percent": 10.0}, (0, 0, 0, 0)),
    ],
)  # fmt: skip
def test_sirs(inputs: dict[str, float], parts: tuple[int, ...]) -> None:
    found = score(SIRS, inputs)
    assert (tuple(found.parts.values()), found.total) == (parts, sum(parts))
    assert found.risk == ("positive" if sum(parts) >= 2 else "negative")


def test_without_inputs_a_score_can_be_anything_and_is_nothing() -> None:
    assert score(NEWS2, {}) == Scored(None, 0, 20, None, dict.fromkeys(part.name for part in NEWS2.parts))
    assert (score(QSOFA, {}).total_max, score(SIRS, {}).total_max) == (3, 4)
    for value in (math.nan, math.inf, None):
        assert score(NEWS2, {**WELL, "heart_rate": value}).total is None


CANDIDATES = {
    "respiratory_rate": (5, 10, 15, 22, 30),
    "spo2": (80, 85, 87, 90, 92, 93, 95, 98),
    "on_oxygen": (True, False),
    "systolic_bp": (80, 95, 105, 120, 230),
    "heart_rate": (30, 45, 70, 100, 120, 140),
    "consciousness": ("A", "V"),
    "temperature": (34, 35.5, 37, 38.5, 40),
}


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("missing", [*itertools.combinations(CANDIDATES, 1), *itertools.combinations(CANDIDATES, 2)])
def test_the_least_and_the_most_are_those_over_everything_that_is_missing(missing: tuple[str, ...], scale: int) -> None:
    for base in (WELL, {**WELL, "spo2": 93, "on_oxygen": True, "consciousness": "V"}, {**WELL, "spo2": 86}):
        inputs = {**base, "spo2_scale": scale}
        filled = [
            score(NEWS2, {**inputs, **dict(zip(missing, values, strict=True))})
            for values in itertools.product(*(CANDIDATES[name] for name in missing))
        ]
        found = score(NEWS2, {**inputs, **dict.fromkeys(missing)})
        least, most = min(one.total_min for one in filled), max(one.total_max for one in filled)
        # Parts are bounded each for itself: the bounds hold, and are met where no part depends on another's input.
        assert found.total_min <= least <= most <= found.total_max
        if scale == 1:
            assert (found.total_min, found.total_max) == (least, most)
        assert found.total is None
        if found.risk is not None:
            assert {one.risk for one in filled} == {found.risk}


NAMED = {name for definition in SCORES.values() for name in definition.inputs}


def test_every_input_has_a_staleness_limit_and_a_signal_that_gives_it() -> None:
    assert set(STALE_AFTER) == {source.input for source in INPUT_OF_SIGNAL.values()} == NAMED
    assert set(INPUT_OF_SIGNAL) <= set(signal_by_name())
    assert NAMED - set(signal_by_name()) == {"on_oxygen"}
    assert all(limit > timedelta(0) for limit in STALE_AFTER.values())


@pytest.mark.parametrize(
    ("signal", "value", "code", "expected"),
    [
        ("heart_rate", 72.0, None, ("heart_rate", 72.0)),
        ("respiratory_rate", 16, None, ("respiratory_rate", 16)),
        ("spo2", 97.0, None, ("spo2", 97.0)),
        ("oxygen_saturation", 96.0, None, ("spo2", 96.0)),
        ("systolic_bp", 120.0, None, ("systolic_bp", 120.0)),
        ("temperature", 37.1, None, ("temperature", 37.1)),
        ("consciousness", None, "V", ("consciousness", "V")),
        ("gcs", 15.0, None, ("gcs", 15.0)),
        ("gcs_eye", 4.0, None, ("gcs_eye", 4.0)),
        ("gcs_verbal", 1.0, None, ("gcs_verbal", 1.0)),
        ("gcs_verbal", 0.0, None, None),
        ("gcs_motor", 6.0, None, ("gcs_motor", 6.0)),
        ("paco2", 31.0, None, ("paco2", 31.0)),
        ("wbc", 0.0, None, ("wbc", 0.0)),
        ("bands_percent", 11.0, None, ("bands_percent", 11.0)),
        ("spo2_scale", 2.0, None, ("spo2_scale", 2.0)),
        ("fio2", 21.0, None, ("on_oxygen", False)),
        ("fio2", 21.01, None, ("on_oxygen", True)),
        ("oxygen_flow", 0.0, None, ("on_oxygen", False)),
        ("oxygen_flow", 0.5, None, ("on_oxygen", True)),
        # What gives no input, or none that can be used.
        ("glucose", 90.0, None, None),
        ("pulse_rate", 72.0, None, None),
        ("no_such_signal", 1.0, None, None),
        ("heart_rate", None, None, None),
        ("heart_rate", math.nan, None, None),
        ("fio2", math.inf, None, None),
        ("fio2", None, None, None),
        ("spo2_scale", 1.5, None, None),
        ("consciousness", None, "B", None),
        ("consciousness", None, None, None),
        ("consciousness", 1.0, None, None),
        ("heart_rate", None, "A", None),
    ],
)  # fmt: skip
def test_a_value_of_a_signal_is_a_value_of_an_input(signal, value, code, expected) -> None:
    assert input_of(signal, value, code) == expected


@pytest.mark.parametrize("signal", [name for name, source in INPUT_OF_SIGNAL.items() if source.plain])
def test_a_plain_input_is_the_number_of_its_signal(signal: str) -> None:
    assert input_of(signal, 2.5, None) == (INPUT_OF_SIGNAL[signal].input, 2.5)
    assert input_of(signal, None, "A") is None
