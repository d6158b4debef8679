from collections.abc import Iterable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.bands import arms, band_of
from alerting.engine import Counts, Engine
from alerting.evaluation import EvaluationError
from alerting.limits import LimitError, OwnLimits
from alerting.pack import load
from alerting.state import PatientState, decode, encode, encode_event

ADULT = load("adult")
ARMS = arms(ADULT)
HR, SPO2 = "8867-4", "59408-5"
T0 = 1_700_000_000_000


def evaluation(
    offset: int,
    at: float,
    *values: tuple[str, float | None],
    patient: str = "hospital/1",
    received: float | None = None,
) -> bytes:
    """A record as the stream writes it: field for field, quiet first."""
    observations = []
    for code, value in values:
        band = band_of(ARMS, code, value)
        seen = {"code": code, "value": value, "band": band.band, "rule": band.rule, "limit": band.limit}
        observations.append({name: given for name, given in seen.items() if given is not None})
    return orjson.dumps(
        {
            "quiet": all(seen["band"] == "normal" for seen in observations),
            "schema_version": 1,
            "pack": "adult@1",
            "message_id": f"m{offset}",
            "partition": 0,
            "offset": offset,
            "received_at": T0 + round((received if received is not None else offset) * 1000),
            "patient_id": patient,
            "device_id": "monitor-1",
            "source": "simulator",
            "observed_at": T0 + round(at * 1000),
            "status": "final",
            "observations": observations,
        }
    )


def route(engine: Engine, *records: bytes, first: int = 0) -> list[tuple[str, str, float | None]]:
    """The transitions that records cause: rule, state and limit."""
    found = []
    for offset, value in enumerate(records, start=first):
        key = orjson.loads(value)["patient_id"].encode()
        found += [
            (event["rule_id"], event["state"], event.get("limit_value"))
            for event in engine.apply(0, offset, key, value)
        ]
    return found


def own(high: float | None = None, low: float | None = None, code: str = HR) -> OwnLimits:
    return OwnLimits("hospital/1", code, high, low, set_at=T0)


def test_a_quiet_record_of_a_quiet_patient_is_not_even_parsed() -> None:
    assert Engine(ADULT).apply(0, 0, b"hospital/1", b'{"quiet":true and no more') == ()


def test_a_quiet_record_of_a_patient_with_an_open_alert_resolves_it() -> None:
    assert route(Engine(ADULT), evaluation(0, 0, (HR, 130.0)), evaluation(1, 1, (HR, 80.0))) == [
        ("heart-rate-high", "active", 120.0),
        ("heart-rate-high", "resolved", 120.0),
    ]


def test_patients_do_not_touch_each_other() -> None:
    engine = Engine(ADULT)
    assert route(engine, evaluation(0, 0, (HR, 130.0)), evaluation(1, 1, (HR, 80.0), patient="hospital/2")) == [
        ("heart-rate-high", "active", 120.0)
    ]
    assert (engine.open_alerts({0}), engine.open_alerts({1})) == (1, 0)


@pytest.mark.parametrize("value", [None, b"", b"\xff\xfe", b"[]", b"{}", b'{"quiet":false,"pack":1}', b"null"])
def test_what_is_no_evaluation_is_rejected_and_changes_nothing(value: bytes | None) -> None:
    engine = Engine(ADULT)
    with pytest.raises(EvaluationError):
        engine.apply(0, 0, b"hospital/1", value)
    assert engine.counts == Counts(records=1, rejected=1)


def test_a_message_that_the_stream_evaluates_again_changes_nothing() -> None:
    engine = Engine(ADULT)
    records = [evaluation(0, 1, (HR, 80.0)), evaluation(1, 0, (HR, 130.0))]
    assert route(engine, *records, *records) == [("heart-rate-high", "active", 120.0)]
    assert engine.counts.repeated == 2


def test_a_topic_made_anew_counts_from_0_again_and_is_not_taken_for_a_repeat() -> None:
    engine = Engine(ADULT)
    assert route(
        engine, evaluation(1000, 0, (HR, 130.0), received=1), evaluation(0, 3600, (HR, 80.0), received=3600)
    ) == [
        ("heart-rate-high", "active", 120.0),
        ("heart-rate-high", "resolved", 120.0),
    ]


def test_own_limits_are_in_force_at_once_and_end_at_once() -> None:
    engine = Engine(ADULT)
    engine.limit("hospital/1", HR, own(high=140))
    assert route(engine, evaluation(0, 0, (HR, 130.0)), evaluation(1, 1, (HR, 141.0))) == [
        ("heart-rate-high", "active", 140.0)
    ]
    engine.limit("hospital/1", HR, None)
    assert route(engine, evaluation(2, 2, (HR, 110.0)), evaluation(3, 3, (HR, 121.0)), first=2) == [
        ("heart-rate-high", "resolved", 140.0),
        ("heart-rate-high", "active", 120.0),
    ]


def test_own_limits_find_a_breach_in_a_record_that_is_quiet_by_the_pack() -> None:
    engine = Engine(ADULT)
    engine.limit("hospital/1", HR, own(high=100))
    assert route(
        engine, evaluation(0, 0, (HR, 105.0), (SPO2, 80.0)), evaluation(1, 1, (HR, 105.0), patient="hospital/2")
    ) == [
        ("heart-rate-high", "active", 100.0),
        ("spo2-low", "active", 90.0),
    ]


def test_own_limits_do_not_make_a_value_of_an_unusable_one() -> None:
    engine = Engine(ADULT)
    engine.limit("hospital/1", HR, own(high=100))
    record = orjson.loads(evaluation(0, 0, (HR, None)))
    record["observations"][0].update(value=290.0, fault="sensor_disconnected")
    assert route(engine, orjson.dumps(record)) == []


def test_own_limits_that_cannot_be_used_leave_the_packs_in_force() -> None:
    engine = Engine(ADULT)
    engine.limit("hospital/1", HR, own(high=140))
    with pytest.raises(LimitError):
        engine.limit("hospital/1", HR, own(high=42))
    assert route(engine, evaluation(0, 0, (HR, 130.0))) == [("heart-rate-high", "active", 120.0)]


def test_an_alert_of_a_rule_that_is_unknown_here_is_raised_as_high() -> None:
    record = orjson.loads(evaluation(0, 0, (HR, 130.0)))
    record["observations"][0]["rule"] = "from-a-newer-pack"
    (event,) = Engine(ADULT).apply(0, 0, b"hospital/1", orjson.dumps(record))
    assert (event["rule_id"], event["title"], event["priority"]) == ("from-a-newer-pack", "from-a-newer-pack", "high")


def test_a_state_is_the_same_after_a_round_through_its_record() -> None:
    engine = Engine(ADULT)
    route(engine, evaluation(0, 0, (HR, 130.0), (SPO2, 80.0)))
    ((key, state),) = engine.take_moved()
    assert (key, decode(encode(state))) == (b"hospital/1", state)
    assert [event["rule_id"] for event in state.outbox] == ["heart-rate-high", "spo2-low"]
    assert engine.take_moved() == []


def test_a_state_that_only_saw_more_is_taken_without_an_outbox() -> None:
    engine = Engine(ADULT)
    route(engine, evaluation(0, 0, (HR, 130.0)))
    engine.take_moved()
    assert engine.take_touched() == []
    route(engine, evaluation(1, 1, (HR, 130.0)), first=1)
    ((_, state),) = engine.take_touched()
    assert (state.offset, state.outbox, engine.take_moved()) == (1, (), [])


class Log:
    """The topics as a router that may die sees them: states by key, events in order, one committed offset."""

    def __init__(self) -> None:
        self.states: dict[bytes, bytes] = {}
        self.events: list[bytes] = []
        self.committed = 0

    def send(self, events: Iterable[Any]) -> None:
        self.events += [encode_event(event) for event in events]

    def route(self, records: list[bytes], batch: int, commit_every: int, dies_at: int | None) -> bool:
        """Run a router, as alerting.router does, until the end or its death: at the n-th thing it would write."""
        steps = 0

        def dies() -> bool:
            nonlocal steps
            steps += 1
            return dies_at is not None and steps > dies_at

        engine = Engine(ADULT)
        states = [decode(value) for value in self.states.values()]
        engine.restore(states)
        for state in states:
            if state.offset >= self.committed:
                if dies():
                    return False
                self.send(state.outbox)
        for count, start in enumerate(range(self.committed, len(records), batch), start=1):
            chunk = records[start : start + batch]
            route(engine, *chunk, first=start)
            moved = engine.take_moved()
            if not self._write(moved, dies):
                return False
            for _, state in moved:
                if dies():
                    return False
                self.send(state.outbox)
            if count % commit_every == 0:
                if not self._write(engine.take_touched(), dies) or dies():
                    return False
                self.committed = start + len(chunk)
        return True

    def _write(self, states: list[tuple[bytes, PatientState]], dies: Any) -> bool:
        for key, state in states:
            if dies():
                return False
            self.states[key] = encode(state)
        return True


@given(
    st.lists(
        st.tuples(
            st.integers(0, 20),
            st.sampled_from(["hospital/1", "hospital/2"]),
            st.sampled_from([(HR, 130.0), (HR, 118.0), (HR, 80.0), (HR, 30.0), (HR, None), (SPO2, 80.0), (SPO2, 99.0)]),
        ),
        max_size=30,
    ),
    st.integers(1, 5),
    st.integers(1, 4),
    st.lists(st.integers(0, 12), max_size=4),
)
def test_a_router_that_dies_at_any_point_leaves_the_events_of_one_that_did_not(
    messages: list[tuple[int, str, tuple[str, float | None]]], batch: int, commit_every: int, deaths: list[int]
) -> None:
    records = [evaluation(n, at, value, patient=patient) for n, (at, patient, value) in enumerate(messages)]
    undisturbed, disturbed = Log(), Log()
    undisturbed.route(records, batch, commit_every, None)
    for dies_at in deaths:
        disturbed.route(records, batch, commit_every, dies_at)
    disturbed.route(records, batch, commit_every, None)
    by_key: dict[tuple[str, int], set[bytes]] = {}
    for value in disturbed.events:
        event = orjson.loads(value)
        by_key.setdefault((event["alert_id"], event["sequence"]), set()).add(value)
    assert all(len(bytes_of_one) == 1 for bytes_of_one in by_key.values())
    assert set(disturbed.events) == set(undisturbed.events)
