"""The models to score with: the one in service and the one in its shadow, each loaded when it takes that place."""

from dataclasses import dataclass
from enum import StrEnum

from lakehouse.models.artefact import ModelFileError
from lakehouse.models.outcome import Outcome
from lakehouse.models.registry import IN_SERVICE, SHADOW, Registered, Registry, RegistryError
from lakehouse.models.risk import RiskModel


class Role(StrEnum):
    """As what a version is scored with."""

    IN_SERVICE = IN_SERVICE
    SHADOW = SHADOW
    """Tried beside it and shown to nobody."""


@dataclass(frozen=True)
class Served:
    """One version that is scored with, and as what."""

    version: int
    role: Role
    model: RiskModel
    outcome: Outcome


class Serving:
    """Follows a registry: it is asked each time, and a file is read only when another version stands there."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._loaded: dict[int, tuple[RiskModel, Outcome]] = {}

    def models(self) -> tuple[tuple[Served, ...], tuple[str, ...]]:
        """What can be scored with now, and what is wrong with the rest: each says what to do.

        A version whose file is lost is tried again each time: it may be restored.
        """
        served: list[Served] = []
        problems: list[str] = []
        for role in Role:
            try:
                found = self._registry.in_service() if role is Role.IN_SERVICE else self._registry.under(role)
                if found is not None:
                    loaded = self._loaded.get(found.version) or served_by(self._registry, found)
                    served.append(Served(found.version, role, *loaded))
            except (RegistryError, ModelFileError) as error:
                problems.append(str(error))
        self._loaded = {one.version: (one.model, one.outcome) for one in served}
        return tuple(served), tuple(problems)


def served_by(registry: Registry, one: Registered) -> tuple[RiskModel, Outcome]:
    """The model of a version and what it predicts. Raises ModelFileError."""
    return registry.model(one), registry.evaluation(one).outcome
