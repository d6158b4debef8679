from datetime import UTC, datetime, timedelta

import pytest

from expectations.rules import Rule, lagging, stale, thin
from lakehouse.pipeline import Flow

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FLOW = Flow("f", reads=(), writes=(), build="", application="", owner="", freshness=timedelta(seconds=15))


def test_an_intake_may_be_four_times_its_freshness_old():
    assert stale(FLOW, "patient-data", NOW) == Rule(
        name="stale",
        holds="max(received_at) FILTER (WHERE topic = 'patient-data') >= TIMESTAMP '2026-03-01T11:59:00+00:00'",
        comment="nothing has arrived for more than 0:01:00",
    )


def test_a_derived_table_is_held_against_the_newest_row_of_what_it_is_made_from():
    assert lagging(FLOW, "vitals", newest_read=NOW, newest_beside=NOW - timedelta(minutes=5)) == Rule(
        name="lagging",
        holds=(
            "greatest(max(received_at) FILTER (WHERE topic = 'vitals'), TIMESTAMP '2026-03-01T11:55:00+00:00')"
            " >= TIMESTAMP '2026-03-01T11:59:00+00:00'"
        ),
        comment="more than 0:01:00 behind what it is made from",
    )


def test_nothing_lags_behind_an_empty_table():
    assert lagging(FLOW, "vitals", newest_read=None, newest_beside=None).holds == "true"


def test_a_flow_without_freshness_has_no_rule():
    unbounded = Flow("f", reads=(), writes=(), build="", application="", owner="")
    with pytest.raises(ValueError, match="flow f declares no freshness"):
        stale(unbounded, "vitals", NOW)


def test_a_site_may_give_its_topic_any_name():
    assert "topic = 'the ward\\'s'" in thin("the ward's", NOW).holds
