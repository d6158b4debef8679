"""``within``: ranges that cover every span asked for, and not too many of them."""

import re
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from lakehouse.delta import within

START = datetime(2026, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
LITERAL = r"TIMESTAMP '([^']+)'"

minutes = st.lists(st.integers(0, 500) | st.integers(0, 10**8), max_size=60).map(
    lambda numbers: [START + number * MINUTE for number in numbers]
)


def ranges(condition: str) -> list[tuple[datetime, datetime]]:
    """The ranges of a condition, read back from its text."""
    if condition == "false":
        return []
    arms = condition.split(" OR ")
    found = [re.fullmatch(rf"\(at >= {LITERAL} AND at < {LITERAL}\)", arm) for arm in arms]
    return [(datetime.fromisoformat(match[1]), datetime.fromisoformat(match[2])) for match in found if match]


@given(minutes, st.integers(1, 8))
def test_every_span_is_covered_by_no_more_ranges_than_allowed(instants, most):
    found = ranges(within("at", instants, MINUTE, most))
    assert [at for at in instants if not any(low <= at and at + MINUTE <= high for low, high in found)] == []
    assert len(found) <= most
    assert all(one[1] < other[0] for one, other in pairwise(found))


@given(minutes)
def test_where_ranges_suffice_nothing_else_is_covered(instants):
    found = ranges(within("at", instants, MINUTE))
    covered = sum(((high - low) // MINUTE for low, high in found), 0)
    assert covered == len(set(instants))


@given(minutes, st.integers(1, 8))
def test_the_order_and_number_of_instants_does_not_matter(instants, most):
    assert within("at", instants, MINUTE, most) == within("at", [*instants[::-1], *instants], MINUTE, most)


def test_neighbours_become_one_range_and_the_text_is_utc():
    oslo = timezone(timedelta(hours=1))
    instants = [START + MINUTE, datetime(2026, 3, 1, 1, 0, tzinfo=oslo), START + 5 * MINUTE]
    assert within("t.at", instants, MINUTE) == (
        "(t.at >= TIMESTAMP '2026-03-01 00:00:00+00:00' AND t.at < TIMESTAMP '2026-03-01 00:02:00+00:00')"
        " OR (t.at >= TIMESTAMP '2026-03-01 00:05:00+00:00' AND t.at < TIMESTAMP '2026-03-01 00:06:00+00:00')"
    )


def test_of_too_many_ranges_the_nearest_are_joined():
    instants = [START + number * MINUTE for number in (0, 2, 10, 13, 100)]
    found = ranges(within("at", instants, MINUTE, most=3))
    assert [((low - START) // MINUTE, (high - START) // MINUTE) for low, high in found] == [
        (0, 3),
        (10, 14),
        (100, 101),
    ]


def test_nothing_is_within_no_instants():
    assert within("at", [], MINUTE) == "false"
