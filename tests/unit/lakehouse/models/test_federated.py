"""Hospitals that keep their patients, on rows that are made up."""

from dataclasses import replace

import numpy as np
import pytest

from lakehouse.models.evaluation import TooFewPatientsError
from lakehouse.models.federated import (
    Given,
    Hospital,
    HospitalsError,
    averaged,
    by_chance,
    by_source,
    compared,
    mean,
)
from lakehouse.models.landmarks import Landmarks
from lakehouse.models.network import shapes
from lakehouse.models.network_training import batch_of, fitted_weights, initial
from lakehouse.models.recipe import Network
from tests.fixtures.landmarks import QUICK_NETWORK, made_up

_LEARNER = Network(width=4, steps=12)


@pytest.fixture(scope="module")
def rows() -> Landmarks:
    return made_up()


def test_hospitals_of_the_same_rows_come_to_what_pooled_rows_give(rows: Landmarks) -> None:
    alike = [Hospital(rows.x, rows.event, _LEARNER) for _ in range(3)]

    together = averaged(alike, _LEARNER, 4, 1)

    pooled = fitted_weights(batch_of(rows.x, rows.event), _LEARNER, 1)
    for name, weights in pooled.items():
        assert np.allclose(together[name], weights, rtol=0, atol=1e-5), name


def test_nothing_but_weights_and_a_count_leaves_a_hospital(rows: Landmarks) -> None:
    hospital = Hospital(rows.x, rows.event, _LEARNER)

    given = hospital.trained(initial(_LEARNER, 1), 3)

    assert vars(given).keys() == {"weights", "rows"}
    assert {name: one.shape for name, one in given.weights.items()} == shapes(_LEARNER.width)
    assert given.rows == 320
    assert [name for name in dir(hospital) if not name.startswith("_")] == ["trained"]
    # Python hides them from whoever is outside the class by this name.
    assert all(name.startswith("_Hospital__") for name in vars(hospital))


def test_a_hospital_counts_by_its_rows() -> None:
    found = mean([Given({"bias": np.float32([1.0])}, 30), Given({"bias": np.float32([5.0])}, 10)])

    assert found["bias"].tolist() == [2.0]
    assert found["bias"].dtype == np.float32


def test_hospitals_together_do_as_well_as_pooled_rows_and_one_without_events_learns_nothing(rows: Landmarks) -> None:
    # Every third patient dies: of the first hospital none does.
    number = np.repeat(np.arange(40), 8)
    of = np.where((number % 3 != 0) & (number < 20), "a", "b")

    found = {one.name: one for one in compared(rows, of, _LEARNER, replace(QUICK_NETWORK, learner=_LEARNER), 4)}

    assert {name: (one.rows, one.patients, one.patients_with_event) for name, one in found.items()} == {
        "pooled": (320, 40, 14),
        "federated": (320, 40, 14),
        "a": (104, 13, 0),
        "b": (216, 27, 14),
    }
    assert found["federated"].auroc > found["a"].auroc
    assert found["federated"].auroc == pytest.approx(found["pooled"].auroc, abs=0.1)


def test_too_few_patients_with_the_event_are_an_error_and_no_figure(rows: Landmarks) -> None:
    none = replace(rows, event=np.zeros(320, dtype=np.bool_))

    with pytest.raises(TooFewPatientsError, match="0 patients with the event"):
        compared(none, np.full(320, "a"), _LEARNER, QUICK_NETWORK, 4)


def test_patients_are_parted_by_source_or_by_chance_and_nobody_is_in_two_hospitals() -> None:
    patients = np.repeat([f"mrn/{number}" for number in range(9)], 2)

    parted = by_chance(patients, 3, 1)

    assert by_source(np.array(["mimic-iii/1", "mimic-iv/1"])).tolist() == ["mimic-iii", "mimic-iv"]
    assert parted[::2].tolist() == parted[1::2].tolist()
    assert {name: (parted == name).sum() // 2 for name in set(parted.tolist())} == {
        "hospital 1": 3,
        "hospital 2": 3,
        "hospital 3": 3,
    }
    assert by_chance(patients, 3, 1).tolist() == parted.tolist()
    assert by_chance(patients, 3, 2).tolist() != parted.tolist()
    with pytest.raises(HospitalsError, match="all patients are of mrn: `--hospitals 3`"):
        by_source(patients)
    with pytest.raises(HospitalsError, match="9 patients cannot be parted into 10 hospitals"):
        by_chance(patients, 10, 1)
