"""How well a model does on patients that it was not fitted to, beside NEWS2, qSOFA and SIRS on the same rows."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lakehouse.models.features import Rows
from lakehouse.models.folds import split
from lakehouse.models.landmarks import Landmarks
from lakehouse.models.recipe import Recipe
from lakehouse.models.risk import fit
from lakehouse.scores import SCORES, Score

MODEL = "model"
OPERATING_POINT = 7.0
"""The NEWS2 that asks for an emergency response (RCP 2017): its sensitivity is the one that all are held at."""
HOURS_A_LANDMARK = 4
_BINS = 10


class TooFewPatientsError(ValueError):
    """There are not enough patients, with and without the event, to part them into folds."""


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval over patients; None where no resample had both outcomes."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Performance:
    """One way to rank landmarks.

    At the sensitivity of a NEWS2 of 7 (or the next above it that is possible): alerts per patient and day, and the
    median of hours from the first landmark above the threshold within 24 hours of a death until it; None: none was.
    """

    name: str
    auroc: Estimate
    auprc: Estimate
    sensitivity: float
    alerts_a_day: float
    lead_hours: float | None


@dataclass(frozen=True)
class Subgroup:
    """One group, of which so many patients ``died``; ``auroc`` of the model is None where fewer than two did."""

    column: str
    value: str
    landmarks: int
    patients: int
    died: int
    auroc: float | None


@dataclass(frozen=True)
class Evaluation:
    """Of one training. ``calibration_error`` is the mean distance of risk and share of deaths in tenths of the rows."""

    rows_digest: str
    landmarks: int
    events: int
    patients: int
    patients_died: int
    mean_risk: float
    calibration_error: float
    brier: float
    performances: tuple[Performance, ...]
    subgroups: tuple[Subgroup, ...]

    def of(self, name: str) -> Performance:
        """The performance of the model or of a score."""
        return next(one for one in self.performances if one.name == name)


def out_of_fold(rows: Landmarks, recipe: Recipe) -> list[Rows]:
    """For each repeat the risk of each row, by a model fitted to other patients.

    Raises TooFewPatientsError and NetworkPackagesMissingError.
    """
    found = []
    for repeat in range(recipe.repeats):
        seed = recipe.seed + repeat
        risks = np.empty(len(rows.died))
        for fitted, tested in parted(rows, recipe.folds, seed):
            model = fit(rows.x[fitted], rows.died[fitted], rows.patients[fitted], recipe, seed)
            risks[tested] = model.risks(rows.x[tested])
        found.append(risks)
    return found


def parted(rows: Landmarks, folds: int, seed: int) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Rows to fit and rows to test of each fold. Raises TooFewPatientsError."""
    by_outcome = [len(set(rows.patients[rows.died == outcome])) for outcome in (True, False)]
    # Within each fold the rest is parted once more, for the calibration.
    if min(by_outcome) <= folds:
        raise TooFewPatientsError(
            f"{by_outcome[0]} patients with the event and {by_outcome[1]} without: more than {folds} of each are"
            " needed; `ward backfill` brings more"
        )
    return list(split(rows.died, rows.patients, folds, seed))


def evaluate(rows: Landmarks, risks: list[Rows], recipe: Recipe) -> Evaluation:
    """Hold risks of each repeat against outcomes: figures are means over repeats, intervals resample patients."""
    from sklearn.metrics import brier_score_loss

    resamples = _resamples(rows, recipe)
    ranked = {MODEL: risks, **{str(name): [rows.score(name)] for name in SCORES}}
    sensitivity = float(np.mean(rows.score(Score.NEWS2)[rows.died] >= OPERATING_POINT))
    return Evaluation(
        rows_digest=rows.digest,
        landmarks=len(rows.died),
        events=int(rows.died.sum()),
        patients=len(set(rows.patients)),
        patients_died=len(set(rows.patients[rows.died])),
        mean_risk=_mean(float(one.mean()) for one in risks),
        calibration_error=_mean(_calibration_error(rows.died, one) for one in risks),
        brier=_mean(float(brier_score_loss(rows.died, one)) for one in risks),
        performances=tuple(_performance(name, rows, of, sensitivity, resamples) for name, of in ranked.items()),
        subgroups=tuple(_subgroups(rows, risks)),
    )


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _resamples(rows: Landmarks, recipe: Recipe) -> list[NDArray[np.intp]]:
    """Rows of patients drawn with replacement, where both outcomes are among them."""
    random = np.random.default_rng(recipe.seed)
    names = np.unique(rows.patients)
    of = {name: np.flatnonzero(rows.patients == name) for name in names}
    drawn = (np.concatenate([of[name] for name in random.choice(names, len(names))]) for _ in range(recipe.resamples))
    return [places for places in drawn if 0 < rows.died[places].sum() < len(places)]


def _performance(
    name: str, rows: Landmarks, ranked: list[Rows], sensitivity: float, resamples: list[NDArray[np.intp]]
) -> Performance:
    from sklearn.metrics import average_precision_score, roc_auc_score

    at = [_threshold(rows.died, one, sensitivity) for one in ranked]
    told = [one >= threshold for one, threshold in zip(ranked, at, strict=True)]
    leads = [lead for one in told for lead in _leads(rows, one)]
    return Performance(
        name=name,
        auroc=_estimate(roc_auc_score, rows.died, ranked, resamples),
        auprc=_estimate(average_precision_score, rows.died, ranked, resamples),
        sensitivity=_mean(float(one[rows.died].mean()) for one in told),
        alerts_a_day=_mean(float(one.mean()) for one in told) * 24 / HOURS_A_LANDMARK,
        lead_hours=float(np.median(leads)) if leads else None,
    )


def _estimate(
    metric: Callable[..., float], died: NDArray[np.bool_], ranked: list[Rows], resamples: list[NDArray[np.intp]]
) -> Estimate:
    drawn = [_mean(float(metric(died[places], one[places])) for one in ranked) for places in resamples]
    low, high = np.percentile(drawn, [2.5, 97.5]) if drawn else (None, None)
    return Estimate(
        _mean(float(metric(died, one)) for one in ranked),
        None if low is None else float(low),
        None if high is None else float(high),
    )


def _threshold(died: NDArray[np.bool_], ranked: Rows, sensitivity: float) -> float:
    """The highest at which at least this share of the events is at or above it."""
    events = np.sort(ranked[died])[::-1]
    return float(events[max(int(np.ceil(sensitivity * len(events) - 1e-9)) - 1, 0)])


def _leads(rows: Landmarks, told: NDArray[np.bool_]) -> list[float]:
    """For each stay that ended in death, hours from the first landmark that is told within 24 hours of it."""
    early = told & rows.died
    return [float(rows.hours_to_death[early & (rows.stays == stay)].max()) for stay in np.unique(rows.stays[early])]


def _calibration_error(died: NDArray[np.bool_], risks: Rows) -> float:
    """In bins of as many rows each; a bin counts by its rows."""
    bins = np.array_split(np.argsort(risks, kind="stable"), _BINS)
    return sum(len(one) * abs(float(risks[one].mean() - died[one].mean())) for one in bins if len(one)) / len(died)


def _subgroups(rows: Landmarks, risks: list[Rows]) -> Iterator[Subgroup]:
    from sklearn.metrics import roc_auc_score

    for column, values in rows.groups.items():
        for value in np.unique(values):
            within = values == value
            died = rows.died[within]
            patients_died = len(set(rows.patients[within][died]))
            both = patients_died > 1 and not died.all()
            yield Subgroup(
                column=column,
                value=str(value),
                landmarks=int(within.sum()),
                patients=len(set(rows.patients[within])),
                died=patients_died,
                auroc=_mean(float(roc_auc_score(died, one[within])) for one in risks) if both else None,
            )
