"""Risks of a model in the engine: a signal that no device measures."""

import orjson
import pytest

from alerting.engine import Engine
from alerting.risk import Risk, RiskError, decode, encode
from tests.fixtures.packs import risk_pack
from tests.unit.alerting.test_engine import HR, T0, evaluation, own, route, told


def risk(at: float, value: float, patient: str = "hospital/1") -> Risk:
    return Risk(patient, T0 + round(at * 1000), value, "death-within-24-hours", 3)


def engine() -> Engine:
    """One that has heard of a patient who is well."""
    made = Engine(risk_pack())
    made.apply(0, evaluation(0, 0, (HR, 80.0)))
    return made


def apply(made: Engine, *risks: Risk) -> list[bool]:
    return [made.risk(one, one.landmark_at + 60_000, {0}) for one in risks]


def test_a_risk_above_its_limit_opens_an_alert_which_a_lower_one_ends() -> None:
    made = engine()

    assert apply(made, risk(60, 0.35), risk(120, 0.25), risk(180, 0.15)) == [True, False, True]

    changed = made.take_moved()
    assert told(changed) == [("raised", "medium", ("nurse",), ["deterioration-risk"])]
    (one,) = changed
    events = [orjson.loads(event) for event in one.unsent.events]
    assert [(event["rule_id"], event["state"], event["device_id"]) for event in events] == [
        ("deterioration-risk", "active", "death-within-24-hours/3"),
        ("deterioration-risk", "resolved", "death-within-24-hours/3"),
    ]


def test_a_risk_that_comes_again_or_late_or_of_somebody_unknown_or_of_another_router_changes_nothing() -> None:
    made = engine()
    apply(made, risk(60, 0.35))
    before = made.counts.events

    assert apply(made, risk(60, 0.35), risk(30, 0.1), risk(60, 0.9, "hospital/2")) == [False, False, False]
    assert made.risk(risk(90, 0.1), T0 + 100_000, {1}) is False
    assert made.counts.events == before


def test_a_patients_own_limit_of_the_risk_holds() -> None:
    made = engine()
    made.limit("hospital/1", "wardhouse-deterioration-risk", own(high=50.0, code="wardhouse-deterioration-risk"))

    assert apply(made, risk(60, 0.4), risk(120, 0.6)) == [False, True]


def test_a_risk_does_not_count_as_a_message_of_the_patient() -> None:
    made = engine()
    apply(made, risk(60, 0.1))

    assert route(made, evaluation(1, 61, (HR, 130.0))) == [("heart-rate-high", "active", 120.0)]
    assert made.patients["hospital/1"].device_id == "monitor-1"


def test_a_record_is_read_as_it_was_written_and_another_is_named() -> None:
    one = risk(0, 0.25)

    assert decode(encode(one)) == one
    for value, reason in (
        (None, "a tombstone"),
        (b"{", "not JSON"),
        (b"[]", "misshapen"),
        (b"{}", "misshapen"),
        (encode(one).replace(b"0.25", b'"0.25"'), "misshapen"),
        (encode(one).replace(b"0.25", b"1.25"), "outside of 0 to 1"),
    ):
        with pytest.raises(RiskError, match=reason):
            decode(value)
