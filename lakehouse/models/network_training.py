"""Training of the network by JAX: full batches, a fixed number of steps, float32, one thread."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lakehouse.models.features import Rows
from lakehouse.models.folds import split
from lakehouse.models.network import NetworkModel, Taken, Weights, logits, logits_of, shapes, taken_of
from lakehouse.models.recipe import Network

_TOGETHER = 512
"""Rows are filled up to a multiple of it: folds of about the same size are compiled once."""
_XLA = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}
"""XLA takes these from the environment alone, when it is first used."""


class NetworkPackagesMissingError(ImportError):
    """The packages that train a network are not installed; the text says how to get them."""


@dataclass(frozen=True, eq=False)
class Batch:
    """All rows of a training; those that only fill it up do not count."""

    taken: Taken
    event: NDArray[np.float32]
    counts: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class State:
    """Where a training stands: weights, and what the optimiser remembers."""

    weights: Weights
    memory: Any


def fit(
    x: Rows, event: NDArray[np.bool_], patients: NDArray[np.str_], learner: Network, folds: int, seed: int
) -> NetworkModel:
    """Fit to all rows, and a sigmoid to what networks say of patients they were not fitted to.

    Raises NetworkPackagesMissingError.
    """
    from sklearn.calibration import _SigmoidCalibration

    unseen = np.empty(len(event), dtype=np.float32)
    for fitted, tested in split(event, patients, folds, seed):
        weights = fitted_weights(batch_of(x[fitted], event[fitted]), learner, seed)
        unseen[tested] = logits_of(weights, taken_of(x[tested]))
    # As CalibratedClassifierCV does for trees.
    sigmoid = _SigmoidCalibration().fit(unseen.astype(np.float64), event)
    weights = fitted_weights(batch_of(x, event), learner, seed)
    return NetworkModel(weights, float(sigmoid.a_), float(sigmoid.b_))


def fitted_weights(batch: Batch, learner: Network, seed: int) -> dict[str, NDArray[np.float32]]:
    """Weights after all steps of the learner."""
    state = started(initial(learner, seed), learner)
    return arrays(trained(state, batch, learner, learner.steps).weights)


def initial(learner: Network, seed: int) -> dict[str, NDArray[np.float32]]:
    """Weights to begin with: small ones by the number of what they weigh (He 2015), and no bias."""
    random = np.random.default_rng(seed)
    return {
        name: (random.normal(0, np.sqrt(2 / shape[0]), shape) if len(shape) > 1 else np.zeros(shape)).astype(np.float32)
        for name, shape in shapes(learner.width).items()
    }


def started(weights: Weights, learner: Network) -> State:
    """A training that begins at these weights. Raises NetworkPackagesMissingError."""
    return State(weights, _optimiser(learner).init(weights))


def trained(state: State, batch: Batch, learner: Network, steps: int) -> State:
    """The training after so many more steps."""
    rows = (batch.taken.hours, batch.taken.age, batch.event, batch.counts)
    weights, memory = _compiled(learner)(steps, dict(state.weights), state.memory, *rows)
    return State(weights, memory)


def arrays(weights: Weights) -> dict[str, NDArray[np.float32]]:
    """The weights as arrays of numpy, in the order in which they are declared."""
    return {name: np.asarray(weights[name]) for name in shapes(1)}


def batch_of(x: Rows, event: NDArray[np.bool_]) -> Batch:
    """Rows and outcomes as a training takes them."""
    more = -len(event) % _TOGETHER
    taken = Taken(*(np.pad(one, [(0, more), *[(0, 0)] * (one.ndim - 1)]) for one in taken_of(x)))
    counts = np.pad(np.ones(len(event), dtype=np.float32), (0, more))
    return Batch(taken, np.pad(event.astype(np.float32), (0, more)), counts)


@cache
def _compiled(learner: Network) -> Callable[..., Any]:
    jax, optax = _packages()
    optimiser = _optimiser(learner)

    def loss(weights: Any, hours: Any, age: Any, event: Any, counts: Any) -> Any:
        each = optax.sigmoid_binary_cross_entropy(logits(weights, hours, age), event)
        squares = sum((one**2).sum() for one in weights.values() if one.ndim > 1)
        return (each * counts).sum() / counts.sum() + learner.penalty * squares

    def run(steps: int, weights: Any, memory: Any, *batch: Any) -> Any:
        def step(_: Any, now: Any) -> Any:
            weights, memory = now
            changes, memory = optimiser.update(jax.grad(loss)(weights, *batch), memory, weights)
            return optax.apply_updates(weights, changes), memory

        return jax.lax.fori_loop(0, steps, step, (weights, memory))

    return jax.jit(run)  # type: ignore[no-any-return]


def _optimiser(learner: Network) -> Any:
    return _packages()[1].adam(learner.learning_rate)


def _packages() -> tuple[Any, Any]:
    os.environ.update(_XLA)
    try:
        import jax
        import optax
    except ImportError as error:
        raise NetworkPackagesMissingError(
            "the packages that train a network are not installed: `uv sync --group network` brings them"
        ) from error
    return jax, optax
