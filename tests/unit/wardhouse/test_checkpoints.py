"""How checkpoints stand, and when that is an alarm."""

import os
from dataclasses import replace
from datetime import UTC, datetime

from lakehouse.datadir import DataDir
from lakehouse.pipeline import ALERT_EVENT
from wardhouse.checkpoints import Standing, breaches, standings
from wardhouse.settings import Settings

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FLOW = Standing("observation", "lakehouse", 1, 7, in_flight=False, age_s=120.0, lag=5, unit="versions")


def test_a_checkpoint_that_is_further_behind_than_it_may_be_is_an_alarm() -> None:
    assert breaches([FLOW], 4, 119) == (
        "observation: 5 versions behind, 4 allowed",
        "observation: last commit 120 s ago, 119 s allowed",
    )
    assert breaches([FLOW], 5, 120) == ()
    assert breaches([FLOW], None, None) == ()


def test_who_has_taken_all_is_not_late_and_who_cannot_be_asked_may_be() -> None:
    assert breaches([replace(FLOW, lag=0)], 0, 1) == ()
    assert breaches([replace(FLOW, lag=None)], 0, 1) == ("observation: last commit 120 s ago, 1 s allowed",)
    assert breaches([replace(FLOW, application="alerts", lag=None)], 0, 1) == ()


def test_without_a_broker_the_lag_of_what_reads_kafka_is_unknown(data: DataDir) -> None:
    for folder, text in (("offsets", 'v1\n{}\n{"alerts": {"0": 7}}'), ("commits", "v1\n{}")):
        (data.checkpoint(ALERT_EVENT) / folder).mkdir(parents=True)
        (data.checkpoint(ALERT_EVENT) / folder / "3").write_text(text)
    commit = data.checkpoint(ALERT_EVENT) / "commits" / "3"
    os.utime(commit, (NOON.timestamp() - 30, NOON.timestamp() - 30))
    answers, found = standings(Settings(), data, "127.0.0.1:1", NOON)
    assert not answers
    by_name = {one.flow: one for one in found}
    assert by_name["alert_event"] == Standing("alert_event", "lakehouse", 1, 3, False, 30.0, None, "records")
    assert (by_name["observation"].batch, by_name["observation"].lag, by_name["backfill"].lag) == (None, 0, 0)
