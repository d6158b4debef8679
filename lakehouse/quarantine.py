"""What is in quarantine, without Spark: counts, what is open, the story of one value, and the error budget.

An observation is open where the newest of its versions, in silver.observation and in quarantine together, is in
quarantine and not withdrawn as entered in error. Everything here is read only.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from lakehouse.datadir import DataDir
from lakehouse.reader import TableMissingError, connect, query
from lakehouse.tables import DEVICE_MESSAGE, OBSERVATION, OBSERVATION_QUARANTINE, QUARANTINE_FIX

if TYPE_CHECKING:
    import duckdb

GROUPS = {"reason": "unnest(failed_constraints)", "device": "device_id", "source": "source", "code": "code"}
"""What quarantined values can be counted by, and its SQL."""

NO_FAULT = ("sensor_disconnected",)
"""Reasons that are counted and not held against the budget: the device rightly says that it has no reading, which it
does for every hour that a patient is up. The alert router tells of it when it lasts."""

DEFAULT_LIMIT = 0.05
"""The share of a device's values of one day that may be at fault. One signal of six with a wrong unit or code is 17 %
and must be seen, an hour of a day with a clock that runs ahead is 4 %; MIMIC's charts have 0.02 % without what is no
fault, the simulator's usual faults less than 1 %."""

_HEXADECIMAL = re.compile(r"^[0-9a-f]{1,32}$")
_SENT_AGAIN = "file:quarantine/%"
_ORDER = 'recorded_at DESC, topic DESC, "partition" DESC, "offset" DESC, version DESC'
"""Newest first, as lakehouse.transforms.observation.current_versions has it."""


class NotInQuarantineError(LookupError):
    """No quarantined value, or more than one, is meant by an id; the text says which."""


@dataclass(frozen=True)
class Filters:
    """Which quarantined values are meant; all by default. ``since`` and ``until`` are over received_at."""

    constraint: str | None = None
    device: str | None = None
    source: str | None = None
    code: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    ids: tuple[bytes, ...] = ()

    @property
    def given(self) -> dict[str, Any]:
        """What is asked for, by name."""
        return {name: value for name, value in vars(self).items() if value is not None and value != ()}


_CONDITIONS = {
    "constraint": "list_contains(failed_constraints, $constraint)",
    "device": "device_id = $device",
    "source": "source = $source",
    "code": "code = $code",
    "since": "received_at >= $since",
    "until": "received_at < $until",
    "ids": "observation_id IN (SELECT unnest($ids))",
}


def _where(filters: Filters) -> str:
    return " AND ".join(["true", *(_CONDITIONS[name] for name in filters.given)])


def counts(data: DataDir, filters: Filters, by: Sequence[str]) -> list[dict[str, Any]]:
    """Groups with ``rows`` (versions in quarantine), ``observations`` and how many of those are ``open``; most first.

    ``by`` are names of GROUPS; without any there is one group. A value that breaks two constraints counts under each.
    Raises TableMissingError.
    """
    groups = [f"{GROUPS[name]} AS {name}" for name in by]
    with connect(data, (OBSERVATION, OBSERVATION_QUARANTINE)) as database:
        _find_open(database, filters)
        chosen = ", ".join(
            [*groups, "observation_id", "observation_id IN (SELECT observation_id FROM open) AS is_open"]
        )
        sql = f"""
            SELECT {"".join(f"{name}, " for name in by)} count(*) AS rows,
              count(DISTINCT observation_id) AS observations,
              count(DISTINCT observation_id) FILTER (is_open) AS open
            FROM (SELECT {chosen} FROM wanted) GROUP BY ALL ORDER BY {", ".join(["open DESC", "rows DESC", *by])}
        """  # noqa: S608 - declared names
        return list(database.sql(sql).to_arrow_table().to_pylist())


def open_values(data: DataDir, filters: Filters, limit: int) -> list[list[dict[str, Any]]]:
    """Open observations, those received first in front, at most ``limit``, each with its quarantined versions.

    The versions are those that its newest message brought, the newest first, with the columns of quarantine and
    ``raw``: the value of the bronze record, None where bronze no longer has it. Raises TableMissingError.
    """
    with connect(data, (DEVICE_MESSAGE, OBSERVATION, OBSERVATION_QUARANTINE)) as database:
        _find_open(database, filters)
        database.execute(
            f"CREATE TEMP TABLE chosen AS SELECT q.* FROM {OBSERVATION_QUARANTINE.full_name} q"  # noqa: S608
            " JOIN (FROM open ORDER BY received_at, observation_id LIMIT $limit) o USING (observation_id, message_id)",
            {"limit": limit},
        )
        values: dict[bytes, list[dict[str, Any]]] = {}
        for row in _with_raw(database):
            values.setdefault(row["observation_id"], []).append(row)
        return list(values.values())


def _with_raw(database: "duckdb.DuckDBPyConnection") -> list[dict[str, Any]]:
    """The rows of ``chosen``, each with its bronze record's value."""
    # Its instants are constants, so that files of bronze that have none of them stay closed.
    first, last = database.sql("SELECT min(received_at), max(received_at) FROM chosen").fetchall()[0]
    place = 'topic, "partition", "offset"'
    database.execute(
        f"CREATE TEMP TABLE records AS SELECT {place}, value AS raw FROM {DEVICE_MESSAGE.full_name}"  # noqa: S608
        f" SEMI JOIN chosen USING ({place}) WHERE received_at BETWEEN $first AND $last",
        {"first": first, "last": last},
    )
    rows = database.sql(
        f"SELECT chosen.*, records.raw FROM chosen LEFT JOIN records USING ({place})"  # noqa: S608
        f" ORDER BY received_at, observation_id, {_ORDER}"
    )
    return list(rows.to_arrow_table().to_pylist())


def _find_open(database: "duckdb.DuckDBPyConnection", filters: Filters) -> None:
    """Make the tables ``wanted`` (rows of quarantine) and ``open`` (the newest version of each open observation)."""
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in filters.given.items()}
    columns = "observation_id, observed_at, received_at, device_id, source, code, failed_constraints"
    database.execute(
        f"CREATE TEMP TABLE wanted AS SELECT {columns} FROM {OBSERVATION_QUARANTINE.full_name}"  # noqa: S608
        f" WHERE {_where(filters)}",
        given,
    )
    # An observation's versions have one instant: silver's files of other times stay closed.
    first, last = database.sql("SELECT min(observed_at), max(observed_at) FROM wanted").fetchall()[0]
    version = (
        'observation_id, version, message_id, status, received_at, recorded_at, topic, "partition", "offset"'
        ", {bad} AS bad FROM {table} WHERE observed_at BETWEEN $first AND $last"
        " AND observation_id IN (SELECT observation_id FROM wanted)"
    )
    database.execute(
        f"""
        CREATE TEMP TABLE open AS FROM (
          SELECT {version.format(bad="false", table=OBSERVATION.full_name)}
          UNION ALL SELECT {version.format(bad="true", table=OBSERVATION_QUARANTINE.full_name)}
        ) QUALIFY row_number() OVER (PARTITION BY observation_id ORDER BY {_ORDER}) = 1
        """,
        {"first": first, "last": last},
    )
    database.execute("DELETE FROM open WHERE NOT bad OR status IS NOT DISTINCT FROM 'entered-in-error'")


def named(data: DataDir, beginning: str) -> bytes:
    """The observation_id of the one quarantined observation whose id begins so, in hexadecimal digits.

    Raises NotInQuarantineError and TableMissingError.
    """
    text = beginning.lower()
    if not _HEXADECIMAL.match(text):
        raise NotInQuarantineError(f"{beginning} is not the beginning of an observation_id: 32 hexadecimal digits")
    sql = f"""
        SELECT DISTINCT observation_id FROM {OBSERVATION_QUARANTINE.full_name}
        WHERE starts_with(lower(hex(observation_id)), $text) LIMIT 2
    """  # noqa: S608 - a declared name
    found = query(data, sql, {"text": text}).to_pylist()
    if not found:
        raise NotInQuarantineError(f"no observation {beginning} is in quarantine: `ward quarantine list` counts those")
    if len(found) > 1:
        raise NotInQuarantineError(f"{beginning} begins the ids of several observations in quarantine: give more of it")
    return bytes(found[0]["observation_id"])


@dataclass(frozen=True)
class Story:
    """One observation: every version, newest first, the fixes of it, and whether it is open.

    A version has the columns of silver.observation, ``failed_constraints`` (empty for a good one) and, in quarantine,
    ``raw``.
    """

    versions: tuple[dict[str, Any], ...]
    fixes: tuple[dict[str, Any], ...]
    is_open: bool


def story(data: DataDir, observation_id: bytes) -> Story:
    """What became of one quarantined observation. Raises TableMissingError."""
    filters = Filters(ids=(observation_id,))
    with connect(data, (DEVICE_MESSAGE, OBSERVATION, OBSERVATION_QUARANTINE)) as database:
        _find_open(database, filters)
        is_open = bool(database.sql("FROM open").fetchall())
        of_id = {"id": observation_id}
        quarantine, silver = OBSERVATION_QUARANTINE.full_name, OBSERVATION.full_name
        database.execute(f"CREATE TEMP TABLE chosen AS FROM {quarantine} WHERE observation_id = $id", of_id)
        bad = _with_raw(database)
        good = database.sql(
            f"SELECT *, [] AS failed_constraints FROM {silver}"  # noqa: S608 - a declared name
            " WHERE observation_id = $id AND observed_at = $at",
            params={**of_id, "at": bad[0]["observed_at"]},
        )
        versions = [*bad, *good.to_arrow_table().to_pylist()]
    order = ("recorded_at", "topic", "partition", "offset", "version")
    newest = sorted(versions, key=lambda row: tuple(row[name] for name in order), reverse=True)
    return Story(tuple(newest), tuple(_fixes(data, observation_id)), is_open)


def _fixes(data: DataDir, observation_id: bytes) -> list[dict[str, Any]]:
    sql = f"FROM {QUARANTINE_FIX.full_name} WHERE observation_id = $id ORDER BY recorded_at"
    try:
        return list(query(data, sql, {"id": observation_id}).to_pylist())
    except TableMissingError:
        return []


def recorded(data: DataDir, message_ids: Iterable[str]) -> frozenset[str]:
    """Those of these corrections that operation.quarantine_fix has. Raises TableMissingError."""
    sql = f"SELECT message_id FROM {QUARANTINE_FIX.full_name} WHERE message_id IN (SELECT unnest($ids))"  # noqa: S608
    return frozenset(row["message_id"] for row in query(data, sql, {"ids": list(message_ids)}).to_pylist())


def landed(data: DataDir, topic: str, since: datetime) -> dict[str, int]:
    """What became of a topic's values, which came after an instant: ``valid``, ``withdrawn`` and ``quarantined``.

    Raises TableMissingError.
    """
    # Silver keeps statistics of received_at and none of topics.
    gone = "status IS NOT DISTINCT FROM 'entered-in-error' AS gone"
    of = "topic = $topic AND received_at >= $since"
    sql = f"""
        SELECT count(*) FILTER (good AND NOT gone) AS valid, count(*) FILTER (gone) AS withdrawn,
          count(*) FILTER (NOT good AND NOT gone) AS quarantined
        FROM (SELECT true AS good, {gone} FROM {OBSERVATION.full_name} WHERE {of}
          UNION ALL SELECT false, {gone} FROM {OBSERVATION_QUARANTINE.full_name} WHERE {of})
    """  # noqa: S608 - declared names
    return dict(query(data, sql, {"topic": topic, "since": since}).to_pylist()[0])


def occupied(data: DataDir, places: Iterable[Mapping[str, Any]]) -> frozenset[tuple[Any, ...]]:
    """Those of these identities that silver has an observation under, as tuples.

    A place is source, patient_id, device_id, observed_at and code: the identity of a value without record_id and
    source_code. Raises TableMissingError.
    """
    import pyarrow as pa

    columns = ("source", "patient_id", "device_id", "observed_at", "code")
    names = ", ".join(columns)
    wanted = [dict(place) for place in places]
    if not wanted:
        return frozenset()
    instants = [place["observed_at"] for place in wanted]
    types = {name: pa.timestamp("us", "UTC") if name == "observed_at" else pa.string() for name in columns}
    with connect(data, (OBSERVATION,)) as database:
        database.register("places", pa.Table.from_pylist(wanted, pa.schema(list(types.items()))))
        found = database.sql(
            f"""
            SELECT DISTINCT {names} FROM {OBSERVATION.full_name} SEMI JOIN places USING ({names})
            WHERE record_id IS NULL AND source_code IS NULL AND observed_at BETWEEN $first AND $last
            """,  # noqa: S608 - declared names
            params={"first": min(instants), "last": max(instants)},
        )
        return frozenset(tuple(row.values()) for row in found.to_arrow_table().to_pylist())


@dataclass(frozen=True)
class DeviceDay:
    """The values of one device that came in on one day (UTC), by versions: a correction is a value of its own.

    ``faults`` are the quarantined ones that break anything but NO_FAULT; ``reasons`` counts by constraint.
    """

    day: date
    source: str
    device_id: str
    observations: int
    quarantined: int = 0
    faults: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """The share of its values that are at fault, 0 to 1."""
        return self.faults / self.observations

    def exceeds(self, limit: float) -> bool:
        """Whether more are at fault than the limit allows. One value alone breaks no budget."""
        return self.faults > max(1, limit * self.observations)


def error_budget(data: DataDir, since: datetime, until: datetime) -> list[DeviceDay]:
    """Every device and day between two instants of received_at, the largest share of faults first.

    What was sent again by ``ward quarantine`` is left out, and what it mended still counts: the budget is of what
    devices send. Raises TableMissingError.
    """
    spent = "received_at >= $since AND received_at < $until AND topic NOT LIKE $again"
    columns = "CAST(received_at AS DATE) AS day, source, device_id"
    sql = f"""
        WITH bad AS (
          SELECT {columns}, observation_id, version, unnest(failed_constraints) AS reason
          FROM {OBSERVATION_QUARANTINE.full_name} WHERE {spent}
        ), reasons AS (
          SELECT day, source, device_id, reason, count(*) AS n FROM bad GROUP BY ALL
        ), faults AS (
          SELECT day, source, device_id, count(DISTINCT (observation_id, version)) AS quarantined,
            count(DISTINCT (observation_id, version)) FILTER (reason NOT IN (SELECT unnest($no_fault))) AS faults
          FROM bad GROUP BY ALL
        ), named AS (
          SELECT day, source, device_id, list(reason ORDER BY n DESC, reason) AS names,
            list(n ORDER BY n DESC, reason) AS numbers
          FROM reasons GROUP BY ALL
        ), everything AS (
          SELECT day, source, device_id, count(*) AS observations FROM (
            SELECT {columns} FROM {OBSERVATION.full_name} WHERE {spent}
            UNION ALL SELECT {columns} FROM {OBSERVATION_QUARANTINE.full_name} WHERE {spent}
          ) GROUP BY ALL
        )
        SELECT day, source, device_id, observations, quarantined, faults, names, numbers
        FROM everything LEFT JOIN faults USING (day, source, device_id) LEFT JOIN named USING (day, source, device_id)
        ORDER BY coalesce(faults, 0) / observations DESC, day DESC, source, device_id
    """  # noqa: S608 - declared names
    given = {"since": since, "until": until, "again": _SENT_AGAIN, "no_fault": list(NO_FAULT)}
    return [_device_day(row) for row in query(data, sql, given).to_pylist()]


def _device_day(row: Mapping[str, Any]) -> DeviceDay:
    reasons = dict(zip(row["names"] or (), row["numbers"] or (), strict=True))
    which = (row["day"], row["source"], row["device_id"], row["observations"])
    return DeviceDay(*which, row["quarantined"] or 0, row["faults"] or 0, reasons)
