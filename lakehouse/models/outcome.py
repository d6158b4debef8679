"""What a model predicts: which event, within how long, and of whom it may speak."""

from dataclasses import dataclass
from datetime import timedelta

_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Outcome:
    """An event within a span of time after a landmark.

    ``name`` stands in gold.risk_score; ``event`` and ``landmarks`` say on a card what it is and where it is asked.
    ``step_minutes`` lie between two landmarks. ``system`` is that of the only patients a model of it speaks of; None:
    of all.
    """

    name: str
    event: str
    landmarks: str
    step_minutes: int
    system: str | None = None

    @property
    def step(self) -> timedelta:
        """Between two landmarks of a patient."""
        return self.step_minutes * _MINUTE

    @property
    def simulated(self) -> bool:
        """Whether the event is one that the simulator made up."""
        return self.system is not None

    def concerns(self, patient_id: str) -> bool:
        """Whether a model of it may speak of a patient (``system/value``)."""
        return self.system is None or patient_id.partition("/")[0] == self.system


DEATH = Outcome(
    "death-within-24-hours", "death in hospital within 24 hours", "every four hours of ICU stays", step_minutes=240
)
"""Of the landmarks of mart.deterioration_label."""


def simulated_episode(within: timedelta, system: str) -> Outcome:
    """The height of an episode of the simulator is reached within this time, asked at each third of it."""
    minutes = max(round(within / _MINUTE), 1)
    step = -(-minutes // 3)
    return Outcome(
        f"simulated-episode-within-{minutes}-minutes",
        f"the height of a simulated episode within {minutes} minutes",
        f"every {step} minutes of simulated stays" if step > 1 else "every minute of simulated stays",
        step,
        system,
    )
