"""The commands of models on a real registry: SQLite and files in the data dir."""

import subprocess
import sys
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
from lakehouse.models.episodes import of_truth
from lakehouse.models.evaluation import Evaluation, evaluate, out_of_fold
from lakehouse.models.features import NAMES
from lakehouse.models.gate import SIMULATED
from lakehouse.models.network import NetworkModel
from lakehouse.models.network_training import initial
from lakehouse.models.outcome import DEATH
from lakehouse.models.recipe import Kind, Network
from lakehouse.models.registry import IN_SERVICE, NAME, SHADOW, Registry, connect
from lakehouse.models.risk import RiskModel, fit
from lakehouse.models.scoring import stood
from lakehouse.snapshot import create
from lakehouse.tables import OBSERVATION, PATIENT, RISK_SCORE
from streaming.simulator.simulation import Options
from tests.fixtures.delta import append
from tests.fixtures.landmarks import QUICK, QUICK_NETWORK, made_up, shuffled, train_simulated
from tests.fixtures.observations import NOON, observation
from tests.fixtures.simulated import land
from wardhouse.cli import app
from wardhouse.models import trained

ROOT = Path(__file__).resolve().parents[3]
TRAIN = """
import sys
from pathlib import Path
from tests.fixtures.landmarks import train_simulated
print(repr(train_simulated(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))), end="")
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataDir:
    return DataDir(tmp_path_factory.mktemp("models") / "ward")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[DataDir, Path]:
    """A data dir with thirty simulated patients, and the truth of their run."""
    data = DataDir(tmp_path_factory.mktemp("simulated") / "ward")
    return data, land(data, Options(NOON, patients=30, cadence=60, episodes_per_hour=12), minutes=90)


@pytest.fixture(scope="module")
def registry(data: DataDir) -> Registry:
    return connect(data, None)


def ward(data: DataDir, *words: str) -> Result:
    return CliRunner().invoke(app, ["model", *words, "--data-dir", str(data.root)])


def test_a_model_goes_through_the_gate_into_service_and_back(data: DataDir, registry: Registry) -> None:
    rows = made_up()
    model = fit(rows.x, rows.event, rows.patients, QUICK, seed=1)
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


def test_versions_stand_side_by_side_with_scores_where_they_were_evaluated_on_the_same_rows(data: DataDir) -> None:
    compared = ward(data, "compare", "1", "2").output.splitlines()

    assert compared[0].startswith("320 landmarks of 40 patients, rows ")
    assert [line.split(" | ")[0] for line in compared[4:]] == [
        "| version 1",
        "| version 2",
        "| news2",
        "| qsofa",
        "| sirs",
    ]
    assert compared[4].split(" | ")[1:] == compared[5].split(" | ")[1:]
    other = ward(data, "compare", "1", "3")
    assert other.exit_code == 1
    assert "version 3 was evaluated on other rows" in other.output


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
    model = fit(rows.x, rows.event, rows.patients, QUICK, seed=1)
    asked, x = stood(data, NOON - timedelta(days=1), NOON, DEATH)
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
    (look,) = registry.noted(versions[0], "risk")
    assert (look.index, look.moved) == (0.0, False)
    (look,) = registry.noted(versions[1], "heart_rate_last_24h")
    assert look.limit is not None
    assert look.moved
    assert registry.newest(versions[1])["heart_rate_last_24h"] == look
    assert len(registry.newest(versions[1])) == len(NAMES) + 1


def test_the_whole_way_can_be_gone_with_simulated_patients_until_a_model_of_deaths_is_in_service(
    simulated: tuple[DataDir, Path],
) -> None:
    data, truth = simulated
    registry = connect(data, None)
    run = of_truth(truth)
    made = trained(data, registry, None, QUICK, lambda _: None, (run, timedelta(minutes=6)))
    append(data, RISK_SCORE)
    rows = made_up()
    model = fit(rows.x, rows.event, rows.patients, QUICK, seed=1)
    good = evaluate(rows, out_of_fold(rows, QUICK), QUICK)
    then = reference(rows.x, model.risks(rows.x), rows.patients)

    assert made.data["run"] == run.run
    assert "# Risk of the height of a simulated episode within 6 minutes\n\n**Simulated.**" in registry.card(made)
    assert "version 1 is in service" in ward(data, "promote", "1").output
    scored = ward(data, "score", "--since", "2026-03-01T13:00:00", "--until", "2026-03-01T13:04:00", "--every", "2m")
    assert scored.output.splitlines()[-1] == "60 risks by version 1"
    registry.register(model, good, QUICK, then, {}, None)
    assert "version 2 is in service" in ward(data, "promote", "2").output
    for again in (("promote", "1"), ("promote", "1", "--other-rows"), ("rollback",)):
        refused = ward(data, *again)
        assert refused.exit_code == 1
        assert SIMULATED in refused.output
    listed = [line.split()[-2:] for line in ward(data, "list").output.splitlines()]
    assert listed[1] == ["death-within-24-hours", IN_SERVICE]
    assert listed[0][1] == "simulated-episode-within-6-minutes"


def test_a_snapshot_gives_the_same_model_to_the_byte_in_another_process_and_after_more_rows(
    simulated: tuple[DataDir, Path],
) -> None:
    data, truth = simulated
    create(data, "pinned", NOON, tables=[OBSERVATION.full_name, PATIENT.full_name], software={}, configuration={})

    first = train_simulated(data.root, "pinned", truth)
    append(data, OBSERVATION, observation("more", 60, 250.0, patient_id="sim/1-00001"))
    # A program of its own: what pools of processes start runs the main module, which a page under test replaces.
    command = [sys.executable, "-c", TRAIN, data.root, "pinned", truth]
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert again == repr(first)
    assert "snapshot pinned, digest" in first[2]


def test_what_is_no_truth_of_a_run_is_refused(data: DataDir, tmp_path: Path) -> None:
    refused = ward(data, "train", "--episodes", str(tmp_path / "none.jsonl"))

    assert refused.exit_code == 1
    assert "is not the truth of a run that has ended" in refused.output
    assert "--within is of --episodes" in ward(data, "train", "--within", "6m").output
