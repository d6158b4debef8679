"""The sinks file: what it declares, and what is said of one that cannot be used."""

from pathlib import Path

import pytest

from lakehouse.sinks.declaration import DEFAULT_TABLES, Kind, Sink, SinksError, load
from lakehouse.tables import ALERT, EARLY_WARNING_SCORE, VITAL_SIGN_MINUTE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "password").write_text("s3cret\n")
    return tmp_path


def read(folder: Path, text: str) -> tuple[Sink, ...]:
    file = folder / "sinks.yaml"
    file.write_text(text)
    return load(file)


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(SinksError) as refused:
        read(folder, text)
    return str(refused.value).replace(f"{folder}/sinks.yaml: ", "").splitlines()


SERIES = "gold.vital_sign_minute, gold.score_input, gold.early_warning_score, gold.rhythm_minute"
REPORTING = "kind: postgresql, host: db.example, database: ward, user: ward, password_file: password"


def test_what_is_left_out_has_its_usual_value(folder: Path) -> None:
    (sink,) = read(folder, f"sinks: {{reporting: {{{REPORTING}}}}}")

    assert sink == Sink(
        "reporting", Kind.POSTGRESQL, "db.example", 5432, "ward", "ward", "s3cret", DEFAULT_TABLES, tls=True
    )
    assert "s3cret" not in repr(sink)


def test_influxdb_gets_what_has_an_instant_in_its_key(folder: Path) -> None:
    (sink,) = read(folder, "sinks: {graphs: {kind: influxdb, host: localhost, database: ward, tls: false}}")

    assert (sink.port, sink.user, sink.password, sink.tables) == (
        8086,
        None,
        "",
        (VITAL_SIGN_MINUTE, EARLY_WARNING_SCORE),
    )


def test_tables_are_chosen_by_name(folder: Path) -> None:
    (sink,) = read(folder, f"sinks: {{a: {{{REPORTING}, port: 6432, tables: [gold.alert, gold.alert]}}}}")

    assert (sink.port, sink.tables) == (6432, (ALERT,))


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (
            "kind: oracle, host: a, database: ward",
            "kind: Input should be 'postgresql', 'mysql', 'influxdb', 'mongodb' or 'cassandra'",
        ),
        (f"{REPORTING}, shards: 3", "shards: Extra inputs are not permitted"),
        (f"{REPORTING}, port: 0", "port: Input should be greater than or equal to 1"),
        (f"{REPORTING}, tables: []", "tables: Tuple should have at least 1 item after validation, not 0"),
        (f"{REPORTING}, tls: false", "tls: false would send patients' values and the password readably to db.example"),
        (f"{REPORTING}, tls_ca: ca.pem", "tls_ca: {folder}/ca.pem cannot be read: FileNotFoundError"),
        ("kind: mysql, host: a, database: ward", "user: missing; a user of its own that owns nothing else is best"),
        (
            "kind: mysql, host: a, database: ward, user: ward, password_file: none",
            "password_file: {folder}/none cannot be read: FileNotFoundError",
        ),
        (
            "kind: mysql, host: a, database: ward, user: ward, tables: [silver.observation_quarantine]",
            "tables: silver.observation_quarantine may hold NaN, for which MySQL has no value",
        ),
        (
            "kind: influxdb, host: a, database: ward, tables: [gold.alert]",
            "tables: InfluxDB keeps series, and gold.alert has no instant in its key; these do: {series}",
        ),
    ],
)
def test_what_cannot_be_used_is_named(folder: Path, declared: str, said: str) -> None:
    assert problems(folder, f"sinks: {{one: {{{declared}}}}}") == [
        f"sink one: {said.format(folder=folder, series=SERIES)}"
    ]


def test_a_table_that_may_not_be_copied_is_told_with_those_that_may(folder: Path) -> None:
    (told,) = problems(folder, f"sinks: {{one: {{{REPORTING}, tables: [bronze.device_message]}}}}")

    assert told.startswith("sink one: tables: bronze.device_message is none of silver.observation, ")
    assert "quality." not in told


def test_every_problem_is_told_at_once(folder: Path) -> None:
    (folder / "empty").write_text("\n")

    told = problems(
        folder,
        "sinks:\n"
        "  one: {kind: mysql, host: a, database: ward, password_file: empty}\n"
        "  two: {kind: influxdb, host: 127.0.0.2, database: ward, tls: false, tls_ca: none}\n",
    )

    assert told == [
        f"sink one: password_file: {folder}/empty is empty",
        "sink one: user: missing; a user of its own that owns nothing else is best",
        f"sink two: tls_ca: {folder}/none cannot be read: FileNotFoundError",
    ]


def test_a_sink_that_is_given_twice_is_an_error(folder: Path) -> None:
    (told,) = problems(folder, "sinks: {a: {kind: mysql}, a: {kind: mysql}}")

    assert told.startswith("not readable as YAML: given twice: a")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SinksError, match=r"none.yaml: cannot be read: FileNotFoundError"):
        load(tmp_path / "none.yaml")


def test_the_example_is_a_sinks_file(tmp_path: Path) -> None:
    text = Path("docs/examples/sinks.yaml").read_text()
    (tmp_path / "sinks.yaml").write_text(text)
    for name in ("reporting.password", "hospital.pem"):
        (tmp_path / name).write_text("of no account")

    found = load(tmp_path / "sinks.yaml")

    assert [(sink.name, sink.kind, len(sink.tables)) for sink in found] == [
        ("reporting", Kind.POSTGRESQL, 5),
        ("ward-system", Kind.MYSQL, 4),
        ("graphs", Kind.INFLUXDB, 2),
    ]
    assert text in Path("docs/sinks.md").read_text()
