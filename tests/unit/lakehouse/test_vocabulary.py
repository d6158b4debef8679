import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.vocabulary import (
    NO_VALUE_SENTINELS,
    converted,
    rows,
    signal_by_code,
    signal_by_name,
    signals,
    sources,
    unit_by_text,
    units,
)

FILES = (
    "signal.csv",
    "unit.csv",
    "mimic_iii_item.csv",
    "mimic_iii_lab_item.csv",
    "mimic_iv_item.csv",
    "mimic_iv_lab_item.csv",
    "monitor_csv_column.csv",
)


def test_the_signals_are_those_of_the_clinical_reference():
    assert [(s.code, s.name, s.unit) for s in signals()] == [
        ("8867-4", "heart_rate", "/min"),
        ("8889-8", "pulse_rate", "/min"),
        ("9279-1", "respiratory_rate", "/min"),
        ("59408-5", "spo2", "%"),
        ("2708-6", "oxygen_saturation", "%"),
        ("8480-6", "systolic_bp", "mm[Hg]"),
        ("8462-4", "diastolic_bp", "mm[Hg]"),
        ("8478-0", "mean_bp", "mm[Hg]"),
        ("8310-5", "temperature", "Cel"),
        ("3150-6", "fio2", "%"),
        ("3151-8", "oxygen_flow", "L/min"),
        ("67775-7", "consciousness", None),
        ("9269-2", "gcs", "{score}"),
        ("9267-6", "gcs_eye", "{score}"),
        ("9270-0", "gcs_verbal", "{score}"),
        ("9268-4", "gcs_motor", "{score}"),
        ("2339-0", "glucose", "mg/dL"),
        ("2019-8", "paco2", "mm[Hg]"),
        ("6690-2", "wbc", "10*3/uL"),
        ("26508-2", "bands_percent", "%"),
        ("wardhouse-spo2-scale", "spo2_scale", "{scale}"),
        ("wardhouse-deterioration-risk", "deterioration_risk", "%"),
    ]


def test_codes_names_and_unit_texts_are_unique():
    assert len(signal_by_code()) == len(signal_by_name()) == len(signals())
    assert len({unit.text for unit in units()}) == len(units())


def test_every_signal_is_either_coded_or_has_a_unit_that_some_text_gives():
    given = {unit.unit for unit in units()}
    assert [s.name for s in signals() if s.coded is not (s.unit is None) or (s.unit and s.unit not in given)] == []


def test_every_unit_is_given_by_its_own_name_without_conversion():
    own = {(unit.text, unit.unit) for unit in units() if (unit.scale, unit.offset) == (1, 0)}
    assert [unit.unit for unit in units() if (unit.unit.lower(), unit.unit) not in own] == []


def test_unit_texts_can_be_looked_up_in_lower_case_without_spaces_and_stand_in_a_sql_literal():
    assert [u.text for u in units() if u.text != u.text.strip().lower() or "'" in u.text or "\\" in u.text] == []


def test_no_signal_has_a_plausible_value_that_means_no_value():
    def plausible(signal, value: float) -> bool:
        return (
            (signal.above is None or value > signal.above)
            and (signal.at_least is None or value >= signal.at_least)
            and (signal.below is None or value < signal.below)
            and (signal.at_most is None or value <= signal.at_most)
        )

    numeric = [signal for signal in signals() if not signal.coded]
    # The largest 24-bit number is no glucose either, but nothing bounds a glucose from above.
    bounded = [s for s in numeric if s.at_most is not None or s.below is not None]
    assert {s.name for s in numeric} - {s.name for s in bounded} == {"glucose"}
    assert [(s.name, v) for s in bounded for v in NO_VALUE_SENTINELS if plausible(s, v)] == []
    assert [s.name for s in numeric if s.zero_is_no_value and plausible(s, 0)] == []


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [("kpa", 16, 120.01), ("degf", 98.6, 37.0), ("[degf]", -40, -40.0), ("1", 0.21, 21.0), ("bpm", 72, 72.0)],
)
def test_conversions_are_right(text, value, expected):
    (unit,) = [unit for unit in units() if unit.text == text]
    assert math.isclose(round(value * unit.scale + unit.offset, 2), expected)


@pytest.mark.parametrize("file", FILES)
def test_every_row_says_where_it_is_from(file):
    assert [row for row in rows(file) if not row["provenance"]] == []


@pytest.mark.parametrize("file", FILES[2:])
def test_every_mapped_item_has_a_known_signal_and_a_unit_text_that_gives_its_unit(file):
    given = {unit.text: unit.unit for unit in units()}
    wrong = [
        row
        for row in rows(file)
        if row["code"] not in signal_by_code() or given.get(row["unit"].lower()) != signal_by_code()[row["code"]].unit
    ]
    assert wrong == []


def test_the_clocks_of_de_identified_sources_are_known_to_be_shifted():
    assert {source.name for source in sources() if source.shifted} == {"monitor-csv", "mimic-iii", "mimic-iv"}


readings = st.floats(-1_000_000, 1_000_000)


@given(unit=st.sampled_from(units()), low=readings, high=readings)
def test_a_unit_keeps_the_order_of_values_and_can_be_undone(unit, low, high):
    low, high = sorted((low, high))
    (first, name), (last, _) = converted(low, unit.text), converted(high, f" {unit.text.upper()} ")
    assert name == unit.unit
    assert first <= last
    # A converted value keeps two decimals: undone, it is off by half of the last one at most.
    assert (first - unit.offset) / unit.scale == pytest.approx(low, abs=0.0051 / unit.scale)


@given(text=st.text() | st.none(), value=readings | st.none())
def test_a_text_that_is_no_declared_unit_leaves_the_value_as_it_is_and_without_a_unit(text, value):
    if (text or "").strip().lower() in unit_by_text():
        return
    assert converted(value, text) == (value, None)
