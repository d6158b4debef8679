from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.adaptive import (
    LEAST_MINUTES,
    Baseline,
    Bounds,
    ProfileError,
    baseline,
    bounds_of,
    conditions,
    profiles,
    propose,
)
from alerting.kinds import LimitRule
from alerting.pack import load
from lakehouse.datadir import DataDir
from lakehouse.tables import VITAL_SIGN_MINUTE

KNOWN = profiles()


def limits(signal: str, median: float, spread: float, **who: object) -> dict[str, tuple[float, float, str]]:
    """By side: what the baseline alone gives, what is proposed, and the profile."""
    bounds = bounds_of(KNOWN, age=who.get("age"), condition=who.get("condition", ()))  # type: ignore[arg-type]
    found = propose([Baseline(signal, median, spread, 600)], bounds)
    return {one.side: (one.wanted, one.limit, one.profile.name) for one in found}


def test_a_baseline_is_the_median_and_a_spread_that_an_episode_hardly_moves() -> None:
    usual = [80.0 + n % 5 - 2 for n in range(600)]
    found = baseline("heart_rate", usual)
    assert found is not None
    assert (found.median, round(found.spread, 2), found.minutes) == (80.0, 1.48, 600)
    ill = baseline("heart_rate", [*usual, *[150.0] * 60])
    assert ill is not None
    assert (ill.median, round(ill.spread, 2)) == (80.0, 1.48)


def test_too_few_minutes_are_no_baseline() -> None:
    assert baseline("heart_rate", [80.0] * (LEAST_MINUTES - 1)) is None
    assert baseline("heart_rate", [80.0] * LEAST_MINUTES) is not None


def test_a_limit_lies_four_spreads_away_and_never_beyond_the_bounds() -> None:
    assert limits("heart_rate", 95.0, 7.0) == {"high": (123.0, 123.0, "adult"), "low": (67.0, 50.0, "adult")}
    assert limits("heart_rate", 130.0, 10.0)["high"] == (170.0, 140.0, "adult")
    assert limits("temperature", 37.0, 0.15) == {"high": (37.6, 38.0, "adult"), "low": (36.4, 35.5, "adult")}


def test_age_and_condition_choose_the_bounds() -> None:
    assert limits("spo2", 88.0, 1.0)["low"] == (84.0, 88.0, "adult")
    assert limits("spo2", 88.0, 1.0, condition=("hypercapnia",))["low"] == (84.0, 84.0, "hypercapnia")
    assert limits("heart_rate", 130.0, 10.0, age=85)["high"] == (170.0, 130.0, "old")
    assert limits("heart_rate", 130.0, 10.0, age=79)["high"] == (170.0, 140.0, "adult")


@given(st.floats(20, 250), st.floats(0, 60), st.sampled_from([(), ("athlete",), ("atrial-fibrillation",)]))
def test_whatever_the_baseline_a_proposal_stays_within_hard_limits(
    median: float, spread: float, condition: tuple[str, ...]
) -> None:
    for side, (_, limit, _) in limits("heart_rate", median, spread, condition=condition).items():
        assert (105 <= limit <= 150) if side == "high" else (32 <= limit <= 50)


def test_every_bound_is_one_that_the_packs_rule_can_take() -> None:
    from alerting.limits import OwnLimits, with_own

    adult = load("adult")
    for profile in KNOWN:
        for signal, bounds in profile.bounds.items():
            for side, pair in (("high", bounds.high), ("low", bounds.low)):
                for limit in pair or ():
                    rule = next(rule for rule in adult.limits if rule.signal == signal)
                    own = OwnLimits("p", rule.code, **{"high": None, "low": None, side: limit}, set_at=1)  # type: ignore[arg-type]
                    changed = with_own(adult, [own]).limit_rules(rule.code)
                    assert limit in [one.limit for one in changed if isinstance(one, LimitRule)]


def test_what_is_no_range_is_an_error_and_conditions_are_named() -> None:
    with pytest.raises(ValueError, match="140 to 110 is no range"):
        Bounds(high=(140.0, 110.0))
    assert conditions(KNOWN) == ("hypercapnia", "atrial-fibrillation", "athlete", "hypertension")
    assert issubclass(ProfileError, ValueError)


def test_the_command_proposes_and_says_how_to_apply_it(tmp_path: Path) -> None:
    import pyarrow as pa
    from deltalake import write_deltalake
    from typer.testing import CliRunner

    from wardhouse.cli import app

    start, count = datetime(2026, 1, 31, tzinfo=UTC), 600
    minutes = [start + timedelta(minutes=n) for n in range(count)]
    columns = {
        "patient_id": ["hospital/1"] * count + ["hospital/1"],
        "code": ["8867-4"] * count + ["59408-5"],
        "minute": pa.array([*minutes, start], pa.timestamp("us", tz="UTC")),
        "mean": [100.0 + n % 9 - 4 for n in range(count)] + [97.0],
    }
    write_deltalake(str(DataDir(tmp_path).table(VITAL_SIGN_MINUTE)), pa.table(columns))

    def propose(*arguments: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, ["limits", "propose", *arguments, "--data-dir", str(tmp_path)])
        return done.exit_code, done.stdout, done.stderr

    code, out, err = propose("hospital/1", "--age", "85")
    assert (code, out.splitlines()) == (
        0,
        [
            "heart_rate: high 112; usual 100, spread 3, 600 minutes",
            "  ward limits set hospital/1 heart_rate --high 112 --reason 'own baseline' --by WHO",
            "heart_rate: low 50, 88 without the bounds of profile old; usual 100, spread 3, 600 minutes",
            "  ward limits set hospital/1 heart_rate --low 50 --reason 'own baseline' --by WHO",
        ],
    )
    assert err == "spo2: 1 minutes, too few for a baseline (360)\nnothing is applied: a clinician decides\n"
    assert propose("hospital/2") == (1, "", "ward: hospital/2 has no values in gold.vital_sign_minute\n")
    assert propose("hospital/1", "--condition", "gout")[2].startswith("ward: --condition gout: known are hypercapnia")
