"""Whether what a model is told, and what it says, is still what it was trained on, by the population stability index.

What is missing is a bin by itself, so that a signal that nobody charts any more is seen.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from lakehouse import stability
from lakehouse.models.features import NAMES, Rows
from lakehouse.stability import LEAST_PATIENTS

RISK = "risk"


@dataclass(frozen=True)
class Binned:
    """Values of one column: ``edges`` between bins, and the rows in each bin; the last one is of what is missing."""

    edges: tuple[float, ...]
    counts: tuple[float, ...]


@dataclass(frozen=True)
class Reference:
    """What to hold later rows against: of so many patients each feature, and the risk of who had not been seen."""

    patients: int
    columns: Mapping[str, Binned]


@dataclass(frozen=True)
class Drift:
    """How far one feature, or the risk, has moved, and the share of rows without it then and now.

    Above ``limit`` it is more than chance and custom allow.
    """

    name: str
    index: float
    limit: float
    missing_then: float
    missing_now: float

    @property
    def moved(self) -> bool:
        """Whether the model is told, or says, something else now."""
        return self.index > self.limit


class TooFewPatientsNowError(ValueError):
    """There are too few patients to say anything; the text says how many."""


def reference(x: Rows, risks: Rows, patients: Collection[str]) -> Reference:
    """From the rows of a training and the risks of patients not seen; ``patients`` has the patient of each row."""
    return Reference(len(set(patients)), {name: _binned(values) for name, values in _columns(x, risks)})


def drifts(then: Reference, x: Rows, risks: Rows, patients: Collection[str]) -> tuple[Drift, ...]:
    """Each feature and the risk, what has moved furthest beyond its limit first. Raises TooFewPatientsNowError."""
    count = len(set(patients))
    if count < LEAST_PATIENTS:
        raise TooFewPatientsNowError(
            f"{count} patients say nothing of drift, {LEAST_PATIENTS} are the least: look at more days"
        )
    found = [_drift(name, then.columns[name], values, then.patients, count) for name, values in _columns(x, risks)]
    return tuple(sorted(found, key=lambda one: one.limit - one.index))


def _columns(x: Rows, risks: Rows) -> list[tuple[str, Rows]]:
    return [*zip(NAMES, x[:, : len(NAMES)].T, strict=True), (RISK, risks)]


def _binned(values: Rows) -> Binned:
    counted, missing = _counted(values)
    edges = stability.cuts(counted) if counted else []
    return Binned(tuple(edges), (*stability.counts(counted, edges), missing))


def _counted(values: Rows) -> tuple[Counter[float], float]:
    missing = np.isnan(values)
    return Counter(values[~missing].tolist()), float(missing.sum())


def _drift(name: str, then: Binned, values: Rows, patients_then: int, patients_now: int) -> Drift:
    counted, missing = _counted(values)
    now = (*stability.counts(counted, then.edges), missing)
    return Drift(
        name,
        stability.index(then.counts, now),
        stability.limit(len(now), patients_then, patients_now),
        then.counts[-1] / sum(then.counts),
        missing / len(values),
    )
