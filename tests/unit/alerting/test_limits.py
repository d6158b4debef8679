import re

import pytest

from alerting.limits import LimitError, OwnLimits, decode, encode, key, with_own
from alerting.pack import load

ADULT = load("adult")
HR, SPO2, GLUCOSE = "8867-4", "59408-5", "2339-0"
OWN = OwnLimits("hospital/1", HR, 140.0, None, set_at=1_700_000_000_000, set_by="ward", reason="atrial fibrillation")


def test_a_record_is_the_same_after_a_round() -> None:
    assert decode(key("hospital/1", HR), encode(OWN)) == ("hospital/1", HR, OWN)


def test_a_tombstone_takes_the_limits_back() -> None:
    assert decode(key("hospital/1", HR), None) == ("hospital/1", HR, None)


@pytest.mark.parametrize(
    ("record_key", "value"),
    [
        (None, b"{}"),
        (b"hospital/1", b"{}"),
        (b'["a"]', b"{}"),
        (key("p", HR), b"{}"),
        (key("p", HR), b"[]"),
        (key("p", HR), b"\xff"),
        (key("p", HR), b'{"set_at":1,"high":"much"}'),
    ],
)
def test_what_is_no_record_is_named_so(record_key: bytes | None, value: bytes) -> None:
    with pytest.raises(LimitError, match="not a record of own limits"):
        decode(record_key, value)


def test_an_own_limit_replaces_the_packs_in_every_unit_and_keeps_its_margin() -> None:
    rule = with_own(ADULT, [OwnLimits("p", SPO2, None, 85.0, set_at=0)]).rule("spo2-low")
    assert rule is not None
    assert [(rule.limit_in(unit), rule.clear_in(unit)) for unit in (None, "RESP")] == [(85.0, 87.0), (85.0, 87.0)]


@pytest.mark.parametrize(
    ("code", "high", "low", "text"),
    [
        (HR, 300.0, None, "heart_rate is plausible above 0 and below 300: 300 is no limit"),
        (HR, None, 0.0, "heart_rate is plausible above 0 and below 300: 0 is no limit"),
        (HR, float("nan"), None, "plausible|finite"),
        (HR, 48.0, None, "no value is normal for both"),
        (HR, 80.0, 75.0, "no value is normal for both"),
        (SPO2, None, 99.5, "limit 99.5 clears at 101.5, but spo2 is plausible above 0 and at most 100"),
        (SPO2, 98.0, None, "the pack has no high limit of spo2 that could be replaced"),
        (GLUCOSE, 200.0, None, "the pack has no high limit of glucose"),
        ("no-code", 200.0, None, "the pack has no high limit of no-code"),
    ],
)
def test_a_limit_that_cannot_be_meant_is_refused(code: str, high: float | None, low: float | None, text: str) -> None:
    with pytest.raises(LimitError, match=text if "|" in text else re.escape(text)):
        with_own(ADULT, [OwnLimits("p", code, high, low, set_at=0)])
