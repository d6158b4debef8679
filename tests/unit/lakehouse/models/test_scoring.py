"""Rows of gold.risk_score beside the ward and over history, by a real model."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from lakehouse import record
from lakehouse.datadir import DataDir
from lakehouse.known_at import as_known_at
from lakehouse.models.network import NetworkModel
from lakehouse.models.network_training import initial
from lakehouse.models.outcome import DEATH, simulated_episode
from lakehouse.models.recipe import Network
from lakehouse.models.risk import fit
from lakehouse.models.scoring import beside_the_ward, history, scored_until
from lakehouse.models.serving import Role, Served
from lakehouse.tables import OBSERVATION, PATIENT, RISK_SCORE, SCORE_INPUT, VITAL_SIGN_MINUTE
from tests.fixtures.delta import append
from tests.fixtures.landmarks import QUICK, made_up
from tests.fixtures.observations import NOON, known, observation

_HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def served() -> Served:
    rows = made_up()
    return Served(3, Role.IN_SERVICE, fit(rows.x, rows.event, rows.patients, QUICK, seed=1), DEATH)


@pytest.fixture
def data(data: DataDir) -> DataDir:
    """Two patients of the last hour, and one who left."""
    append(
        data,
        OBSERVATION,
        observation("a", -7200, 70.0),
        observation("b", -60, 150.0),
        observation("c", 30, 80.0),
        observation("d", 0, 75.0, patient_id="mrn/2"),
        observation("e", -7200, 75.0, patient_id="mrn/3"),
    )
    append(data, VITAL_SIGN_MINUTE, *as_known_at(data, VITAL_SIGN_MINUTE, None).to_arrow_table().to_pylist())
    append(data, SCORE_INPUT)
    append(data, PATIENT, {"patient_id": "mrn/1", "birth_year": 1956, "recorded_at": NOON})
    append(data, RISK_SCORE)
    return data


def told(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(row["patient_id"], row["landmark_at"], row["model_version"], row["role"]) for row in rows]


def test_who_was_heard_of_is_scored_at_the_newest_minute_and_once(data: DataDir, served: Served) -> None:
    shadow = Served(4, Role.SHADOW, served.model, DEATH)
    nothing: dict[int, Any] = {3: {}, 4: {}}

    rows = beside_the_ward(data, [served, shadow], nothing, known(90))
    record.add(data, RISK_SCORE, rows)

    assert told(rows) == [
        ("mrn/1", NOON, 3, "in_service"),
        ("mrn/2", NOON, 3, "in_service"),
        ("mrn/1", NOON, 4, "shadow"),
        ("mrn/2", NOON, 4, "shadow"),
    ]
    assert rows[0]["risk"] > rows[1]["risk"]
    assert rows[0]["contributions"][0]["feature"] == "heart_rate_last_24h"
    assert {version: scored_until(data, version, known(90)) for version in (3, 5)} == {
        3: {"mrn/1": NOON, "mrn/2": NOON},
        5: {},
    }
    assert beside_the_ward(data, [served], {3: scored_until(data, 3, known(90))}, known(90)) == []
    assert told(beside_the_ward(data, [served], {3: {"mrn/1": NOON}}, known(90))) == [("mrn/2", NOON, 3, "in_service")]


def test_a_model_of_simulated_episodes_says_nothing_of_other_patients(data: DataDir, served: Served) -> None:
    simulated = replace(served, outcome=simulated_episode(timedelta(minutes=6), "sim"))

    assert beside_the_ward(data, [simulated], {3: {}}, known(90)) == []
    assert list(history(data, simulated, NOON - 3 * _HOUR, NOON + _HOUR, _HOUR, known(90))) == []


@pytest.mark.parametrize("kind", ["trees", "network"])
def test_history_gives_the_row_that_was_given_beside_the_ward(data: DataDir, served: Served, kind: str) -> None:
    if kind == "network":
        served = replace(served, model=NetworkModel(initial(Network(), 1), -1.0, 0.0))
    now = known(90)
    live = beside_the_ward(data, [served], {3: {}}, now)

    (rows,) = history(data, served, NOON - 3 * _HOUR, NOON + _HOUR, _HOUR, now)
    record.add(data, RISK_SCORE, rows)

    assert told(rows) == [
        ("mrn/1", NOON - _HOUR, 3, "in_service"),
        ("mrn/1", NOON, 3, "in_service"),
        ("mrn/3", NOON - _HOUR, 3, "in_service"),
    ]
    assert rows[1] == live[0]
    assert list(history(data, served, NOON - 3 * _HOUR, NOON + _HOUR, _HOUR, now)) == []
    assert told([row for part in history(data, served, NOON, NOON + 2 * _HOUR, _HOUR, now) for row in part]) == [
        ("mrn/1", NOON + _HOUR, 3, "in_service"),
        ("mrn/2", NOON + _HOUR, 3, "in_service"),
    ]
