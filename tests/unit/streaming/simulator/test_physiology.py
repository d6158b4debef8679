"""What the monitors read: nothing alarming without an episode, and beyond the limits on every plateau."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pytest

from alerting.pack import load
from lakehouse.vocabulary import signal_by_name
from streaming.simulator.cohort import DEFAULT_UNITS, SIGNALS, cohort
from streaming.simulator.episodes import KINDS, Kind, Schedule
from streaming.simulator.physiology import Physiology

START = datetime(2026, 3, 1, tzinfo=UTC)
PACK = load("adult")


def breaches(rule_id: str, unit: str | None, values: np.ndarray) -> np.ndarray:
    """Which readings (last axis: signals) break a rule of the adult pack."""
    rule = PACK.rule(rule_id)
    assert rule is not None
    column = values[..., SIGNALS.index(rule.signal)]
    limit = rule.limit_in(unit)
    return column > limit if rule.direction == "above" else column < limit


def test_without_episodes_no_reading_of_a_day_breaks_a_limit_and_all_are_plausible() -> None:
    physiology = Physiology(cohort(3, 200, START), START, 60.0, 0.0, np.random.default_rng(3))
    day = np.stack([physiology.read(np.full(200, minute * 60.0))[0] for minute in range(24 * 60)])
    rules = [rule.id for rule in PACK.limits if rule.signal in SIGNALS]
    assert {rule: int(breaches(rule, None, day).sum()) for rule in rules} == dict.fromkeys(rules, 0)
    assert (day[..., 3] > day[..., 4]).all()
    for column, name in enumerate(SIGNALS):
        signal = signal_by_name()[name]
        assert day[..., column].min() > (signal.above or 0)
        assert day[..., column].max() <= (signal.below or signal.at_most or np.inf)


def test_the_day_is_warmer_and_faster_than_the_night() -> None:
    physiology = Physiology(cohort(3, 300, START), START, 3600.0, 0.0, np.random.default_rng(3))
    mean = np.stack([physiology.read(np.full(300, hour * 3600.0))[0].mean(axis=0) for hour in range(24)])
    afternoon, night = mean[14:18].mean(axis=0), mean[2:6].mean(axis=0)
    assert afternoon[0] - night[0] == pytest.approx(9.0, abs=1.5)
    assert afternoon[5] - night[5] == pytest.approx(0.54, abs=0.1)


def test_signals_that_share_a_cause_move_together() -> None:
    physiology = Physiology(cohort(3, 50, START), START, 60.0, 0.0, np.random.default_rng(3))
    values = np.stack([physiology.read(np.full(50, minute * 60.0))[0] for minute in range(240)])
    within = (values - values.mean(axis=0)).reshape(-1, len(SIGNALS))
    correlation = np.corrcoef(within, rowvar=False)
    assert correlation[0, 1] > 0.25
    assert correlation[3, 4] > 0.7
    assert correlation[1, 2] < -0.2


@pytest.mark.parametrize("severity", [0.0, 1.0])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_reading_of_a_plateau_breaks_the_rules_that_the_episode_names_and_no_other(
    kind: Kind, severity: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The kind alone, at one severity: the course is drawn as ever.
    fixed = {name: (low + (high - low) * severity,) * 2 for name, (low, high) in kind.plateau.items()}
    monkeypatch.setattr("streaming.simulator.episodes.KINDS", (replace(kind, plateau=fixed),))
    size = 50
    physiology = Physiology(cohort(3, size, START), START, 1.0, 3600.0, np.random.default_rng(3))
    episodes, seen = {}, []
    for second in range(400):
        values, begun = physiology.read(np.full(size, float(second)))
        for episode in begun:
            episodes.setdefault(episode.patient, episode)
        seen += [values[i] for i, e in episodes.items() if e.plateau <= second <= e.recovery]
    plateau = np.stack(seen)
    assert len(plateau) > 1000
    broken = {rule.id for rule in PACK.limits if rule.signal in SIGNALS and breaches(rule.id, None, plateau).any()}
    assert broken == set(kind.expected_rules)
    for unit in (*DEFAULT_UNITS, "RESP"):
        assert all(breaches(rule, unit, plateau).all() for rule in kind.expected_rules)


def test_someone_falls_ill_within_seconds_and_the_others_at_the_rate_asked_for() -> None:
    schedule = Schedule(1000, 2.0, 1.0, np.random.default_rng(5))
    begun = [e for second in range(1800) for e in schedule.advance(np.full(1000, float(second)))]
    assert min(episode.start for episode in begun) < 5
    # Half an hour at two an hour each; somewhat fewer, since nobody begins one while in another.
    assert len(begun) == pytest.approx(1000, rel=0.15)


def test_a_patient_has_one_episode_at_a_time() -> None:
    schedule = Schedule(10, 60.0, 1.0, np.random.default_rng(5))
    begun = [e for second in range(3600) for e in schedule.advance(np.full(10, float(second)))]
    for patient in range(10):
        own = [episode for episode in begun if episode.patient == patient]
        assert len(own) > 3
        assert all(sooner.end <= later.start for sooner, later in pairwise(own))


def test_an_episode_stretches_with_a_slow_cadence() -> None:
    [episode] = Schedule(1, 1.0, 60.0, np.random.default_rng(5)).advance(np.array([120.0]))
    assert (episode.recovery - episode.plateau) / 60 >= 12


def test_no_episodes_are_planned_at_a_rate_of_none() -> None:
    schedule = Schedule(5, 0.0, 1.0, np.random.default_rng(5))
    assert schedule.advance(np.full(5, 1e9)) == []
    assert schedule.severity(np.full(5, 1e9)).tolist() == [0.0] * 5
