"""What rules of every kind find in a patient's messages, through the engine."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerting.detection import Scorer
from lakehouse.scores import SCORES, Score, Value, score
from lakehouse.vocabulary import CONSCIOUSNESS
from tests.fixtures.bedside import Bedside, Transition, ms, pack_of, rule

TECHNICAL: dict[str, Any] = {"category": "technical", "priority": "low"}


def limit(rule_id: str = "heart-rate-high", **fields: Any) -> dict[str, Any]:
    declared = {"signal": "heart_rate", "direction": "above", "limit": 120, "clear_margin": 5}
    return rule(rule_id, "limit", **{**declared, **fields})


def news2(at_least: int = 5, **fields: Any) -> dict[str, Any]:
    return rule("news2", "score", score="news2", at_least=at_least, **fields)


FALLING = rule(
    "falling", "rate", signal="systolic_bp", direction="fall", change=40, window_s=1800, clear_margin=10, delay_s=0
)
SHOCK = rule(
    "shock",
    "combination",
    conditions=[
        {"signal": "heart_rate", "direction": "above", "limit": 110, "clear_margin": 5},
        {"signal": "systolic_bp", "direction": "below", "limit": 100, "clear_margin": 5},
    ],
    within_s=900,
)
SILENT = rule("silent", "silence", after_s=60, **TECHNICAL)
SPO2_SILENT = rule("spo2-silent", "silence", signal="spo2", after_s=120, **TECHNICAL)
FLAT = rule("flat", "flat_line", signal="heart_rate", after_s=60, readings=10, **TECHNICAL)
PROBE_OFF = rule("probe-off", "no_value", signal="spo2", delay_s=30, **TECHNICAL)
LEAD_OFF = rule("lead-off", "device", measure="lead_off", **TECHNICAL)
BATTERY = rule("battery", "device", measure="battery", limit=20, clear_margin=10, **TECHNICAL)
SKEW = rule("skew", "device", measure="clock_skew", limit=120, clear_margin=60, delay_s=300, **TECHNICAL)

OPENED, CLEARED = ("active", "breach"), ("resolved", "cleared")


def of(rule_id: str, *steps: tuple[str, str]) -> list[Transition]:
    return [(rule_id, *step) for step in steps]


def steadily(ward: Bedside, first: int, last: int, **fields: Any) -> list[Transition]:
    """A message each second, from the first second to before the last."""
    return [found for at in range(first, last) for found in ward.hears(at, **fields)]


# Limits


def test_a_limit_opens_beyond_it_stays_within_its_margin_and_clears_on_the_good_side() -> None:
    ward = Bedside(pack_of(limit()))
    values = [120.0, 120.1, 119.0, 115.1, None, 115.0, 118.0]
    assert [ward.hears(at, heart_rate=value) for at, value in enumerate(values)] == [
        [],
        of("heart-rate-high", OPENED),
        [],
        [],
        [],
        of("heart-rate-high", CLEARED),
        [],
    ]


# Scores


def test_a_score_opens_when_the_least_that_it_can_be_reaches_its_points() -> None:
    ward = Bedside(pack_of(news2()))
    # 3 and 2 points; what is not known has none.
    assert ward.hears(0, respiratory_rate=26.0) == []
    assert ward.hears(1, oxygen_flow=2.0) == of("news2", OPENED)
    (event,) = ward.events
    assert (event["value"], event["limit_value"], event.get("code")) == (5.0, 5.0, None)
    assert event["readings"] == [
        {"code": "9279-1", "value": 26.0, "observed_at": ms(0), "message_id": "m1"},
        {"code": "3151-8", "value": True, "observed_at": ms(1), "message_id": "m2"},
    ]


def test_a_score_stays_open_in_its_margin_and_clears_below_it() -> None:
    ward = Bedside(pack_of(news2(clear_margin=1)))
    assert ward.hears(0, respiratory_rate=26.0, heart_rate=125.0) == of("news2", OPENED)
    assert ward.hears(1, heart_rate=100.0) == []  # 4 points
    assert ward.hears(2, heart_rate=80.0) == of("news2", CLEARED)


def test_an_input_that_grows_stale_or_is_not_sent_any_more_clears_no_score() -> None:
    ward = Bedside(pack_of(news2()))
    assert ward.hears(0, respiratory_rate=26.0, heart_rate=125.0) == of("news2", OPENED)
    hours = 3600
    for at in (1, 3 * hours, 12 * hours):
        assert ward.hears(at, temperature=37.0) == []
        assert ward.hears(at + 1, heart_rate=None, respiratory_rate=None) == []
    assert ward.hears(13 * hours, respiratory_rate=16.0) == of("news2", CLEARED)


def test_a_stale_input_opens_no_score() -> None:
    ward = Bedside(pack_of(news2()))
    assert ward.hears(0, respiratory_rate=26.0) == []
    assert ward.hears(2 * 3600 + 1, heart_rate=125.0) == []
    assert ward.hears(2 * 3600 + 2, respiratory_rate=26.0) == of("news2", OPENED)


def test_consciousness_counts_by_its_code_and_a_code_that_is_none_does_not() -> None:
    ward = Bedside(pack_of(news2(at_least=3)))
    assert ward.hears(0, consciousness="A") == []
    assert ward.hears(1, consciousness="X") == []
    assert ward.hears(2, consciousness="V") == of("news2", OPENED)
    assert ward.hears(3, consciousness="A") == of("news2", CLEARED)


# Values charted one by one, all with the instant of the round

ROUND = {
    "heart_rate": 80.0,
    "respiratory_rate": 26.0,
    "spo2": 88.0,
    "systolic_bp": 120.0,
    "temperature": 37.0,
    "oxygen_flow": 0.0,
}


def charted(ward: Bedside, at: float, **values: Any) -> list[Transition]:
    """One message a value, each of the same instant, a second between them at the broker."""
    return [
        found
        for number, (name, value) in enumerate({**ROUND, **values}.items())
        for found in ward.hears(at, received=at + number, device_id="chart", **{name: value})
    ]


def test_a_score_that_is_charted_value_by_value_is_judged_by_all_of_the_round() -> None:
    ward = Bedside(pack_of(news2(at_least=6, resolve_after_s=300)))
    assert charted(ward, 0) == of("news2", OPENED)
    # Respiration and saturation come after a heart rate that alone would clear it.
    hours = 4 * 3600
    assert charted(ward, hours, heart_rate=70.0) == []
    assert ward.ticks(hours + 600) == []
    assert charted(ward, 2 * hours, respiratory_rate=16.0, spo2=97.0) == []
    assert ward.ticks(2 * hours + 600) == of("news2", CLEARED)


def test_a_score_that_the_first_value_of_a_round_clears_opens_again_by_the_last() -> None:
    ward = Bedside(pack_of(news2(at_least=3)))
    assert ward.hears(0, heart_rate=135.0) == of("news2", OPENED)
    assert charted(ward, 3600) == of("news2", CLEARED, OPENED)


def test_a_value_charted_after_a_newer_one_of_another_signal_counts_for_the_score() -> None:
    ward = Bedside(pack_of(news2()))
    assert ward.hears(60, heart_rate=125.0) == []
    assert ward.hears(0, received=120, respiratory_rate=26.0) == of("news2", OPENED)


def test_a_value_that_is_older_than_the_newest_of_its_signal_says_nothing_of_now() -> None:
    ward = Bedside(pack_of(news2()))
    assert ward.hears(60, heart_rate=80.0, respiratory_rate=26.0) == []
    assert ward.hears(0, received=120, heart_rate=125.0) == []


# Scorer


def inputs_of(number: Score) -> st.SearchStrategy[dict[str, Value]]:
    """Any inputs of a score: numbers as a monitor or a pen gives them, within their bands and far from them."""
    numbers = st.one_of(st.none(), st.integers(0, 240), st.floats(0, 240).map(lambda value: round(value, 2)))
    own: dict[str, st.SearchStrategy[Any]] = {
        "consciousness": st.sampled_from([None, *CONSCIOUSNESS, "X"]),
        "on_oxygen": st.sampled_from([None, True, False]),
        "spo2_scale": st.sampled_from([None, 1.0, 2.0]),
        "temperature": st.one_of(st.none(), st.floats(33, 42).map(lambda value: round(value, 2))),
        "spo2": st.one_of(st.none(), st.floats(80, 100)),
        "gcs": st.integers(3, 15),
    }
    wanted = SCORES[number].inputs
    return st.fixed_dictionaries({}, optional={name: own.get(name, numbers) for name in wanted})


@pytest.mark.parametrize("name", list(Score))
@settings(deadline=None)
@given(data=st.data())
def test_a_scorer_gives_what_the_score_gives_for_inputs_that_it_has_seen_and_others(
    name: Score, data: st.DataObject
) -> None:
    scorer = Scorer(SCORES[name])
    for inputs in data.draw(st.lists(inputs_of(name), max_size=20)):
        assert scorer(inputs) == score(SCORES[name], inputs)
        assert scorer({**inputs, "glucose": 5.0}) == score(SCORES[name], inputs)


# Rates


def test_a_rate_opens_when_the_change_within_the_window_is_reached_and_clears_when_it_is_less() -> None:
    ward = Bedside(pack_of(FALLING))
    pressures = {0: 150.0, 300: 140.0, 600: 111.0, 900: 110.0, 1200: 115.0, 1500: 121.0}
    assert {at: ward.hears(at, systolic_bp=value) for at, value in pressures.items()} == {
        0: [],
        300: [],
        600: [],
        900: of("falling", OPENED),
        1200: [],
        1500: of("falling", CLEARED),
    }
    assert [(event["value"], event["limit_value"]) for event in ward.events] == [(40.0, 40.0), (29.0, 40.0)]


def test_a_change_over_longer_than_the_window_and_one_the_other_way_are_none() -> None:
    ward = Bedside(pack_of(FALLING))
    assert [ward.hears(at, systolic_bp=150.0 - at / 100) for at in range(0, 7200, 300)] == [[]] * 24
    rising = Bedside(pack_of(FALLING))
    assert [rising.hears(at, systolic_bp=80.0 + at / 10) for at in range(0, 1200, 300)] == [[]] * 4


def test_a_gap_longer_than_the_window_clears_no_rate() -> None:
    ward = Bedside(pack_of(FALLING))
    assert ward.hears(0, systolic_bp=150.0) + ward.hears(300, systolic_bp=90.0) == of("falling", OPENED)
    assert ward.hears(300 + 7200, systolic_bp=90.0) == []
    assert ward.hears(600 + 7200, systolic_bp=90.0) == of("falling", CLEARED)


def test_a_rate_is_found_of_a_device_whose_clock_is_behind_that_of_another() -> None:
    ward = Bedside(pack_of(FALLING))
    found = []
    for at in range(0, 1200, 60):
        found += ward.hears(at + 5, received=at, heart_rate=80.0, device_id="ahead")
        found += ward.hears(at, systolic_bp=150.0 if at < 600 else 100.0, device_id="behind")
    assert found == of("falling", OPENED)


# Combinations


def test_a_combination_opens_when_all_hold_and_clears_when_one_is_clear() -> None:
    ward = Bedside(pack_of(SHOCK))
    assert ward.hears(0, heart_rate=115.0) == []
    assert ward.hears(1, systolic_bp=95.0) == of("shock", OPENED)
    assert ward.hears(2, heart_rate=108.0) == []  # in the margin
    assert ward.hears(3, heart_rate=105.0) == of("shock", CLEARED)
    assert [reading["value"] for reading in ward.events[0]["readings"]] == [115.0, 95.0]


def test_a_combination_takes_no_value_older_than_its_window_and_none_clears_it_by_growing_old() -> None:
    ward = Bedside(pack_of(SHOCK))
    assert ward.hears(0, systolic_bp=95.0) == []
    assert ward.hears(901, heart_rate=115.0) == []
    assert ward.hears(902, systolic_bp=95.0) == of("shock", OPENED)
    assert [ward.hears(at, heart_rate=115.0) for at in (903, 9000)] == [[], []]
    assert ward.hears(9001, systolic_bp=120.0) == of("shock", CLEARED)


def test_fewer_conditions_than_all_are_enough_where_the_rule_says_so() -> None:
    declared = {**SHOCK, "at_least": 2}
    declared["conditions"] = [*SHOCK["conditions"], {"signal": "spo2", "direction": "below", "limit": 92}]
    ward = Bedside(pack_of(declared))
    assert ward.hears(0, heart_rate=115.0, spo2=98.0) == []
    assert ward.hears(1, spo2=91.0) == of("shock", OPENED)
    assert ward.hears(2, heart_rate=80.0) == of("shock", CLEARED)


# Silence


def test_a_device_that_came_often_and_falls_silent_is_missed_until_it_is_heard_again() -> None:
    ward = Bedside(pack_of(SILENT))
    steadily(ward, 0, 30, heart_rate=80.0)
    assert ward.ticks(88.9) == []
    assert ward.ticks(89.5) == of("silent", OPENED)
    assert ward.ticks(90) == []
    assert [event["observed_at"] for event in ward.events] == [ms(89)]
    assert ward.hears(100, heart_rate=None) == of("silent", CLEARED)


def test_a_signal_without_a_usable_value_is_silent_though_its_device_is_not() -> None:
    ward = Bedside(pack_of(SILENT, SPO2_SILENT))
    steadily(ward, 0, 30, spo2=97.0, heart_rate=80.0)
    steadily(ward, 30, 149, spo2=None, heart_rate=80.0)
    assert ward.ticks(148.9) == []
    assert ward.ticks(149) == of("spo2-silent", OPENED)
    assert ward.hears(150, spo2=None, heart_rate=80.0) == []
    assert ward.hears(151, spo2=96.0) == of("spo2-silent", CLEARED)


@pytest.mark.parametrize("between", [0.0, 0.01, 1, 15])
def test_what_is_charted_in_rounds_is_not_missed_between_them(between: float) -> None:
    ward = Bedside(pack_of(SILENT))
    found = []
    for hour in range(6):
        for number in range(9):
            at = hour * 3600 + number * between
            found += ward.hears(at, temperature=37.0, device_id="chart")
        found += [each for after in range(1, 60) for each in ward.ticks(hour * 3600 + 9 * between + after * 59)]
    assert found == []


def test_ten_messages_a_second_are_missed_as_one_a_second_is() -> None:
    ward = Bedside(pack_of(SILENT))
    for tenth in range(300):
        ward.hears(tenth / 10, heart_rate=80.0)
    assert ward.ticks(89.8) == []
    assert ward.ticks(89.9) == of("silent", OPENED)


def test_a_message_each_half_minute_is_not_missed_after_one_minute_but_one_each_twenty_seconds_is() -> None:
    for gap, expected in ((30, []), (20, of("silent", OPENED))):
        ward = Bedside(pack_of(SILENT))
        for number in range(20):
            ward.hears(number * gap, heart_rate=80.0)
        assert ward.ticks(20 * gap + 100) == expected


def test_a_de_identified_source_is_never_missed() -> None:
    ward = Bedside(pack_of(SILENT))
    steadily(ward, 0, 30, heart_rate=80.0, source="mimic-iv")
    assert ward.ticks(1000) == []


def test_one_silence_is_found_once_even_where_its_alert_was_closed_meanwhile() -> None:
    ward = Bedside(pack_of(SILENT))
    steadily(ward, 0, 30, heart_rate=80.0)
    assert ward.ticks(100) == of("silent", OPENED)
    ward.changes_to(pack_of(limit(), version=2), 101)
    assert ward.moved() == of("silent", ("resolved", "rule_withdrawn"))
    ward.changes_to(pack_of(SILENT), 102)
    list(ward.engine.take_touched())
    assert ward.ticks(103) == []
    assert (ward.engine.counts.late, list(ward.engine.take_touched())) == (0, [])


def test_nobody_is_told_of_the_silence_of_a_patient_who_left_a_day_ago() -> None:
    ward = Bedside(pack_of(SILENT))
    steadily(ward, 0, 30, heart_rate=80.0)
    assert ward.ticks(30 + 86_400) == []
    assert ward.told == []


def test_the_silence_of_a_patient_who_left_is_closed_once_and_not_looked_at_again() -> None:
    ward = Bedside(pack_of(SILENT))
    steadily(ward, 0, 30, heart_rate=80.0)
    assert ward.ticks(100) == of("silent", OPENED)
    assert [ward.ticks(86_430 + after) for after in (0, 1)] == [of("silent", ("resolved", "abandoned")), []]
    list(ward.engine.take_touched())
    assert ward.ticks(86_432) == []
    assert (ward.engine.counts.late, list(ward.engine.take_touched())) == (0, [])


# Flat lines


def test_a_value_that_does_not_change_is_a_flat_line_until_it_does() -> None:
    ward = Bedside(pack_of(FLAT))
    assert steadily(ward, 0, 60, heart_rate=80.0) == []
    assert ward.hears(60, heart_rate=80.0) == of("flat", OPENED)
    assert ward.hears(61, heart_rate=80.0) + ward.hears(62, heart_rate=None) == []
    assert ward.hears(63, heart_rate=81.0) == of("flat", CLEARED)


def test_a_value_that_is_charted_the_same_is_no_flat_line() -> None:
    ward = Bedside(pack_of(FLAT))
    assert [ward.hears(hour * 3600, heart_rate=80.0) for hour in range(9)] == [[]] * 9


# Probes and devices


def test_a_probe_that_is_off_is_found_by_its_sentinel_and_a_value_clears_it() -> None:
    ward = Bedside(pack_of(PROBE_OFF))
    assert ward.hears(0, spo2=None) == of("probe-off", ("pending", "breach"))
    assert steadily(ward, 1, 30, spo2=None) == []
    assert ward.hears(30, spo2=None) == of("probe-off", ("active", "sustained"))
    assert ward.hears(31, heart_rate=80.0) == []
    assert ward.hears(32, spo2=97.0) == of("probe-off", CLEARED)


def test_a_value_that_is_not_plausible_neither_says_that_the_probe_is_off_nor_that_it_is_on() -> None:
    ward = Bedside(pack_of(PROBE_OFF))
    assert ward.hears(0, spo2=None, fault="out_of_range") == []
    assert ward.hears(1, spo2=None) == of("probe-off", ("pending", "breach"))
    assert ward.hears(2, spo2=None, fault="out_of_range") == []


def test_a_low_battery_is_found_and_clears_when_it_is_charged() -> None:
    ward = Bedside(pack_of(BATTERY))
    levels = [None, 21.0, 19.0, 25.0, None, 30.0]
    assert [ward.hears(at, battery=level) for at, level in enumerate(levels)] == [
        [],
        [],
        of("battery", OPENED),
        [],
        [],
        of("battery", CLEARED),
    ]


def test_a_lead_that_is_off_is_found_and_clears_when_it_is_on() -> None:
    ward = Bedside(pack_of(LEAD_OFF))
    assert [ward.hears(at, lead_off=off) for at, off in enumerate([False, True, True, False])] == [
        [],
        of("lead-off", OPENED),
        [],
        of("lead-off", CLEARED),
    ]


HOURS = 3 * 3600


@pytest.mark.parametrize("off", [HOURS, -HOURS, 200, -200])
def test_a_device_whose_clock_is_off_is_found_whichever_way(off: int) -> None:
    ward = Bedside(pack_of(SKEW))
    found = [each for at in range(400) for each in ward.hears(at + off, received=at, heart_rate=80.0)]
    pending, active = found
    assert (pending, active) == (("skew", "pending", "breach"), ("skew", "active", "sustained"))
    assert ward.hears(401, heart_rate=80.0) == of("skew", CLEARED)


def test_what_is_charted_late_says_nothing_of_a_clock() -> None:
    ward = Bedside(pack_of(SKEW))
    found = []
    for hour in range(6):
        for number in range(6):
            at = hour * 3600 + number * 10
            found += ward.hears(at, received=at + 1200, heart_rate=80.0)
        found += ward.ticks(hour * 3600 + 1200 + 1000)
    assert found == []


def test_a_de_identified_source_has_no_clock_that_could_be_off() -> None:
    ward = Bedside(pack_of(SKEW))
    assert [ward.hears(at - 10**9, received=at, source="mimic-iii") for at in range(400)] == [[]] * 400


@pytest.mark.parametrize("off", [HOURS, -HOURS])
def test_what_a_device_says_of_itself_counts_by_the_brokers_clock(off: int) -> None:
    ward = Bedside(pack_of(PROBE_OFF, LEAD_OFF, BATTERY))
    assert ward.hears(off, received=0, spo2=None, lead_off=True, battery=5.0) == [
        *of("lead-off", OPENED),
        *of("battery", OPENED),
        *of("probe-off", ("pending", "breach")),
    ]
    assert ward.hears(off + 30, received=30, spo2=None, lead_off=True) == of("probe-off", ("active", "sustained"))
    assert ward.hears(31, spo2=97.0, battery=90.0) == [
        *of("lead-off", CLEARED),
        *of("battery", CLEARED),
        *of("probe-off", CLEARED),
    ]


def test_a_message_hours_ahead_breaks_nothing_that_comes_after_it() -> None:
    ward = Bedside(pack_of(limit(), news2(), SHOCK, FLAT, SILENT))
    # The alert flow leaves no value in what is more than minutes ahead.
    ahead: dict[str, Any] = {"heart_rate": None, "systolic_bp": None, "fault": "clock_ahead"}
    steadily(ward, 0, 30, heart_rate=80.0, systolic_bp=120.0)
    assert ward.hears(HOURS, received=30, **ahead) == []
    assert ward.hears(31, heart_rate=131.0, systolic_bp=88.0) == [
        *of("heart-rate-high", OPENED),
        *of("news2", OPENED),
        *of("shock", OPENED),
    ]
    assert ward.hears(HOURS, received=32, **ahead) == []
    assert ward.hears(33, heart_rate=80.0, systolic_bp=120.0) == [
        *of("heart-rate-high", CLEARED),
        *of("news2", CLEARED),
        *of("shock", CLEARED),
    ]
    assert ward.ticks(93) == of("silent", OPENED)
