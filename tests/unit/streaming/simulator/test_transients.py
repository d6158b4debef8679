"""Transients: harmless excursions beyond a limit, as long and as deep as the published figures say."""

from dataclasses import replace
from datetime import UTC, datetime
from math import exp

import numpy as np
import orjson
import pytest

from alerting.pack import load
from streaming.simulator.cohort import SIGNALS
from streaming.simulator.episodes import Schedule
from streaming.simulator.simulation import Note, Options, Record, Simulation
from streaming.simulator.transients import (
    MEAN_DEPTH,
    MEAN_DURATION_S,
    MOST_PER_HOUR,
    MOVEMENTS,
    Transient,
    Transients,
)

START = datetime(2026, 3, 1, 8, tzinfo=UTC)
PACK = load("adult")
HEART_RATE, SPO2 = SIGNALS.index("heart_rate"), SIGNALS.index("spo2")


def read(options: Options, cycles: int) -> tuple[np.ndarray, np.ndarray, list[Transient]]:
    """Instants (cycle, patient), readings (cycle, patient, signal) and transients of a run."""
    at, values, seen = [], [], []
    for cycle in Simulation(options).cycles():
        if cycle.number == cycles:
            break
        at.append(cycle.at)
        values.append(cycle.values)
        seen += [what for what in cycle.begun if isinstance(what, Transient)]
    return np.stack(at), np.stack(values), seen


def test_the_means_are_those_of_the_published_figures() -> None:
    assert exp(-15 / MEAN_DURATION_S) == pytest.approx(1 - 0.60)
    assert exp(-2 / MEAN_DEPTH) == pytest.approx(1 - 0.63)
    assert (round(MEAN_DURATION_S, 1), round(MEAN_DEPTH, 1)) == (16.4, 2.0)


@pytest.mark.parametrize("cadence", [1.0, 5.0])
def test_in_the_stream_a_delay_and_a_lower_limit_leave_the_published_shares_of_spo2_dips(cadence: float) -> None:
    options = Options(START, 400, cadence, seed=11, episodes_per_hour=0, transients_per_hour=40)
    at, values, _ = read(options, round(3600 / cadence))
    dips = outlast = deep = 0
    for times, spo2 in zip(at.T, values[..., SPO2].T, strict=True):
        below = np.flatnonzero(spo2 < 90)
        for dip in np.split(below, np.flatnonzero(np.diff(below) > 1) + 1):
            if dip.size and dip[-1] + 1 < len(times):
                dips += 1
                outlast += bool(times[dip[-1]] - times[dip[0]] >= 15)
                deep += bool(spo2[dip].min() < 88)
    assert dips > 6000
    assert outlast / dips == pytest.approx(0.40, abs=0.02)
    assert deep / dips == pytest.approx(0.37, abs=0.02)


@pytest.mark.parametrize("cadence", [0.5, 10.0, 60.0])
def test_as_many_begin_in_an_hour_as_asked_for_and_a_slow_monitor_misses_the_short_ones(cadence: float) -> None:
    options = Options(START, 400, cadence, seed=11, episodes_per_hour=0, transients_per_hour=12)
    _, _, seen = read(options, round(3600 / cadence))
    seen_share = MEAN_DURATION_S / cadence * (1 - exp(-cadence / MEAN_DURATION_S))
    assert len(seen) == pytest.approx(400 * 12 * seen_share, rel=0.06)
    dips = sum(transient.movement.signal == "spo2" for transient in seen)
    assert dips / len(seen) == pytest.approx(0.5, abs=0.05)


def test_a_transient_breaks_the_limit_of_its_signal_throughout_and_nothing_else_does() -> None:
    options = Options(START, 100, seed=11, episodes_per_hour=0, transients_per_hour=60)
    at, values, seen = read(options, 3600)
    broken = {rule.id: np.zeros(values.shape[:2], dtype=bool) for rule in PACK.limits if rule.signal in SIGNALS}
    for rule in PACK.limits:
        if rule.signal in SIGNALS:
            column = values[..., SIGNALS.index(rule.signal)]
            limit = rule.limit_in(None)
            broken[rule.id] = column > limit if rule.direction == "above" else column < limit
    wanted = {rule: np.zeros(values.shape[:2], dtype=bool) for rule in broken}
    for transient in seen:
        within = (transient.start <= at[:, transient.patient]) & (at[:, transient.patient] < transient.end)
        rule = {"spo2": "spo2-low", "heart_rate": "heart-rate-high"}[transient.movement.signal]
        wanted[rule][:, transient.patient] |= within
        read_there = values[within, transient.patient, SIGNALS.index(transient.movement.signal)]
        assert set(read_there) == {transient.extreme}
    assert {rule: int(there.sum()) for rule, there in broken.items() if there.any()}.keys() == {
        "spo2-low",
        "heart-rate-high",
    }
    assert all((broken[rule] == wanted[rule]).all() for rule in broken)


def test_readings_at_the_edge_are_beyond_the_limit_and_within_what_is_plausible() -> None:
    dip, peak = MOVEMENTS
    assert dip.reading(np.array([0.0, 0.99, 1.0, 1.99, 2.0, 500.0])).tolist() == [89, 89, 88, 88, 87, 50]
    assert peak.reading(np.array([0.0, 0.5, 1.0, 500.0])).tolist() == [121, 121, 122, 200]


def test_transients_leave_every_other_value_byte_for_byte_as_it_is() -> None:
    options = Options(START, 50, seed=7, episodes_per_hour=5)
    calm = list(Simulation(options).records(duration=600))
    moved = list(Simulation(replace(options, transients_per_hour=60)).records(duration=600))
    lines = [item.line for item in moved if isinstance(item, Note) and item.line["type"] == "transient"]
    rest = [item for item in moved if item.line["type"] != "transient"]
    assert len(lines) > 200
    assert len(rest) == len(calm)
    spans: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for line in lines:
        spans.setdefault((line["patient_id"], line["signal"]), []).append((line["from"], line["to"]))
    changed = 0
    for with_them, without in zip(rest, calm, strict=True):
        if with_them == without:
            continue
        assert isinstance(with_them, Record)
        assert isinstance(without, Record)
        message, before = orjson.loads(with_them.value or b""), orjson.loads(without.value or b"")
        for index, signal in ((0, "heart_rate"), (2, "spo2")):
            if message["observations"][index] != before["observations"][index]:
                own = spans[message["patient_id"], signal]
                assert any(begin <= message["observed_at"] <= end for begin, end in own)
                message["observations"][index] = before["observations"][index]
                changed += 1
        assert message == before
    assert changed > 1000


def test_the_truth_has_a_line_for_each_before_the_first_message_in_it() -> None:
    options = Options(START, 20, seed=7, episodes_per_hour=0, transients_per_hour=60)
    items = list(Simulation(options).records(duration=300))
    units = {patient.patient_id: patient.unit for patient in Simulation(options).cohort.patients}
    signals = set()
    for number, item in enumerate(items):
        if isinstance(item, Record):
            continue
        line = item.line
        following = next(
            other
            for other in items[number:]
            if isinstance(other, Record) and other.line.get("patient_id") == line["patient_id"]
        )
        message = orjson.loads(following.value or b"")
        index, extreme = {"spo2": (2, "nadir"), "heart_rate": (0, "peak")}[line["signal"]]
        assert line == {
            "type": "transient",
            "patient_id": message["patient_id"],
            "location_unit": units[message["patient_id"]],
            "signal": line["signal"],
            "from": line["from"],
            "to": line["to"],
            extreme: message["observations"][index]["value"],
        }
        assert line["from"] <= message["observed_at"] <= line["to"]
        signals.add(line["signal"])
    assert signals == {"spo2", "heart_rate"}


def test_none_meets_an_episode_in_its_signal_but_other_signals_are_free() -> None:
    size = 300
    schedule = Schedule(size, 40.0, 1.0, np.random.default_rng(5))
    transients = Transients(size, 100.0, np.random.default_rng(6))
    episodes, seen = [], []
    for second in range(3600):
        at = np.full(size, float(second))
        episodes += schedule.advance(at)
        seen += transients.disturb(np.zeros((size, len(SIGNALS))), at, schedule)
    pairs = [
        (episode.kind.name, transient.movement.signal)
        for transient in seen
        for episode in episodes
        if episode.patient == transient.patient and transient.start < episode.end and episode.start < transient.end
    ]
    assert len(seen) > 5000
    # Every kind moves the heart rate; SpO2 is free in these.
    assert set(pairs) == {(kind, "spo2") for kind in ("tachycardia", "bradycardia", "fever", "hypotension")}


def test_more_than_fit_into_an_hour_are_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 200, not 201"):
        Transients(1, MOST_PER_HOUR + 1, np.random.default_rng(1))
