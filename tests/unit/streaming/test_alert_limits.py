"""When the alert flow is stopped, to be started anew, on a cluster that has changed."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from streaming import alert_limits

BOTH, ONE = frozenset({"a:1", "b:1"}), frozenset({"a:1"})


class Query:
    """What stands for Spark's: it runs until it is stopped, or has been looked at often enough."""

    def __init__(self, looks: int) -> None:
        self._looks, self.stopped = looks, False

    @property
    def isActive(self) -> bool:  # noqa: N802 - Spark's name
        self._looks -= 1
        return not self.stopped and self._looks >= 0

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert_limits, "_EXECUTORS_LOOK_S", 0)


def answering(answers: Iterable[Any]) -> Callable[[], Any]:
    return iter(answers).__next__


def stopped(executors: list[frozenset[str]], realtime: list[bool] | None = None) -> bool:
    query: Any = Query(looks=3)
    alert_limits.stop_when_moved(query, answering(executors), answering(realtime) if realtime else None)
    return bool(query.stopped)


def test_in_real_time_mode_it_starts_anew_when_an_executor_is_lost() -> None:
    assert stopped([BOTH, BOTH, BOTH, ONE])


def test_an_executor_in_place_of_the_lost_one_does_not_hide_the_loss() -> None:
    assert stopped([BOTH, frozenset({"a:1", "c:1"})])


def test_in_real_time_mode_it_goes_on_when_an_executor_is_added() -> None:
    assert not stopped([ONE, ONE, BOTH, BOTH])


def test_in_micro_batches_it_goes_on_whatever_becomes_of_executors_until_real_time_mode_has_its_slots() -> None:
    assert not stopped([BOTH], [False, False, False])
    assert stopped([BOTH], [False, True])
