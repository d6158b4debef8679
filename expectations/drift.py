"""Distribution drift: the last day of gold.vital_sign_minute against the week before it, for each code and its unit.

A unit that is read wrongly, a new model of monitor or a map that has lost an item changes what a signal's values look
like, or how much of it there is, while each value stays plausible. So two things are compared, in minutes of patients,
that a device which sends more often does not weigh more:

- the **distribution** of a minute's mean, by the population stability index over fifths of the reference;
- the **share** of the signal in all minutes of all signals.

Chance is a matter of the number of patients (lakehouse/stability.py). With fewer than LEAST_PATIENTS patients or
LEAST_MINUTES minutes on either side there is no verdict.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from expectations.verdict import Verdict, no_verdict
from lakehouse import stability
from lakehouse.stability import LEAST_PATIENTS

RECENT = timedelta(days=1)
"""A whole day, since wards are busier by day than by night."""
REFERENCE = timedelta(days=7)
"""A whole week, since elective patients come on weekdays."""

LEAST_MINUTES = 200
"""Ten a patient: enough for fifths of the distribution to hold some each."""

_NEEDED = f"; it takes {LEAST_MINUTES} of {LEAST_PATIENTS}"

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
    edges = stability.cuts(before.values)
    index = stability.index(*(stability.counts(window.values, edges) for window in (before, recent)))
    limit = stability.limit(len(edges) + 1, before.patients, recent.patients)
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


def _pair(windows: Tally, code: str, unit: str) -> tuple[Window, Window]:
    return windows.get(((code, unit), False), Window()), windows.get(((code, unit), True), Window())


def _short(window: Window) -> str | None:
    if window.patients >= LEAST_PATIENTS and window.minutes >= LEAST_MINUTES:
        return None
    return f"{window.minutes:,} minutes of {window.patients:,} patients"


def _all(windows: Tally, *, recent: bool) -> int:
    return sum(window.minutes for (_, side), window in windows.items() if side is recent)


def _moved(before: Window, recent: Window, share: float) -> str:
    return f"{stability.quantile(before.values, share):g} to {stability.quantile(recent.values, share):g}"
