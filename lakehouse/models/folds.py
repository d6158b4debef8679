"""Parting of rows by patient."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def split(
    event: NDArray[np.bool_], patients: NDArray[np.str_], folds: int, seed: int
) -> Iterable[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Rows to fit and rows to test, no patient in both, and about as many events in each fold."""
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    return splitter.split(np.zeros(len(event)), event, patients)  # type: ignore[no-any-return]
