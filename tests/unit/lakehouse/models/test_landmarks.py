from datetime import timedelta

import numpy as np
import pytest

from lakehouse.datadir import DataDir
from lakehouse.models.features import NAMES
from lakehouse.models.landmarks import NoLandmarksError, read
from lakehouse.reader import TableMissingError
from lakehouse.tables import OBSERVATION, PATIENT
from tests.fixtures.delta import append
from tests.fixtures.marts import write_mart
from tests.fixtures.observations import NOON, known, observation


def test_a_landmark_has_the_features_of_its_instant_its_label_and_its_groups(data: DataDir) -> None:
    append(
        data,
        OBSERVATION,
        observation("a", 0, 70.0),
        observation("b", 3600, 90.0),
        observation("b", 3600, 95.0, status="corrected", version=b"w" * 16, recorded_at=known(5 * 3600)),
        observation("other", 0, 200.0, patient_id="mrn/2"),
    )
    append(data, PATIENT, {"patient_id": "mrn/1", "birth_year": 1956, "recorded_at": NOON})
    write_mart(data, "icu_stay", {"stay_id": "s/1", "age_group": "65-79", "care_unit": "MICU"})
    landmark = {"stay_id": "s/1", "patient_id": "mrn/1", "landmark_at": NOON + timedelta(hours=4)}
    write_mart(
        data,
        "deterioration_label",
        landmark | {"death_within_24_hours": False, "hours_to_death": 26.0},
        landmark | {"landmark_at": NOON + timedelta(hours=8), "death_within_24_hours": True, "hours_to_death": 22.0},
        landmark | {"patient_id": "mrn/3", "stay_id": "s/3", "death_within_24_hours": False},
        landmark | {"patient_id": "mrn/4", "stay_id": "s/4"},
    )

    rows = read(data)

    def column(name: str) -> list[float]:
        return [float(value) for value in rows.x[:, NAMES.index(name)]]

    assert list(rows.patients) == ["mrn/1", "mrn/1", "mrn/3"]
    assert list(rows.event) == [False, True, False]
    assert np.array_equal(rows.hours_to_event, [26.0, 22.0, np.nan], equal_nan=True)
    assert column("heart_rate_mean_24h")[:2] == [80.0, 82.5]
    assert column("heart_rate_count_24h") == [2.0, 2.0, 0.0]
    assert column("age")[:2] == [70.0, 70.0]
    assert {name: list(values) for name, values in rows.groups.items()} == {
        "age_group": ["65-79", "65-79", "unknown"],
        "gender": ["unknown"] * 3,
        "care_unit": ["MICU", "MICU", "unknown"],
    }
    assert rows.digest == read(data).digest


def test_without_marts_or_labels_it_is_said_what_to_do(data: DataDir) -> None:
    with pytest.raises(TableMissingError, match="ward dbt build"):
        read(data)
    append(data, OBSERVATION)
    append(data, PATIENT)
    write_mart(data, "icu_stay")
    write_mart(data, "deterioration_label")

    with pytest.raises(NoLandmarksError, match="no landmark whose outcome is known"):
        read(data)
