"""``ward model``: models of risk, from training through a gate into service and back."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse.models.recipe import Kind
from wardhouse.settings import DEFAULT_DATA_DIR, DataDirOption, Settings, data_dir

if TYPE_CHECKING:
    from lakehouse.models.registry import Registered, Registry

app = typer.Typer(
    help="Models of risk: train, compare, promote, roll back. Not a medical device.", no_args_is_help=True
)

_SHOWN = 10
_WITHIN = "6m"

VersionArgument = Annotated[int, typer.Argument(help="A version, as in `ward model list`.", metavar="VERSION", min=1)]


@app.command("train")
def train(
    kind: Annotated[Kind, typer.Option(help="Trees over features, or a network over hours.")] = Kind.TREES,
    snapshot: Annotated[str | None, typer.Option(help="Train on this snapshot, and not on what is there now.")] = None,
    episodes: Annotated[
        Path | None, typer.Option(help="Learn the episodes of simulated patients in this truth of a run, not deaths.")
    ] = None,
    within: Annotated[
        str | None, typer.Option(help=f"With --episodes: how soon one is at its height; {_WITHIN}.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed on the same rows gives the same figures.", min=0)] = 1,
    repeats: Annotated[int, typer.Option(help="How often patients are parted into folds anew.", min=1)] = 3,
    promote: Annotated[bool, typer.Option("--promote", help="Put it in service, if the gate lets it.")] = False,
    path: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Train on the landmarks of mart.deterioration_label, hold it against NEWS2, qSOFA and SIRS, and register it.

    With --episodes, on those of a run of the simulator: to try the way. Such a model speaks of no others.
    """
    from lakehouse.models.episodes import EpisodesError, of_truth
    from lakehouse.models.evaluation import TooFewPatientsError
    from lakehouse.models.gate import Gate, GateRefusedError
    from lakehouse.models.landmarks import NoLandmarksError
    from lakehouse.models.recipe import LEARNERS, Recipe
    from lakehouse.reader import TableMissingError
    from lakehouse.snapshot import SnapshotError
    from wardhouse.durations import seconds
    from wardhouse.errors import failures
    from wardhouse.models import trained

    if within is not None and episodes is None:
        raise typer.BadParameter("--within is of --episodes: deaths are those within 24 hours")
    span = timedelta(seconds=seconds(within or _WITHIN))
    lacking = (TableMissingError, NoLandmarksError, TooFewPatientsError, EpisodesError)
    with failures(*_known(), *lacking, SnapshotError, GateRefusedError):
        data, registry = data_dir(path), _registry(path)
        simulated = None if episodes is None else (of_truth(episodes), span)
        recipe = Recipe(LEARNERS[kind], seed=seed, repeats=repeats)
        made = trained(data, registry, snapshot, recipe, _say, simulated)
        typer.echo(registry.card(made))
        typer.echo(f"registered as version {made.version}: `ward model promote {made.version}` puts it in service")
        if promote:
            _tell(registry.promote(made.version, Gate()))


@app.command("federated")
def federated(
    hospitals: Annotated[
        int | None, typer.Option(help="Part patients by chance into so many; left out, by source system.", min=2)
    ] = None,
    rounds: Annotated[int, typer.Option(help="How often weights are averaged.", min=1)] = 10,
    snapshot: Annotated[str | None, typer.Option(help="Train on this snapshot, and not on what is there now.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed on the same rows gives the same figures.", min=0)] = 1,
    repeats: Annotated[int, typer.Option(help="How often patients are parted into folds anew.", min=1)] = 3,
    path: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Train a network by hospitals that give weights alone, beside pooled rows and each hospital for itself.

    Hospitals are simulated; nothing is registered.
    """
    from lakehouse.models.evaluation import TooFewPatientsError
    from lakehouse.models.federated import HospitalsError
    from lakehouse.models.landmarks import NoLandmarksError
    from lakehouse.models.network_training import NetworkPackagesMissingError
    from lakehouse.models.recipe import Recipe
    from lakehouse.reader import TableMissingError
    from lakehouse.snapshot import SnapshotError
    from wardhouse.errors import failures
    from wardhouse.models import compared

    of_rows = (TableMissingError, NoLandmarksError, TooFewPatientsError, SnapshotError)
    with failures(NetworkPackagesMissingError, HospitalsError, *of_rows):
        found = compared(data_dir(path), snapshot, hospitals, rounds, Recipe(seed=seed, repeats=repeats))
    typer.echo("| | landmarks | patients | died | AUROC | AUPRC |")
    typer.echo("|---|---|---|---|---|---|")
    for one in found:
        figures = f"{one.auroc:.3f} | {one.auprc:.3f}"
        typer.echo(f"| {one.name} | {one.rows:,} | {one.patients} | {one.patients_with_event} | {figures} |")


@app.command("list")
def list_(path: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Every version, the oldest first."""
    from lakehouse.models.evaluation import MODEL
    from wardhouse.errors import failures

    with failures(*_known()):
        registry = _registry(path)
        found = [(one, registry.evaluation(one)) for one in registry.versions()]
    for one, evaluation in found:
        of, outcome = evaluation.of(MODEL), evaluation.outcome
        line = f"{one.version:>4}  {one.created_at:%Y-%m-%d %H:%M}Z  {one.kind:<7}  AUROC {of.auroc.value:.3f}"
        line += f"  AUPRC {of.auprc.value:.3f}  {one.sha256[:12]}  {outcome.name}"
        typer.echo(f"{line}  {' '.join(one.aliases)}".rstrip())
    if not found:
        typer.echo("no models: `ward model train` makes one")


@app.command("show")
def show(version: VersionArgument, path: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """The card of a version, as Markdown."""
    from wardhouse.errors import failures

    with failures(*_known()):
        registry = _registry(path)
        typer.echo(registry.card(registry.version(version)))


@app.command("compare")
def compare(
    versions: Annotated[list[int], typer.Argument(help="One or more, as in `ward model list`.", metavar="VERSION...")],
    path: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Versions side by side with NEWS2, qSOFA and SIRS, as Markdown; refused where their rows were not the same."""
    from lakehouse.models.comparison import OtherRowsError, comparison
    from wardhouse.errors import failures

    with failures(*_known(), OtherRowsError):
        registry = _registry(path)
        found = {number: registry.evaluation(registry.version(number)) for number in versions}
        typer.echo("\n".join(comparison(found)))


@app.command("promote")
def promote(
    version: VersionArgument,
    other_rows: Annotated[
        bool, typer.Option("--other-rows", help="Although the one in service was evaluated on other rows.")
    ] = False,
    path: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Put a version in service, if it is better than NEWS2, calibrated, and not worse than the one in service."""
    from lakehouse.models.gate import Gate, GateRefusedError
    from wardhouse.errors import failures

    with failures(*_known(), GateRefusedError):
        _tell(_registry(path).promote(version, Gate(), other_rows=other_rows))


@app.command("rollback")
def rollback(path: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Put the version in service again that was before."""
    from wardhouse.errors import failures

    with failures(*_known()):
        _tell(_registry(path).rollback())


@app.command("shadow")
def shadow(
    version: Annotated[int | None, typer.Argument(help="A version; none ends it.", metavar="[VERSION]", min=1)] = None,
    path: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Name the version that is to be tried beside the one in service, unseen; without a version, name none."""
    from wardhouse.errors import failures

    with failures(*_known()):
        _registry(path).shadow(version)
    typer.echo("no version is in the shadow" if version is None else f"version {version} is in the shadow")


@app.command("score")
def score(
    since: Annotated[datetime, typer.Option(help="From this instant on (UTC), as 2150-01-31 or 2150-01-31T12:00:00.")],
    until: Annotated[datetime, typer.Option(help="Up to this instant.")],
    every: Annotated[str, typer.Option(help="At each full step in which something was recorded.")] = "1h",
    version: Annotated[int | None, typer.Option(help="A version; left out, the one in service.", min=1)] = None,
    path: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Score history as it was known then, into gold.risk_score; what the version has scored already stays."""
    from lakehouse import record
    from lakehouse.models import scoring
    from lakehouse.models.registry import IN_SERVICE
    from lakehouse.models.serving import Role, Served, served_by
    from lakehouse.reader import TableMissingError
    from lakehouse.tables import RISK_SCORE
    from wardhouse.component import component
    from wardhouse.durations import seconds
    from wardhouse.errors import failures

    span = since.replace(tzinfo=UTC), until.replace(tzinfo=UTC), timedelta(seconds=seconds(every))
    with failures(*_known(), TableMissingError), component(data_dir(path), "model-score"):
        data, registry = data_dir(path), _registry(path)
        one = registry.in_service() if version is None else registry.version(version)
        role = Role.IN_SERVICE if IN_SERVICE in one.aliases else Role.SHADOW
        written = 0
        served = Served(one.version, role, *served_by(registry, one))
        for rows in scoring.history(data, served, *span, datetime.now(UTC)):
            record.add(data, RISK_SCORE, rows)
            written += len(rows)
            _say(f"{written:,} rows, up to {rows[-1]['patient_id']}")
    typer.echo(f"{written:,} risks by version {one.version}")


@app.command("drift")
def drift(
    days: Annotated[int, typer.Option(help="Look at so many days.", min=1)] = 7,
    until: Annotated[datetime | None, typer.Option(help="They end at this instant (UTC); left out, now.")] = None,
    version: Annotated[int | None, typer.Option(help="A version; left out, the one in service.", min=1)] = None,
    retrain: Annotated[bool, typer.Option("--retrain", help="Where much has moved, train another version.")] = False,
    path: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Hold what a model is told, and what it says, against its training; exit code 1 where much has moved."""
    from lakehouse.models.drift import TooFewPatientsNowError
    from lakehouse.models.evaluation import TooFewPatientsError
    from lakehouse.models.landmarks import NoLandmarksError
    from lakehouse.models.recipe import LEARNERS, Recipe
    from lakehouse.reader import TableMissingError
    from wardhouse.errors import Failure, failures
    from wardhouse.models import drifted, trained

    now = datetime.now(UTC)
    end = until.replace(tzinfo=UTC) if until else now
    with failures(*_known(), TableMissingError, TooFewPatientsNowError, NoLandmarksError, TooFewPatientsError):
        data, registry = data_dir(path), _registry(path)
        one = registry.in_service() if version is None else registry.version(version)
        found = drifted(data, registry, one, end - timedelta(days=days), end, now)
        for its in found[:_SHOWN]:
            missing = f"missing {its.missing_then:.0%} then, {its.missing_now:.0%} now"
            typer.echo(f"{its.index:>8.3f} of {its.limit:.2f}  {its.name}, {missing}")
        moved = [its.name for its in found if its.moved]
        if not moved:
            typer.echo(f"nothing has moved: what version {one.version} is told and says is what it was in its training")
            return
        said = f"{len(moved)} of {len(found)} inputs and risks of version {one.version} have moved"
        remedy = "`ward model train` makes a version of what there is now"
        if registry.evaluation(one).outcome.simulated:
            remedy = "`ward model train --episodes FILE` makes one of another run"
        elif retrain:
            made = trained(data, registry, None, Recipe(LEARNERS[one.kind]), say=_say)
            remedy = f"version {made.version} is trained, `ward model promote {made.version}` tries the gate"
        raise Failure(f"{said}, {moved[0]} most: {remedy}")


def _known() -> tuple[type[Exception], ...]:
    from lakehouse.models.artefact import ModelFileError
    from lakehouse.models.network_training import NetworkPackagesMissingError
    from lakehouse.models.registry import RegistryError

    return (ModelFileError, NetworkPackagesMissingError, RegistryError)


def _registry(path: Path) -> "Registry":
    from lakehouse.models.registry import connect

    return connect(data_dir(path), Settings().mlflow_tracking_uri)


def _say(text: str) -> None:
    typer.echo(f"ward: {text}", err=True)


def _tell(one: "Registered") -> None:
    typer.echo(f"version {one.version} is in service")
