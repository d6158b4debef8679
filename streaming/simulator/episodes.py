"""When patients fall ill, and how far: kinds of episode, their course, and which limits they cross.

A course is an onset, a plateau and a recovery. On the plateau every value breaks the rules that the kind names (default
adult pack: HR > 120 or < 40, SpO2 < 90, or < 86 in the unit RESP, temperature > 38.5, RR > 30, SBP < 90), noise and
rounding included. Courses take minutes instead of the hours of a ward, so that a demonstration shows some.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streaming.simulator.cohort import SIGNALS, Floats


@dataclass(frozen=True)
class Kind:
    """One kind of episode: each signal's plateau at the least and the greatest severity."""

    name: str
    plateau: Mapping[str, tuple[float, float]]
    expected_rules: tuple[str, ...]
    """Rules of the default adult pack that every value of the plateau breaks."""


KINDS = (
    Kind(
        "sepsis",
        {
            "heart_rate": (126, 150),
            "respiratory_rate": (33, 38),
            "spo2": (94, 92),
            "systolic_bp": (84, 70),
            "diastolic_bp": (52, 42),
            "temperature": (38.9, 40.2),
        },
        ("heart-rate-high", "respiratory-rate-high", "systolic-bp-low", "temperature-high"),
    ),
    Kind(
        "hypoxia",
        {"spo2": (84, 74), "respiratory_rate": (22, 27), "heart_rate": (100, 114)},
        ("spo2-low",),
    ),
    Kind("tachycardia", {"heart_rate": (130, 175), "systolic_bp": (112, 100)}, ("heart-rate-high",)),
    Kind("bradycardia", {"heart_rate": (36, 28), "systolic_bp": (108, 98)}, ("heart-rate-low",)),
    Kind(
        "fever",
        {"temperature": (38.9, 40.4), "heart_rate": (98, 112), "respiratory_rate": (19, 24)},
        ("temperature-high",),
    ),
    Kind(
        "hypotension",
        {"systolic_bp": (83, 66), "diastolic_bp": (50, 40), "heart_rate": (104, 116)},
        ("systolic-bp-low",),
    ),
)

_ONSET_S = (20.0, 60.0)
_PLATEAU_S = (60.0, 240.0)
_RECOVERY_S = (30.0, 90.0)
_COURSE_CADENCES = 5.0
"""A course is stretched where a patient sends so rarely that a plateau would hold but a few messages."""

_FIRST_SHARE = 0.01
_FIRST_START_S = (1.0, 5.0)
_FIRST_ONSET_S = 10.0


@dataclass(frozen=True)
class Episode:
    """One episode of one patient. Instants in seconds after the start of the run; severity from 0 to 1."""

    patient: int
    kind: Kind
    severity: float
    start: float
    plateau: float
    recovery: float
    end: float


class Schedule:
    """The current or next episode of each patient, as arrays; one patient has one at a time.

    ``per_hour`` is the mean number of episodes a patient begins in an hour without one. One patient in a hundred, but
    at least one, falls ill within seconds, so that a fresh start soon has something to show.
    """

    def __init__(self, size: int, per_hour: float, cadence: float, rng: np.random.Generator) -> None:
        self._rng = rng
        self._stretch = max(1.0, cadence / _COURSE_CADENCES)
        self._mean_gap = self._stretch * 3600 / per_hour if per_hour > 0 else np.inf
        self.episodes: list[Episode | None] = [None] * size
        self.start, self.plateau, self.recovery, self.end = (np.full(size, np.inf) for _ in range(4))
        self.weight = np.zeros((size, len(SIGNALS)))
        self.target = np.zeros((size, len(SIGNALS)))
        self._last_end = np.full((size, len(SIGNALS)), -np.inf)
        if per_hour > 0:
            first = max(1, round(size * _FIRST_SHARE))
            for patient in range(size):
                self._plan(patient, 0.0, first=patient < first)

    def advance(self, at: Floats) -> list[Episode]:
        """Plan what follows episodes that ended, and return those that began, given each patient's instant.

        An episode begins for the reader at the patient's first message in it.
        """
        for patient in np.flatnonzero(at >= self.end):
            self._plan(int(patient), float(self.end[patient]), first=False)
        begun = [episode for patient in np.flatnonzero(at >= self.start) if (episode := self.episodes[int(patient)])]
        for episode in begun:
            self.episodes[episode.patient] = None
        return begun

    def severity(self, at: Floats) -> Floats:
        """How far each patient's episode has developed at their instant: 0 outside, 1 on the plateau."""
        with np.errstate(invalid="ignore"):
            rise = (at - self.start) / (self.plateau - self.start)
            fall = (at - self.recovery) / (self.end - self.recovery)
        # Patients without any episode have infinities, hence NaN, here.
        risen: Floats = _smooth(np.nan_to_num(rise)) * (1 - _smooth(np.nan_to_num(fall)))
        return risen

    def may_move(self, column: int, start: Floats, end: Floats) -> NDArray[np.bool_]:
        """Whether an episode moves each patient's signal at some time from ``start`` to ``end`` (a value per patient).

        Sees the last episode and the one that is going on or planned. What comes after that may move any signal.
        """
        meets = (self.weight[:, column] > 0) & (start < self.end) & (end > self.start)
        moved: NDArray[np.bool_] = meets | (start < self._last_end[:, column]) | (end > self.end)
        return moved

    def _plan(self, patient: int, after: float, *, first: bool) -> None:
        self._last_end[patient, self.weight[patient] > 0] = after
        draws = self._rng.random(5)
        kind = KINDS[int(self._rng.integers(len(KINDS)))]
        gap = -np.log1p(-draws[0]) * self._mean_gap
        start = after + (_between(_FIRST_START_S, draws[0]) if first else gap)
        onset = _FIRST_ONSET_S if first else _between(_ONSET_S, draws[1])
        plateau = start + self._stretch * onset
        recovery = plateau + self._stretch * _between(_PLATEAU_S, draws[2])
        end = recovery + self._stretch * _between(_RECOVERY_S, draws[3])
        severity = float(draws[4])
        self.episodes[patient] = Episode(patient, kind, severity, start, plateau, recovery, end)
        self.start[patient], self.plateau[patient] = start, plateau
        self.recovery[patient], self.end[patient] = recovery, end
        self.weight[patient] = [name in kind.plateau for name in SIGNALS]
        self.target[patient] = [_between(kind.plateau.get(name, (0.0, 0.0)), severity) for name in SIGNALS]


def _between(bounds: tuple[float, float], share: float) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * float(share)


def _smooth(share: Floats) -> Floats:
    """0 to 1 without a kink at either end."""
    share = np.clip(share, 0.0, 1.0)
    return share * share * (3 - 2 * share)
