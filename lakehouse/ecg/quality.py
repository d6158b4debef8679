"""What a stretch of a lead is worth: whether beats that are found in it may be believed.

A label for ten seconds at a time, in this order: without values (lead off), saturated, flat, noise, good. The last
three are told in the band of the QRS complex, so that the slow swing of a loose electrode alone is flat. Noise has
the kurtosis of a normal distribution, 3, and narrow peaks over a quiet line a high one; 5 is the limit of Li, Mark
and Clifford (Physiol. Meas. 29, 2008).
"""

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

FLAT_MILLIVOLTS = 0.05
"""Peak to peak. Asystole and a cable in short circuit look alike; neither has beats."""

SATURATED_SHARE = 0.05
MISSING_SHARE = 0.5
LEAST_KURTOSIS = 5.0
BAND = (5.0, 30.0)
"""Hz: a QRS complex with neither T waves and breath below nor muscle and mains above."""

_EDGE_SECONDS = 0.25
"""The filter swings at either end, which would be a peak."""


class Quality(StrEnum):
    """What one says of a stretch."""

    LEAD_OFF = "lead-off"
    FLAT = "flat"
    SATURATED = "saturated"
    NOISE = "noise"
    GOOD = "good"


def quality(millivolts: NDArray[np.float64], saturated: NDArray[np.bool_], rate: float) -> Quality:
    """The label of a second of samples or more, NaN for none, of which some may be saturated; ``rate`` in Hz."""
    missing = np.isnan(millivolts)
    if np.mean(missing & ~saturated) > MISSING_SHARE:
        return Quality.LEAD_OFF
    if missing.all() or np.mean(saturated) > SATURATED_SHARE:
        return Quality.SATURATED
    within = _in_band(filled(millivolts), rate)
    if np.ptp(within) < FLAT_MILLIVOLTS:
        return Quality.FLAT
    return Quality.GOOD if _kurtosis(within) >= LEAST_KURTOSIS else Quality.NOISE


def filled(millivolts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The samples with straight lines where there are none; at least one is there."""
    known = ~np.isnan(millivolts)
    if known.all():
        return millivolts
    index = np.arange(len(millivolts))
    return np.interp(index, index[known], millivolts[known])


def _in_band(millivolts: NDArray[np.float64], rate: float) -> NDArray[np.float64]:
    from scipy import signal

    within = signal.sosfiltfilt(signal.butter(2, BAND, "bandpass", fs=rate, output="sos"), millivolts)
    edge = round(_EDGE_SECONDS * rate)
    return np.asarray(within[edge:-edge])


def _kurtosis(values: NDArray[np.float64]) -> float:
    spread = values - values.mean()
    return float(np.mean(spread**4) / np.mean(spread**2) ** 2)
