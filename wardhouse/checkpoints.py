"""How the queries' checkpoints stand: ``ward checkpoint list``, and the alarm that a DAG makes of it. Without Spark."""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from lakehouse.checkpoint import committed_at, files_read, position
from lakehouse.datadir import DataDir
from lakehouse.pipeline import ALERT_LIMITS, BACKFILL, FLOWS, Flow
from lakehouse.spool import Spool
from wardhouse.errors import Failure
from wardhouse.rewind import source_table
from wardhouse.settings import Settings
from wardhouse.status import newest_data, records_behind, versions_behind
from wardhouse.topics import Offsets, end_offsets

_ANSWER_S = 2.0


@dataclass(frozen=True)
class Standing:
    """One query's checkpoint. ``batch`` is the newest that is committed, ``age_s`` how long ago that was, in seconds.

    ``lag`` is what it has not taken, in ``unit``: records of Kafka, versions of a Delta table, or files. None where
    that cannot be told: without a broker, and for the alert flow, which goes on behind its own output instead.
    """

    flow: str
    application: str
    generation: int
    batch: int | None
    in_flight: bool
    age_s: float | None
    lag: int | None
    unit: str


def standings(settings: Settings, data: DataDir, bootstrap: str, now: datetime) -> tuple[bool, tuple[Standing, ...]]:
    """Whether a broker answers, and each query's checkpoint."""
    ends: Offsets | None = None
    with contextlib.suppress(Failure):
        ends = end_offsets(bootstrap, settings.topics().values(), _ANSWER_S)
    return ends is not None, tuple(_standing(settings, data, flow, ends, now) for flow in FLOWS if flow.checkpoint)


def breaches(found: Iterable[Standing], max_lag: int | None, max_age_s: float | None) -> tuple[str, ...]:
    """A line for each checkpoint of the lakehouse that is further behind than it may be.

    A flow that has taken all there is may be as old as it likes: nothing came. ``max_lag`` is in the unit of each.
    """
    lines = []
    for one in found:
        if one.application != "lakehouse":
            continue
        if max_lag is not None and one.lag is not None and one.lag > max_lag:
            lines.append(f"{one.flow}: {one.lag:,} {one.unit} behind, {max_lag:,} allowed")
        if max_age_s is not None and one.lag != 0 and one.age_s is not None and one.age_s > max_age_s:
            lines.append(f"{one.flow}: last commit {one.age_s:,.0f} s ago, {max_age_s:,.0f} s allowed")
    return tuple(lines)


def _standing(settings: Settings, data: DataDir, flow: Flow, ends: Offsets | None, now: datetime) -> Standing:
    folder = data.checkpoint(flow)
    at, committed = position(folder), committed_at(folder)
    lag, unit = _lag(settings, data, flow, ends)
    return Standing(
        flow=flow.name,
        application=flow.application,
        generation=int(folder.name),
        batch=at.batch_id if at and at.batch_id >= 0 else None,
        in_flight=at is not None and at.in_flight,
        age_s=max(0.0, now.timestamp() - committed) if committed is not None else None,
        lag=lag,
        unit=unit,
    )


def _lag(settings: Settings, data: DataDir, flow: Flow, ends: Offsets | None) -> tuple[int | None, str]:
    if flow == BACKFILL:
        return len(Spool(data).files() - files_read(data.checkpoint(flow))), "files"
    if table := source_table(flow):
        return versions_behind(data, flow, newest_data(data, table)), "versions"
    if flow == ALERT_LIMITS or ends is None:
        return None, "records"
    at = position(data.checkpoint(flow))
    return records_behind(ends, at.kafka() if at else {}, settings.topics(), *flow.reads), "records"
