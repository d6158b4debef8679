"""The model of risk: gradient-boosted trees, calibrated; from features to a risk and to what it rests on."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lakehouse.models.features import NAMES, Rows

_AT_ONCE = 500
"""Rows that are explained together: without each of their features they take 32 MB."""


@dataclass(frozen=True)
class Recipe:
    """How a model is fitted and evaluated. Nothing of it was chosen by what it gives on the rows it is evaluated on.

    Shallow trees with large leaves, since a hundred patients bear no more. ``resamples`` is of the bootstrap.
    """

    trees: int = 100
    learning_rate: float = 0.05
    leaves: int = 6
    samples_a_leaf: int = 40
    penalty: float = 10.0
    features_a_split: float = 0.3
    folds: int = 5
    repeats: int = 3
    resamples: int = 300
    seed: int = 1


@dataclass(frozen=True)
class Contribution:
    """What a feature adds to the log odds of the risk, beside not knowing it; without a ``value`` it is unknown."""

    feature: str
    value: float | None
    log_odds: float


@dataclass(frozen=True)
class Risk:
    """Of the model's outcome, 0 to 1, and what it rests on, the largest first."""

    risk: float
    contributions: tuple[Contribution, ...]


@dataclass(frozen=True)
class RiskModel:
    """A fitted estimator of scikit-learn that takes features in the order of ``features.NAMES``."""

    estimator: Any

    def risks(self, x: Rows) -> Rows:
        """The risk of each row."""
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):
            found: Rows = self.estimator.predict_proba(x)[:, 1]
        return found

    def explained(self, x: Rows, top: int = 5) -> list[Risk]:
        """The risk of each row with its largest contributions, at the price of a prediction for each feature."""
        return [
            one for first in range(0, len(x), _AT_ONCE) for one in self._explained(x[first : first + _AT_ONCE], top)
        ]

    def _explained(self, x: Rows, top: int) -> list[Risk]:
        risks = self.risks(x)
        added = _log_odds(risks)[:, None] - _log_odds(self.risks(_without_each(x))).reshape(len(x), len(NAMES))
        return [_told(*row, top) for row in zip(x, risks, added, strict=True)]


def _without_each(x: Rows) -> Rows:
    """Each row as often as there are features, each time without another one: one prediction of many rows is quick."""
    changed = np.repeat(x[:, None, :], len(NAMES), axis=1)
    places = np.arange(len(NAMES))
    changed[:, places, places] = np.nan
    return changed.reshape(-1, len(NAMES))


def _log_odds(risks: Rows) -> Rows:
    # Finite, whatever the calibration gives.
    kept = np.clip(risks, 1e-9, 1 - 1e-9)
    found: Rows = np.log(kept / (1 - kept))
    return found


def _told(x: Rows, risk: float, added: Rows, top: int) -> Risk:
    largest = [place for place in np.argsort(-np.abs(added), kind="stable")[:top] if added[place] != 0]
    told = (
        Contribution(NAMES[place], None if np.isnan(x[place]) else float(x[place]), float(added[place]))
        for place in largest
    )
    return Risk(float(risk), tuple(told))


def fit(x: Rows, event: NDArray[np.bool_], patients: NDArray[np.str_], recipe: Recipe, seed: int) -> RiskModel:
    """Fit trees to all rows, and their calibration to what trees say of patients they were not fitted to."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    trees = HistGradientBoostingClassifier(
        max_iter=recipe.trees,
        learning_rate=recipe.learning_rate,
        max_leaf_nodes=recipe.leaves,
        min_samples_leaf=recipe.samples_a_leaf,
        l2_regularization=recipe.penalty,
        max_features=recipe.features_a_split,
        early_stopping=False,
        random_state=seed,
    )
    folds = list(split(event, patients, recipe.folds, seed))
    calibrated = CalibratedClassifierCV(trees, method="sigmoid", cv=folds, ensemble=False)
    # Trees cannot be fitted to a feature without any value; as a constant it is one by which no tree parts.
    told = np.all([~np.isnan(x[fitted]).all(axis=0) for fitted, _ in folds], axis=0)
    # One thread: the same sums in the same order, and no waiting for a core that others use.
    with threadpool_limits(1):
        calibrated.fit(np.where(told, x, 0.0), event)
    # The folds have served; they would only be stored with it.
    calibrated.cv = None
    return RiskModel(calibrated)


def split(
    event: NDArray[np.bool_], patients: NDArray[np.str_], folds: int, seed: int
) -> Iterable[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Rows to fit and rows to test, no patient in both, and about as many events in each fold."""
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    return splitter.split(np.zeros(len(event)), event, patients)  # type: ignore[no-any-return]
