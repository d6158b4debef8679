"""Training of a model of risk, from tables to the registry."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from lakehouse.datadir import DataDir
from lakehouse.models import episodes, federated, landmarks, scoring
from lakehouse.models.drift import Drift, drifts, reference
from lakehouse.models.episodes import Episodes
from lakehouse.models.evaluation import evaluate, out_of_fold
from lakehouse.models.recipe import Network, Recipe
from lakehouse.models.registry import Registered, Registry
from lakehouse.models.risk import fit
from lakehouse.snapshot import load, place_of
from wardhouse.snapshots import software


def trained(
    data: DataDir,
    registry: Registry,
    snapshot: str | None,
    recipe: Recipe,
    say: Callable[[str], None],
    simulated: tuple[Episodes, timedelta] | None = None,
) -> Registered:
    """Evaluate by folds, fit to all rows, and register. Raises what reading, folds, snapshots and registry raise.

    With ``simulated``, the event is an episode of a run within a time, else it is death.
    """
    made_of: dict[str, Any] = {}
    if snapshot is not None:
        made_of = {"snapshot": snapshot, "digest": load(data, snapshot).digest[:12]}
    place = data if snapshot is None else place_of(data, snapshot)
    if simulated is None:
        rows = landmarks.read(place)
    else:
        made_of["run"] = simulated[0].run
        rows = episodes.read(place, *simulated)
    say(f"{len(rows.event):,} landmarks of {len(set(rows.patients))} patients, {int(rows.event.sum())} of them events")
    risks = out_of_fold(rows, recipe)
    say("evaluating")
    evaluation = evaluate(rows, risks, recipe)
    model = fit(rows.x, rows.event, rows.patients, recipe, recipe.seed)
    then = reference(rows.x, np.mean(risks, axis=0), rows.patients)
    return registry.register(model, evaluation, recipe, then, {**made_of, **rows.versions}, software()["commit"])


def compared(
    data: DataDir, snapshot: str | None, hospitals: int | None, rounds: int, recipe: Recipe
) -> tuple[federated.Compared, ...]:
    """Ways to train a network, with patients parted by chance, or else by source, into hospitals.

    Raises HospitalsError, and what reading, folds, snapshots and the network raise.
    """
    rows = landmarks.read(data if snapshot is None else place_of(data, snapshot))
    if hospitals is None:
        of = federated.by_source(rows.patients)
    else:
        of = federated.by_chance(rows.patients, hospitals, recipe.seed)
    return federated.compared(rows, of, Network(), recipe, rounds)


def drifted(
    data: DataDir, registry: Registry, one: Registered, since: datetime, until: datetime, now: datetime
) -> tuple[Drift, ...]:
    """How far inputs and risks of a version have moved in a span of time, what has moved most first; kept beside it.

    Rows are as those of its training: at the same steps, as known then. Raises TooFewPatientsNowError, and
    what reading and the registry raise.
    """
    asked, x = scoring.stood(data, since, until, registry.evaluation(one).outcome)
    risks = registry.model(one).risks(x) if asked else np.array([])
    found = drifts(registry.reference(one), x, risks, [each.patient_id for each in asked])
    registry.note(one, found, now)
    return found
