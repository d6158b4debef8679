"""The "ECG Heartbeat Categorization" files of Kaggle: single beats cut out of MIT-BIH and PTB records.

A line is one beat: 187 samples at 125 Hz, scaled to 0..1 and filled with zeros behind the beat, and its label. There
are neither patients nor times nor millivolts, so these are examples to learn from and no chunks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SAMPLES = 187
RATE = 125.0

MIT_BIH = ("N", "S", "V", "F", "Q")
"""Labels 0 to 4, classes of AAMI EC57: normal, supraventricular, ventricular, fusion, unknown. ``mitbih_*.csv``"""

PTB = ("normal", "abnormal")
"""Labels 0 and 1, of the patient and not of the beat. ``ptbdb_*.csv``"""


class HeartbeatFileError(ValueError):
    """A file is not of this layout; the text names file and line."""


@dataclass(frozen=True, eq=False)
class Heartbeat:
    """One beat, samples from 0 to 1 without the zeros behind them, and its label by name."""

    samples: NDArray[np.float64]
    label: str


def heartbeats(path: Path, labels: tuple[str, ...] = MIT_BIH) -> Iterator[Heartbeat]:
    """The beats of one file, line by line. Raises HeartbeatFileError."""
    try:
        with path.open(encoding="ascii") as lines:
            for number, line in enumerate(lines, start=1):
                yield _heartbeat(line, labels, f"{path.name}:{number}")
    except (OSError, UnicodeDecodeError) as error:
        raise HeartbeatFileError(f"{path} cannot be read: {error}") from error


def _heartbeat(line: str, labels: tuple[str, ...], where: str) -> Heartbeat:
    cells = line.split(",")
    if len(cells) != SAMPLES + 1:
        raise HeartbeatFileError(f"{where}: {len(cells)} columns, and {SAMPLES} samples with a label are {SAMPLES + 1}")
    try:
        values = np.array(cells, dtype=np.float64)
    except ValueError as error:
        raise HeartbeatFileError(f"{where}: {error}") from error
    samples, label = values[:-1], values[-1]
    if not np.all((samples >= 0) & (samples <= 1)):
        raise HeartbeatFileError(f"{where}: samples must be from 0 to 1")
    if label not in range(len(labels)):
        raise HeartbeatFileError(f"{where}: label {label:g} is none of 0 to {len(labels) - 1}")
    return Heartbeat(np.trim_zeros(samples, "b"), labels[int(label)])
