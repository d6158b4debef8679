"""The population stability index: how far a distribution has moved, and what of it chance explains.

The index is the sum over bins of (now - before) ln(now / before), of shares (Siddiqi, Credit Risk Scorecards, 2006).
Rows of one patient resemble each other, so chance is a matter of the number of patients, and the limit is wider where
they are few.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import inf, log, nextafter

STABLE = 0.25
"""An index above it is by custom a major shift; 0.25 is what moves a normal distribution by half of its
standard deviation."""
LEAST_PATIENTS = 20
"""Of fewer, who happens to lie on the ward decides: the limit would be above what a wrong unit reaches."""

_BINS = 5
_CHANCE = (0.0, 10.83, 13.82, 16.27, 18.47, 20.52, 22.46, 24.32, 26.12, 27.88, 29.59)
"""The 99.9th percentile of chi-squared by degrees of freedom: bins less one, at most 10. Without any drift the index of
n and m independent patients, divided by 1/n + 1/m, is distributed so; less where the same patients are in both."""


def index(before: Sequence[float], now: Sequence[float]) -> float:
    """The index of counts in the same bins, 0 for the same distribution. An empty bin counts as half a row."""
    return sum((b - a) * log(b / a) for a, b in zip(_shares(before), _shares(now), strict=True))


def limit(bins: int, patients_before: int, patients_now: int) -> float:
    """The index above which something has moved, of so many bins and patients."""
    return STABLE + _CHANCE[bins - 1] * (1 / patients_before + 1 / patients_now)


def cuts(counted: Mapping[float, int]) -> list[float]:
    """The upper ends of all bins but the last: fifths, and a bin of its own for each value that is a fifth by itself.

    Without that, a coma score that is always 15 would share its bin with all that is lower.
    """
    total = sum(counted.values())
    heavy = {nextafter(value, -inf) for value, count in counted.items() if count * _BINS >= total}
    return sorted(heavy | {quantile(counted, step / _BINS) for step in range(1, _BINS)})


def quantile(counted: Mapping[float, int], share: float) -> float:
    """The smallest value that at least this share of the counted ones does not exceed."""
    ordered = sorted(counted)
    reached = list(accumulate(counted[value] for value in ordered))
    return ordered[bisect_left(reached, share * reached[-1])]


def counts(counted: Mapping[float, int], edges: Sequence[float]) -> list[float]:
    """How many values lie up to each edge, and beyond the last."""
    bins = [0.0] * (len(edges) + 1)
    for value, count in counted.items():
        bins[bisect_left(edges, value)] += count
    return bins


def _shares(counts: Sequence[float]) -> list[float]:
    total = sum(counts)
    return [max(count, 0.5) / total for count in counts]
