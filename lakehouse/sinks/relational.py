"""What PostgreSQL and MySQL share: keys, the latest row of each series, and the view of patients as they stand."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from lakehouse.privacy import PATIENT
from lakehouse.table import Column, Table
from lakehouse.tables import ALERT, EARLY_WARNING_SCORE, VITAL_SIGN_MINUTE
from lakehouse.vocabulary import signals

PARTITIONS = 8
"""Of each table, by patient. A number that no site has to change: a ward's months fit in one, a hospital's years in
eight."""

Quote = Callable[[str], str]
"""A name as the database writes it."""


@dataclass(frozen=True)
class Latest:
    """A small table beside a large one: of the rows that share ``by``, the one with the greatest ``at``."""

    table: Table
    by: tuple[str, ...]
    at: str

    @property
    def name(self) -> str:
        """Its own name, without a schema."""
        return f"{self.table.name}_latest"

    @property
    def columns(self) -> tuple[Column, ...]:
        """Those of the table."""
        return self.table.columns


LATEST = (
    Latest(VITAL_SIGN_MINUTE, ("patient_id", "code"), "minute"),
    Latest(EARLY_WARNING_SCORE, ("patient_id", "score"), "observed_at"),
)

STATUS = "patient_status"
"""The view of patients as they stand: one row a patient."""

_RANKS = ("high", "medium", "low")
_TOTALS = ("news2", "qsofa", "sirs")
_TOTAL = (("total", ""), ("total_min", "_min"), ("total_max", "_max"), ("risk", "_risk"), ("observed_at", "_at"))
"""Columns of a score, and what their names end with in the view."""


def latest_of(table: Table) -> Latest | None:
    """The table of latest rows beside this one."""
    return next((latest for latest in LATEST if latest.table == table), None)


def primary_key(table: Table) -> tuple[str, ...]:
    """The table's key, and the patient, by whom it is partitioned: any row of a key is of the same one."""
    return (*table.key, PATIENT) if is_partitioned(table) and PATIENT not in table.key else table.key


def is_partitioned(table: Table) -> bool:
    """Whether each row belongs to a patient."""
    return any(column.name == PATIENT and not column.nullable for column in table.columns)


def has_status(tables: Collection[Table]) -> bool:
    """Whether the sink has all that the view is made of."""
    return {VITAL_SIGN_MINUTE, EARLY_WARNING_SCORE, ALERT} <= set(tables)


def refresh(latest: Latest, touched: str, name: str, of: str, quote: Quote) -> tuple[str, str]:
    """Two statements that derive the latest rows of the series in the table ``touched`` anew."""
    by = ", ".join(map(quote, latest.by))
    columns = ", ".join(f"t.{quote(column.name)}" for column in latest.columns)
    at = quote(latest.at)
    joined = " AND ".join(f"t.{quote(one)} = s.{quote(one)}" for one in latest.by)
    same = " AND ".join(f"m.{quote(one)} = s.{quote(one)}" for one in latest.by)
    newest = f"t.{at} = (SELECT max(m.{at}) FROM {of} m WHERE {same})"  # noqa: S608 - declared names
    return (
        f"DELETE FROM {name} WHERE ({by}) IN (SELECT {by} FROM {touched})",  # noqa: S608 - declared names
        f"INSERT INTO {name} SELECT {columns} FROM {touched} s JOIN {of} t ON {joined} AND {newest}",  # noqa: S608
    )


def status_view(name: str, vital_sign: str, score: str, alert: str, quote: Quote) -> str:
    """The view, from the latest minutes, the latest scores and the alerts: the same SQL for both databases.

    Of each signal the last value of its latest minute, and that minute; of each score its total, and the
    least and most that it can be where inputs are missing; open alerts and the highest of their priorities.
    """
    values = [
        f"max(CASE WHEN code = '{signal.code}' THEN {quote(part)} END) AS {quote(signal.name + suffix)}"
        for signal in signals()
        if not signal.coded
        for part, suffix in (("last", ""), ("minute", "_at"))
    ]
    totals = [
        f"max(CASE WHEN score = '{total}' THEN {part} END) AS {total}{suffix}"
        for total in _TOTALS
        for part, suffix in _TOTAL
    ]
    rank = " ".join(f"WHEN '{priority}' THEN {number}" for number, priority in enumerate(_RANKS))
    back = " ".join(f"WHEN {number} THEN '{priority}'" for number, priority in enumerate(_RANKS))
    named = ", ".join(
        [
            *(f"v.{quote(s.name + suffix)}" for s in signals() if not s.coded for suffix in ("", "_at")),
            *(f"e.{total}{suffix}" for total in _TOTALS for _, suffix in _TOTAL),
        ]
    )
    # The SQL of both: no FULL JOIN, no FILTER, no LATERAL.
    return f"""
        CREATE VIEW {name} AS
        SELECT p.patient_id, v.seen_at, {named},
            coalesce(a.open_alerts, 0) AS open_alerts, CASE a.priority {back} END AS highest_priority
        FROM (
            SELECT patient_id FROM {vital_sign}
            UNION SELECT patient_id FROM {score}
            UNION SELECT patient_id FROM {alert}
        ) p
        LEFT JOIN (
            SELECT patient_id, max({quote("minute")}) AS seen_at, {", ".join(values)}
            FROM {vital_sign} GROUP BY patient_id
        ) v ON v.patient_id = p.patient_id
        LEFT JOIN (
            SELECT patient_id, {", ".join(totals)} FROM {score} GROUP BY patient_id
        ) e ON e.patient_id = p.patient_id
        LEFT JOIN (
            SELECT patient_id, count(*) AS open_alerts, min(CASE priority {rank} END) AS priority
            FROM {alert} WHERE active_at IS NOT NULL AND ended_at IS NULL GROUP BY patient_id
        ) a ON a.patient_id = p.patient_id
    """  # noqa: S608 - declared names
