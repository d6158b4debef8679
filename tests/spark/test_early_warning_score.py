"""Spark scores as Python does, whatever is missing and at every bound."""

import itertools
import math

import pytest

from lakehouse.scores import INPUT_OF_SIGNAL, SCORES, Bands, Outside, Score, input_of, input_sql, score
from lakehouse.transforms.early_warning_score import scored
from lakehouse.vocabulary import CONSCIOUSNESS, signals

TYPES = {"consciousness": "STRING", "on_oxygen": "BOOLEAN"}
CODED = {"consciousness": ("A", "C", "U", None), "on_oxygen": (True, False, None), "spo2_scale": (1.0, 2.0, None)}


def values_of(definition, name: str) -> tuple:
    """Every bound of an input and its neighbours, and what is no value."""
    if name in CODED:
        return CODED[name]
    found: set[float] = set()
    for part in definition.parts:
        for reading in part.every:
            if reading.name == name and isinstance(reading.rule, Bands):
                found |= {bound + step for bound, _ in reading.rule.steps if bound is not None for step in (0, 0.05, 1)}
            if reading.name == name and isinstance(reading.rule, Outside):
                bounds = [bound for bound in (reading.rule.below, reading.rule.above) if bound is not None]
                found |= {bound + step for bound in bounds for step in (-0.1, 0, 0.1)}
    return (*sorted(found), None, math.nan, math.inf)


@pytest.mark.parametrize("name", list(Score))
def test_spark_and_python_score_the_same(frame, name):
    definition = SCORES[name]
    usual = {n: values_of(definition, n)[0] for n in definition.inputs}
    sets = [usual, dict.fromkeys(definition.inputs)]
    for first, second in itertools.combinations(definition.inputs, 2):
        pairs = itertools.product(values_of(definition, first), values_of(definition, second))
        sets += [{**usual, first: a, second: b} for a, b in pairs]
    ddl = ", ".join(f"{n} {TYPES.get(n, 'DOUBLE')}" for n in definition.inputs)
    rows = frame([(i, *(one[n] for n in definition.inputs)) for i, one in enumerate(sets)], f"i INT, {ddl}")

    found = scored(rows, definition, {n: n for n in definition.inputs}).orderBy("i").collect()

    expected = [score(definition, one) for one in sets]
    assert [(row.total, row.total_min, row.total_max, row.risk, row.parts.asDict()) for row in found] == [
        (one.total, one.total_min, one.total_max, one.risk, dict(one.parts)) for one in expected
    ]
    assert len({one.total for one in expected}) > 3


def test_an_input_that_the_rows_do_not_have_is_missing(frame):
    rows = frame([(16.0, 98.0)], "respiratory_rate DOUBLE, spo2 DOUBLE")
    definition = SCORES[Score.NEWS2]
    (row,) = scored(rows, definition, {"respiratory_rate": "respiratory_rate", "spo2": "spo2"}).collect()
    known = score(definition, {"respiratory_rate": 16.0, "spo2": 98.0})
    assert (row.total, row.total_min, row.total_max, row.risk) == (None, 0, 14, None)
    assert (known.total_min, known.total_max) == (0, 14)
    assert row.parts.asDict() == dict(known.parts)


def test_spark_and_python_take_the_same_inputs_from_every_signal(frame):
    numbers = (0.0, 0.5, 1.0, 1.5, 2.0, 15.0, 20.99, 21.0, 21.01, 40.0, math.nan, math.inf, -math.inf, None)
    values = [(number, None) for number in numbers] + [(None, code) for code in (*CONSCIOUSNESS, "B", "a")]
    cases = [(signal, *value) for signal in signals() for value in values]
    rows = frame(
        [(n, case[0].code, *case[1:]) for n, case in enumerate(cases)], "n INT, code STRING, v DOUBLE, c STRING"
    )

    taken = rows.orderBy("n").selectExpr(*input_sql("code", "v", "c")).collect()

    def as_python(name, number, code):
        if (number, code) == (None, None):
            return None
        return name, (bool(number) if name == "on_oxygen" else number) if code is None else code

    expected = [input_of(signal.name, number, code) for signal, number, code in cases]
    assert [as_python(*row) for row in taken] == expected
    assert {found[0] for found in expected if found} == {source.input for source in INPUT_OF_SIGNAL.values()}
