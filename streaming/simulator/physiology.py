"""What the monitors read: what is normal for a patient, the time of day, activity, an episode, and noise.

Signals move together because they share slow causes (activity, breathing, vessel tone, warmth), each a random walk that
returns to its mean. Amplitudes are of the size seen in resting adults: temperature highest in the late afternoon,
pressure and pulse lowest at night.
"""

from datetime import UTC, datetime

import numpy as np

from streaming.simulator.cohort import Cohort, Floats
from streaming.simulator.episodes import Episode, Schedule

# Columns as in SIGNALS: heart rate, respiratory rate, SpO2, systolic, diastolic, temperature.
_DAILY_AMPLITUDE = np.array([5.0, 0.7, 0.3, 6.0, 4.0, 0.3])
_DAILY_PEAK_HOUR = np.array([15.0, 15.0, 12.0, 14.0, 14.0, 17.0])
_NOISE = np.array([1.0, 0.6, 0.4, 2.0, 1.5, 0.05])
_NOISE_BOUND = 2.5

_CAUSE_SECONDS = np.array([120.0, 60.0, 300.0, 3600.0])
_CAUSE_BOUND = 2.0
_EFFECT = np.array(
    [
        # activity, breathing, vessel tone, warmth: effect of one standard deviation on each signal
        [3.5, 0.8, 0.0, 4.0, 2.5, 0.0],
        [0.0, 0.9, -0.5, 0.0, 0.0, 0.0],
        [-1.0, 0.0, 0.0, 4.0, 2.5, 0.0],
        [1.0, 0.0, 0.0, 0.0, 0.0, 0.1],
    ]
)
_LEAST_PULSE_PRESSURE = 15.0


class Physiology:
    """The readings of a cohort, a cycle at a time; each call of ``read`` moves ``cadence`` seconds on."""

    def __init__(
        self, cohort: Cohort, start: datetime, cadence: float, per_hour: float, rng: np.random.Generator
    ) -> None:
        self._resting = cohort.resting
        self._start_hour = (start.astimezone(UTC) - datetime(2000, 1, 1, tzinfo=UTC)).total_seconds() / 3600 % 24
        self._rng = rng
        self._keep = np.exp(-cadence / _CAUSE_SECONDS)
        self._stir = np.sqrt(1 - self._keep**2)
        size = len(cohort.patients)
        self._causes = rng.standard_normal((size, len(_CAUSE_SECONDS)))
        self.schedule = Schedule(size, per_hour, cadence, rng)

    def read(self, at: Floats) -> tuple[Floats, list[Episode]]:
        """Readings (a row per patient, a column per signal) at each patient's instant, and episodes that begin.

        ``at`` is in seconds after the start. Readings are whole numbers as on a monitor, temperature in tenths.
        """
        begun = self.schedule.advance(at)
        self._causes = self._causes * self._keep + self._rng.standard_normal(self._causes.shape) * self._stir
        effect = _CAUSE_BOUND * np.tanh(self._causes / _CAUSE_BOUND) @ _EFFECT
        value = self._resting + _daily(self._start_hour + at / 3600) + effect
        ill = self.schedule.severity(at)[:, None] * self.schedule.weight
        noise = np.clip(self._rng.standard_normal(value.shape), -_NOISE_BOUND, _NOISE_BOUND) * _NOISE
        value = value + ill * (self.schedule.target - value) + noise
        value[:, 2] = np.minimum(value[:, 2], 100.0)
        value[:, 4] = np.minimum(value[:, 4], value[:, 3] - _LEAST_PULSE_PRESSURE)
        value[:, :5] = np.rint(value[:, :5])
        value[:, 5] = np.round(value[:, 5], 1)
        return value, begun


def _daily(hours: Floats) -> Floats:
    swing: Floats = _DAILY_AMPLITUDE * np.cos((hours[:, None] - _DAILY_PEAK_HOUR) * (2 * np.pi / 24))
    return swing
