"""Which beats come too early, told from intervals alone.

A beat is premature where its interval is under ``PREMATURE_SHARE`` of the median of the last regular ones. An atrial
and a ventricular premature beat differ by the shape of the complex, of which nothing is said here; a late or a paced
beat is not told either, and in atrial fibrillation, where no interval is regular, the word means nothing.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import median

from lakehouse.ecg.beats import Beat

PREMATURE_SHARE = 0.85
REGULAR_INTERVALS = 8
"""Medians of fewer are not compared with: the first beats of a run are not judged."""


@dataclass(frozen=True)
class JudgedBeat:
    """A beat, and whether it is premature; None where nothing can be said."""

    beat: Beat
    premature: bool | None


def judged(beats: Iterable[Beat]) -> Iterator[JudgedBeat]:
    """Each beat of one lead with its judgement, in order; nothing later than a beat is looked at."""
    regular: deque[float] = deque(maxlen=REGULAR_INTERVALS)
    after_premature = False
    for beat in beats:
        if beat.rr is None:
            regular.clear()
            after_premature = False
        if beat.rr is None or len(regular) < REGULAR_INTERVALS:
            premature = None
        else:
            premature = beat.rr < PREMATURE_SHARE * median(regular)
        # The pause after a premature beat is as irregular as the interval before it.
        if beat.rr is not None and not premature and not after_premature:
            regular.append(beat.rr)
        after_premature = bool(premature)
        yield JudgedBeat(beat, premature)
