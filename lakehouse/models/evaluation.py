"""How well a model does on patients that it was not fitted to, beside NEWS2, qSOFA and SIRS on the same rows."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from lakehouse.models.features import Rows
from lakehouse.models.folds import split
from lakehouse.models.landmarks import Landmarks
from lakehouse.models.outcome import Outcome
from lakehouse.models.recipe import Recipe
from lakehouse.models.risk import fit
from lakehouse.scores import SCORES, Score

MODEL = "model"
OPERATING_POINT = 7.0
"""The NEWS2 that asks for an emergency response (RCP 2017): its sensitivity is the one that all are held at."""
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
    median of hours from the first landmark above the threshold with the event ahead until it; None: none was.
    """

    name: str
    auroc: Estimate
    auprc: Estimate
    sensitivity: float
    alerts_a_day: float
    lead_hours: float | None


@dataclass(frozen=True)
class Subgroup:
    """One group, of which so many patients had the event; ``auroc`` of the model is None where fewer than two had."""

    column: str
    value: str
    landmarks: int
    patients: int
    patients_with_event: int
    auroc: float | None


@dataclass(frozen=True)
class Tenth:
    """A tenth of the rows by their risk: the mean risk, and the share of rows with the event. Means over repeats."""

    rows: int
    risk: float
    share: float


@dataclass(frozen=True)
class Evaluation:
    """Of one training. ``calibration_error`` is the mean distance of risk and share of events in tenths of the rows."""

    outcome: Outcome
    rows_digest: str
    landmarks: int
    events: int
    patients: int
    patients_with_event: int
    mean_risk: float
    calibration_error: float
    brier: float
    performances: tuple[Performance, ...]
    subgroups: tuple[Subgroup, ...]
    tenths: tuple[Tenth, ...]

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
        risks = np.empty(len(rows.event))
        for fitted, tested in parted(rows, recipe.folds, seed):
            model = fit(rows.x[fitted], rows.event[fitted], rows.patients[fitted], recipe, seed)
            risks[tested] = model.risks(rows.x[tested])
        found.append(risks)
    return found


def parted(rows: Landmarks, folds: int, seed: int) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Rows to fit and rows to test of each fold. Raises TooFewPatientsError."""
    by_outcome = [len(set(rows.patients[rows.event == outcome])) for outcome in (True, False)]
    # Within each fold the rest is parted once more, for the calibration.
    if min(by_outcome) <= folds:
        raise TooFewPatientsError(
            f"{by_outcome[0]} patients with the event and {by_outcome[1]} without: more than {folds} of each are"
            " needed; `ward backfill` brings more"
        )
    return list(split(rows.event, rows.patients, folds, seed))


def evaluate(rows: Landmarks, risks: list[Rows], recipe: Recipe) -> Evaluation:
    """Hold risks of each repeat against outcomes: figures are means over repeats, intervals resample patients."""
    from sklearn.metrics import brier_score_loss

    resamples = _resamples(rows, recipe)
    ranked = {MODEL: risks, **{str(name): [rows.score(name)] for name in SCORES}}
    sensitivity = float(np.mean(rows.score(Score.NEWS2)[rows.event] >= OPERATING_POINT))
    tenths = [_tenths(rows.event, one) for one in risks]
    return Evaluation(
        outcome=rows.outcome,
        rows_digest=rows.digest,
        landmarks=len(rows.event),
        events=int(rows.event.sum()),
        patients=len(set(rows.patients)),
        patients_with_event=len(set(rows.patients[rows.event])),
        mean_risk=_mean(float(one.mean()) for one in risks),
        calibration_error=_mean(_calibration_error(one) for one in tenths),
        brier=_mean(float(brier_score_loss(rows.event, one)) for one in risks),
        performances=tuple(_performance(name, rows, of, sensitivity, resamples) for name, of in ranked.items()),
        subgroups=tuple(_subgroups(rows, risks)),
        tenths=tuple(_over_repeats(same) for same in zip(*tenths, strict=True)),
    )


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _resamples(rows: Landmarks, recipe: Recipe) -> list[NDArray[np.intp]]:
    """Rows of patients drawn with replacement, where both outcomes are among them."""
    random = np.random.default_rng(recipe.seed)
    names = np.unique(rows.patients)
    of = {name: np.flatnonzero(rows.patients == name) for name in names}
    drawn = (np.concatenate([of[name] for name in random.choice(names, len(names))]) for _ in range(recipe.resamples))
    return [places for places in drawn if 0 < rows.event[places].sum() < len(places)]


def _performance(
    name: str, rows: Landmarks, ranked: list[Rows], sensitivity: float, resamples: list[NDArray[np.intp]]
) -> Performance:
    from sklearn.metrics import average_precision_score, roc_auc_score

    at = [_threshold(rows.event, one, sensitivity) for one in ranked]
    told = [one >= threshold for one, threshold in zip(ranked, at, strict=True)]
    leads = [lead for one in told for lead in _leads(rows, one)]
    return Performance(
        name=name,
        auroc=_estimate(roc_auc_score, rows.event, ranked, resamples),
        auprc=_estimate(average_precision_score, rows.event, ranked, resamples),
        sensitivity=_mean(float(one[rows.event].mean()) for one in told),
        alerts_a_day=_mean(float(one.mean()) for one in told) * (timedelta(days=1) / rows.outcome.step),
        lead_hours=float(np.median(leads)) if leads else None,
    )


def _estimate(
    metric: Callable[..., float], event: NDArray[np.bool_], ranked: list[Rows], resamples: list[NDArray[np.intp]]
) -> Estimate:
    drawn = [_mean(float(metric(event[places], one[places])) for one in ranked) for places in resamples]
    low, high = np.percentile(drawn, [2.5, 97.5]) if drawn else (None, None)
    return Estimate(
        _mean(float(metric(event, one)) for one in ranked),
        None if low is None else float(low),
        None if high is None else float(high),
    )


def _threshold(event: NDArray[np.bool_], ranked: Rows, sensitivity: float) -> float:
    """The highest at which at least this share of the events is at or above it."""
    events = np.sort(ranked[event])[::-1]
    return float(events[max(int(np.ceil(sensitivity * len(events) - 1e-9)) - 1, 0)])


def _leads(rows: Landmarks, told: NDArray[np.bool_]) -> list[float]:
    """For each stay with an event ahead that is told, hours from the first landmark at which it is."""
    early = told & rows.event
    return [float(rows.hours_to_event[early & (rows.stays == stay)].max()) for stay in np.unique(rows.stays[early])]


def _tenths(event: NDArray[np.bool_], risks: Rows) -> list[Tenth]:
    parts = np.array_split(np.argsort(risks, kind="stable"), _BINS)
    return [Tenth(len(one), float(risks[one].mean()), float(event[one].mean())) for one in parts if len(one)]


def _over_repeats(same: Sequence[Tenth]) -> Tenth:
    return Tenth(same[0].rows, _mean(one.risk for one in same), _mean(one.share for one in same))


def _calibration_error(tenths: list[Tenth]) -> float:
    return sum(one.rows * abs(one.risk - one.share) for one in tenths) / sum(one.rows for one in tenths)


def _subgroups(rows: Landmarks, risks: list[Rows]) -> Iterator[Subgroup]:
    from sklearn.metrics import roc_auc_score

    for column, values in rows.groups.items():
        for value in np.unique(values):
            within = values == value
            event = rows.event[within]
            patients_with_event = len(set(rows.patients[within][event]))
            both = patients_with_event > 1 and not event.all()
            yield Subgroup(
                column=column,
                value=str(value),
                landmarks=int(within.sum()),
                patients=len(set(rows.patients[within])),
                patients_with_event=patients_with_event,
                auroc=_mean(float(roc_auc_score(event, one[within])) for one in risks) if both else None,
            )
