"""The network: what it learns, what it rests on, and its file."""

import sys
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.models.artefact import ModelFileError, digest, dump, load
from lakehouse.models.evaluation import MODEL, evaluate, out_of_fold
from lakehouse.models.features import COLUMNS, COURSES_DIGEST, NAMES
from lakehouse.models.gate import Gate, reasons
from lakehouse.models.landmarks import Landmarks
from lakehouse.models.network import NetworkModel
from lakehouse.models.network_training import NetworkPackagesMissingError, initial
from lakehouse.models.recipe import Kind, Network
from lakehouse.models.risk import RiskModel, fit
from lakehouse.scores import Score
from tests.fixtures.landmarks import QUICK_NETWORK, made_up, shuffled

_UNTRAINED = NetworkModel(initial(Network(), 1), -1.0, 0.0)


@pytest.fixture(scope="module")
def rows() -> Landmarks:
    return made_up()


def fitted(rows: Landmarks) -> RiskModel:
    return fit(rows.x, rows.event, rows.patients, QUICK_NETWORK, seed=1)


@pytest.fixture(scope="module")
def model(rows: Landmarks) -> RiskModel:
    return fitted(rows)


def test_it_learns_what_news2_does_not_see_and_passes_the_gate(rows: Landmarks) -> None:
    found = evaluate(rows, out_of_fold(rows, QUICK_NETWORK), QUICK_NETWORK)

    assert found.of(MODEL).auroc.value > max(0.95, found.of(Score.NEWS2).auroc.value + 0.05)
    assert reasons(found, None, Gate(), other_rows=False) == ()


def test_of_shuffled_outcomes_it_learns_nothing_and_the_gate_refuses_it(rows: Landmarks) -> None:
    mixed = shuffled(rows)

    found = evaluate(mixed, out_of_fold(mixed, QUICK_NETWORK), QUICK_NETWORK)

    perfect = evaluate(rows, [rows.event.astype(float)], QUICK_NETWORK)
    assert found.of(MODEL).auroc.value < 0.65
    assert reasons(found, perfect, Gate(), other_rows=True)


def test_the_same_rows_and_seed_give_the_same_bytes(rows: Landmarks, model: RiskModel) -> None:
    assert dump(fitted(rows)) == dump(model)


def test_a_risk_rests_on_signals_and_tells_the_newest_hour_of_each(model: RiskModel) -> None:
    x = np.full((2, len(COLUMNS)), np.nan)
    x[0, [COLUMNS.index(f"respiratory_rate_{hour}h_ago") for hour in range(1, 24)]] = np.linspace(30, 10, 23)

    rising, unknown = model.explained(x)

    assert [(one.feature, one.value) for one in rising.contributions] == [("respiratory_rate", 30.0)]
    assert rising.contributions[0].log_odds > 0
    assert unknown.contributions == ()
    assert [rising.risk, unknown.risk] == model.risks(x).tolist()


def test_features_do_not_reach_it_and_what_is_unknown_is_not_zero() -> None:
    x = np.full((3, len(COLUMNS)), np.nan)
    x[1, NAMES.index("heart_rate_last_24h")] = 180.0
    # The centre of its scale, which stands for 0.
    x[2, COLUMNS.index("heart_rate_3h_ago")] = 85.0

    nothing, feature, hour = _UNTRAINED.risks(x)

    assert feature == nothing
    assert hour != nothing


@settings(deadline=None, max_examples=10)
@given(st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_what_it_says_of_a_row_does_not_depend_on_the_rows_beside_it(count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    x = np.where(random.random((count, len(COLUMNS))) < 0.3, np.nan, random.normal(80, 40, (count, len(COLUMNS))))

    alone = [_UNTRAINED.risks(x[row : row + 1])[0] for row in range(count)]

    assert _UNTRAINED.risks(x).tolist() == alone


def test_values_that_nobody_has_give_a_risk_all_the_same() -> None:
    risks = _UNTRAINED.risks(np.array([[1e300], [-1e300]]) * np.ones(len(COLUMNS)))

    assert np.all((risks >= 0) & (risks <= 1))


def test_a_stored_network_gives_the_same_risks_without_what_trains_it(
    rows: Landmarks, model: RiskModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jax", None)
    content = dump(model)

    again = load(content, digest(content), Kind.NETWORK, COURSES_DIGEST, "version 1")

    assert np.array_equal(again.risks(rows.x), model.risks(rows.x))
    with pytest.raises(NetworkPackagesMissingError, match="uv sync --group network"):
        fitted(rows)


def test_a_file_that_is_not_what_was_registered_or_no_network_is_refused() -> None:
    content = dump(_UNTRAINED)

    with pytest.raises(ModelFileError, match="version 1 is damaged: its SHA-256 is"):
        load(content[:-1], digest(content), Kind.NETWORK, COURSES_DIGEST, "version 1")
    with pytest.raises(ModelFileError, match="takes features declared as 0000"):
        load(content, digest(content), Kind.NETWORK, "0" * 64, "version 1")
    for other in (b"", content[:-1], stored(), stored(first_bias=np.zeros(4)), stored(code=np.array([print]))):
        with pytest.raises(ModelFileError, match="version 1 holds something else than a model of risk"):
            load(other, digest(other), Kind.NETWORK, COURSES_DIGEST, "version 1")


def stored(**arrays: Any) -> bytes:
    file = BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()
