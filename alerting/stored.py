"""What gold holds of alerts, as rows for a person: transitions of one alert, and who was told."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lakehouse.datadir import DataDir
from lakehouse.reader import TableMissingError, query

Rows = list[dict[str, Any]]

_TRANSITIONS = "SELECT * FROM gold.alert_event WHERE alert_id = $alert_id ORDER BY sequence"


def transitions(data: DataDir, alert_id: str) -> Rows:
    """Every transition of one alert, in order; none for one that has not landed. Raises TableMissingError."""
    found: Rows = query(data, _TRANSITIONS, {"alert_id": alert_id}).to_pylist()
    return found


@dataclass(frozen=True)
class Tellings:
    """Rows of gold.alert_notification and gold.alert_delivery; ``missing`` names those of them that are not there."""

    notifications: Rows
    deliveries: Rows
    missing: tuple[str, ...]


def tellings(data: DataDir, alert_ids: list[str]) -> Tellings:
    """Who was told of these alerts, and how that ended."""
    decided = "SELECT * FROM gold.alert_notification WHERE list_has_any(alert_ids, $ids) ORDER BY decided_at"
    ended = "SELECT * FROM gold.alert_delivery WHERE list_has_any(alert_ids, $ids) ORDER BY ended_at"
    missing: list[str] = []
    found = [rows(data, sql, {"ids": alert_ids}, missing) for sql in (decided, ended)]
    return Tellings(found[0], found[1], tuple(missing))


def rows(data: DataDir, sql: str, params: Mapping[str, Any], missing: list[str]) -> Rows:
    """The rows of a query; of a table that is not there none, and its name goes to ``missing``."""
    try:
        found: Rows = query(data, sql, params).to_pylist()
    except TableMissingError as error:
        missing.append(error.table.full_name)
        return []
    return found
