"""What is known of models of risk, as frames for the page Models."""

from dataclasses import dataclass
from datetime import datetime

import pandas as pd  # noqa: TID253 - only a running Streamlit imports this module

from lakehouse.datadir import DataDir
from lakehouse.models.drift import RISK
from lakehouse.models.evaluation import MODEL, Evaluation
from lakehouse.models.registry import Look, Registered, Registry, connect
from lakehouse.scores import Score

_WRITTEN = {str(Score.NEWS2): "NEWS2", str(Score.QSOFA): "qSOFA", str(Score.SIRS): "SIRS"}


@dataclass(frozen=True)
class Known:
    """One version with all that the page shows. ``drift`` has its newest look, ``risk_looks`` each look at the risk."""

    version: Registered
    evaluation: Evaluation
    card: str
    drift: pd.DataFrame
    risk_looks: tuple[Look, ...]

    @property
    def looked_at(self) -> datetime | None:
        """When it was last held against its training."""
        return self.risk_looks[-1].at if self.risk_looks else None


def versions(data: DataDir, tracking_uri: str | None) -> list[Registered]:
    """Every version, the newest first. Raises RegistryError.

    Looking makes no registry where there is none.
    """
    if tracking_uri is None and not data.models.exists():
        return []
    return list(reversed(connect(data, tracking_uri).versions()))


def known(data: DataDir, tracking_uri: str | None, version: int) -> Known:
    """Raises RegistryError, and ModelFileError where what was registered is lost."""
    registry = connect(data, tracking_uri)
    one = registry.version(version)
    return Known(one, registry.evaluation(one), registry.card(one), _drift(registry, one), registry.noted(one, RISK))


def _drift(registry: Registry, one: Registered) -> pd.DataFrame:
    """``name``, ``index``, ``limit``, ``moved`` of the newest look, what has moved furthest first."""
    looks = registry.newest(one)
    rows = [(name, look.index, look.limit, look.moved) for name, look in looks.items()]
    frame = pd.DataFrame(rows, columns=["name", "index", "limit", "moved"])
    return frame.sort_values(["index", "name"], ascending=[False, True], ignore_index=True)


def performances(evaluation: Evaluation) -> pd.DataFrame:
    """A row for the model and for each score, on the same landmarks."""
    return pd.DataFrame(
        {
            "": [_WRITTEN.get(one.name, one.name) for one in evaluation.performances],
            "AUROC": [one.auroc.value for one in evaluation.performances],
            "AUROC, 95 %": [_interval(one.auroc.low, one.auroc.high) for one in evaluation.performances],
            "AUPRC": [one.auprc.value for one in evaluation.performances],
            "Sensitivity": [one.sensitivity for one in evaluation.performances],
            "Alerts a patient and day": [one.alerts_a_day for one in evaluation.performances],
            "Hours ahead": [one.lead_hours for one in evaluation.performances],
        }
    )


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def against_news2(evaluation: Evaluation) -> float:
    """By how much the model's AUROC is above that of NEWS2."""
    return evaluation.of(MODEL).auroc.value - evaluation.of(str(Score.NEWS2)).auroc.value
