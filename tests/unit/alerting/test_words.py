from datetime import UTC, datetime, timedelta, timezone

import pytest

from alerting.kinds import Rule
from alerting.pack import Pack
from alerting.words import described, display, instant, quantity, span
from tests.fixtures.packs import kinds_pack

KINDS = kinds_pack()


def rule(rule_id: str, pack: Pack = KINDS) -> Rule:
    found = pack.rule(rule_id)
    assert found is not None
    return found


def test_instants_are_utc_to_the_second() -> None:
    noon = datetime(2026, 3, 1, 12, 0, 0, 999_000, tzinfo=UTC)
    assert instant(noon) == instant(noon.timestamp() * 1000) == "2026-03-01 12:00:00Z"
    assert instant(noon.astimezone(timezone(timedelta(hours=2)))) == "2026-03-01 12:00:00Z"
    assert instant(None) == "unknown"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.034, "0.034 s"), (15, "15 s"), (60, "1 min"), (125, "2 min 5 s"), (86_400, "24 h"), (5400, "1 h 30 min")],
)
def test_a_span_is_said_in_the_units_that_it_has(seconds: float, said: str) -> None:
    assert span(seconds) == said


@pytest.mark.parametrize(
    ("kind", "code", "value", "said"),
    [
        ("limit", "8867-4", 131.0, "131 /min"),
        (None, "59408-5", 86.5, "86.5 %"),
        ("rate", "8480-6", 42.0, "42 mm[Hg]"),
        ("score", None, 1.0, "1 point"),
        ("combination", None, 2.0, "2 conditions"),
        ("silence", "59408-5", 120.0, "2 min"),
        ("device", None, 12.0, "12"),
        ("limit", "unknown", 3.0, "3"),
    ],
)
def test_a_value_has_the_measure_of_its_rule(kind: str | None, code: str | None, value: float, said: str) -> None:
    assert quantity(kind, code, value) == said


def test_a_code_that_is_not_known_stays_as_it_is() -> None:
    assert (display("8867-4"), display("x-1"), display(None)) == ("Heart rate", "x-1", "value")


def test_a_limit_is_described_with_its_units_its_end_and_who_is_told() -> None:
    assert described(KINDS, rule("spo2-low")) == (
        "spo2-low: SpO2 low (high, physiological)",
        "  spo2 below 90 %, for 15 s",
        "  in unit RESP spo2 below 86 %: Target range 88-92 % in hypercapnic failure (NEWS2 SpO2 scale 2, RCP 2017).",
        "  over when at least 92 % for 30 s",
        "  tells nurse; charge-nurse after 2 min without an answer; rapid-response after 5 min without an answer",
        "  why: Below 90 % the dissociation curve is steep, and a small further fall costs much oxygen.",
        "  source: " + rule("spo2-low").reference,
    )


@pytest.mark.parametrize(
    ("rule_id", "watched", "end"),
    [
        (
            "heart-rate-low",
            "heart_rate below 40 /min, for 10 s",
            "over when at least 45 /min for 30 s; then it waits until somebody acknowledges it",
        ),
        ("news2-high", "news2 at least 7, for 1 min", "over when below 6 for 5 min"),
        (
            "systolic-bp-falling",
            "systolic_bp falls by 40 mm[Hg] within 30 min, for 1 min",
            "over when the change is at most 30 mm[Hg] for 5 min",
        ),
        (
            "shock-suspected",
            "2 of: heart_rate above 110, systolic_bp below 100, for 1 min",
            "over when fewer than 2 are other than clear for 5 min",
        ),
        ("device-silent", "no message for 1 min", "over when it is heard again"),
        ("heart-rate-flat", "heart_rate unchanged for 10 min, in at least 60 readings", "over when that has ended"),
        ("spo2-probe-off", "spo2 without a value, for 30 s", "over when that has ended for 10 s"),
        ("battery-low", "battery below 20 %, for 30 s", "over when at least 30"),
        ("clock-skew", "clock off by more than 120 s, for 5 min", "over when at most 60 for 1 min"),
        ("lead-off", "a lead is off, for 30 s", "over when that has ended for 10 s"),
    ],
)
def test_every_kind_is_described(rule_id: str, watched: str, end: str) -> None:
    lines = described(KINDS, rule(rule_id))
    assert [line.strip() for line in lines if line.startswith(("  over", f"  {watched}"))] == [watched, end]


def test_a_rule_that_tells_nobody_says_so_and_what_it_keeps_others_from_telling() -> None:
    silent = rule("lead-off").model_copy(update={"channels": ()})
    assert "  tells nobody" in described(KINDS, silent)
    named = "heart-rate-low, heart-rate-high, respiratory-rate-low, respiratory-rate-high"
    assert f"  while it is open, nobody is told of {named}" in described(KINDS, silent)
