"""Gradient-boosted trees over features, calibrated."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lakehouse.models.explanation import Part, Risk, explained
from lakehouse.models.features import NAMES, Rows
from lakehouse.models.folds import split
from lakehouse.models.recipe import Kind, Trees

_PARTS = tuple(Part(name, (place,)) for place, name in enumerate(NAMES))


@dataclass(frozen=True)
class TreesModel:
    """A fitted estimator of scikit-learn that takes features in the order of ``features.NAMES``."""

    estimator: Any

    @property
    def kind(self) -> Kind:
        """Trees."""
        return Kind.TREES

    def risks(self, x: Rows) -> Rows:
        """The risk of each row."""
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):
            found: Rows = self.estimator.predict_proba(x[:, : len(NAMES)])[:, 1]
        return found

    def explained(self, x: Rows, top: int = 5) -> list[Risk]:
        """The risk of each row, and the features that it rests on most."""
        return explained(self.risks, x[:, : len(NAMES)], _PARTS, top)


def fit(
    x: Rows, event: NDArray[np.bool_], patients: NDArray[np.str_], learner: Trees, folds: int, seed: int
) -> TreesModel:
    """Fit trees to all rows, and their calibration to what trees say of patients they were not fitted to."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    trees = HistGradientBoostingClassifier(
        max_iter=learner.trees,
        learning_rate=learner.learning_rate,
        max_leaf_nodes=learner.leaves,
        min_samples_leaf=learner.samples_a_leaf,
        l2_regularization=learner.penalty,
        max_features=learner.features_a_split,
        early_stopping=False,
        random_state=seed,
    )
    x = x[:, : len(NAMES)]
    parted = list(split(event, patients, folds, seed))
    calibrated = CalibratedClassifierCV(trees, method="sigmoid", cv=parted, ensemble=False)
    # Trees cannot be fitted to a feature without any value; as a constant it is one by which no tree parts.
    told = np.all([~np.isnan(x[fitted]).all(axis=0) for fitted, _ in parted], axis=0)
    # One thread: the same sums in the same order, and no waiting for a core that others use.
    with threadpool_limits(1):
        calibrated.fit(np.where(told, x, 0.0), event)
    # The folds have served; they would only be stored with it.
    calibrated.cv = None
    return TreesModel(calibrated)
