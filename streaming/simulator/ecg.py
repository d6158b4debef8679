"""The ECG of a simulated patient: two leads, a chunk at a time, at whatever heart rate the patient has then.

Each beat is five Gaussian waves around its R peak, the shape of McSharry and Clifford's model without its differential
equation; P and T keep their distance in proportion to the root of the interval (Bazett). Breath moves both intervals
and line.
"""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import pi, sin, sqrt

import numpy as np

from lakehouse.ecg.chunk import WaveformChunk
from streaming.simulator.cohort import Floats

LEADS = {"131330": 1.0, "131335": 0.7}
"""MDC codes of leads II and V5, and how large the waves are in them."""

GAIN, BASELINE, LOWEST, HIGHEST = 200.0, 1024.0, 0.0, 2047.0
"""An 11-bit converter of 5 microvolts a step."""


@dataclass(frozen=True)
class Wave:
    """Seconds from the R peak at 60 beats a minute, millivolts, and seconds of one standard deviation."""

    after: float
    height: float
    width: float
    stretches: bool = False


WAVES = (
    Wave(-0.18, 0.12, 0.022, stretches=True),
    Wave(-0.030, -0.10, 0.010),
    Wave(0.0, 1.1, 0.011),
    Wave(0.032, -0.18, 0.011),
    Wave(0.28, 0.25, 0.05, stretches=True),
)

_REACH = 0.8
"""Seconds from a beat beyond which nothing of it is left."""

_BREATH_SECONDS = 4.0
_BREATH_SHARE = 0.03
_JITTER_SHARE = 0.01
_WANDER_MILLIVOLTS = 0.08
_NOISE_MILLIVOLTS = 0.012


class Ecg:
    """One patient's leads from ``start`` on; the same seed and heart rates give the same samples."""

    def __init__(self, patient_id: str, device_id: str, start: datetime, rate: float, seed: int) -> None:
        self._patient_id, self._device_id, self._start, self._rate = patient_id, device_id, start, rate
        # Each draws in its own order, so that the samples are the same however they are cut into chunks.
        self._beats, *noise = np.random.default_rng(seed).spawn(1 + len(LEADS))
        self._noise = dict(zip(LEADS, noise, strict=True))
        self._sent = 0
        self._peaks: list[float] = []
        self._intervals: list[float] = []

    @property
    def peaks(self) -> tuple[datetime, ...]:
        """The R peaks in all that was read, a truth to compare with."""
        end = self._sent / self._rate
        return tuple(self._start + timedelta(seconds=peak) for peak in self._peaks if peak < end)

    def read(self, seconds: float, heart_rate: float) -> tuple[WaveformChunk, ...]:
        """The next chunk of each lead. Heart rate in beats a minute, from some 30 to 220."""
        first, count = self._sent, round(seconds * self._rate)
        self._beat_until((first + count) / self._rate + _REACH, 60 / heart_rate)
        self._sent += count
        at = np.arange(first, first + count) / self._rate
        wave = self._waves(at)
        wander = _WANDER_MILLIVOLTS * np.sin(2 * pi * at / _BREATH_SECONDS)
        return tuple(self._chunk(code, first, size * wave + wander) for code, size in LEADS.items())

    def _beat_until(self, end: float, interval: float) -> None:
        while not self._peaks or self._peaks[-1] < end:
            last = self._peaks[-1] if self._peaks else 0.0
            breath = _BREATH_SHARE * sin(2 * pi * last / _BREATH_SECONDS)
            drawn = interval * (1 + breath + _JITTER_SHARE * self._beats.standard_normal())
            self._intervals.append(drawn)
            self._peaks.append(last + drawn)

    def _waves(self, at: Floats) -> Floats:
        total = np.zeros(len(at))
        reached = slice(bisect_right(self._peaks, at[0] - _REACH), bisect_left(self._peaks, at[-1] + _REACH))
        for peak, interval in zip(self._peaks[reached], self._intervals[reached], strict=True):
            near = slice(*np.searchsorted(at, (peak - _REACH, peak + _REACH)))
            for wave in WAVES:
                after = wave.after * sqrt(interval) if wave.stretches else wave.after
                total[near] += wave.height * np.exp(-0.5 * ((at[near] - peak - after) / wave.width) ** 2)
        return total

    def _chunk(self, code: str, first: int, millivolts: Floats) -> WaveformChunk:
        noisy = millivolts + _NOISE_MILLIVOLTS * self._noise[code].standard_normal(len(millivolts))
        steps = np.clip(np.round(noisy * GAIN + BASELINE), LOWEST, HIGHEST).astype(np.int32)
        return WaveformChunk(
            patient_id=self._patient_id,
            device_id=self._device_id,
            signal=code,
            started_at=self._start + timedelta(seconds=first / self._rate),
            rate=self._rate,
            unit="mV",
            gain=GAIN,
            baseline=BASELINE,
            samples=steps,
            lowest=LOWEST,
            highest=HIGHEST,
        )
