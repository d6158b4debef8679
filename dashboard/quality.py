"""What the page Data quality asks: how old tables are, how far flows are behind, what the last checks found."""

import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from lakehouse import reader
from lakehouse.datadir import DataDir
from lakehouse.flow_status import FlowStatus, flow_tails
from lakehouse.pipeline import FLOWS
from lakehouse.quarantine import DeviceDay
from lakehouse.table import Table
from lakehouse.tables import TABLES

if TYPE_CHECKING:
    import pandas as pd

LATE = 4

_NEWEST_RUN = """
SELECT table_name, table_version, expectation, success, unexpected_count, checked_at, detail
FROM quality.validation_result
WHERE run_id = (SELECT arg_max(run_id, checked_at) FROM quality.validation_result)
ORDER BY table_name, success, expectation
"""


@dataclass(frozen=True)
class Freshness:
    """A declared table: when it was last written, by which flow, and how old that flow says it may be.

    ``heard_at`` is when the flow last wrote any of its tables: one of few rows is seldom written.
    """

    table: str
    flow: str | None
    written_at: datetime | None
    heard_at: datetime | None
    may_be: timedelta | None

    def is_late(self, now: datetime) -> bool:
        """Whether its flow has written nothing for four times as long as it says, as the rule `lagging` has it."""
        return self.heard_at is not None and self.may_be is not None and now - self.heard_at > LATE * self.may_be


def freshness(data: DataDir) -> list[Freshness]:
    """Every declared table, in the order of the layers; one that is not there yet was never written."""
    writers = {name: flow for flow in FLOWS for name in flow.writes}
    written = {table.full_name: _written_at(data, table) for table in TABLES}
    heard = {flow: max(filter(None, (written.get(name) for name in flow.writes)), default=None) for flow in FLOWS}
    return [
        Freshness(name, flow.name, at, heard[flow], flow.freshness)
        if (flow := writers.get(name))
        else Freshness(name, None, at, None, None)
        for name, at in written.items()
    ]


def _written_at(data: DataDir, table: Table) -> datetime | None:
    try:
        return reader.committed_at(data, table, reader.open_table(data, table).version())
    except reader.TableMissingError:
        return None


class Flows:
    """The flows of running components, followed by their progress files: each look reads what is new."""

    def __init__(self, data: DataDir) -> None:
        self._tails = flow_tails(data)
        # Several people may look at once, and a file must be read once.
        self._lock = threading.Lock()

    def status(self, now: datetime) -> list[FlowStatus]:
        """Each flow as of now."""
        with self._lock:
            for tail, follower in self._tails:
                tail.add(follower.poll())
            return [tail.status(now) for tail, _ in self._tails]


def newest_run(data: DataDir) -> "pd.DataFrame":
    """Every expectation of the newest validation run, those that failed first. Raises TableMissingError."""
    found: pd.DataFrame = reader.query(data, _NEWEST_RUN).to_pandas()
    return found


def budget(days: list[DeviceDay], limit: float) -> "pd.DataFrame":
    """Days of devices with anything in quarantine: what was at fault, its share, and whether that is too much."""
    import pandas as pd

    columns = ("day", "source", "device", "values", "quarantined", "faults", "share", "over", "reasons")
    return pd.DataFrame(
        [
            (
                day.day,
                day.source,
                day.device_id,
                day.observations,
                day.quarantined,
                day.faults,
                day.share,
                day.exceeds(limit),
                ", ".join(f"{reason} {count:,}" for reason, count in day.reasons.items()),
            )
            for day in days
            if day.quarantined
        ],
        columns=list(columns),
    )


def reasons(days: list[DeviceDay]) -> "pd.DataFrame":
    """Quarantined values by ``reason`` and ``day``."""
    import pandas as pd

    rows = [(reason, day.day.isoformat(), count) for day in days for reason, count in day.reasons.items()]
    found = pd.DataFrame(rows, columns=["reason", "day", "values"])
    return found.groupby(["reason", "day"]).agg({"values": "sum"}).reset_index()
