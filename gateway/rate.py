"""How often a caller may call: a bucket of tokens each, filled at a steady rate."""

from collections.abc import Callable
from dataclasses import dataclass

_MOST_CALLERS = 10_000  # strangers count by address: beyond this those who have not called for longest are forgotten


@dataclass(frozen=True)
class Rate:
    """``per_second`` calls in the long run, and ``burst`` at once."""

    per_second: float
    burst: float


@dataclass(frozen=True)
class Bucket:
    """What was left at an instant, in seconds of a monotonic clock."""

    tokens: float
    at: float


def take(bucket: Bucket | None, rate: Rate, now: float) -> tuple[Bucket, float]:
    """The bucket after one call, and the seconds to wait where there was no token for it; else 0."""
    before = bucket or Bucket(rate.burst, now)
    tokens = min(rate.burst, before.tokens + (now - before.at) * rate.per_second)
    if tokens >= 1:
        return Bucket(tokens - 1, now), 0.0
    return Bucket(tokens, now), (1 - tokens) / rate.per_second


class Limiter:
    """The buckets of all callers. ``clock`` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}

    def wait(self, name: str, rate: Rate) -> float:
        """Count a call; the seconds after which to come back, 0 where it may go on."""
        # Taken out and put back: the first one is who has not called for longest.
        bucket, seconds = take(self._buckets.pop(name, None), rate, self._clock())
        self._buckets[name] = bucket
        if len(self._buckets) > _MOST_CALLERS:
            del self._buckets[next(iter(self._buckets))]
        return seconds
