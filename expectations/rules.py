"""Hand-written rules over a table as a whole: is it fresh, does it keep up, does as much arrive as usual.

Each is a condition in Spark SQL over aggregates of one table; the clock is an argument. How old a table may be comes
from the flow that writes it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from lakehouse.pipeline import Flow
from lakehouse.render import literal

if TYPE_CHECKING:
    from expectations.kinds import ExpectTable

SLACK = 4
"""How many times its freshness a table may be old before that is a fault. A flow keeps its freshness 95 times in 100;
two late triggers and a slow one together reach four times."""

HOUR = timedelta(hours=1)
BASELINE = timedelta(hours=24)
"""What the last hour is held against: a whole day, since wards are busier by day than by night."""

LEAST_SHARE = 0.5
"""The share of the usual hourly volume below which the last hour is a fault. A ward at night sends from as many
monitors as by day, so that half is a gateway or a unit gone silent."""


@dataclass(frozen=True)
class Rule:
    """A named condition over aggregates of one table."""

    name: str
    holds: str
    comment: str


def stale(flow: Flow, topic: str, now: datetime) -> Rule:
    """For a running intake: its newest record of ``topic`` is not older than the flow's freshness, with slack."""
    return Rule(
        name="stale",
        holds=f"{_newest(topic)} >= {_instant(now - _allowed(flow))}",
        comment=f"nothing has arrived for more than {_allowed(flow)}",
    )


def lagging(flow: Flow, topic: str, newest_read: datetime | None, newest_beside: datetime | None) -> Rule:
    """For a table that a flow derives: it is not further behind what the flow reads than its freshness, with slack.

    ``newest_read`` is the newest arrival in what the flow reads, ``newest_beside`` in what it writes beside this table
    (a record may end in quarantine or dead letter alone). With nothing to read there is nothing to lag behind.
    """
    newest = f"greatest({_newest(topic)}, {_instant(newest_beside)})"
    return Rule(
        name="lagging",
        holds="true" if newest_read is None else f"{newest} >= {_instant(newest_read - _allowed(flow))}",
        comment=f"more than {_allowed(flow)} behind what it is made from",
    )


def thin(topic: str, now: datetime) -> Rule:
    """For a running intake: the last hour brought at least half of the usual hourly number of records.

    Usual is the mean of up to a day before that hour. Not judged until the intake has run for two hours.
    """
    hour_ago = now - HOUR
    of_topic = f"topic = {literal(topic)}"
    before = f"{of_topic} AND received_at > {_instant(hour_ago - BASELINE)} AND received_at <= {_instant(hour_ago)}"
    recent = f"count_if({of_topic} AND received_at > {_instant(hour_ago)})"
    first = f"min(received_at) FILTER (WHERE {before})"
    hours = f"(({int(hour_ago.timestamp())} - unix_seconds({first})) / 3600)"
    return Rule(
        name="thin",
        holds=(
            f"CASE WHEN {first} <= {_instant(hour_ago - HOUR)}"
            f" THEN {recent} * {hours} >= {LEAST_SHARE} * count_if({before}) ELSE true END"
        ),
        comment="the last hour brought less than half of what an hour usually brings",
    )


def expectation(rule: Rule) -> "ExpectTable":
    """The rule as an expectation for a suite."""
    from expectations.kinds import ExpectTable
    from expectations.suites import named

    return ExpectTable(holds=rule.holds, description=rule.comment, meta=named(rule.name))


def _allowed(flow: Flow) -> timedelta:
    if flow.freshness is None:
        raise ValueError(f"flow {flow.name} declares no freshness")
    return SLACK * flow.freshness


def _newest(topic: str) -> str:
    return f"max(received_at) FILTER (WHERE topic = {literal(topic)})"


def _instant(at: datetime | None) -> str:
    return "CAST(NULL AS TIMESTAMP)" if at is None else f"TIMESTAMP '{at.isoformat()}'"
