"""How a model is fitted and evaluated. Nothing of it was chosen by what it gives on the rows it is evaluated on."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What is fitted."""

    TREES = "trees"
    """Gradient-boosted trees over features."""
    NETWORK = "network"
    """A small network over the course of a day, hour by hour."""


@dataclass(frozen=True)
class Trees:
    """Shallow trees with large leaves, since a hundred patients bear no more."""

    trees: int = 100
    learning_rate: float = 0.05
    leaves: int = 6
    samples_a_leaf: int = 40
    penalty: float = 10.0
    features_a_split: float = 0.3

    @property
    def kind(self) -> Kind:
        """Trees."""
        return Kind.TREES


@dataclass(frozen=True)
class Network:
    """Few weights and steps for the same reason. ``width`` is of each layer, ``penalty`` on squares of weights."""

    width: int = 16
    steps: int = 100
    learning_rate: float = 0.01
    penalty: float = 0.001

    @property
    def kind(self) -> Kind:
        """A network."""
        return Kind.NETWORK


Learner = Trees | Network

LEARNERS: dict[Kind, Learner] = {one.kind: one for one in (Trees(), Network())}
"""What is used where nothing else is asked for."""


@dataclass(frozen=True)
class Recipe:
    """What is fitted, and by which folds it is evaluated; ``resamples`` is of the bootstrap."""

    learner: Learner = Trees()
    folds: int = 5
    repeats: int = 3
    resamples: int = 300
    seed: int = 1
