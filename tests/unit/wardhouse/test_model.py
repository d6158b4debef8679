"""The commands of models on a real registry: SQLite and files in the data dir."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner, Result

from lakehouse.datadir import DataDir
from lakehouse.models.artefact import ModelFileError
from lakehouse.models.drift import reference
from lakehouse.models.evaluation import Evaluation, evaluate, out_of_fold
from lakehouse.models.network import NetworkModel
from lakehouse.models.network_training import initial
from lakehouse.models.recipe import Kind, Network
from lakehouse.models.registry import IN_SERVICE, NAME, SHADOW, Registry, connect
from lakehouse.models.risk import RiskModel, fit
from lakehouse.models.scoring import stood
from lakehouse.tables import OBSERVATION, PATIENT
from tests.fixtures.delta import append
from tests.fixtures.landmarks import QUICK, QUICK_NETWORK, made_up, shuffled
from tests.fixtures.observations import NOON, observation
from wardhouse.cli import app


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataDir:
    return DataDir(tmp_path_factory.mktemp("models") / "ward")


@pytest.fixture(scope="module")
def registry(data: DataDir) -> Registry:
    return connect(data, None)


def ward(data: DataDir, *words: str) -> Result:
    return CliRunner().invoke(app, ["model", *words, "--data-dir", str(data.root)])


def test_a_model_goes_through_the_gate_into_service_and_back(data: DataDir, registry: Registry) -> None:
    rows = made_up()
    model = fit(rows.x, rows.died, rows.patients, QUICK, seed=1)
    network = NetworkModel(initial(Network(), 1), -1.0, 0.0)
    then = reference(rows.x, model.risks(rows.x), rows.patients)
    good = evaluate(rows, out_of_fold(rows, QUICK), QUICK)
    mixed = shuffled(rows)
    bad = evaluate(mixed, out_of_fold(mixed, QUICK), QUICK)

    def registered(evaluation: Evaluation, model: RiskModel = model) -> int:
        recipe = QUICK if model.kind is Kind.TREES else QUICK_NETWORK
        return registry.register(model, evaluation, recipe, then, {"snapshot": "icu-2026"}, "abc").version

    assert ward(data, "list").output == "no models: `ward model train` makes one\n"
    assert "no model was in service before" in ward(data, "rollback").output
    assert [registered(good), registered(replace(good, brier=0.1), network), registered(bad)] == [1, 2, 3]
    assert "version 1 is in service" in ward(data, "promote", "1").output
    assert ward(data, "shadow", "2").output == "version 2 is in the shadow\n"
    assert [one.aliases for one in registry.versions()] == [(IN_SERVICE,), (SHADOW,), ()]
    assert "version 2 is in service" in ward(data, "promote", "2").output
    assert [one.aliases for one in registry.versions()] == [(), (IN_SERVICE,), ()]

    refused = ward(data, "promote", "3")

    assert refused.exit_code == 1
    assert "ward: version 3 is not promoted: AUROC" in refused.output
    assert registry.in_service().version == 2
    assert "version 1 is in service" in ward(data, "rollback").output
    assert "no model was in service before" in ward(data, "rollback").output
    assert "there is no version 4" in ward(data, "show", "4").output
    shown = ward(data, "show", "1").output
    assert "Not a medical device" in shown
    assert "snapshot icu-2026" in shown
    assert "boosted trees" in shown
    assert "A network of two convolutions of width 8" in ward(data, "show", "2").output
    assert registry.evaluation(registry.version(1)) == good
    assert np.array_equal(registry.model(registry.version(2)).risks(rows.x), network.risks(rows.x))
    listed = ward(data, "list").output.splitlines()
    assert listed[0].endswith(IN_SERVICE)
    assert [line.split()[3] for line in listed] == ["trees", "network", "trees"]


def test_a_version_from_before_there_were_networks_is_of_trees(data: DataDir, registry: Registry) -> None:
    MlflowClient(f"sqlite:///{data.models / 'mlflow.db'}").delete_model_version_tag(NAME, "1", "kind")

    assert registry.model(registry.version(1)).kind is Kind.TREES


def test_a_model_whose_file_is_damaged_or_gone_is_named_and_stays_out_of_service(
    data: DataDir, registry: Registry
) -> None:
    before = registry.in_service().version
    file = _file(data, registry, 2)
    content = file.read_bytes()
    file.write_bytes(content[:-10])

    assert "version 2 is damaged: its SHA-256 is" in ward(data, "promote", "2").output
    file.unlink()
    with pytest.raises(ModelFileError, match=r"version 2 has lost its model\.npz"):
        registry.model(registry.version(2))
    assert "version 2 has lost its model.npz" in ward(data, "shadow", "2").output
    assert registry.in_service().version == before


def _file(data: DataDir, registry: Registry, version: int) -> Path:
    return data.models / "files" / registry.version(version).run / "artifacts" / "model.npz"


def test_what_a_version_is_told_now_is_held_against_its_training_and_the_look_is_kept(
    data: DataDir, registry: Registry
) -> None:
    patients = [f"mrn/{number}" for number in range(25)]
    for hour in range(4, 17, 4):
        of_hour = (observation(f"{one} {hour}", -3600.0 * hour, 80.0, patient_id=one) for one in patients)
        append(data, OBSERVATION, *of_hour)
    append(data, PATIENT)
    rows = made_up()
    model = fit(rows.x, rows.died, rows.patients, QUICK, seed=1)
    asked, x = stood(data, NOON - timedelta(days=1), NOON, timedelta(hours=4))
    evaluation = evaluate(rows, out_of_fold(rows, QUICK), QUICK)
    same = reference(x, model.risks(x), [one.patient_id for one in asked])
    other = reference(rows.x, model.risks(rows.x), rows.patients)
    versions = [registry.register(model, evaluation, QUICK, then, {}, None) for then in (same, other)]

    day = ("--days", "1", "--until", "2026-03-01T12:00:00")
    steady, moved = (ward(data, "drift", "--version", str(one.version), *day) for one in versions)
    too_few = ward(data, "drift", "--version", str(versions[0].version), "--until", "2026-02-01")

    assert steady.exit_code == 0, steady.output
    assert "nothing has moved" in steady.output
    assert moved.exit_code == 1
    assert f"inputs and risks of version {versions[1].version} have moved" in moved.output
    assert "0 patients say nothing of drift" in too_few.output
    assert [index for _, index in registry.noted(versions[0], "risk")] == [0.0]
    assert len(registry.noted(versions[1], "heart_rate_last_24h")) == 1
