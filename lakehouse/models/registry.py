"""Versions of the model in MLflow: SQLite and files below the data dir, or a server.

A version has its file, evaluation and card as artefacts of the run that made it, and as tags what it was made of. Which
one is in service, and which is tried in its shadow, are aliases; what was in service before is a tag of the model.
"""

import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lakehouse.datadir import DataDir
from lakehouse.models.artefact import DIGESTS, FILES, ModelFileError, digest, dump, load
from lakehouse.models.card import card
from lakehouse.models.drift import RISK, Binned, Drift, Reference
from lakehouse.models.evaluation import Estimate, Evaluation, Performance, Subgroup, Tenth
from lakehouse.models.gate import SIMULATED, Gate, GateRefusedError, reasons
from lakehouse.models.outcome import Outcome
from lakehouse.models.recipe import Kind, Recipe
from lakehouse.models.risk import RiskModel

if TYPE_CHECKING:
    from mlflow import MlflowClient

NAME = "deterioration-risk"
"""Under which all versions are kept, whatever each of them predicts."""
IN_SERVICE, SHADOW = "in_service", "shadow"
_EVALUATION, _CARD, _RECIPE = "evaluation.json", "card.md", "recipe.json"
_REFERENCE = "reference.json"
_PSI, _LIMIT = "psi_", "psi_limit_"
_SERVED = "served"
_MLFLOW = {
    # Who trains models here is nobody's business elsewhere.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # It would draw one across what a command prints.
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""MLflow takes these from the environment alone."""


class RegistryError(LookupError):
    """The registry has no such version, or none in service; the text says what to do."""


@dataclass(frozen=True)
class Registered:
    """One version. ``data`` says what it was trained on, ``commit`` by which code, None where that is not known."""

    version: int
    created_at: datetime
    aliases: tuple[str, ...]
    kind: Kind
    sha256: str
    features: str
    data: Mapping[str, Any]
    commit: str | None
    run: str


@dataclass(frozen=True)
class Look:
    """How far something had moved at an instant, and how far it may."""

    at: datetime
    index: float
    limit: float

    @property
    def moved(self) -> bool:
        """Whether it was more than chance and custom allow."""
        return self.index > self.limit


class Registry:
    """Reads and writes one registry. Every method raises RegistryError where it cannot be reached."""

    def __init__(self, client: "MlflowClient", experiment_files: str | None) -> None:
        self._client = client
        self._files = experiment_files

    def register(
        self,
        model: RiskModel,
        evaluation: Evaluation,
        recipe: Recipe,
        then: Reference,
        data: Mapping[str, Any],
        commit: str | None,
    ) -> Registered:
        """Store a fitted model with all that is known of it, as the next version."""
        content = dump(model)
        if not self._known():
            self._client.create_registered_model(NAME)
        run = self._client.create_run(self._experiment()).info.run_id
        told = asdict(recipe)
        for key, value in {"kind": model.kind, **told.pop("learner"), **told}.items():
            self._client.log_param(run, key, value)
        for key, number in _metrics(evaluation).items():
            self._client.log_metric(run, key, number)
        for name, stored in {
            FILES[model.kind]: content,
            _EVALUATION: json.dumps(asdict(evaluation), indent=2).encode(),
            _RECIPE: json.dumps(asdict(recipe), indent=2).encode(),
            _REFERENCE: json.dumps(asdict(then)).encode(),
            _CARD: card(evaluation, recipe, data, commit, digest(content)).encode(),
        }.items():
            self._store(run, name, stored)
        self._client.set_terminated(run)
        tags = {
            "kind": str(model.kind),
            "sha256": digest(content),
            "features": DIGESTS[model.kind],
            "data": json.dumps(data),
            "commit": commit or "",
        }
        source = f"{self._client.get_run(run).info.artifact_uri}"
        made = self._client.create_model_version(NAME, source, run, tags=tags)
        return self.version(int(made.version))

    def versions(self) -> tuple[Registered, ...]:
        """Every version, the oldest first."""
        if not self._known():
            return ()
        found = self._client.search_model_versions(f"name = '{NAME}'", max_results=1000)
        aliases = self._aliases()
        return tuple(sorted((_registered(one, aliases) for one in found), key=lambda one: one.version))

    def version(self, number: int) -> Registered:
        """One version. Raises RegistryError."""
        for one in self.versions():
            if one.version == number:
                return one
        raise RegistryError(f"there is no version {number}: `ward model list` names those that there are")

    def under(self, alias: str) -> Registered | None:
        """The version in service, or the one in its shadow."""
        return next((one for one in self.versions() if alias in one.aliases), None)

    def in_service(self) -> Registered:
        """The version in service. Raises RegistryError where there is none."""
        if (found := self.under(IN_SERVICE)) is None:
            raise RegistryError("no model is in service: `ward model train`, then `ward model promote VERSION`")
        return found

    def model(self, one: Registered) -> RiskModel:
        """The fitted model of a version. Raises ModelFileError where its file is gone or not what was registered."""
        return load(self._read(one, FILES[one.kind]), one.sha256, one.kind, one.features, f"version {one.version}")

    def evaluation(self, one: Registered) -> Evaluation:
        """How a version was evaluated. Raises ModelFileError."""
        found = json.loads(self._read(one, _EVALUATION))
        performances = tuple(
            Performance(**{**each, "auroc": Estimate(**each["auroc"]), "auprc": Estimate(**each["auprc"])})
            for each in found.pop("performances")
        )
        subgroups = tuple(Subgroup(**each) for each in found.pop("subgroups"))
        tenths = tuple(Tenth(**each) for each in found.pop("tenths"))
        outcome = Outcome(**found.pop("outcome"))
        return Evaluation(outcome=outcome, **found, performances=performances, subgroups=subgroups, tenths=tenths)

    def reference(self, one: Registered) -> Reference:
        """What later rows are held against. Raises ModelFileError."""
        found = json.loads(self._read(one, _REFERENCE))
        columns = {name: Binned(tuple(its["edges"]), tuple(its["counts"])) for name, its in found["columns"].items()}
        return Reference(found["patients"], columns)

    def note(self, one: Registered, drifts: Iterable[Drift], at: datetime) -> None:
        """Keep beside a version how far its inputs and risks had moved at an instant."""
        from mlflow.entities import Metric

        instant = round(at.timestamp() * 1000)
        metrics = [
            Metric(prefix + drift.name, value, instant, 0)
            for drift in drifts
            for prefix, value in ((_PSI, drift.index), (_LIMIT, drift.limit))
        ]
        self._client.log_batch(one.run, metrics)

    def noted(self, one: Registered, name: str) -> tuple[Look, ...]:
        """Each look at how far a feature, or the risk, had moved, the oldest first."""
        limits = dict(self._history(one, _LIMIT + name))
        return tuple(Look(at, index, limits[at]) for at, index in self._history(one, _PSI + name))

    def newest(self, one: Registered) -> dict[str, Look]:
        """The newest look at each feature and at the risk, by name; empty where nobody has looked."""
        metrics = self._client.get_run(one.run).data.metrics
        if not (looks := self.noted(one, RISK)):
            return {}
        limits = {name.removeprefix(_LIMIT): value for name, value in metrics.items() if name.startswith(_LIMIT)}
        return {
            name.removeprefix(_PSI): Look(looks[-1].at, value, limits[name.removeprefix(_PSI)])
            for name, value in metrics.items()
            if name.startswith(_PSI) and not name.startswith(_LIMIT)
        }

    def _history(self, one: Registered, metric: str) -> list[tuple[datetime, float]]:
        found = self._client.get_metric_history(one.run, metric)
        return sorted((datetime.fromtimestamp(each.timestamp / 1000, UTC), float(each.value)) for each in found)

    def card(self, one: Registered) -> str:
        """The card of a version, Markdown. Raises ModelFileError."""
        return self._read(one, _CARD).decode()

    def promote(self, number: int, gate: Gate, *, other_rows: bool = False) -> Registered:
        """Put a version in service, if the gate lets it. Raises GateRefusedError, RegistryError and ModelFileError."""
        candidate, current = self.version(number), self.under(IN_SERVICE)
        if current is not None and current.version == number:
            return candidate
        # A file that cannot be read must be found here and not beside a patient.
        self.model(candidate)
        theirs = None if current is None else self.evaluation(current)
        if found := reasons(self.evaluation(candidate), theirs, gate, other_rows=other_rows):
            raise GateRefusedError(number, found)
        self._serve(number, [*self._served(), number])
        if SHADOW in candidate.aliases:
            self.shadow(None)
        return self.version(number)

    def rollback(self) -> Registered:
        """Put the version in service again that was before. Raises RegistryError where there was none."""
        served = self._served()
        if len(served) < 2:
            raise RegistryError("no model was in service before this one: there is nothing to roll back to")
        before, now = self.version(served[-2]), self.in_service()
        if self.evaluation(before).outcome.simulated and not self.evaluation(now).outcome.simulated:
            raise RegistryError(f"version {before.version} was in service before: {SIMULATED}")
        self.model(before)
        self._serve(before.version, served[:-1])
        return self.version(before.version)

    def shadow(self, number: int | None) -> None:
        """Try a version beside the one in service, or none. Raises RegistryError and ModelFileError."""
        if number is None:
            if self.under(SHADOW) is not None:
                self._client.delete_registered_model_alias(NAME, SHADOW)
            return
        self.model(self.version(number))
        self._client.set_registered_model_alias(NAME, SHADOW, str(number))

    def _serve(self, number: int, served: list[int]) -> None:
        self._client.set_registered_model_alias(NAME, IN_SERVICE, str(number))
        self._client.set_registered_model_tag(NAME, _SERVED, json.dumps(served))

    def _served(self) -> list[int]:
        if not self._known():
            return []
        found: list[int] = json.loads(self._client.get_registered_model(NAME).tags.get(_SERVED, "[]"))
        return found

    def _aliases(self) -> dict[int, tuple[str, ...]]:
        of = self._client.get_registered_model(NAME).aliases
        numbers = {int(number) for number in of.values()}
        return {number: tuple(sorted(a for a, n in of.items() if int(n) == number)) for number in numbers}

    def _known(self) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return bool(self._client.search_registered_models(f"name = '{NAME}'"))
        except MlflowException as error:
            raise RegistryError(f"the registry of models cannot be read: {error}") from error

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(NAME)
        if found is not None:
            return str(found.experiment_id)
        return str(self._client.create_experiment(NAME, artifact_location=self._files))

    def _store(self, run: str, name: str, content: bytes) -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            self._client.log_artifact(run, str(path))

    def _read(self, one: Registered, name: str) -> bytes:
        from mlflow.exceptions import MlflowException

        with TemporaryDirectory() as folder:
            try:
                return Path(self._client.download_artifacts(one.run, name, folder)).read_bytes()
            except (OSError, MlflowException) as error:
                raise ModelFileError(
                    f"version {one.version} has lost its {name}: restore it, `ward model rollback`, or"
                    " `ward model train` another"
                ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """MLflow tells of the tables that it makes, and of nothing that a person asked for."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def connect(data: DataDir, tracking_uri: str | None) -> Registry:
    """The registry of the data dir, or of an MLflow server. Raises RegistryError where the packages are missing."""
    os.environ.update(_MLFLOW)
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise RegistryError("the packages of models are not installed: `uv sync --group models` brings them") from error
    if tracking_uri is not None:
        return Registry(MlflowClient(tracking_uri), None)
    data.models.mkdir(parents=True, exist_ok=True)
    with quiet():
        client = MlflowClient(f"sqlite:///{data.models / 'mlflow.db'}")
    return Registry(client, (data.models / "files").as_uri())


def _registered(found: Any, aliases: Mapping[int, tuple[str, ...]]) -> Registered:
    number = int(found.version)
    return Registered(
        version=number,
        created_at=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
        aliases=aliases.get(number, ()),
        # Versions from before there were networks do not say it.
        kind=Kind(found.tags.get("kind", Kind.TREES)),
        sha256=found.tags["sha256"],
        features=found.tags["features"],
        data=json.loads(found.tags["data"]),
        commit=found.tags["commit"] or None,
        run=found.run_id,
    )


def _metrics(evaluation: Evaluation) -> dict[str, float]:
    """What MLflow draws and compares."""
    of_each = {
        f"{one.name}_{name}": value
        for one in evaluation.performances
        for name, value in {
            "auroc": one.auroc.value,
            "auprc": one.auprc.value,
            "sensitivity": one.sensitivity,
            "alerts_a_day": one.alerts_a_day,
        }.items()
    }
    return {**of_each, "calibration_error": evaluation.calibration_error, "brier": evaluation.brier}
