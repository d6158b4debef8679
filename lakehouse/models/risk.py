"""A model of risk, whatever is fitted: from rows to risks and to what each rests on."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lakehouse.models import network_training, trees
from lakehouse.models.explanation import Risk
from lakehouse.models.features import Rows
from lakehouse.models.recipe import Kind, Recipe, Trees


class RiskModel(Protocol):
    """Takes rows whose columns are those of ``features.COLUMNS``; what it gives of a row does not depend on others."""

    @property
    def kind(self) -> Kind:
        """What was fitted."""

    def risks(self, x: Rows) -> Rows:
        """The risk of each row."""

    def explained(self, x: Rows, top: int = 5) -> list[Risk]:
        """The risk of each row with its largest contributions."""


def fit(x: Rows, event: NDArray[np.bool_], patients: NDArray[np.str_], recipe: Recipe, seed: int) -> RiskModel:
    """Fit to all rows, and the calibration to what is said of patients who were left out.

    Raises NetworkPackagesMissingError.
    """
    learner = recipe.learner
    if isinstance(learner, Trees):
        return trees.fit(x, event, patients, learner, recipe.folds, seed)
    return network_training.fit(x, event, patients, learner, recipe.folds, seed)
