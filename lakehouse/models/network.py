"""A small network over the course of a day: a convolution in steps of four hours, then one of twelve.

What it takes of an hour and a signal is the mean and whether there was one; of the patient the age. Scales are declared
and not learned, so that no hospital has to tell of its patients to take part in a training (federated.py). Risks are
worked out by numpy alone: beside the ward nothing is needed that trains.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from lakehouse.models.explanation import Part, Risk, explained
from lakehouse.models.features import COLUMNS, COURSES, HOURS, NAMES, Rows
from lakehouse.models.recipe import Kind

Weights = Mapping[str, Any]
"""Arrays of float32 by name, of numpy or of JAX."""

SCALES: Mapping[str, tuple[float, float]] = {
    "heart_rate": (85, 20),
    "respiratory_rate": (20, 6),
    "spo2": (96, 4),
    "systolic_bp": (120, 25),
    "mean_bp": (80, 15),
    "temperature": (37, 1),
    "fio2": (40, 20),
    "oxygen_flow": (4, 4),
    "gcs_eye": (3, 1),
    "gcs_verbal": (3, 2),
    "gcs_motor": (5, 1),
    "glucose": (140, 50),
    "paco2": (40, 10),
    "wbc": (10, 6),
    "age": (65, 15),
}
"""Round numbers of adults in intensive care, centre and spread, in the units of the vocabulary."""
_FURTHEST = 5.0
"""In spreads: a single absurd value must not outweigh all others."""

_STEPS = (4, 3)
"""Hours of a step of the first layer, and steps of the first in one of the second."""
_BLOCKS = HOURS // (_STEPS[0] * _STEPS[1])

_AGE = NAMES.index("age")
_TAKEN = (*range(len(NAMES), len(COLUMNS)), _AGE)
_PARTS = (
    *(Part(signal, tuple(range(place * HOURS, (place + 1) * HOURS))) for place, signal in enumerate(COURSES)),
    Part("age", (len(_TAKEN) - 1,)),
)
"""Columns of what is taken."""


class Taken(NamedTuple):
    """What the network takes of rows: ``hours`` (row, hour, value or mark of a signal), the oldest first; ``age``."""

    hours: NDArray[np.float32]
    age: NDArray[np.float32]


class NetworkFileError(ValueError):
    """Bytes are not those of a network."""


@dataclass(frozen=True, eq=False)
class NetworkModel:
    """Fitted weights, and the sigmoid that makes a risk of what they give: 1 / (1 + exp(slope * logit + shift))."""

    weights: Mapping[str, NDArray[np.float32]]
    slope: float
    shift: float

    @property
    def kind(self) -> Kind:
        """A network."""
        return Kind.NETWORK

    def risks(self, x: Rows) -> Rows:
        """The risk of each row."""
        return self._risks(x[:, _TAKEN])

    def explained(self, x: Rows, top: int = 5) -> list[Risk]:
        """The risk of each row, and the signals that it rests on most, each with the mean of its newest hour."""
        return explained(self._risks, x[:, _TAKEN], _PARTS, top)

    def _risks(self, columns: Rows) -> Rows:
        given = logits_of(self.weights, _scaled(columns)).astype(np.float64)
        # Beyond this a risk is 0 or 1 to the last bit.
        found: Rows = 1 / (1 + np.exp(np.clip(self.slope * given + self.shift, -700, 700)))
        return found


def shapes(width: int) -> dict[str, tuple[int, ...]]:
    """Of the weights of a network of this width, by name, in order."""
    return {
        "first": (_STEPS[0] * 2 * len(COURSES), width),
        "first_bias": (width,),
        "second": (_STEPS[1] * width, width),
        "second_bias": (width,),
        "blocks": (_BLOCKS * width, 1),
        "age": (2, 1),
        "bias": (1,),
    }


def logits(weights: Weights, hours: Any, age: Any) -> Any:
    """One number a row, from arrays of numpy or of JAX: written with what both have.

    Each row is a product of matrices of its own, so that no row's digits depend on how many are asked for.
    """
    layer = hours
    for name, step in zip(("first", "second"), _STEPS, strict=True):
        rows, steps, values = layer.shape
        layer = layer.reshape(rows, steps // step, step * values) @ weights[name] + weights[f"{name}_bias"]
        layer = layer * (layer > 0)
    blocks = layer.reshape(len(hours), 1, len(weights["blocks"]))
    whole = blocks @ weights["blocks"] + age[:, None, :] @ weights["age"] + weights["bias"]
    return whole.reshape(-1)


def logits_of(weights: Weights, taken: Taken) -> NDArray[np.float32]:
    """By numpy, in one thread."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        found: NDArray[np.float32] = logits(weights, taken.hours, taken.age)
    return found


def taken_of(x: Rows) -> Taken:
    """What the network takes of rows whose columns are those of ``features.COLUMNS``."""
    return _scaled(x[:, _TAKEN])


def _scaled(columns: Rows) -> Taken:
    course = columns[:, :-1].reshape(len(columns), len(COURSES), HOURS).transpose(0, 2, 1)[:, ::-1]
    return Taken(_marked(course, COURSES), _marked(columns[:, -1:], ("age",)))


def _marked(values: Rows, names: tuple[str, ...]) -> NDArray[np.float32]:
    """Values by their scales, 0 where there is none, and beside them 1 where there is one."""
    centre, spread = np.array([SCALES[name] for name in names]).T
    scaled = np.clip((values - centre) / spread, -_FURTHEST, _FURTHEST)
    both = np.concatenate([np.nan_to_num(scaled), ~np.isnan(values)], axis=-1)
    return np.ascontiguousarray(both, dtype=np.float32)


def dump(model: NetworkModel) -> bytes:
    """The model as the bytes of an npz file: arrays alone."""
    file = BytesIO()
    np.savez(file, **model.weights, sigmoid=np.array([model.slope, model.shift]))  # type: ignore[arg-type]
    return file.getvalue()


def load(content: bytes) -> NetworkModel:
    """The model of such bytes; nothing of them is run. Raises NetworkFileError."""
    try:
        with np.load(BytesIO(content), allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise NetworkFileError(str(error)) from error
    sigmoid = found.pop("sigmoid", np.zeros(0))
    width = found["first_bias"].size if "first_bias" in found else 0
    if {name: one.shape for name, one in found.items()} != shapes(width) or sigmoid.shape != (2,):
        raise NetworkFileError("its arrays are not those of a network")
    return NetworkModel(found, float(sigmoid[0]), float(sigmoid[1]))
