"""Which tables a run checks: all that are declared for it, or of history alone those there are."""

from expectations.runner import checked_tables, to_check
from lakehouse.datadir import DataDir
from lakehouse.tables import OBSERVATION
from tests.fixtures.delta import append
from tests.fixtures.observations import observation


def test_tables_that_only_a_stream_fills_are_missed_where_one_is_meant_to_run_and_nowhere_else(data: DataDir) -> None:
    assert to_check(data, live=False) == ()
    append(data, OBSERVATION, observation("a", 0, 70.0))
    assert to_check(data, live=False) == (OBSERVATION,)
    assert to_check(data, live=True) == checked_tables()
