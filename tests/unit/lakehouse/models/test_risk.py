import json
from dataclasses import asdict, replace
from datetime import timedelta

import numpy as np
import pytest

from lakehouse.models.artefact import ModelFileError, digest, dump, load
from lakehouse.models.evaluation import MODEL, Evaluation, TooFewPatientsError, evaluate, out_of_fold
from lakehouse.models.features import COLUMNS, DIGEST, NAMES
from lakehouse.models.folds import split
from lakehouse.models.gate import SIMULATED, Gate, reasons
from lakehouse.models.landmarks import Landmarks
from lakehouse.models.outcome import simulated_episode
from lakehouse.models.recipe import Kind
from lakehouse.models.risk import RiskModel, fit
from lakehouse.scores import Score
from tests.fixtures.landmarks import QUICK, made_up, shuffled


@pytest.fixture(scope="module")
def rows() -> Landmarks:
    return made_up()


@pytest.fixture(scope="module")
def model(rows: Landmarks) -> RiskModel:
    return fit(rows.x, rows.event, rows.patients, QUICK, seed=1)


@pytest.fixture(scope="module")
def evaluation(rows: Landmarks) -> Evaluation:
    return evaluate(rows, out_of_fold(rows, QUICK), QUICK)


def test_no_patient_is_on_both_sides_of_a_split(rows: Landmarks) -> None:
    for fitted, tested in split(rows.event, rows.patients, 3, seed=1):
        assert not set(rows.patients[fitted]) & set(rows.patients[tested])


def test_the_same_rows_and_seed_give_the_same_evaluation_to_the_byte(evaluation: Evaluation) -> None:
    again = evaluate(made_up(), out_of_fold(made_up(), QUICK), QUICK)

    assert json.dumps(asdict(again)) == json.dumps(asdict(evaluation))


def test_a_model_of_rows_that_tell_is_better_than_news2_and_is_held_at_its_sensitivity(evaluation: Evaluation) -> None:
    own, news2 = evaluation.of(MODEL), evaluation.of(Score.NEWS2)

    assert (evaluation.landmarks, evaluation.events) == (320, 56)
    assert (evaluation.patients, evaluation.patients_with_event) == (40, 14)
    assert own.auroc.value > news2.auroc.value + 0.05
    assert own.auroc.low is not None
    assert own.auroc.low < own.auroc.value
    assert own.sensitivity >= news2.sensitivity
    assert own.alerts_a_day < news2.alerts_a_day
    assert own.lead_hours is not None
    assert 0 < own.lead_hours <= 24
    assert [(one.value, one.landmarks, one.patients, one.patients_with_event) for one in evaluation.subgroups] == [
        ("female", 160, 20, 7),
        ("male", 160, 20, 7),
    ]


def test_a_group_in_which_fewer_than_two_had_the_event_has_no_figure(rows: Landmarks) -> None:
    alone = replace(rows, groups={"care_unit": np.where(np.arange(320) < 16, "A", "B")})

    found = evaluate(alone, [rows.score("news2") / 20], QUICK).subgroups

    told = [(one.value, one.patients_with_event, one.auroc is None) for one in found]
    assert told == [("A", 1, True), ("B", 13, False)]


def test_too_few_patients_are_said_and_not_split(rows: Landmarks) -> None:
    first = 8 * 6
    few = replace(
        rows, patients=rows.patients[:first], stays=rows.stays[:first], x=rows.x[:first], event=rows.event[:first]
    )

    with pytest.raises(TooFewPatientsError, match="2 patients with the event and 6 without: more than 3 of each"):
        out_of_fold(few, QUICK)


def test_the_gate_lets_a_good_model_pass_and_lists_what_is_wrong_with_one_of_shuffled_labels(
    rows: Landmarks, evaluation: Evaluation
) -> None:
    mixed = shuffled(rows)
    bad = evaluate(mixed, out_of_fold(mixed, QUICK), QUICK)

    assert reasons(evaluation, None, Gate(), other_rows=False) == ()
    assert reasons(evaluation, evaluation, Gate(), other_rows=False) == ()
    found = " ".join(reasons(bad, evaluation, Gate(), other_rows=False))
    assert "AUROC" in found
    assert "AUPRC" in found
    assert "evaluated on other rows" in found
    assert "other rows" not in " ".join(reasons(bad, evaluation, Gate(), other_rows=True))


def test_the_gate_refuses_what_is_not_calibrated_and_not_better_than_news2(evaluation: Evaluation) -> None:
    news2 = evaluation.of(Score.NEWS2)
    no_better = tuple(replace(news2, name=one.name) if one.name == MODEL else one for one in evaluation.performances)

    assert reasons(replace(evaluation, calibration_error=0.06), None, Gate(), other_rows=False) == (
        "calibration error 0.060 is above 0.05",
    )
    found = reasons(replace(evaluation, performances=no_better), None, Gate(), other_rows=False)
    assert [reason.split(",")[0] for reason in found] == [f"AUROC {news2.auroc.value:.3f} is not above that of NEWS2"]


def test_a_model_of_simulated_episodes_never_takes_the_place_of_one_of_deaths(evaluation: Evaluation) -> None:
    outcome = simulated_episode(timedelta(minutes=12), "sim")
    simulated = replace(evaluation, outcome=outcome, rows_digest="other")
    of_deaths = replace(evaluation, rows_digest="another")

    for other_rows in (False, True):
        assert reasons(simulated, evaluation, Gate(), other_rows=other_rows) == (SIMULATED,)
    assert reasons(simulated, None, Gate(), other_rows=False) == ()
    assert reasons(of_deaths, simulated, Gate(), other_rows=False) == ()


def test_a_risk_says_what_it_rests_on(model: RiskModel) -> None:
    x = np.full((2, len(COLUMNS)), np.nan)
    x[:, NAMES.index("heart_rate_last_24h")] = 140.0, 80.0

    fast, slow = model.explained(x)

    assert (fast.contributions[0].feature, fast.contributions[0].value) == ("heart_rate_last_24h", 140.0)
    assert fast.contributions[0].log_odds > 0
    assert fast.risk > slow.risk
    assert [fast.risk, slow.risk] == model.risks(x).tolist()


def test_a_stored_model_gives_the_same_risks(rows: Landmarks, model: RiskModel) -> None:
    content = dump(model)

    again = load(content, digest(content), Kind.TREES, DIGEST, "version 1")

    assert np.array_equal(again.risks(rows.x), model.risks(rows.x))


def test_a_file_that_is_not_what_was_registered_is_not_read(model: RiskModel) -> None:
    content = dump(model)

    with pytest.raises(ModelFileError, match="version 1 is damaged: its SHA-256 is"):
        load(content[:-1], digest(content), Kind.TREES, DIGEST, "version 1")
    with pytest.raises(ModelFileError, match="takes features declared as 0000"):
        load(content, digest(content), Kind.TREES, "0" * 64, "version 1")


def test_a_file_of_other_types_than_a_model_has_is_refused() -> None:
    from sklearn.preprocessing import FunctionTransformer
    from skops import io

    content = io.dumps(FunctionTransformer(np.linalg.inv))

    with pytest.raises(ModelFileError, match="holds more than a model of risk"):
        load(content, digest(content), Kind.TREES, DIGEST, "version 1")
