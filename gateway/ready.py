"""Whether the gateway can do its work: what ``/readyz`` answers."""

from typing import Any

from gateway.services import Services
from lakehouse import reader
from lakehouse.datadir import DataDir
from lakehouse.delta_log import LogError
from lakehouse.reader import TableMissingError
from lakehouse.tables import ALERT, ALERT_EVENT, EARLY_WARNING_SCORE, ENCOUNTER, VITAL_SIGN_MINUTE

MOST_LAG = 10_000
"""Records that may wait for the live cache: ten seconds of a hospital at 1,000 messages/s. Beyond it values are old."""

READ = (VITAL_SIGN_MINUTE, EARLY_WARNING_SCORE, ALERT, ALERT_EVENT, ENCOUNTER)
"""What the ways out are read from."""


def tables(data: DataDir) -> dict[str, list[str]]:
    """The tables that answers are read from and that have not been made yet, and those that cannot be opened."""
    from deltalake.exceptions import DeltaError

    missing, unreadable = [], []
    for table in READ:
        try:
            reader.open_table(data, table)
        except TableMissingError:
            missing.append(table.full_name)
        except (LogError, DeltaError, OSError, ValueError):
            unreadable.append(table.full_name)
    return {"missing": missing, "unreadable": unreadable}


def readiness(data: DataDir, running: Services) -> dict[str, Any]:
    """What holds and what does not; ``ready`` sums it up.

    A table that is not there yet is told and does not count: a stack that has just started takes messages before there
    are tables. With a spool what is sent is taken without the broker: a load balancer must not turn the senders away.
    For the same reason an MQTT broker that is away is told and does not count.
    """
    found = tables(data)
    lag = running.cache.lag
    checks = {
        "broker": running.feed.in_touch,
        "tables": not found["unreadable"],
        "lag": lag is not None and lag <= MOST_LAG,
    }
    ready = all(checks.values()) or running.outbox.can_spool
    answer = {"ready": ready, "checks": checks, "tables": found, "live_lag_records": lag}
    if running.bridge is None:
        return answer
    return {**answer, "mqtt": {"connected": running.bridge.fault is None, "fault": running.bridge.fault}}
