"""Gold of a hospital for benchmarks of readers, made by DuckDB and written as Delta without Spark.

Days that maintenance has been over are files of a quarter of the patients each, in the order of patients; the last day
is as the flow leaves it: hours that it has joined, in the same order, and a file a minute since.
"""

from datetime import datetime, timedelta
from itertools import pairwise

from lakehouse import reader
from lakehouse.datadir import DataDir
from lakehouse.scores import PARTS
from lakehouse.table import Table
from lakehouse.tables import ALERT, ALERT_EVENT, EARLY_WARNING_SCORE, ENCOUNTER, VITAL_SIGN_MINUTE

CODES = ("8867-4", "9279-1", "59408-5", "8480-6", "8462-4", "8310-5")

_DUCKDB_TYPE = {"TIMESTAMP": "TIMESTAMPTZ", "BINARY": "BLOB"}
_ROWS_A_GROUP = 500_000  # some 4 MB, as maintenance asks of Parquet

_CLUSTERED = "ORDER BY patient_id, minute"

_MINUTES = f"""
SELECT 'sim/' || patient AS patient_id, {list(CODES)}[code] AS code,
    to_timestamp({{start}} + 60 * minute) AS minute, '/min' AS unit, 60::BIGINT AS count,
    middle - below AS min, middle + (above - below) / 7 AS mean, middle + above AS max,
    middle - below / 2 AS first, middle + above / 2 AS last
FROM (
    SELECT patient, minute, code, 60 + hash(patient, minute, code) % 200 / 10 AS middle,
        hash(patient, minute, code, 1) % 20 / 10 AS below, hash(patient, minute, code, 2) % 20 / 10 AS above
    FROM range({{first}}, {{last}}) AS p(patient), range({{minutes}}) AS m(minute), range(1, 7) AS c(code)
)
{{order}}
"""  # noqa: S608 - our own text


def write(data: DataDir, patients: int, days: int, hours: int, minutes: int, end: datetime) -> None:
    """Fill the tables that the gateway reads, up to ``end``: days, then ``hours`` of a file each, then ``minutes``."""
    single = end - timedelta(minutes=minutes)
    whole = single - timedelta(hours=hours)
    parts = [patients * quarter // 4 for quarter in range(5)]
    for day in range(days, 0, -1):
        start = whole - timedelta(days=day)
        for first, last in pairwise(parts):
            _minutes(data, start, 1440, first, last, _CLUSTERED)
    for hour in range(hours):
        _minutes(data, whole + timedelta(hours=hour), 60, 0, patients, _CLUSTERED)
    for minute in range(minutes):
        _minutes(data, single + timedelta(minutes=minute), 1, 0, patients, "")
    _others(data, patients, days, end)


def _minutes(data: DataDir, start: datetime, minutes: int, first: int, last: int, order: str) -> None:
    sql = _MINUTES.format(start=int(start.timestamp()), first=first, last=last, minutes=minutes, order=order)
    _append(data, VITAL_SIGN_MINUTE, sql)


def _others(data: DataDir, patients: int, days: int, end: datetime) -> None:
    """Ten alerts a patient and day, of three transitions each; a score each quarter of an hour; a stay."""
    now = f"to_timestamp({int(end.timestamp())})"
    alert = {
        "alert_id": "md5(n::VARCHAR)",
        "patient_id": f"'sim/' || n % {patients}",
        "location_unit": "'unit-' || n % 40",
        "priority": "['high', 'medium', 'low'][n % 3 + 1]",
        "category": "'physiological'",
        "rule_id": "'spo2-low'",
        "title": "'SpO2 low'",
        "pack": "'adult@1'",
    }
    count = patients * days * 10
    when = f"{now} - to_seconds(n * {days * 86400 / count})"
    state = f"CASE WHEN n < {patients} THEN 'active' ELSE 'resolved' END"
    ended = f"CASE WHEN n >= {patients} THEN {when} END"
    stands = {"state": state, "sequence": "2", "escalations": "0", "changed_at": when, "ended_at": ended}
    _append(data, ALERT, _select(ALERT, {**alert, **stands}, f"range({count}) AS r(n)"))
    event = {"state": "'active'", "sequence": "sequence", "emitted_at": when}
    sequences = f"range({count}) AS r(n), range(3) AS s(sequence)"
    _append(data, ALERT_EVENT, _select(ALERT_EVENT, {**alert, **event}, sequences))
    score = {
        "patient_id": f"'sim/' || n % {patients}",
        "score": "'news2'",
        "observed_at": f"{now} - to_minutes(15 * (n // {patients}))",
        **dict.fromkeys(("total", "total_min", "total_max"), "n % 9"),
        "risk": "'low'",
        "parts": "{" + ", ".join(f"'{name}': 1" for name in PARTS) + "}",
    }
    _append(data, EARLY_WARNING_SCORE, _select(EARLY_WARNING_SCORE, score, f"range({patients * days * 96}) AS r(n)"))
    stay = {"encounter_id": "'stay ' || n", "patient_id": "'sim/' || n", "status": "'in-progress'", "recorded_at": now}
    _append(data, ENCOUNTER, _select(ENCOUNTER, stay, f"range({patients}) AS r(n)"))


def _select(table: Table, given: dict[str, str], source: str) -> str:
    """The columns of a table that are given, and those of plain types as nulls."""
    plain = [column for column in table.columns if column.name in given or "<" not in column.type]
    types = {column.name: _DUCKDB_TYPE.get(column.type, column.type) for column in plain}
    columns = (
        f'({given.get(name, "NULL")})::{kind} AS "{name}"' if "<" not in kind else f'{given[name]} AS "{name}"'
        for name, kind in types.items()
    )
    return f"SELECT {', '.join(columns)} FROM {source}"  # noqa: S608 - our own text


def _append(data: DataDir, table: Table, sql: str) -> None:
    import deltalake

    with reader.connection(data.spill) as database:
        deltalake.write_deltalake(
            str(data.table(table)),
            database.sql(sql).to_arrow_reader(100_000),
            mode="append",
            writer_properties=deltalake.WriterProperties(max_row_group_size=_ROWS_A_GROUP, compression="SNAPPY"),
        )
