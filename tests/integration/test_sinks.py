"""Sinks against real servers: what the tables hold is what the database holds, through whatever happens between."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import deltalake
import httpx
import psycopg
import pymysql
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pymongo import MongoClient

from lakehouse.datadir import DataDir
from lakehouse.sinks import relational
from lakehouse.sinks.changes import next_step, opened
from lakehouse.sinks.copier import Copier, run
from lakehouse.sinks.declaration import DEFAULT_TABLES, Kind, Sink
from lakehouse.sinks.store import StoppedError, StoreError, open_store
from lakehouse.table import Column, Table
from lakehouse.tables import ALERT, ALERT_EVENT, EARLY_WARNING_SCORE, OBSERVATION, OBSERVATION_QUARANTINE
from lakehouse.tables import VITAL_SIGN_MINUTE as MINUTE
from tests.fixtures import servers, trends
from tests.fixtures.delta import append, arrow
from tests.fixtures.observations import NOON, observation
from tests.fixtures.servers import PASSWORD

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parents[2]
WITHIN_S = 60.0
SPO2 = "59408-5"


@dataclass(frozen=True)
class Site:
    """A server, a sink of it, and how to ask it: rows of a table as tuples, in order of what they say."""

    server: servers.Process
    sink: Sink
    ask: Callable[[str], list[tuple[Any, ...]]]

    def named(self, table: Table, suffix: str = "") -> str:
        layer = {Kind.POSTGRESQL: "gold.", Kind.CASSANDRA: "ward.gold_"}.get(self.sink.kind, "gold_")
        return f"{layer}{table.name}{suffix}"


def asked_of_postgresql(port: int, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(host="127.0.0.1", port=port, user="ward", password=PASSWORD, dbname="ward") as connection:
        cursor = connection.execute(statement.encode())
        return sorted(cursor.fetchall(), key=repr) if cursor.description else []


def asked_of_mariadb(port: int, statement: str) -> list[tuple[Any, ...]]:
    with (
        pymysql.connect(host="127.0.0.1", port=port, user="ward", password=PASSWORD, database="ward") as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
        connection.commit()
        return sorted(cursor.fetchall(), key=repr)


def asked_of_influxdb(port: int, statement: str) -> list[tuple[Any, ...]]:
    address = f"http://127.0.0.1:{port}/query"
    answer = httpx.post(address, params={"db": "ward", "epoch": "u"}, data={"q": statement}, trust_env=False).json()
    found = answer["results"][0].get("series", ())
    return sorted((tuple(row) for series in found for row in series["values"]), key=repr)


def asked_of_mongodb(port: int, statement: str) -> list[tuple[Any, ...]]:
    """Fields of every document, for ``find COLLECTION FIELD ..``; or the names of collections, for ``show``."""
    with MongoClient[dict[str, Any]]("127.0.0.1", port, username="ward", password=PASSWORD, tz_aware=True) as client:
        match statement.split():
            case ["drop"]:
                client.drop_database("ward")
                return []
            case ["show"]:
                return [(name,) for name in client["ward"].list_collection_names()]
            case ["find", collection, *fields]:
                documents = client["ward"][collection].find()
                return sorted((tuple(map(one.get, fields)) for one in documents), key=repr)
    raise AssertionError(statement)


def asked_of_cassandra(port: int, statement: str) -> list[tuple[Any, ...]]:
    return sorted(servers.asked_of_cassandra(port, statement), key=repr)


ASKED = {
    "postgresql": asked_of_postgresql,
    "mariadb": asked_of_mariadb,
    "influxdb": asked_of_influxdb,
    "mongodb": asked_of_mongodb,
    "cassandra": asked_of_cassandra,
}


def site_of(name: str, server: servers.Process) -> Site:
    kind = Kind.MYSQL if name == "mariadb" else Kind(name)
    tables = (MINUTE, EARLY_WARNING_SCORE) if kind is Kind.INFLUXDB else DEFAULT_TABLES
    sink = Sink(name, kind, "127.0.0.1", server.port, "ward", "ward", PASSWORD, tables, tls=False)
    return Site(server, sink, lambda statement: ASKED[name](server.port, statement))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, servers.Process]]:
    folder = tmp_path_factory.mktemp("servers")
    with (
        servers.postgresql(folder / "postgresql") as one,
        servers.mariadb(folder / "mariadb") as two,
        servers.influxdb(folder / "influxdb") as three,
        servers.mongodb(folder / "mongodb") as four,
        servers.cassandra(folder / "cassandra") as five,
    ):
        yield {"postgresql": one, "mariadb": two, "influxdb": three, "mongodb": four, "cassandra": five}


def emptied(site: Site) -> Site:
    """Every test begins with an empty database."""
    match site.sink.kind:
        case Kind.POSTGRESQL:
            site.ask("DROP SCHEMA IF EXISTS gold, silver, ward CASCADE")
        case Kind.MYSQL:
            site.ask("DROP DATABASE ward")
            with pymysql.connect(host="127.0.0.1", port=site.sink.port, user="ward", password=PASSWORD) as connection:
                connection.cursor().execute("CREATE DATABASE ward")
        case Kind.INFLUXDB:
            site.ask("DROP DATABASE ward")
        case Kind.MONGODB:
            site.ask("drop")
        case Kind.CASSANDRA:
            servers.empty_keyspace(site.sink.port)
    return site


@pytest.fixture(params=["postgresql", "mariadb", "influxdb", "mongodb", "cassandra"])
def site(request: pytest.FixtureRequest, running: dict[str, servers.Process]) -> Site:
    return emptied(site_of(request.param, running[request.param]))


@pytest.fixture(params=["postgresql", "mariadb"])
def database(request: pytest.FixtureRequest, running: dict[str, servers.Process]) -> Site:
    return emptied(site_of(request.param, running[request.param]))


@pytest.fixture(params=["mongodb", "cassandra"])
def by_key(request: pytest.FixtureRequest, running: dict[str, servers.Process]) -> Site:
    """Databases that write a row over the one with its key, and have no transactions over rows."""
    return emptied(site_of(request.param, running[request.param]))


@pytest.fixture
def cassandra(running: dict[str, servers.Process]) -> Site:
    return emptied(site_of("cassandra", running["cassandra"]))


@pytest.fixture
def postgresql(running: dict[str, servers.Process]) -> Site:
    return emptied(site_of("postgresql", running["postgresql"]))


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2126, 1, 1, tzinfo=UTC))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir()
    (folder / "certificate.pem").write_bytes(made.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(private)
    return folder / "certificate.pem", folder / "key.pem"


def clock() -> datetime:
    return NOON


def copier(sink: Sink, data: DataDir, said: list[str] | None = None, stop: threading.Event | None = None) -> Copier:
    heard = said if said is not None else []
    return Copier(
        sink,
        data,
        stop=stop or threading.Event(),
        say=heard.append,
        clock=clock,
        poll_s=0.05,
        first_wait_s=0.05,
    )


def score(patient_id: str, minute: int, total: int | None) -> dict[str, Any]:
    at = NOON + timedelta(minutes=minute)
    return {
        "patient_id": patient_id,
        "score": "news2",
        "observed_at": at,
        "total": total,
        "total_min": total or 0,
        "total_max": total or 20,
        "risk": None if total is None else "low",
        "parts": {"heart_rate": 1},
        "inputs": [{"input": "heart_rate", "value": 112.0, "observed_at": at, "observation_id": b"\x01\xff"}],
    }


def alert(name: str, patient_id: str, **changes: Any) -> dict[str, Any]:
    return {
        "alert_id": name,
        "rule_id": "heart-rate-high",
        "title": "Heart rate 'high'",
        "pack": "adult@1",
        "priority": "medium",
        "category": "physiological",
        "patient_id": patient_id,
        "state": "active",
        "sequence": 0,
        "escalations": 0,
        "active_at": NOON,
        "changed_at": NOON,
    } | changes


def event(name: str, sequence: int, patient_id: str) -> dict[str, Any]:
    return alert(name, patient_id, sequence=sequence, emitted_at=NOON)


@pytest.fixture
def filled(data: DataDir) -> DataDir:
    append(data, MINUTE, *trends.minutes("mrn/1", NOON, 70.0, 72.5, 74.0), *trends.minutes("mrn/ä, 2", NOON, 91.0))
    append(data, EARLY_WARNING_SCORE, score("mrn/1", 0, 3), score("mrn/1", 1, None))
    append(
        data, ALERT, alert("a", "mrn/1", priority="high"), alert("b", "mrn/1"), alert("c", "mrn/ä, 2", ended_at=NOON)
    )
    append(data, ALERT_EVENT, event("a", 0, "mrn/1"), event("a", 1, "mrn/1"))
    return data


def in_table(data: DataDir, table: Table, *columns: str) -> list[tuple[Any, ...]]:
    rows = deltalake.DeltaTable(data.table(table)).to_pyarrow_table().select(columns).to_pylist()
    return sorted((tuple(row.values()) for row in rows), key=repr)


def minutes_in(site: Site) -> list[tuple[Any, ...]]:
    """Patient, code, minute and last value."""
    match site.sink.kind:
        case Kind.INFLUXDB:
            asked = site.ask(f'SELECT "patient_id", "code", "last" FROM "{MINUTE.name}"')
            rows = [(p, c, at, value) for at, p, c, value in asked]
        case Kind.MONGODB:
            rows = site.ask(f"find {site.named(MINUTE)} patient_id code minute last")
        case kind:
            last = "`last`" if kind is Kind.MYSQL else '"last"'
            rows = site.ask(f"SELECT patient_id, code, minute, {last} FROM {site.named(MINUTE)}")
    return sorted(((p, c, as_instant(at), value) for p, c, at, value in rows), key=repr)


def as_instant(at: Any) -> datetime:
    """As a database gives it: microseconds since the epoch, or an instant, which is UTC."""
    if isinstance(at, int):
        return datetime.fromtimestamp(at / 1e6, UTC)
    return at if at.tzinfo else at.replace(tzinfo=UTC)  # type: ignore[no-any-return]


def expected_minutes(data: DataDir) -> list[tuple[Any, ...]]:
    return in_table(data, MINUTE, "patient_id", "code", "minute", "last")


def test_what_the_tables_hold_is_what_the_database_holds(site: Site, filled: DataDir) -> None:
    assert copier(site.sink, filled).once()

    assert minutes_in(site) == expected_minutes(filled)


def test_a_correction_changes_the_row_and_a_row_that_is_gone_goes(site: Site, filled: DataDir) -> None:
    copier(site.sink, filled).once()
    table = deltalake.DeltaTable(filled.table(MINUTE))
    table.update(updates={"last": "99.5"}, predicate="patient_id = 'mrn/1' AND last = 72.5")
    table.delete("patient_id = 'mrn/ä, 2'")
    append(filled, MINUTE, *trends.minutes("mrn/3", NOON, 60.0, code=SPO2))
    next_one = copier(site.sink, filled)

    assert next_one.once()

    assert minutes_in(site) == expected_minutes(filled)
    assert [row[3] for row in minutes_in(site)] == [70.0, 99.5, 74.0, 60.0]
    # Of the two files that were written anew, only the rows that differ.
    assert next_one.counts.written == 2


def test_a_value_that_becomes_unknown_is_unknown_in_the_database(site: Site, filled: DataDir) -> None:
    copier(site.sink, filled).once()
    scores = deltalake.DeltaTable(filled.table(EARLY_WARNING_SCORE))
    scores.update(updates={"total": "NULL", "risk": "NULL"}, predicate="total = 3")

    assert copier(site.sink, filled).once()

    if site.sink.kind is Kind.INFLUXDB:
        assert site.ask(f'SELECT "total", "risk" FROM "{EARLY_WARNING_SCORE.name}"') == []
        assert len(site.ask(f'SELECT "total_min" FROM "{EARLY_WARNING_SCORE.name}"')) == 2
    elif site.sink.kind is Kind.MONGODB:
        assert site.ask(f"find {site.named(EARLY_WARNING_SCORE)} total risk") == [(None, None)] * 2
    else:
        assert site.ask(f"SELECT total, risk FROM {site.named(EARLY_WARNING_SCORE)}") == [(None, None)] * 2


def test_taking_everything_again_changes_nothing_and_neither_does_compaction(site: Site, filled: DataDir) -> None:
    append(filled, MINUTE, *trends.minutes("mrn/3", NOON, 60.0))
    copier(site.sink, filled).once()
    before = minutes_in(site)
    deltalake.DeltaTable(filled.table(MINUTE)).optimize.compact()
    again = copier(site.sink, filled)

    assert again.once()
    assert (minutes_in(site), again.counts.written) == (before, 0)


def test_a_step_that_was_taken_but_not_recorded_is_taken_again_without_a_trace(
    running: dict[str, servers.Process], filled: DataDir
) -> None:
    site = emptied(site_of("influxdb", running["influxdb"]))
    copier(site.sink, filled).once()
    deltalake.DeltaTable(filled.table(MINUTE)).update(updates={"last": "99.5"}, predicate="last = 72.5")
    store = open_store(site.sink)
    step = next_step(filled, MINUTE, store.position(MINUTE))
    assert step is not None

    for _ in range(2):
        with opened(filled, step) as rows:
            store.apply(step, rows, lambda _: None)
    store.close()

    assert minutes_in(site) == expected_minutes(filled)


def test_a_stop_in_the_middle_of_a_step_leaves_the_rows_of_the_step_before(database: Site, filled: DataDir) -> None:
    sink = replace(database.sink, tables=(MINUTE,))
    copier(sink, filled).once()
    before = minutes_in(database)
    append(filled, MINUTE, *trends.minutes("mrn/3", NOON, *map(float, range(60, 90))))
    stop = threading.Event()
    stopped = copier(sink, filled, stop=stop)
    stop.set()

    assert not stopped.once()
    assert stopped.counts.written == 30
    assert minutes_in(database) == before

    assert copier(sink, filled).once()
    assert minutes_in(database) == expected_minutes(filled)


def test_a_step_that_is_cut_off_is_taken_again(by_key: Site, filled: DataDir) -> None:
    sink = replace(by_key.sink, tables=(MINUTE,))
    copier(sink, filled).once()
    table = deltalake.DeltaTable(filled.table(MINUTE))
    table.update(updates={"last": "99.5"}, predicate="last = 72.5")
    table.delete("patient_id = 'mrn/ä, 2'")

    for _ in range(2):
        stop = threading.Event()
        stopped = copier(sink, filled, stop=stop)
        stop.set()
        assert not stopped.once()
    assert copier(sink, filled).once()

    assert minutes_in(by_key) == expected_minutes(filled)


def test_a_load_that_is_cut_off_leaves_what_was_there(running: dict[str, servers.Process], filled: DataDir) -> None:
    site = emptied(site_of("mongodb", running["mongodb"]))
    sink = replace(site.sink, tables=(MINUTE,))
    copier(sink, filled).once()
    before = minutes_in(site)
    store = open_store(sink)
    store.forget(sink.tables)
    step = next_step(filled, MINUTE, None)
    assert step is not None

    def cut(_: int) -> None:
        raise StoppedError

    with opened(filled, step) as rows, pytest.raises(StoppedError):
        store.apply(step, rows, cut)
    store.close()

    assert minutes_in(site) == before
    assert copier(sink, filled).once()
    assert minutes_in(site) == before
    assert (f"{site.named(MINUTE)}_loading",) not in site.ask("show")


def test_a_late_step_changes_no_row_of_a_later_one(
    cassandra: Site, filled: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = replace(cassandra.sink, tables=(MINUTE,))
    copier(sink, filled).once()
    table = deltalake.DeltaTable(filled.table(MINUTE))
    table.update(updates={"last": "99.5"}, predicate="last = 72.5")
    store = open_store(sink)
    step = next_step(filled, MINUTE, store.position(MINUTE))
    assert step is not None
    table.update(updates={"last": "66.5"}, predicate="last = 99.5")
    table.delete("last = 70.0")
    copier(sink, filled).once()
    # As if it had been looked up before the other has moved on.
    monkeypatch.setattr(type(store), "position", lambda *_: step.before)

    with opened(filled, step) as rows, pytest.raises(StoreError, match="another ward sink writes here too"):
        store.apply(step, rows, lambda _: None)
    store.close()

    assert minutes_in(cassandra) == expected_minutes(filled)


def sinks_file(folder: Path, site: Site) -> Path:
    (folder / "password").write_text(f"{PASSWORD}\n")
    file = folder / "sinks.yaml"
    file.write_text(
        f"sinks:\n  reporting: {{kind: {site.sink.kind}, host: 127.0.0.1, port: {site.sink.port}, database: ward,"
        " user: ward, password_file: password, tls: false, tables: [gold.vital_sign_minute]}\n"
    )
    return file


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_command_goes_on_after_a_kill(postgresql: Site, data: DataDir, tmp_path: Path) -> None:
    append(data, MINUTE, *trends.minutes("mrn/0", NOON, 60.0))
    command = [Path(sys.executable).with_name("ward"), "sink", "--config", sinks_file(tmp_path, postgresql)]

    def loaded() -> bool:
        there = postgresql.ask("SELECT to_regclass('ward.ward_sink_progress')::text")
        return there != [(None,)] and bool(postgresql.ask("SELECT version FROM ward.ward_sink_progress"))

    with subprocess.Popen([*command, "--data-dir", data.root], cwd=ROOT) as first:
        until(loaded)
        for patient in range(1, 6):
            append(data, MINUTE, *trends.minutes(f"mrn/{patient}", NOON, *map(float, range(200))))
        until(lambda: len(minutes_in(postgresql)) > 1)
        first.kill()
    subprocess.run([*command, "--once", "--data-dir", data.root], check=True, cwd=ROOT)

    assert minutes_in(postgresql) == expected_minutes(data)


@pytest.mark.parametrize("name", ["postgresql", "mariadb", "influxdb", "mongodb", "cassandra"])
def test_a_database_that_is_away_is_waited_for_and_holds_up_no_other(
    name: str, tmp_path: Path, postgresql: Site, filled: DataDir
) -> None:
    with getattr(servers, name)(tmp_path / name) as server:
        away = site_of(name, server)
        sink = replace(away.sink, name="away")
        said: list[str] = []
        stop = threading.Event()
        both = (copier(sink, filled, said, stop), copier(postgresql.sink, filled, said, stop))
        thread = threading.Thread(target=run, args=(both, stop, lambda: None))
        thread.start()
        try:
            until(lambda: both[0].counts.steps == len(sink.tables))
            server.kill()
            append(filled, MINUTE, *trends.minutes("mrn/3", NOON, 60.0))
            until(lambda: both[1].counts.steps == len(postgresql.sink.tables) + 1)
            until(lambda: "away" in both[0].counts.problems)
            server.start()
            until(lambda: both[0].counts.steps == len(sink.tables) + 1)
        finally:
            stop.set()
            thread.join()
        assert minutes_in(away) == minutes_in(postgresql) == expected_minutes(filled)

    assert [text for text in said if text.startswith("away: ") and "loading" not in text][-1] == "away: away goes on"


def test_what_vacuum_took_before_it_was_copied_is_told_and_loaded_again_on_demand(site: Site, filled: DataDir) -> None:
    sink = replace(site.sink, tables=(MINUTE,))
    copier(sink, filled).once()
    table = deltalake.DeltaTable(filled.table(MINUTE))
    table.delete("patient_id = 'mrn/1'")
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    late = copier(sink, filled)

    assert not late.once()
    told = late.counts.problems["gold.vital_sign_minute"]
    assert told.endswith(f"files of version 1: `ward sink --rebuild {sink.name}` has it loaded again")

    store = open_store(sink)
    store.forget(sink.tables)
    store.close()
    assert copier(sink, filled).once()
    assert minutes_in(site) == expected_minutes(filled)


def test_a_restored_table_is_followed(site: Site, filled: DataDir) -> None:
    copier(site.sink, filled).once()
    append(filled, MINUTE, *trends.minutes("mrn/3", NOON, 60.0))
    copier(site.sink, filled).once()
    deltalake.DeltaTable(filled.table(MINUTE)).restore(0)

    assert copier(site.sink, filled).once()
    assert [row[0] for row in minutes_in(site)] == ["mrn/1", "mrn/1", "mrn/1", "mrn/ä, 2"]


def test_one_row_says_how_a_patient_stands(database: Site, filled: DataDir) -> None:
    copier(database.sink, filled).once()
    view = "gold.patient_status" if database.sink.kind is Kind.POSTGRESQL else "patient_status"
    asked = f"SELECT patient_id, heart_rate, spo2, news2, news2_max, open_alerts, highest_priority FROM {view}"

    assert database.ask(asked) == [
        ("mrn/1", 74.0, None, None, 20, 2, "high"),
        ("mrn/ä, 2", 91.0, None, None, None, 0, None),
    ]

    deltalake.DeltaTable(filled.table(MINUTE)).delete("last = 74.0")
    deltalake.DeltaTable(filled.table(EARLY_WARNING_SCORE)).delete("total IS NULL")
    deltalake.DeltaTable(filled.table(ALERT)).update(updates={"ended_at": "changed_at"}, predicate="alert_id = 'a'")
    copier(database.sink, filled).once()

    assert database.ask(asked)[0] == ("mrn/1", 72.5, None, 3, 3, 1, "medium")


def test_every_type_arrives_as_it_is(postgresql: Site, data: DataDir) -> None:
    sink = replace(postgresql.sink, tables=(EARLY_WARNING_SCORE, OBSERVATION_QUARANTINE))
    append(data, EARLY_WARNING_SCORE, score("mrn/1", 0, 3))
    odd = observation(
        "odd", 0, float("nan"), device_id='a "quoted", one', encounter_id="", failed_constraints=["a", "b"]
    )
    append(data, OBSERVATION_QUARANTINE, odd)

    assert copier(sink, data).once()

    assert postgresql.ask("SELECT parts->'heart_rate', inputs->0 FROM gold.early_warning_score") == [
        (
            1,
            {
                "input": "heart_rate",
                "value": 112.0,
                "value_code": None,
                "observed_at": "2026-03-01T12:00:00.000000Z",
                "observation_id": "01ff",
            },
        )
    ]
    columns = "observation_id, version, device_id, encounter_id, location_unit, value::text, observed_at"
    assert postgresql.ask(f"SELECT {columns}, failed_constraints FROM silver.observation_quarantine") == [
        (odd["observation_id"], b"v" * 16, odd["device_id"], "", None, "NaN", NOON, ["a", "b"])
    ]


def test_every_type_arrives_in_a_document_as_it_is(running: dict[str, servers.Process], data: DataDir) -> None:
    site = emptied(site_of("mongodb", running["mongodb"]))
    # FerretDB alone refuses NaN.
    odd = observation("odd", 0, 900.5, encounter_id="", failed_constraints=["a", "b"])
    append(data, EARLY_WARNING_SCORE, score("mrn/1", 0, 3))
    append(data, OBSERVATION_QUARANTINE, odd)

    assert copier(replace(site.sink, tables=(EARLY_WARNING_SCORE, OBSERVATION_QUARANTINE)), data).once()

    micros = int(NOON.timestamp()) * 1_000_000
    ((identity, at, parts, inputs),) = site.ask("find gold_early_warning_score _id observed_at parts inputs")
    assert (identity, at) == ({"patient_id": "mrn/1", "score": "news2", "observed_at": micros}, NOON)
    assert {name: points for name, points in parts.items() if points is not None} == {"heart_rate": 1}
    assert inputs == [
        {
            "input": "heart_rate",
            "value": 112.0,
            "value_code": None,
            "observed_at": "2026-03-01T12:00:00.000000Z",
            "observation_id": "01ff",
        }
    ]
    ((found, version, encounter, unit, value, failed),) = site.ask(
        "find silver_observation_quarantine observation_id version encounter_id location_unit value failed_constraints"
    )
    assert (found, version, encounter, unit) == (odd["observation_id"], b"v" * 16, "", None)
    assert (value, failed) == (900.5, ["a", "b"])


def test_every_type_arrives_in_cassandra_as_it_is(cassandra: Site, data: DataDir) -> None:
    at = NOON + timedelta(microseconds=250)
    odd = observation("odd", 0, float("nan"), encounter_id="", failed_constraints=["a", "b"])
    append(data, EARLY_WARNING_SCORE, score("mrn/1", 0, 3) | {"observed_at": at}, score("mrn/1", 0, 4))
    append(data, OBSERVATION_QUARANTINE, odd)

    assert copier(replace(cassandra.sink, tables=(EARLY_WARNING_SCORE, OBSERVATION_QUARANTINE)), data).once()

    micros = int(NOON.timestamp()) * 1_000_000
    # Two rows a quarter of a millisecond apart stay two.
    scores = cassandra.ask("SELECT observed_at, total, parts FROM ward.gold_early_warning_score")
    assert [(at, total, json.loads(parts)["heart_rate"]) for at, total, parts in scores] == [
        (micros, 4, 1),
        (micros + 250, 3, 1),
    ]
    columns = "observation_id, version, encounter_id, location_unit, value, failed_constraints, observed_at"
    ((*found, value, failed, seen),) = cassandra.ask(f"SELECT {columns} FROM ward.silver_observation_quarantine")
    assert found == [odd["observation_id"], b"v" * 16, "", None]
    assert (str(value), failed, as_instant(seen)) == ("nan", '["a","b"]', NOON)


def test_observations_are_added_by_their_key(database: Site, data: DataDir) -> None:
    sink = replace(database.sink, tables=(OBSERVATION,))
    append(data, OBSERVATION, observation("one", 0, 70.0))
    copier(sink, data).once()
    append(data, OBSERVATION, observation("one", 0, 71.0, version=b"w" * 16), observation("two", 1, 72.0))

    assert copier(sink, data).once()

    name = "silver.observation" if database.sink.kind is Kind.POSTGRESQL else "silver_observation"
    assert database.ask(f"SELECT value FROM {name}") == [(70.0,), (71.0,), (72.0,)]


def test_a_column_that_was_declared_later_is_added(
    database: Site, filled: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    copier(database.sink, filled).once()
    wider = replace(MINUTE, columns=(*MINUTE.columns, Column("device_id", "STRING", "the device")))
    monkeypatch.setattr(relational, "LATEST", (replace(relational.LATEST[0], table=wider), relational.LATEST[1]))
    row = next(trends.minutes("mrn/3", NOON, 60.0)) | {"device_id": "monitor-3"}
    deltalake.write_deltalake(filled.table(MINUTE), arrow(wider, row), mode="append", schema_mode="merge")
    others = tuple(table for table in database.sink.tables if table != MINUTE)

    assert copier(replace(database.sink, tables=(wider, *others)), filled).once()

    for suffix in ("", "_latest"):
        found = database.ask(f"SELECT device_id FROM {database.named(MINUTE, suffix)} WHERE patient_id = 'mrn/3'")
        assert found == [("monitor-3",)]


def test_a_column_that_was_declared_later_is_added_in_cassandra(cassandra: Site, filled: DataDir) -> None:
    copier(replace(cassandra.sink, tables=(MINUTE,)), filled).once()
    wider = replace(MINUTE, columns=(*MINUTE.columns, Column("device_id", "STRING", "the device")))
    row = next(trends.minutes("mrn/3", NOON, 60.0)) | {"device_id": "monitor-3"}
    deltalake.write_deltalake(filled.table(MINUTE), arrow(wider, row), mode="append", schema_mode="merge")

    assert copier(replace(cassandra.sink, tables=(wider,)), filled).once()

    found = cassandra.ask(f"SELECT device_id FROM {cassandra.named(MINUTE)} WHERE patient_id = 'mrn/3'")
    assert found == [("monitor-3",)]


@pytest.mark.parametrize("name", ["postgresql", "mariadb", "mongodb", "cassandra"])
def test_of_two_that_write_one_database_the_late_one_is_refused(
    name: str, running: dict[str, servers.Process], filled: DataDir
) -> None:
    site = emptied(site_of(name, running[name]))
    sink = replace(site.sink, tables=(MINUTE,))
    store = open_store(sink)
    store.prepare()
    step = next_step(filled, MINUTE, None)
    assert step is not None
    copier(sink, filled).once()

    with opened(filled, step) as rows, pytest.raises(StoreError, match="another ward sink writes here too"):
        store.apply(step, rows, lambda _: None)
    store.close()

    assert minutes_in(site) == expected_minutes(filled)


def test_a_check_of_a_database_that_can_be_used_leaves_nothing_behind(site: Site) -> None:
    store = open_store(site.sink)
    if site.sink.kind is Kind.INFLUXDB:
        store.prepare()

    found = [store.check() for _ in range(2)]
    store.close()

    assert found[0] == found[1]
    assert found[0][0].endswith(" answers without TLS, on this machine")
    there = {
        Kind.POSTGRESQL: "SELECT tablename FROM pg_tables WHERE schemaname IN ('gold', 'ward')",
        Kind.MYSQL: "SHOW TABLES",
        Kind.INFLUXDB: "SHOW MEASUREMENTS",
        Kind.MONGODB: "show",
        Kind.CASSANDRA: "SELECT table_name FROM system_schema.tables WHERE keyspace_name = 'ward'",
    }
    assert site.ask(there[site.sink.kind]) == []


def test_the_command_says_how_far_each_table_is_and_has_it_loaded_again(
    postgresql: Site, filled: DataDir, tmp_path: Path
) -> None:
    file = sinks_file(tmp_path, postgresql)
    command = [Path(sys.executable).with_name("ward"), "sink", "--config", file, "--data-dir", filled.root]
    copier(replace(postgresql.sink, tables=(MINUTE,)), filled).once()
    append(filled, MINUTE, *trends.minutes("mrn/3", NOON, 60.0))

    checked = subprocess.run([*command, "--check"], capture_output=True, text=True, check=True, cwd=ROOT)
    rebuilt = subprocess.run([*command, "--rebuild", "reporting"], capture_output=True, text=True, check=True, cwd=ROOT)

    lines = checked.stdout.splitlines()
    assert lines[0] == f"reporting: postgresql ward at 127.0.0.1:{postgresql.sink.port}"
    assert lines[2:] == ["  rights are as they must be", "  gold.vital_sign_minute: version 0, 1 versions to take"]
    assert PASSWORD not in checked.stdout + checked.stderr
    assert rebuilt.stdout == "reporting: 1 tables are loaded again; what is there stays until then\n"
    assert len(minutes_in(postgresql)) == 4
    assert copier(replace(postgresql.sink, tables=(MINUTE,)), filled).once()
    assert minutes_in(postgresql) == expected_minutes(filled)


def test_a_missing_right_is_named(database: Site) -> None:
    if database.sink.kind is Kind.POSTGRESQL:
        database.ask("DROP ROLE IF EXISTS reader")
        database.ask(f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'")
        told = "permission denied for database ward"
    else:
        with pymysql.connect(unix_socket=str(database.server.folder / "socket"), user="root") as root:
            root.cursor().execute(f"CREATE OR REPLACE USER reader@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'")
            root.cursor().execute("GRANT SELECT ON ward.* TO reader@'127.0.0.1'")
        told = "DROP VIEW: DROP command denied to user 'reader'@"
    store = open_store(replace(database.sink, user="reader"))

    with pytest.raises(StoreError, match=told):
        store.check()
    store.close()


def test_a_right_that_is_missing_in_cassandra_is_named(cassandra: Site) -> None:
    port = cassandra.sink.port
    servers.asked_of_cassandra(port, "DROP ROLE IF EXISTS reader")
    servers.asked_of_cassandra(port, f"CREATE ROLE reader WITH LOGIN = true AND PASSWORD = '{PASSWORD}'")
    servers.asked_of_cassandra(port, "GRANT SELECT ON KEYSPACE ward TO reader")
    store = open_store(replace(cassandra.sink, user="reader"))

    with pytest.raises(StoreError, match="User reader has no DROP permission"):
        store.check()
    store.close()


def test_a_keyspace_that_is_not_there_is_named(cassandra: Site) -> None:
    with pytest.raises(StoreError, match="Keyspace 'other' does not exist"):
        open_store(replace(cassandra.sink, database="other"))


@pytest.mark.parametrize("name", ["postgresql", "mariadb", "mongodb", "cassandra"])
def test_a_wrong_password_is_told_without_it(name: str, running: dict[str, servers.Process]) -> None:
    sink = replace(site_of(name, running[name]).sink, password="hunter2")  # noqa: S106  # pragma: allowlist secret
    with pytest.raises(StoreError, match=r"[Aa]uthentication failed|Access denied|password are incorrect") as told:
        open_store(sink)
    assert "hunter2" not in str(told.value)


@pytest.mark.parametrize("name", ["postgresql", "cassandra"])
def test_a_server_is_trusted_by_its_certificate_alone(name: str, tmp_path: Path, filled: DataDir) -> None:
    authority, stranger = certificate(tmp_path / "authority"), certificate(tmp_path / "stranger")
    with getattr(servers, name)(tmp_path / "server", tls=authority) as server:
        site = site_of(name, server)
        trusted = replace(site.sink, tls=True, ca=authority[0])

        assert copier(trusted, filled).once()
        with pytest.raises(StoreError, match=r"certificate verify failed|CERTIFICATE_VERIFY_FAILED"):
            open_store(replace(trusted, ca=stranger[0]))
