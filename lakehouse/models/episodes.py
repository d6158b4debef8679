"""Landmarks of simulated patients: whether the next episode of the simulator will soon be at its height.

The truth of a run (docs/simulator.md) says when each episode begins and when it is at its height. An episode begins by
chance, and nothing before its onset tells of it; the onset is gradual. So the event is the height. A landmark at which
an episode has reached its height, and is not yet over, is left out: nothing is left to predict there.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from lakehouse import progress, reader
from lakehouse.datadir import DataDir
from lakehouse.models.landmarks import Label, Landmarks, NoLandmarksError, rows_of, versions_of
from lakehouse.models.outcome import Outcome, simulated_episode
from lakehouse.tables import OBSERVATION, PATIENT

_HOUR, _MINUTE = timedelta(hours=1), timedelta(minutes=1)
_GENDERS = "SELECT patient_id, arg_max(gender, recorded_at) FROM silver.patient GROUP BY patient_id"


class EpisodesError(ValueError):
    """A file is not the truth of a run that has ended; the text says what to do."""


class Height(NamedTuple):
    """When an episode is at its height, and when it is over."""

    reached: datetime
    over: datetime


@dataclass(frozen=True)
class Episodes:
    """The episodes of one run, from its ``start`` to its ``end``: stays by patient, heights by patient in order."""

    run: str
    start: datetime
    end: datetime
    stays: Mapping[str, str]
    heights: Mapping[str, Sequence[Height]]

    @property
    def system(self) -> str:
        """That of the simulated patients."""
        return next(iter(self.stays)).partition("/")[0]


def of_truth(path: Path) -> Episodes:
    """The episodes in the truth of a run, which `ward simulate` has written. Raises EpisodesError."""
    last = progress.last(path)
    if last is None or last.get("type") != "summary":
        raise EpisodesError(
            f"{path} is not the truth of a run that has ended: `ward simulate` writes one into `truth` of the data dir"
        )
    stays: dict[str, str] = {}
    heights: defaultdict[str, list[Height]] = defaultdict(list)
    lines = progress.read(path)
    start = datetime.fromisoformat(next(lines)["start"])
    for line in lines:
        match line["type"]:
            case "resource" if line["resource"].startswith("Encounter/"):
                stays[line["patient_id"]] = line["resource"].removeprefix("Encounter/")
            case "episode":
                reached, over = (datetime.fromisoformat(line[name]) for name in ("plateau_from", "to"))
                heights[line["patient_id"]].append(Height(reached, over))
    if not stays:
        raise EpisodesError(f"{path} names no patient: the run ended before it had sent one")
    ended = timedelta(seconds=last["ended_s"])
    return Episodes(last["run"], start, start + ended, stays, {one: sorted(its) for one, its in heights.items()})


def read(data: DataDir, episodes: Episodes, within: timedelta) -> Landmarks:
    """The landmarks of a run, with what silver had of its patients. Raises TableMissingError and NoLandmarksError."""
    outcome = simulated_episode(within, episodes.system)
    versions = versions_of(data, [OBSERVATION, PATIENT])
    with reader.connect(data, list(versions), versions, data.spill) as database:
        genders = dict(database.sql(_GENDERS).fetchall())
        labels = list(_labels(episodes, outcome, within, genders))
        if not labels:
            raise NoLandmarksError(
                f"run {episodes.run} lasted {episodes.end - episodes.start}, too short for what comes within {within}"
            )
        return rows_of(database, labels, outcome, versions)


def _labels(
    episodes: Episodes, outcome: Outcome, within: timedelta, genders: Mapping[str, str | None]
) -> Iterator[Label]:
    for patient_id in sorted(episodes.stays):
        heights = episodes.heights.get(patient_id, ())
        reached = [one.reached for one in heights]
        for at in _instants(episodes, outcome.step, within):
            passed = bisect_right(reached, at)
            if passed and at < heights[passed - 1].over:
                continue
            following = reached[passed] - at if passed < len(reached) else None
            yield Label(
                patient_id,
                # From one episode to the next, so that none has two events.
                f"{episodes.stays[patient_id]}/{passed}",
                at,
                None if following is None else following / _HOUR,
                following is not None and following <= within,
                {"gender": genders.get(patient_id) or "unknown"},
            )


def _instants(episodes: Episodes, step: timedelta, within: timedelta) -> Iterator[datetime]:
    """Full minutes, as beside the ward, of which the run tells all that came after."""
    at = episodes.start.replace(second=0, microsecond=0) + step + _MINUTE
    while at + within <= episodes.end:
        yield at
        at += step
