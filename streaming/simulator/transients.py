"""Short harmless excursions: a moving hand takes the oximeter below its limit, a moving arm hurries the pulse.

The value is plausible and the patient is not ill. While a transient lasts, the monitor reads one value beyond the
limit, as if nothing had been there before and nothing came after.

How long and how deep SpO2 falls is fitted to two published figures (PMC4891882): of the alarms below 90 %, a delay of
15 s removed 60 %, and a limit of 88 % instead of 90 % removed 63 %. Both durations and depths are taken as exponential
and independent of each other, so each figure fixes one mean. Who finds the two figures again in a simulated stream has
checked the arithmetic of rules, and has no new evidence about patients. No figure is published for the pulse: it lasts
as long, and its height is chosen.
"""

from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray

from streaming.simulator.cohort import SIGNALS, Floats
from streaming.simulator.episodes import Schedule

_DELAY_S, _REMOVED_BY_DELAY = 15.0, 0.60
_LOWER_LIMIT_BY, _REMOVED_BY_LIMIT = 2.0, 0.63

MEAN_DURATION_S = -_DELAY_S / log(1 - _REMOVED_BY_DELAY)
"""16.4 s: exp(-15 / 16.4) = 0.40 of the transients outlast a delay of 15 s."""

MEAN_DEPTH = -_LOWER_LIMIT_BY / log(1 - _REMOVED_BY_LIMIT)
"""2.0 points of SpO2: exp(-2 / 2.0) = 0.37 of the transients lie below 88 % too."""

_MEAN_HEIGHT = 8.0
"""Beats a minute above the limit: seldom beyond 150."""


@dataclass(frozen=True)
class Movement:
    """What a movement does to one signal: beyond ``limit`` (default adult pack) by ``mean_beyond`` on average."""

    signal: str
    limit: float
    direction: int
    """1: above the limit; -1: below it."""
    mean_beyond: float
    furthest: float
    """Still plausible; one transient in thousands would go further."""
    extreme_name: str
    """What the truth calls the value that is read."""

    @property
    def column(self) -> int:
        """Where the signal stands in a row of readings."""
        return SIGNALS.index(self.signal)

    def reading(self, beyond: Floats) -> Floats:
        """The whole number that the monitor shows, ``beyond`` the limit by so much.

        Never the limit itself, and beyond a limit moved outwards by n exactly where ``beyond`` is n or more.
        """
        outwards = np.floor(self.direction * self.limit + beyond) + 1
        shown: Floats = np.minimum(outwards, self.direction * self.furthest) * self.direction
        return shown


MOVEMENTS = (
    Movement("spo2", 90.0, -1, MEAN_DEPTH, 50.0, "nadir"),
    Movement("heart_rate", 120.0, 1, _MEAN_HEIGHT, 200.0, "peak"),
)
"""One transient is as likely as the other."""

MOST_PER_HOUR = 200.0
"""At twice as many, one would follow the other without a pause."""


@dataclass(frozen=True)
class Transient:
    """One transient of one patient. Instants in seconds after the start of the run; ``extreme`` is what is read."""

    patient: int
    movement: Movement
    start: float
    end: float
    extreme: float


class Transients:
    """The transients of a cohort: ``per_hour`` of them begin in a patient's hour on average, of all movements together.

    Those shorter than the cadence may fall between two messages, and nobody sees them. One that would meet an episode
    in its signal is left out, since it could not be told from it. Raises ValueError beyond MOST_PER_HOUR.
    """

    def __init__(self, size: int, per_hour: float, rng: np.random.Generator) -> None:
        if not 0 <= per_hour <= MOST_PER_HOUR:
            raise ValueError(f"transients an hour must lie between 0 and {MOST_PER_HOUR:g}, not {per_hour:g}")
        self._courses = [_Course(movement, size, per_hour, rng) for movement in MOVEMENTS if per_hour > 0]

    def disturb(self, values: Floats, at: Floats, schedule: Schedule) -> list[Transient]:
        """Put what is going on at each patient's instant into their readings; return what is seen for the first time.

        ``values`` has a row per patient and a column per signal. ``schedule`` has been advanced to the same instants.
        """
        return [transient for course in self._courses for transient in course.disturb(values, at, schedule)]


class _Course:
    """The current or next transient of one signal, for each patient."""

    def __init__(self, movement: Movement, size: int, per_hour: float, rng: np.random.Generator) -> None:
        self._movement = movement
        self._rng = rng
        self._mean_gap = len(MOVEMENTS) * 3600 / per_hour - MEAN_DURATION_S
        self._start, self._end, self._extreme = (np.zeros(size) for _ in range(3))
        self._unseen: NDArray[np.bool_] = np.zeros(size, dtype=bool)

    def disturb(self, values: Floats, at: Floats, schedule: Schedule) -> list[Transient]:
        """See :meth:`Transients.disturb`."""
        while (over := np.flatnonzero(at >= self._end)).size:
            self._plan(over)
        column = self._movement.column
        first_seen = self._unseen & (self._start <= at)
        # One that may meet an episode never starts; the next is planned when this one would be over.
        self._start[first_seen & schedule.may_move(column, self._start, self._end)] = np.inf
        going_on = self._start <= at
        values[going_on, column] = self._extreme[going_on]
        begun = np.flatnonzero(first_seen & going_on)
        self._unseen[begun] = False
        return [self._transient(int(patient)) for patient in begun]

    def _plan(self, patients: NDArray[np.intp]) -> None:
        gap, duration, beyond = self._rng.standard_exponential((3, patients.size))
        self._start[patients] = self._end[patients] + gap * self._mean_gap
        self._end[patients] = self._start[patients] + duration * MEAN_DURATION_S
        self._extreme[patients] = self._movement.reading(beyond * self._movement.mean_beyond)
        self._unseen[patients] = True

    def _transient(self, patient: int) -> Transient:
        start, end, extreme = (float(part[patient]) for part in (self._start, self._end, self._extreme))
        return Transient(patient, self._movement, start, end, extreme)
