"""What a risk rests on: how it changes when one part of what is told is left out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lakehouse.models.features import Rows

_AT_ONCE = 500
"""Rows that are explained together: without each of their parts they take 32 MB."""


@dataclass(frozen=True)
class Contribution:
    """What a feature adds to the log odds of the risk, beside not knowing it; without a ``value`` it is unknown."""

    feature: str
    value: float | None
    log_odds: float


@dataclass(frozen=True)
class Risk:
    """Of the event that was learned, 0 to 1, and what it rests on, the largest first."""

    risk: float
    contributions: tuple[Contribution, ...]


class Part(NamedTuple):
    """Columns that are left out together, the newest value first."""

    feature: str
    columns: tuple[int, ...]


def explained(risks: Callable[[Rows], Rows], x: Rows, parts: Sequence[Part], top: int) -> list[Risk]:
    """The risk of each row with its largest contributions, at the price of a prediction for each part."""
    return [
        one
        for first in range(0, len(x), _AT_ONCE)
        for one in _explained(risks, x[first : first + _AT_ONCE], parts, top)
    ]


def _explained(risks: Callable[[Rows], Rows], x: Rows, parts: Sequence[Part], top: int) -> list[Risk]:
    of_all = risks(x)
    added = _log_odds(of_all)[:, None] - _log_odds(risks(_without_each(x, parts))).reshape(len(x), len(parts))
    return [_told(*row, parts, top) for row in zip(x, of_all, added, strict=True)]


def _without_each(x: Rows, parts: Sequence[Part]) -> Rows:
    """Each row as often as there are parts, each time without another one: one prediction of many rows is quick."""
    changed = np.repeat(x[:, None, :], len(parts), axis=1)
    for place, part in enumerate(parts):
        changed[:, place, part.columns] = np.nan
    return changed.reshape(-1, x.shape[1])


def _log_odds(risks: Rows) -> Rows:
    # Finite, whatever the calibration gives.
    kept = np.clip(risks, 1e-9, 1 - 1e-9)
    found: Rows = np.log(kept / (1 - kept))
    return found


def _told(x: Rows, risk: float, added: Rows, parts: Sequence[Part], top: int) -> Risk:
    largest = [place for place in np.argsort(-np.abs(added), kind="stable")[:top] if added[place] != 0]
    told = (
        Contribution(parts[place].feature, _newest(x[list(parts[place].columns)]), float(added[place]))
        for place in largest
    )
    return Risk(float(risk), tuple(told))


def _newest(values: NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known[0]) if len(known) else None
