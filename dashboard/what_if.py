"""A change of one rule tried on the minutes of gold, in a process of its own: it can be watched, left and stopped."""

import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from alerting.evaluation import Evaluation
from alerting.lab import Summary, Trial, summary, with_limits
from alerting.minutes import Gold
from alerting.pack import Pack
from lakehouse import reader
from lakehouse.datadir import DataDir
from lakehouse.reader import TableMissingError

ANSWERED_AFTER_S = 60.0
"""Somebody acknowledges what was told so long after, as `ward alerts simulate` has it by default."""

_PATIENTS = """
SELECT count(DISTINCT patient_id) AS patients FROM gold.vital_sign_minute WHERE minute >= $since AND minute < $until
"""


@dataclass(frozen=True)
class Asked:
    """The packs to try, and on which minutes."""

    root: Path
    since: datetime
    until: datetime
    packs: tuple[Pack, ...]


def changed(pack: Pack, rule_id: str, limit: float, delay_s: float) -> Pack:
    """The pack with another limit and delay of one rule, under a name that says so. Raises ValueError."""
    other = with_limits(pack, rule_id, limit=limit, delay_s=delay_s)
    return other.model_copy(update={"name": f"{pack.name}+{rule_id}={limit:g}/{delay_s:g}"})


class Job:
    """A comparison that runs. ``poll`` brings the fields up to date."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.share = 0.0
        self.found: tuple[Summary, ...] = ()
        self.error: str | None = None
        # A fork would carry the server's threads and locks along.
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe(duplex=False)
        self._process = spawn.Process(target=_work, args=(theirs, asked), name="what-if", daemon=True)
        self._process.start()
        theirs.close()

    @property
    def is_over(self) -> bool:
        """Whether it has ended, one way or the other."""
        return bool(self.found) or self.error is not None

    def poll(self) -> None:
        """Take what the process has said since the last time."""
        try:
            while not self.is_over and self._pipe.poll():
                kind, what = self._pipe.recv()
                setattr(self, kind, what)
        except EOFError:
            self.error = "the comparison ended without a result; the dashboard's log says why"

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.join()
        self._pipe.close()


def _work(pipe: Connection, asked: Asked) -> None:
    try:
        pipe.send(("found", tuple(_tried(pipe, asked))))
    except (TableMissingError, ValueError) as error:
        pipe.send(("error", str(error)))


def _tried(pipe: Connection, asked: Asked) -> Iterator[Summary]:
    data = DataDir(asked.root)
    span: dict[str, Any] = {"since": asked.since, "until": asked.until}
    patients = reader.query(data, _PATIENTS, span).to_pylist()[0]["patients"]
    history = Gold(data, asked.since, asked.until)
    for number, pack in enumerate(asked.packs):
        trial = Trial(pack, acknowledged_after_s=ANSWERED_AFTER_S)
        told = _telling(pipe, history.evaluations(pack, (0, 1)), number, len(asked.packs), max(patients, 1))
        trial.run(told)
        yield summary(trial.end())


def _telling(
    pipe: Connection, evaluations: Iterator[Evaluation], number: int, packs: int, patients: int
) -> Iterator[Evaluation]:
    """The evaluations, which come patient after patient; after each the share that is done is told."""
    done, current = -1, None
    for evaluation in evaluations:
        if evaluation.patient_id != current:
            done, current = done + 1, evaluation.patient_id
            pipe.send(("share", (number + done / patients) / packs))
        yield evaluation
