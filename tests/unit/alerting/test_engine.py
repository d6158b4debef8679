from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerting.bands import arms, band_of
from alerting.command import Acknowledge, Silence, Unsilence
from alerting.engine import Changed, Counts, Engine
from alerting.evaluation import EvaluationError
from alerting.limits import LimitError, OwnLimits
from alerting.notification import decode as decode_notification
from alerting.pack import load, parse
from alerting.state import NOTHING, decode
from tests.fixtures.packs import prompt_pack

ADULT = prompt_pack()
ARMS = arms(ADULT)
WHOLE = load("adult")
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
            "pack": ADULT.label,
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


def route(engine: Engine, *records: bytes) -> list[tuple[str, str, float | None]]:
    """The transitions that records cause: rule, state and limit."""
    return [
        (event["rule_id"], event["state"], event.get("limit_value"))
        for value in records
        for event in engine.apply(0, value)
    ]


def told(changed: list[Changed]) -> list[tuple[str, str, tuple[str, ...], list[str]]]:
    """The notifications in what changed: reason, priority, channels and rules."""
    found = [decode_notification(value) for one in changed for value in one.unsent.notifications]
    return [(one.reason, one.priority, one.channels, [alert.rule_id for alert in one.alerts]) for one in found]


def own(high: float | None = None, low: float | None = None, code: str = HR) -> OwnLimits:
    return OwnLimits("hospital/1", code, high, low, set_at=T0)


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
        engine.apply(0, value)
    assert engine.counts == Counts(records=1, rejected=1)


@pytest.mark.parametrize(
    ("field", "other"),
    [("partition", True), ("received_at", False), ("battery", True), ("value", True), ("value", 1e300)],
)
def test_a_field_of_another_type_or_a_value_beyond_any_signal_is_no_evaluation(field: str, other: object) -> None:
    record = orjson.loads(evaluation(0, 1, (HR, 130.0)))
    (record["observations"][0] if field == "value" else record)[field] = other
    with pytest.raises(EvaluationError, match=r"^misshapen: "):
        Engine(ADULT).apply(0, orjson.dumps(record))


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
    assert route(engine, evaluation(2, 2, (HR, 110.0)), evaluation(3, 3, (HR, 121.0))) == [
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
    (event,) = Engine(ADULT).apply(0, orjson.dumps(record))
    assert (event["rule_id"], event["title"], event["priority"]) == ("from-a-newer-pack", "from-a-newer-pack", "high")


def test_a_state_is_the_same_after_a_round_through_its_record() -> None:
    engine = Engine(load("adult"))
    route(engine, evaluation(0, 0, (HR, 130.0), (SPO2, 80.0)), evaluation(1, 31, (HR, 131.0), (SPO2, 81.0)))
    ((patient_id, state, unsent),) = engine.take_moved()
    assert state is not None
    stored = decode(state)
    assert (patient_id, stored.unsent) == ("hospital/1", unsent)
    assert [(e["rule_id"], e["state"]) for e in map(orjson.loads, unsent.events)] == [
        ("heart-rate-high", "pending"),
        ("spo2-low", "pending"),
        ("news2-medium", "pending"),
        ("news2-single", "pending"),
        ("heart-rate-high", "active"),
        ("spo2-low", "active"),
    ]
    assert len(unsent.notifications) == 1
    again, once = Engine(load("adult")), engine.patients["hospital/1"]
    again.restore([stored.patient])
    same = again.patients["hospital/1"]
    assert same.memory.record() == once.memory.record()
    assert (same.alerts, same.groups, same.message) == (once.alerts, once.groups, once.message)
    assert engine.take_moved() == []


def test_a_state_is_taken_again_without_what_was_told_and_when_more_was_seen() -> None:
    engine = Engine(ADULT)
    assert list(engine.take_touched()) == []
    for offset in range(2):
        route(engine, evaluation(offset, offset, (HR, 130.0)))
        assert len(engine.take_moved()) == 1 - offset
        ((_, state, unsent),) = engine.take_touched()
        assert state is not None
        stored = decode(state)
        assert (stored.unsent, unsent, stored.patient.message.offset) == (NOTHING, NOTHING, offset)
        assert list(engine.take_touched()) == []


def acknowledgement(alert_id: str, patient: str = "hospital/1") -> Acknowledge:
    return Acknowledge("c1", T0, "nurse on duty", patient, alert_id)


def test_an_acknowledgement_is_for_whoever_has_the_patients_partition_and_counts_once() -> None:
    engine = Engine(load("adult"))
    route(engine, evaluation(0, 0, (HR, 130.0)), evaluation(1, 31, (HR, 130.0)))
    (alert,) = engine.patients["hospital/1"].alerts.values()
    assert not engine.command(acknowledgement(alert.alert_id), T0 + 40_000, {1})
    assert engine.command(acknowledgement(alert.alert_id), T0 + 40_000, {0})
    assert not engine.command(acknowledgement(alert.alert_id), T0 + 41_000, {0})
    assert engine.patients["hospital/1"].alerts["heart-rate-high"].state == "acknowledged"


def test_a_silence_of_a_unit_mutes_what_is_open_and_what_opens_until_it_ends() -> None:
    engine = Engine(ADULT)
    records = [evaluation(0, 0, (HR, 130.0)), evaluation(1, 5, (SPO2, 80.0))]
    units = [orjson.dumps({**orjson.loads(record), "location_unit": "ICU"}) for record in records]
    route(engine, units[0])
    engine.take_moved()
    silence = Silence("s1", T0 + 1000, "dr on duty", "intubation", T0 + 60_000, location_unit="ICU")
    engine.command(silence, T0 + 1000, {0})
    route(engine, units[1])
    changed = engine.take_moved()
    events = [orjson.loads(event) for one in changed for event in one.unsent.events]
    assert [(e["rule_id"], e["state"], e.get("muted_by")) for e in events] == [
        ("heart-rate-high", "silenced", "s1"),
        ("spo2-low", "active", None),
        ("spo2-low", "silenced", "s1"),
    ]
    # The nurse was told of the first before the silence; of the second nobody is.
    assert told(changed) == []
    engine.tick(T0 + 59_000, {0}, silences=False)
    assert engine.take_moved() == []
    engine.tick(T0 + 60_000, {0}, silences=False)
    assert told(engine.take_moved()) == [("raised", "high", ("nurse",), ["spo2-low", "heart-rate-high"])]


def test_a_silence_that_is_taken_back_ends_at_once() -> None:
    engine = Engine(ADULT)
    engine.command(Silence("s1", T0, "dr on duty", "round", T0 + 60_000, patient_id="hospital/1"), T0, {0})
    route(engine, evaluation(0, 0, (HR, 130.0)))
    assert engine.patients["hospital/1"].alerts["heart-rate-high"].state == "silenced"
    engine.command(Unsilence("u1", T0 + 1000, "dr on duty", "s1"), T0 + 1000, {0})
    assert engine.patients["hospital/1"].alerts["heart-rate-high"].state == "active"


def test_what_nobody_acknowledges_is_told_to_the_next() -> None:
    engine = Engine(ADULT)
    route(engine, evaluation(0, 0, (SPO2, 80.0)))
    assert told(engine.take_moved()) == [("raised", "high", ("nurse",), ["spo2-low"])]
    for seconds, expected in ((119, []), (120, ["charge-nurse"]), (299, []), (300, ["rapid-response"]), (9000, [])):
        engine.tick(T0 + seconds * 1000, {0}, silences=False)
        assert [channels for _, _, (channels,), _ in told(engine.take_moved())] == expected, seconds


def test_what_comes_together_is_told_together_and_what_is_graver_at_once() -> None:
    engine = Engine(ADULT)
    temperature, rate = "8310-5", "9279-1"
    records = [
        evaluation(0, 0, (HR, 130.0)),
        evaluation(1, 1, (rate, 35.0)),
        evaluation(2, 2, (temperature, 39.0)),
        evaluation(3, 50, (SPO2, 80.0)),
    ]
    route(engine, *records[:3])
    assert told(engine.take_moved()) == [("raised", "medium", ("nurse",), ["heart-rate-high"])]
    route(engine, records[3])
    assert told(engine.take_moved()) == [
        ("grouped", "high", ("nurse",), ["spo2-low", "respiratory-rate-high", "temperature-high"])
    ]


def test_what_waits_is_told_when_its_time_has_come_and_not_if_it_ended_before() -> None:
    engine = Engine(ADULT)
    rate = "9279-1"
    route(engine, evaluation(0, 0, (HR, 130.0)), evaluation(1, 1, (rate, 35.0)))
    engine.take_moved()
    engine.tick(T0 + 299_000, {0}, silences=False)
    assert engine.take_moved() == []
    engine.tick(T0 + 300_000, {0}, silences=False)
    assert told(engine.take_moved()) == [("grouped", "medium", ("nurse",), ["respiratory-rate-high"])]
    other = Engine(ADULT)
    route(other, evaluation(0, 0, (HR, 130.0)), evaluation(1, 1, (rate, 35.0)), evaluation(2, 9, (rate, 16.0)))
    assert told(other.take_moved())[1:] == [("ended_before_told", "medium", (), ["respiratory-rate-high"])]


def test_a_new_pack_is_in_force_at_once_and_closes_what_it_does_not_know() -> None:
    engine = Engine(ADULT)
    route(engine, evaluation(0, 0, (HR, 130.0), (SPO2, 80.0)))
    engine.take_moved()
    text = (
        "name: small\nversion: 1\ntitle: Small\nrules:\n  - {id: spo2-low, kind: limit, title: S, signal: spo2,"
        " direction: below, limit: 85, clear_margin: 2, priority: low, category: physiological, rationale: r,"
        " reference: r}\n"
    )
    engine.use(parse(text, "small.yaml"), T0 + 1000, {0})
    (changed,) = engine.take_moved()
    (event,) = (orjson.loads(event) for event in changed.unsent.events)
    assert (event["rule_id"], event["state"], event["reason"]) == ("heart-rate-high", "resolved", "rule_withdrawn")
    # The stream may go on with the old pack for a moment: its rules are still known.
    assert route(engine, evaluation(1, 5, (HR, 131.0))) == [("heart-rate-high", "active", 120.0)]
    assert engine.patients["hospital/1"].alerts["heart-rate-high"].definition.priority == "medium"


def test_a_patient_of_whom_nothing_is_heard_is_abandoned_after_a_day_and_forgotten_after_a_week() -> None:
    engine = Engine(ADULT)
    route(engine, evaluation(0, 0, (HR, 130.0)))
    engine.take_moved()
    day = 86_400_000
    engine.tick(T0 + day, {0}, silences=False)
    assert engine.open_alerts({0}) == 1
    engine.tick(T0 + day + 1, {0}, silences=False)
    assert engine.open_alerts({0}) == 0
    assert engine.forget(T0 + 7 * day, {0}) == []
    assert [(one.patient_id, one.state) for one in engine.forget(T0 + 7 * day + 1, {0})] == [("hospital/1", None)]
    assert engine.patients == {}


class Log:
    """The topics as a router that may die sees them: states by key, what was told in order, one committed offset."""

    def __init__(self) -> None:
        self.states: dict[str, bytes] = {}
        self.events: list[bytes] = []
        self.notifications: list[bytes] = []
        self.committed = 0

    def route(self, records: list[bytes], batch: int, commit_every: int, dies_at: int | None) -> bool:
        """Run a router, as alerting.router does, until the end or its death: at the n-th thing it would write."""
        steps = 0

        def dies() -> bool:
            nonlocal steps
            steps += 1
            return dies_at is not None and steps > dies_at

        engine = Engine(WHOLE)
        stored = [decode(value) for value in self.states.values()]
        engine.restore(one.patient for one in stored)
        unsure = [Changed("", None, one.unsent) for one in stored]
        if not self._tell(unsure, dies):
            return False
        for count, start in enumerate(range(self.committed, len(records), batch), start=1):
            chunk = records[start : start + batch]
            for value in chunk:
                engine.apply(0, value)
            # The clock stands at the newest message: a successor that reads again must not have it run ahead.
            engine.tick(orjson.loads(chunk[-1])["received_at"], {0}, silences=False)
            moved = engine.take_moved()
            if not self._write(moved, dies) or not self._tell(moved, dies):
                return False
            if count % commit_every == 0:
                if not self._write(list(engine.take_touched()), dies) or dies():
                    return False
                self.committed = start + len(chunk)
        return True

    def _tell(self, changed: list[Changed], dies: Any) -> bool:
        for one in changed:
            for kept, sent in ((self.events, one.unsent.events), (self.notifications, one.unsent.notifications)):
                for value in sent:
                    if dies():
                        return False
                    kept.append(value)
        return True

    def _write(self, changed: list[Changed], dies: Any) -> bool:
        for patient_id, state, _ in changed:
            if dies():
                return False
            assert state is not None
            self.states[patient_id] = state
        return True


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 40),
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
    records = [
        evaluation(n, at, value, patient=patient, received=n * 10) for n, (at, patient, value) in enumerate(messages)
    ]
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
    assert set(disturbed.notifications) == set(undisturbed.notifications)


def test_a_value_without_a_code_does_not_cost_the_others_of_its_message() -> None:
    record = orjson.loads(evaluation(0, 0, (HR, 130.0)))
    record["observations"].append({"value": 3.0, "band": "none", "fault": "unknown_code"})
    assert route(Engine(ADULT), orjson.dumps(record)) == [("heart-rate-high", "active", 120.0)]
