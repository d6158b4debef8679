"""De-identified and plain exports of real snapshots: what is in the files, and above all what is not."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.datadir import DataDir
from lakehouse.deidentify import Key, KeyFileError, pseudonym, read_key, shift_days
from lakehouse.export import Export, check_key_place, export
from lakehouse.known_at import as_known_at
from lakehouse.privacy import PrivacyError
from lakehouse.snapshot import SnapshotError, create
from lakehouse.tables import ALERT_NOTIFICATION, DEAD_LETTER, DEVICE_MESSAGE, OBSERVATION, VITAL_SIGN_MINUTE
from tests.fixtures.delta import append
from tests.fixtures.observations import NOON, observation

KEY = Key(b"0123456789abcdef0123456789abcdef")
NOW = datetime(2026, 3, 2, tzinfo=UTC)
PATIENTS = ("mrn/1", "mrn/2", "mrn/3")


@pytest.fixture
def filled(data: DataDir) -> DataDir:
    rows = [
        observation(
            f"{patient} {n}",
            n,
            60.0 + n,
            patient_id=patient,
            encounter_id=f"stay {patient}",
            device_id=f"monitor {patient}",
            location_bed=f"bed {patient}",
            record_id=f"record {patient}",
        )
        for n in range(3)
        for patient in PATIENTS
    ]
    append(data, OBSERVATION, *rows)
    deltalake.write_deltalake(
        data.table(VITAL_SIGN_MINUTE), as_known_at(data, VITAL_SIGN_MINUTE, None).to_arrow_table()
    )
    append(data, DEVICE_MESSAGE, {"topic": "vitals", "partition": 0, "offset": 0, "value": b"mrn/1"})
    append(data, DEAD_LETTER, {"topic": "vitals", "partition": 0, "offset": 0, "reason": "not_json", "detail": "mrn/1"})
    return data


def exported(data: DataDir, to: Path, key: Key | None = KEY, name: str = "paper") -> Export:
    return export(data, create(data, name, NOW, software={}, configuration={}), to, key)


def mart(data: DataDir, name: str, **columns: Any) -> None:
    deltalake.write_deltalake(data.table_root / "mart" / name, pa.table(columns))


def rows(folder: Path, table: str) -> list[dict[str, Any]]:
    return pq.read_table(folder / f"{table}.parquet").to_pylist()


def test_a_patient_has_one_pseudonym_and_one_shift_in_every_table(filled: DataDir, tmp_path: Path) -> None:
    to = tmp_path / "out"
    exported(filled, to)

    expected = {
        (pseudonym(KEY, "patient_id", patient), NOON + timedelta(days=shift_days(KEY, patient))) for patient in PATIENTS
    }
    of_minutes = rows(to, "gold.vital_sign_minute")
    of_values = rows(to, "silver.observation")
    assert {(row["patient_id"], row["minute"]) for row in of_minutes} == expected
    assert {(row["patient_id"], row["observed_at"]) for row in of_values if row["value"] == 60.0} == expected
    assert sorted(row["mean"] for row in of_minutes) == [61.0, 61.0, 61.0]
    assert all(row["recorded_at"] == row["observed_at"] for row in of_values), "what happened together stays together"


def test_nothing_of_an_identifier_the_key_or_a_true_date_is_in_any_byte_that_is_written(
    filled: DataDir, tmp_path: Path
) -> None:
    to = tmp_path / "out"
    exported(filled, to)

    for path in to.iterdir():
        parts = [path.read_bytes()]
        if path.suffix == ".parquet":
            # Files are compressed: their rows and their statistics are looked at as texts too.
            parts += [repr(pq.read_table(path).to_pylist()).encode(), repr(pq.read_metadata(path).to_dict()).encode()]
        for said in parts:
            for secret in ("mrn", "stay", "monitor", "bed ", "record ", KEY.secret.decode(), KEY.secret.hex()):
                assert secret.encode() not in said, (path.name, secret)
    assert NOON.date() not in {row["observed_at"].date() for row in rows(to, "silver.observation")}
    assert {path.name for path in to.iterdir()} == {
        "manifest.json",
        "silver.observation.parquet",
        "gold.vital_sign_minute.parquet",
    }


def test_the_order_of_rows_does_not_tell_who_was_measured_when(filled: DataDir, tmp_path: Path) -> None:
    to = tmp_path / "out"
    exported(filled, to)

    found = [(row["patient_id"], row["observed_at"]) for row in rows(to, "silver.observation")]
    assert found == sorted(found)


def test_an_instant_that_patients_share_does_not_tell_how_far_each_was_moved(filled: DataDir, tmp_path: Path) -> None:
    to = tmp_path / "out"
    exported(filled, to)

    # All three were received at one instant: moved with each patient, it would tell the difference of their shifts.
    assert "received_at" not in rows(to, "silver.observation")[0]


def test_the_manifest_says_what_became_of_each_column(filled: DataDir, tmp_path: Path) -> None:
    to = tmp_path / "out"
    made = exported(filled, to)

    document = json.loads((to / "manifest.json").read_text())
    assert document["deidentified"] is True
    assert made.not_exported == ("bronze.device_message", "silver.dead_letter")
    (minutes,) = (table for table in document["tables"] if table["name"] == "gold.vital_sign_minute")
    assert (minutes["rows"], minutes["left_out"]) == (3, 0)
    assert minutes["columns"]["patient_id"] == "pseudonym"
    assert minutes["columns"]["minute"] == "shifted"
    assert minutes["columns"]["mean"] == "kept"


def test_one_key_gives_one_export_and_another_key_another(filled: DataDir, tmp_path: Path) -> None:
    first, again = (exported(filled, tmp_path / name, name=name) for name in ("a", "b"))
    other = exported(filled, tmp_path / "c", Key(b"x" * 32), "c")

    assert first.tables == again.tables
    assert {table.digest for table in first.tables}.isdisjoint(table.digest for table in other.tables)


def test_ages_above_89_are_one_group_and_such_birth_dates_are_left_out(data: DataDir, tmp_path: Path) -> None:
    people = {"mrn/1": (89, date(1936, 3, 3)), "mrn/2": (90, date(1936, 3, 2)), "mrn/3": (104, date(1921, 5, 1))}
    mart(
        data,
        "patient",
        patient_id=list(people),
        age=[age for age, _ in people.values()],
        birth_date=[born for _, born in people.values()],
        birth_year=pa.array([1937, 1936, 1921], pa.int32()),
    )
    exported(data, tmp_path / "out")

    found = rows(tmp_path / "out", "mart.patient")
    assert {row["patient_id"]: (row["age"], row["birth_date"], row["birth_year"]) for row in found} == {
        pseudonym(KEY, "patient_id", "mrn/1"): (89, date(1936, 3, 3) + timedelta(days=shift_days(KEY, "mrn/1")), 1937),
        pseudonym(KEY, "patient_id", "mrn/2"): (90, None, None),
        pseudonym(KEY, "patient_id", "mrn/3"): (90, None, None),
    }


def test_an_aggregate_loses_its_small_cells_and_of_its_instants_all_but_the_year(data: DataDir, tmp_path: Path) -> None:
    mart(data, "by_code", code=["a", "b", "c"], patients=[10, 11, 400], hour=[NOON, NOON, NOON])
    made = exported(data, tmp_path / "out")

    year = datetime(2026, 1, 1, tzinfo=UTC)
    assert sorted(rows(tmp_path / "out", "mart.by_code"), key=str) == [
        {"code": "b", "patients": 11, "hour": year},
        {"code": "c", "patients": 400, "hour": year},
    ]
    assert made.tables[0].left_out == 1


def test_identifiers_in_lists_have_the_pseudonyms_they_have_elsewhere(data: DataDir, tmp_path: Path) -> None:
    append(data, ALERT_NOTIFICATION, {"patient_id": "mrn/1", "alert_ids": ["a", "b"], "emitted_at": NOON}, {
        "patient_id": "mrn/1", "alert_ids": [], "emitted_at": NOON + timedelta(1)
    })  # fmt: skip
    exported(data, tmp_path / "out")

    found = [row["alert_ids"] for row in rows(tmp_path / "out", "gold.alert_notification")]
    assert found == [[pseudonym(KEY, "alert_id", "a"), pseudonym(KEY, "alert_id", "b")], []]


def test_a_table_with_an_unclassified_column_stops_the_export_before_anything_is_written(
    filled: DataDir, tmp_path: Path
) -> None:
    mart(filled, "stay", patient_id=["mrn/1"], surname=["Doe"])

    with pytest.raises(PrivacyError, match="surname"):
        exported(filled, tmp_path / "out")

    assert list(tmp_path.glob("*out*")) == []


def test_a_plain_export_has_the_rows_as_they_are_and_never_bronze(filled: DataDir, tmp_path: Path) -> None:
    made = exported(filled, tmp_path / "out", key=None)

    assert {row["patient_id"] for row in rows(tmp_path / "out", "silver.observation")} == set(PATIENTS)
    assert made.not_exported == ("bronze.device_message", "silver.dead_letter")
    assert not made.deidentified


def test_a_shift_is_a_whole_number_of_days_within_a_year_and_never_none() -> None:
    days = {shift_days(KEY, f"mrn/{n}") for n in range(20_000)}

    assert days == set(range(-365, 366)) - {0}


def test_a_short_a_missing_and_a_misplaced_key_are_errors_and_a_key_has_no_text(data: DataDir, tmp_path: Path) -> None:
    (tmp_path / "short").write_text("secret\n")
    with pytest.raises(KeyFileError, match="the key has 6 bytes, it needs 32"):
        read_key(tmp_path / "short")
    with pytest.raises(KeyFileError, match="No such file"):
        read_key(tmp_path / "none")
    with pytest.raises(KeyFileError, match="keep the key apart"):
        check_key_place(data.root / "key", data, tmp_path / "out")
    assert KEY.secret.decode() not in f"{KEY!r} {KEY}"


def test_a_folder_that_holds_something_is_not_written_to(filled: DataDir, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("")

    with pytest.raises(SnapshotError, match="is not empty"):
        exported(filled, tmp_path / "out")
