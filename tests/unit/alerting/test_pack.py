import textwrap
from pathlib import Path

import pytest

from alerting import pack
from alerting.kinds import LimitRule, ScoreRule, UnitLimit
from alerting.pack import Notification, PackError, load, parse

RULE = """\
  - id: spo2-low
    kind: limit
    title: SpO2 low
    signal: spo2
    direction: below
    limit: 90
    clear_margin: 2
    priority: high
    category: physiological
    rationale: because
    reference: a book
"""
HEADER = "name: small\nversion: 3\ntitle: A small pack\nrules:\n"


def error_of(text: str) -> str:
    with pytest.raises(PackError) as caught:
        parse(text, "small.yaml")
    return str(caught.value)


def test_a_pack_is_read_whole() -> None:
    unit = "    units:\n      RESP:\n        limit: 86\n        clear_margin: 2\n        rationale: target 88-92\n"
    assert parse(HEADER + RULE + unit, "small.yaml").model_dump() == {
        "name": "small",
        "version": 3,
        "title": "A small pack",
        "notification": Notification().model_dump(),
        "rules": (
            LimitRule(
                id="spo2-low",
                kind="limit",
                title="SpO2 low",
                signal="spo2",
                direction="below",
                limit=90,
                clear_margin=2,
                priority="high",
                category="physiological",
                rationale="because",
                reference="a book",
                units={"RESP": UnitLimit(limit=86, clear_margin=2, rationale="target 88-92")},
            ).model_dump(),
        ),
    }


def test_the_default_pack_holds_the_published_adult_limits() -> None:
    adult = load("adult")
    assert adult.label == "adult@2"
    scores = [rule for rule in adult.rules if isinstance(rule, ScoreRule)]
    assert {(rule.score, rule.at_least, rule.in_one_part) for rule in scores} == {
        ("news2", 7, False),
        ("news2", 5, False),
        ("news2", 3, True),
    }
    assert {(rule.signal, rule.direction, rule.limit) for rule in adult.limits} == {
        ("heart_rate", "above", 120),
        ("heart_rate", "below", 40),
        ("spo2", "below", 90),
        ("oxygen_saturation", "below", 90),
        ("temperature", "above", 38.5),
        ("temperature", "below", 35),
        ("respiratory_rate", "above", 30),
        ("respiratory_rate", "below", 8),
        ("systolic_bp", "above", 180),
        ("systolic_bp", "below", 90),
    }


def test_every_pack_that_comes_with_the_project_loads() -> None:
    assert [load(name).name for name in pack.names()] == list(pack.names())


def test_a_pack_is_found_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(HEADER + RULE)
    assert load(tmp_path / "small.yaml").label == load(str(tmp_path / "small.yaml")).label == "small@3"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("limit: 90\n", "limit: ninety\n"),
        ("limit: 90\n", "limit: '90'\n"),
        ("limit: 90\n", "limit: .nan\n"),
        ("limit: 90\n", "limit: true\n"),
        ("priority: high", "priority: urgent"),
        ("signal: spo2", "signal: spo3"),
        ("signal: spo2", "signal: consciousness"),
        ("direction: below", "direction: under"),
        ("kind: limit", "kind: magic"),
        ("clear_margin: 2", "clear_margin: -2"),
        ("category: physiological", "category: other"),
    ],
)
def test_an_error_names_file_rule_and_field(wrong: str, said: str) -> None:
    field = said.split(":")[0]
    assert error_of(HEADER + RULE.replace(wrong, said)).startswith(f"small.yaml: rule spo2-low: {field}: ")


def test_an_unknown_field_is_an_error() -> None:
    assert error_of(HEADER + RULE + "    sound: loud\n") == (
        "small.yaml: rule spo2-low: sound: Extra inputs are not permitted"
    )


def test_a_missing_field_is_an_error_and_a_rule_without_id_is_named_by_its_place() -> None:
    assert error_of(
        HEADER + RULE.replace("id: spo2-low", "title: SpO2 low").replace("\n    title: SpO2 low", "", 1)
    ) == ("small.yaml: rule number 1: id: Field required")


def test_a_field_given_twice_is_an_error() -> None:
    assert "given twice: limit" in error_of(HEADER + RULE + "    limit: 80\n")


def test_an_alert_that_could_never_clear_is_an_error() -> None:
    assert error_of(HEADER + RULE.replace("limit: 90", "limit: 99")) == (
        "small.yaml: rule spo2-low: limit 99 clears at 101, but spo2 is plausible above 0 and at most 100"
    )


def test_a_unit_is_held_to_the_same_checks() -> None:
    unit = "    units:\n      RESP:\n        limit: 99\n        clear_margin: 2\n        rationale: wrong\n"
    assert error_of(HEADER + RULE + unit) == (
        "small.yaml: rule spo2-low: limit 99 in unit RESP clears at 101, but spo2 is plausible above 0 and at most 100"
    )


def test_two_rules_with_one_id_are_an_error() -> None:
    assert "id used twice: spo2-low" in error_of(HEADER + RULE + RULE)


def test_two_limits_of_a_signal_on_one_side_are_an_error() -> None:
    second = RULE.replace("id: spo2-low", "id: spo2-very-low").replace("limit: 90", "limit: 85")
    assert error_of(HEADER + RULE + second) == (
        "small.yaml: rules spo2-low and spo2-very-low: direction: both watch spo2 below a limit"
    )


def test_limits_of_a_signal_that_leave_no_normal_value_are_an_error() -> None:
    high = RULE.replace("id: spo2-low", "id: spo2-high").replace("below", "above").replace("limit: 90", "limit: 93")
    assert error_of(HEADER + RULE + high) == (
        "small.yaml: rules spo2-low and spo2-high: limit: spo2 clears at 92 and at 91,"
        " so that no value is normal for both"
    )


def test_limits_that_are_apart_by_default_but_not_in_a_unit_are_an_error() -> None:
    high = RULE.replace("id: spo2-low", "id: spo2-high").replace("below", "above").replace("limit: 90", "limit: 96")
    unit = "    units:\n      RESP:\n        limit: 93\n        clear_margin: 2\n        rationale: wrong\n"
    assert "clears at 92 and at 91 in unit RESP" in error_of(HEADER + RULE + high + unit)


@pytest.mark.parametrize("text", ["", "- a\n- list\n", "rules: [1, 2]\n", "name: x\nversion: 0\ntitle: t\nrules: []\n"])
def test_what_is_no_pack_is_one_clear_error(text: str) -> None:
    assert all(line.startswith("small.yaml") for line in error_of(text).splitlines())


def test_broken_yaml_names_the_file_and_the_line() -> None:
    message = error_of(textwrap.dedent("name: [a\nversion: 1\n"))
    assert message.startswith("small.yaml: not readable as YAML")
    assert "line 2" in message


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(PackError, match="nowhere: no such rule pack; known: adult"):
        load("nowhere")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"gone\.yaml: cannot be read"):
        load(tmp_path / "gone.yaml")


def test_a_limit_clears_at_the_number_a_reader_computes() -> None:
    rule = load("adult").rule("temperature-high")
    assert isinstance(rule, LimitRule)
    assert (rule.limit, rule.clear_in(None)) == (38.5, 38.2)


FAST = "{signal: heart_rate, direction: above, limit: 110}"
LOW = "{signal: systolic_bp, direction: below, limit: 100}"
OTHERS = {
    "rate": ("signal: spo2\n    direction: fall\n    change: 6\n    window_s: 600\n    clear_margin: 2", "change"),
    "score": ("score: news2\n    at_least: 5\n    clear_margin: 1", "at_least"),
    "combination": (f"conditions: [{FAST}, {LOW}]\n    within_s: 60", "within_s"),
    "silence": ("signal: spo2\n    after_s: 60", "after_s"),
    "flat_line": ("signal: heart_rate\n    after_s: 600\n    readings: 60", "after_s"),
    "no_value": ("signal: spo2", "signal"),
    "device": ("measure: battery\n    limit: 20", "measure"),
}


def of_kind(kind: str, more: str = "") -> str:
    """A pack with one rule of a kind."""
    limits = "kind: limit\n", "    signal: spo2\n    direction: below\n    limit: 90\n    clear_margin: 2\n"
    rule = RULE.replace(limits[0], f"kind: {kind}\n    {OTHERS[kind][0]}\n").replace(limits[1], "")
    return HEADER + rule + more


@pytest.mark.parametrize("kind", list(OTHERS))
def test_a_rule_of_each_kind_is_read_and_what_it_lacks_is_named(kind: str) -> None:
    (rule,) = parse(of_kind(kind), "small.yaml").rules
    assert rule.kind == kind
    assert rule.words()
    needed = OTHERS[kind][1]
    without = "\n".join(line for line in of_kind(kind).splitlines() if not line.strip().startswith(f"{needed}:"))
    assert "given" not in without
    if without != of_kind(kind).rstrip() and not (kind == "silence" and needed == "signal"):
        assert error_of(without + "\n") == f"small.yaml: rule spo2-low: {needed}: Field required"


@pytest.mark.parametrize(
    ("kind", "right", "wrong", "said"),
    [
        ("rate", "clear_margin: 2", "clear_margin: 6", "clear_margin 6 must be less than the change 6"),
        ("rate", "window_s: 600", "window_s: 5", "window_s: Input should be greater than or equal to 60"),
        ("score", "at_least: 5", "at_least: 21", "at_least 21 less a margin of 1 must lie within 1 and 20"),
        ("score", "score: news2", "score: apache", "score: Input should be 'news2', 'qsofa' or 'sirs'"),
        ("combination", "within_s: 60", "within_s: 60\n    at_least: 3", "at_least 3 of 2 conditions cannot be"),
        ("combination", "signal: systolic_bp", "signal: heart_rate", "conditions: a signal may have one condition"),
        ("combination", "limit: 110", "limit: 110, clear: 3", "conditions.0.clear: Extra inputs are not permitted"),
        ("silence", "after_s: 60", "after_s: 60\n    delay_s: 5", "delay_s: after_s is the delay of a silence"),
        ("device", "limit: 20", "clear_margin: 5", "battery and clock_skew need a limit, and lead_off has none"),
    ],
)
def test_a_rule_that_could_not_work_is_an_error(kind: str, right: str, wrong: str, said: str) -> None:
    assert right in of_kind(kind)
    assert error_of(of_kind(kind).replace(right, wrong)).splitlines()[0] == f"small.yaml: rule spo2-low: {said}"


def test_what_is_inhibited_must_be_another_rule_of_the_pack() -> None:
    for named in ("asystole", "spo2-low"):
        assert error_of(HEADER + RULE + f"    inhibits: [{named}]\n") == (
            f"small.yaml: rule spo2-low: inhibits: no other rule of that id: {named}"
        )


def test_steps_of_escalation_must_come_one_after_another() -> None:
    steps = "    escalation:\n      - {after_s: 60, channels: [a]}\n      - {after_s: 60, channels: [b]}\n"
    assert error_of(HEADER + RULE + steps) == (
        "small.yaml: rule spo2-low: escalation: each step must come later than the one before it"
    )


def test_a_rule_says_itself_who_is_told_or_leaves_it_to_its_priority() -> None:
    told = "notification:\n  high: {channels: [nurse], escalation: [{after_s: 60, channels: [team]}]}\nrules:\n"
    pack = parse(HEADER.replace("rules:\n", told) + RULE, "small.yaml")
    (rule,) = pack.rules
    assert (pack.channels_of(rule), [step.channels for step in pack.escalation_of(rule)]) == (("nurse",), [("team",)])
    own = parse(HEADER.replace("rules:\n", told) + RULE + "    channels: [biomed]\n    escalation: []\n", "small.yaml")
    assert (own.channels_of(own.rules[0]), own.escalation_of(own.rules[0]), own.channels) == (
        ("biomed",),
        (),
        ("biomed",),
    )
