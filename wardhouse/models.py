"""Training of a model of risk, from tables to the registry."""

from collections.abc import Callable
from typing import Any

from lakehouse.datadir import DataDir
from lakehouse.models import landmarks
from lakehouse.models.evaluation import evaluate, out_of_fold
from lakehouse.models.registry import Registered, Registry
from lakehouse.models.risk import Recipe, fit
from lakehouse.snapshot import load, place_of
from wardhouse.snapshots import software


def trained(
    data: DataDir, registry: Registry, snapshot: str | None, recipe: Recipe, say: Callable[[str], None]
) -> Registered:
    """Evaluate by folds, fit to all rows, and register. Raises what reading, folds, snapshots and registry raise."""
    made_of: dict[str, Any] = {}
    if snapshot is not None:
        made_of = {"snapshot": snapshot, "digest": load(data, snapshot).digest[:12]}
    rows = landmarks.read(data if snapshot is None else place_of(data, snapshot))
    say(f"{len(rows.died):,} landmarks of {len(set(rows.patients))} patients, {int(rows.died.sum())} of them events")
    risks = out_of_fold(rows, recipe)
    say("evaluating")
    evaluation = evaluate(rows, risks, recipe)
    model = fit(rows.x, rows.died, rows.patients, recipe, recipe.seed)
    return registry.register(model, evaluation, recipe, {**made_of, **rows.versions}, software()["commit"])
