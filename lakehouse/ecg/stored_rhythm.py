"""Rows of gold.rhythm_minute: one lead in one minute, out of its chunks around that minute and of nothing else.

The search begins LEAD_IN before the minute, in which it learns the beats' size and has regular intervals to compare
with. So a minute is the same whenever it is worked out, in whatever order its chunks came and however they were cut;
the price is that beats near the start of a search may be judged otherwise than in one that runs for hours.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from lakehouse.ecg.beat_class import judged
from lakehouse.ecg.beats import AFTER_SECONDS, LEAST_RATE, Stretch, stretches
from lakehouse.ecg.chunk import MOST_SAMPLES, WaveformChunk
from lakehouse.ecg.quality import Quality
from lakehouse.ecg.rhythm import RhythmMinute, by_minute
from lakehouse.ecg.settled import settled, within

MINUTE = timedelta(minutes=1)
LEAD_IN = timedelta(seconds=30)
AFTER = timedelta(seconds=AFTER_SECONDS)

LONGEST = timedelta(seconds=MOST_SAMPLES / LEAST_RATE)
"""How long a chunk may be that is searched at all."""

_SHARES = {quality: f"{quality.replace('-', '_')}_share" for quality in Quality}
_NO_BEATS: Mapping[str, Any] = dict.fromkeys(("beats", "good_beats", "premature", "intervals"), 0) | dict.fromkeys(
    ("mean_rr", "min_rr", "max_rr", "sdnn", "rmssd", "pnn50", "irregularity")
)


def touched(started_at: datetime, ended_at: datetime) -> Iterator[datetime]:
    """The minutes whose row may depend on a chunk of this span."""
    minute = (started_at - AFTER).replace(second=0, microsecond=0)
    while minute < ended_at + LEAD_IN:
        yield minute
        minute += MINUTE


def rhythm_minute(chunks: Iterable[WaveformChunk], minute: datetime) -> dict[str, Any] | None:
    """One minute of the chunks of one lead; None where they have no signal in it that could be searched.

    Chunks may come in any order, repeat each other, and reach beyond what is looked at.
    """
    start, end = minute - LEAD_IN, minute + MINUTE + AFTER
    fast = (chunk for chunk in chunks if chunk.rate >= LEAST_RATE)
    found = list(stretches(within(settled(fast), start, end)))
    shares = _shares(found, minute)
    if not any(shares.values()):
        return None
    beats = chain.from_iterable(stretch.beats for stretch in found)
    rhythm = next((one for one in by_minute(judged(beats)) if one.minute == minute), None)
    return {"minute": minute, **(_counted(rhythm) if rhythm else _NO_BEATS), **shares}


def _counted(rhythm: RhythmMinute) -> dict[str, Any]:
    return {name: value for name, value in asdict(rhythm).items() if name != "minute"}


def _shares(found: Iterable[Stretch], minute: datetime) -> dict[str, float]:
    shares = dict.fromkeys(_SHARES.values(), 0.0)
    begin = minute
    for stretch in found:
        # Where a clock is put right between two stretches they may overlap by milliseconds.
        begin, until = max(begin, stretch.started_at), min(stretch.ended_at, minute + MINUTE)
        shares[_SHARES[stretch.quality]] += max(0.0, (until - begin) / MINUTE)
        begin = max(begin, until)
    return shares
