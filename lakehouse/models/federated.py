"""Training of the network by hospitals that keep their patients: federated averaging (McMahan 2017).

In each round every hospital goes on from the same weights with its own rows, and gives weights and the number of rows
they rest on; the next weights are the mean by these numbers. Scales of values are declared (network.py), so not even a
mean of a signal has to be told. Weights can still betray something of the rows they were fitted to; nothing here adds
noise to them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lakehouse.models.evaluation import parted
from lakehouse.models.features import Rows
from lakehouse.models.landmarks import Landmarks
from lakehouse.models.network import Weights, logits_of, taken_of
from lakehouse.models.network_training import State, arrays, batch_of, fitted_weights, initial, started, trained
from lakehouse.models.recipe import Network, Recipe

Values = Mapping[str, NDArray[np.float32]]

POOLED, FEDERATED = "pooled", "federated"


class HospitalsError(ValueError):
    """Patients cannot be parted into such hospitals; the text says why."""


@dataclass(frozen=True, eq=False)
class Given:
    """All that leaves a hospital."""

    weights: Values
    rows: int


class Hospital:
    """Holds rows and outcomes, and what its optimiser remembers of them; gives nothing but :class:`Given`."""

    def __init__(self, x: Rows, event: NDArray[np.bool_], learner: Network) -> None:
        self.__batch = batch_of(x, event)
        self.__rows = len(event)
        self.__learner = learner
        self.__state: State | None = None

    def trained(self, weights: Weights, steps: int) -> Given:
        """The weights after so many steps from these. Raises NetworkPackagesMissingError."""
        memory = (self.__state or started(weights, self.__learner)).memory
        self.__state = trained(State(weights, memory), self.__batch, self.__learner, steps)
        return Given(arrays(self.__state.weights), self.__rows)


def averaged(hospitals: Sequence[Hospital], learner: Network, rounds: int, seed: int) -> Values:
    """Weights after so many rounds, which part the steps of the learner among them."""
    weights: Values = initial(learner, seed)
    for steps in _parts(learner.steps, rounds):
        weights = mean([hospital.trained(weights, steps) for hospital in hospitals])
    return weights


def mean(given: Sequence[Given]) -> Values:
    """The mean of weights by rows, added up in double precision."""
    shares = np.array([one.rows for one in given]) / sum(one.rows for one in given)
    return {
        name: np.sum([share * one.weights[name] for share, one in zip(shares, given, strict=True)], axis=0).astype(
            np.float32
        )
        for name in given[0].weights
    }


def _parts(steps: int, rounds: int) -> list[int]:
    return [len(part) for part in np.array_split(np.arange(steps), rounds)]


def by_source(patients: NDArray[np.str_]) -> NDArray[np.str_]:
    """The hospital of each row by the system in its patient's id. Raises HospitalsError where there is only one."""
    found = np.array([patient.partition("/")[0] for patient in patients])
    if len(names := sorted(set(found))) < 2:
        raise HospitalsError(f"all patients are of {', '.join(names)}: `--hospitals 3` parts them by chance")
    return found


def by_chance(patients: NDArray[np.str_], hospitals: int, seed: int) -> NDArray[np.str_]:
    """The hospital of each row, each with as many patients. Raises HospitalsError where there are too few."""
    names = np.unique(patients)
    if len(names) < hospitals:
        raise HospitalsError(f"{len(names)} patients cannot be parted into {hospitals} hospitals")
    numbers = np.random.default_rng(seed).permutation(len(names)) % hospitals + 1
    of = dict(zip(names.tolist(), numbers.tolist(), strict=True))
    return np.array([f"hospital {of[patient]}" for patient in patients.tolist()])


@dataclass(frozen=True)
class Compared:
    """One way to train: on so many rows, patients, and patients with the event; figures are means over folds."""

    name: str
    rows: int
    patients: int
    patients_with_event: int
    auroc: float
    auprc: float


def compared(
    rows: Landmarks, hospitals: NDArray[np.str_], learner: Network, recipe: Recipe, rounds: int
) -> tuple[Compared, ...]:
    """Pooled, federated and each hospital alone, held against the same patients that none of them had seen.

    Each way takes as many steps from the same weights. What they give is ranked within a fold, so no calibration is
    needed. A hospital whose patients are all held out in a fold takes no part in it. Raises TooFewPatientsError and
    NetworkPackagesMissingError.
    """
    names = sorted(set(hospitals.tolist()))
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in (POOLED, FEDERATED, *names)}
    for repeat in range(recipe.repeats):
        seed = recipe.seed + repeat
        for fitted, tested in parted(rows, recipe.folds, seed):
            for name, weights in _ways(rows, fitted, hospitals, learner, rounds, seed).items():
                figures[name].append(_figures(rows, tested, weights))
    everybody = np.ones(len(rows.event), dtype=np.bool_)
    of = {POOLED: everybody, FEDERATED: everybody, **{name: hospitals == name for name in names}}
    return tuple(_compared(name, rows, of[name], found) for name, found in figures.items())


def _ways(
    rows: Landmarks, fitted: NDArray[np.intp], hospitals: NDArray[np.str_], learner: Network, rounds: int, seed: int
) -> dict[str, Values]:
    """Weights by each way to train on these rows."""
    inside = [fitted[hospitals[fitted] == name] for name in sorted(set(hospitals.tolist()))]
    alone = {
        str(hospitals[its[0]]): fitted_weights(batch_of(rows.x[its], rows.event[its]), learner, seed)
        for its in inside
        if len(its)
    }
    together = [Hospital(rows.x[its], rows.event[its], learner) for its in inside if len(its)]
    return {
        POOLED: fitted_weights(batch_of(rows.x[fitted], rows.event[fitted]), learner, seed),
        FEDERATED: averaged(together, learner, rounds, seed),
        **alone,
    }


def _figures(rows: Landmarks, tested: NDArray[np.intp], weights: Values) -> tuple[float, float]:
    """AUROC and AUPRC."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    ranked, event = logits_of(weights, taken_of(rows.x[tested])), rows.event[tested]
    return float(roc_auc_score(event, ranked)), float(average_precision_score(event, ranked))


def _compared(
    name: str, rows: Landmarks, within: NDArray[np.bool_], figures: Sequence[tuple[float, float]]
) -> Compared:
    auroc, auprc = np.mean(figures, axis=0)
    return Compared(
        name=name,
        rows=int(within.sum()),
        patients=len(set(rows.patients[within])),
        patients_with_event=len(set(rows.patients[within & rows.event])),
        auroc=float(auroc),
        auprc=float(auprc),
    )
