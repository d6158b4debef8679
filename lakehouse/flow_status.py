"""How each flow is doing, by the progress lines that it appends: records, rate, lag, errors. No broker is asked."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import orjson

from lakehouse.datadir import DataDir
from lakehouse.pipeline import FLOWS, Flow
from lakehouse.progress import Record

RATE_WINDOW_S = 60.0
"""Rates are over the last minute: two batches of the slowest flow."""


class Follower:
    """Reads a growing file of JSON lines piece by piece: each ``poll`` gives the whole lines that are new."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def skip(self) -> None:
        """Leave out what is there already."""
        with contextlib.suppress(FileNotFoundError):
            self._offset = self._path.stat().st_size

    def poll(self) -> Iterator[Record]:
        """The whole lines since the last call; a line that a killed process left broken is passed over."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                fresh = file.read()
        except FileNotFoundError:
            return
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            with contextlib.suppress(orjson.JSONDecodeError):
                yield orjson.loads(line)


@dataclass(frozen=True)
class FlowStatus:
    """What the progress of one flow says. Rates are records a second, instants aware; None is: it does not say."""

    flow: str
    application: str
    at: datetime | None = None
    records: int = 0
    rate: float | None = None
    lag: int | None = None
    duration_ms: int | None = None
    idle: bool = False
    error: str | None = None


@dataclass
class FlowTail:
    """Keeps one flow's status up to date from its progress lines."""

    flow: Flow
    records: int = 0
    batches: tuple[tuple[float, float, int], ...] = ()
    """End and duration (seconds) and records of the batches within the window."""
    last: Record | None = None
    last_batch: Record | None = None
    error: str | None = None

    def add(self, lines: Iterable[Record]) -> None:
        """Take further progress lines, oldest first."""
        for line in lines:
            self.last = line
            if "rows" in line:
                at = datetime.fromisoformat(line["at"]).timestamp()
                self.records += line["rows"]
                self.last_batch, self.error = line, None
                batch = (at, line.get("duration_ms", 0) / 1000, line["rows"])
                self.batches = tuple(item for item in (*self.batches, batch) if at - item[0] < RATE_WINDOW_S)
            elif "records" in line:
                # A component that counts for itself, such as the router: totals, not batches.
                self.records, self.last_batch = line["records"], line
            elif line.get("error"):
                self.error = str(line["error"]).strip().splitlines()[0]

    def status(self, now: datetime) -> FlowStatus:
        """The flow as of now."""
        if self.last is None:
            return FlowStatus(self.flow.name, self.flow.application)
        batch, at = self.last_batch or {}, datetime.fromisoformat(self.last["at"])
        told = batch.get("rate") if (now - at).total_seconds() < RATE_WINDOW_S else None
        return FlowStatus(
            flow=self.flow.name,
            application=self.flow.application,
            at=at,
            records=self.records,
            rate=told if "rate" in batch else self._rate(now.timestamp()),
            lag=0 if self.last.get("idle") else batch.get("lag"),
            duration_ms=batch.get("duration_ms"),
            idle=bool(self.last.get("idle")),
            error=self.error,
        )

    def _rate(self, now: float) -> float | None:
        recent = [(end, took, rows) for end, took, rows in self.batches if now - end < RATE_WINDOW_S]
        if not recent:
            return None
        span = now - min(end - took for end, took, _ in recent)
        return sum(rows for _, _, rows in recent) / max(span, 1.0)


def flow_tails(data: DataDir) -> tuple[tuple[FlowTail, Follower], ...]:
    """For each declared flow of a running component: its tail and the file it is fed from."""
    return tuple(
        (FlowTail(flow), Follower(data.progress(flow.name))) for flow in FLOWS if flow.application != "airflow"
    )
