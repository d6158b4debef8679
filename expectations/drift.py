"""Distribution drift: the last day of gold.vital_sign_minute against the week before it, for each code and its unit.

A unit that is read wrongly, a new model of monitor or a map that has lost an item changes what a signal's values look
like, or how much of it there is, while each value stays plausible. So two things are compared, in minutes of patients,
that a device which sends more often does not weigh more:

- the **distribution** of a minute's mean, by the population stability index over fifths of the reference;
- the **share** of the signal in all minutes of all signals.

Minutes of one patient resemble each other, so chance is a matter of the number of patients, and the limit is wider
where they are few. With fewer than LEAST_PATIENTS patients or LEAST_MINUTES minutes on either side there is no verdict.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate
from math import inf, log, nextafter
from typing import Any

from expectations.verdict import Verdict, no_verdict

RECENT = timedelta(days=1)
"""A whole day, since wards are busier by day than by night."""
REFERENCE = timedelta(days=7)
"""A whole week, since elective patients come on weekdays."""

LEAST_PATIENTS = 20
"""Of fewer, who happens to lie on the ward decides: the limit would be above what a wrong unit reaches."""
LEAST_MINUTES = 200
"""Ten a patient: enough for fifths of the distribution to hold some each."""

_NEEDED = f"; it takes {LEAST_MINUTES} of {LEAST_PATIENTS}"

STABLE = 0.25
"""An index above it is by custom a major shift; 0.25 is what moves a normal distribution by half of its
standard deviation."""
BINS = 5
CHANCE = (0.0, 10.83, 13.82, 16.27, 18.47, 20.52, 22.46, 24.32, 26.12, 27.88)
"""The 99.9th percentile of chi-squared by degrees of freedom: bins less one, at most 9. Without any drift the index of
n and m independent patients, divided by 1/n + 1/m, is distributed so; less where the same patients are in both."""

FACTOR = 2.0
"""A share that has doubled or halved is a fault: wards change by tenths from week to week, while a lost item map or a
device that sends twice changes it by whole factors."""

_Signal = tuple[str, str]


@dataclass
class Window:
    """The minutes of one signal in a window: how many have each value, and of how many patients they are."""

    patients: int = 0
    minutes: int = 0
    values: dict[float, int] = field(default_factory=dict)


Tally = Mapping[tuple[_Signal, bool], Window]
"""A window for each (code, unit) and whether it is the recent one."""


def query(now: datetime) -> str:
    """Spark SQL over ``{rows}`` of gold.vital_sign_minute, whose answer :func:`tally` takes."""
    since, border = now - RECENT - REFERENCE, now - RECENT
    return f"""
        WITH minutes AS (
          SELECT code, unit, minute > TIMESTAMP '{border.isoformat()}' AS recent, patient_id, round(mean, 1) AS value
          FROM {{rows}}
          WHERE minute > TIMESTAMP '{since.isoformat()}' AND minute <= TIMESTAMP '{now.isoformat()}'
        )
        SELECT code, unit, recent, value, count(*) AS minutes, CAST(NULL AS BIGINT) AS patients
        FROM minutes GROUP BY code, unit, recent, value
        UNION ALL
        SELECT code, unit, recent, NULL, count(*), count(DISTINCT patient_id)
        FROM minutes GROUP BY code, unit, recent
    """  # noqa: S608 - instants of ours


def tally(answer: Iterable[tuple[Any, ...]]) -> Tally:
    """The windows of the query's answer."""
    found: dict[tuple[_Signal, bool], Window] = {}
    for code, unit, recent, value, minutes, patients in answer:
        window = found.setdefault(((code, unit), recent), Window())
        if value is None:
            window.minutes, window.patients = minutes, patients
        else:
            window.values[value] = minutes
    return found


def values(windows: Tally, code: str, unit: str) -> Verdict:
    """Whether the values of a signal are distributed as in the reference."""
    before, recent = _pair(windows, code, unit)
    for name, window in (("the week before", before), ("the last day", recent)):
        if short := _short(window):
            return no_verdict(f"{short} in {name}{_NEEDED}")
    index = stability(before.values, recent.values)
    limit = STABLE + CHANCE[len(cuts(before.values))] * (1 / before.patients + 1 / recent.patients)
    low, middle, high = (_moved(before, recent, share) for share in (0.1, 0.5, 0.9))
    return Verdict(
        index <= limit,
        f"stability index {index:.2f}, limit {limit:.2f}; 10th percentile {low}, median {middle}, 90th {high} {unit};"
        f" {recent.patients} patients, {before.patients} before",
    )


def share(windows: Tally, code: str, unit: str) -> Verdict:
    """Whether a signal is as large a part of all minutes as in the reference. One that has vanished is a fault."""
    before, recent = _pair(windows, code, unit)
    if short := _short(before):
        return no_verdict(f"{short} in the week before{_NEEDED}")
    all_before, all_recent = (_all(windows, recent=side) for side in (False, True))
    if all_recent < LEAST_MINUTES * before.minutes / all_before or all_recent < LEAST_MINUTES:
        return no_verdict(f"{all_recent:,} minutes of any signal in the last day")
    was, now = before.minutes / all_before, recent.minutes / all_recent
    return Verdict(
        was / FACTOR <= now <= was * FACTOR,
        f"{now:.1%} of the minutes of all signals, {was:.1%} before; limits {was / FACTOR:.1%} and {was * FACTOR:.1%}",
    )


def stability(reference: Mapping[float, int], recent: Mapping[float, int]) -> float:
    """The population stability index of counted values over bins of the reference, 0 for the same distribution.

    An empty bin counts as half a minute.
    """
    edges = cuts(reference)
    return sum((b - a) * log(b / a) for a, b in zip(_shares(reference, edges), _shares(recent, edges), strict=True))


def cuts(reference: Mapping[float, int]) -> list[float]:
    """The upper ends of all bins but the last: fifths, and a bin of its own for each value that is a fifth by itself.

    Without that, a coma score that is always 15 would share its bin with all that is lower.
    """
    total = sum(reference.values())
    heavy = {nextafter(value, -inf) for value, count in reference.items() if count * BINS >= total}
    return sorted(heavy | {quantile(reference, step / BINS) for step in range(1, BINS)})


def quantile(counted: Mapping[float, int], share: float) -> float:
    """The smallest value that at least this share of the counted ones does not exceed."""
    ordered = sorted(counted)
    reached = list(accumulate(counted[value] for value in ordered))
    return ordered[bisect_left(reached, share * reached[-1])]


def _shares(counted: Mapping[float, int], edges: list[float]) -> list[float]:
    """The part of the values up to each edge, and beyond the last."""
    bins = [0.0] * (len(edges) + 1)
    for value, count in counted.items():
        bins[bisect_left(edges, value)] += count
    total = sum(bins)
    return [max(count, 0.5) / total for count in bins]


def _pair(windows: Tally, code: str, unit: str) -> tuple[Window, Window]:
    return windows.get(((code, unit), False), Window()), windows.get(((code, unit), True), Window())


def _short(window: Window) -> str | None:
    if window.patients >= LEAST_PATIENTS and window.minutes >= LEAST_MINUTES:
        return None
    return f"{window.minutes:,} minutes of {window.patients:,} patients"


def _all(windows: Tally, *, recent: bool) -> int:
    return sum(window.minutes for (_, side), window in windows.items() if side is recent)


def _moved(before: Window, recent: Window, share: float) -> str:
    return f"{quantile(before.values, share):g} to {quantile(recent.values, share):g}"
