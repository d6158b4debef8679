"""How long alerts took: from a message's arrival at the broker until what it caused was acknowledged on ``alerts``."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any

BOUNDS_MS = (20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 60_000)
"""Upper ends of the classes in which latencies are counted; the goal, a second, is one of them."""


class Latencies:
    """Counts by class since the start. What time alone caused (an escalation, a silence) has no message, so none."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_MS) + 1)
        self._sum_ms = 0

    def told(self, events: Iterable[Mapping[str, Any]], now: int) -> None:
        """Count events that were acknowledged at ``now`` (epoch ms)."""
        for event in events:
            if (received_at := event.get("message_received_at")) is not None:
                # Two machines' clocks may differ by more than an alert takes.
                took = max(now - received_at, 0)
                self._counts[bisect_left(BOUNDS_MS, took)] += 1
                self._sum_ms += took

    def as_dict(self) -> dict[str, Any]:
        """For a progress line; ``counts`` has one number more than ``bounds_ms``: what took longer than all of them."""
        return {"bounds_ms": list(BOUNDS_MS), "counts": list(self._counts), "sum_ms": self._sum_ms}
