"""The ward as a list of tiles, sorted by need. Pure: frames in, values out."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dashboard.news2 import News2
from dashboard.palette import PRIORITIES
from lakehouse.vocabulary import signal_by_name

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Reading:
    """One signal on a tile."""

    code: str
    value: float | str | None
    band: str
    fault: str | None
    observed_at: datetime


@dataclass(frozen=True)
class Tile:
    """One patient: where, how, and the open alerts by priority, the gravest first."""

    patient_id: str
    unit: str | None
    bed: str | None
    readings: Mapping[str, Reading]
    """By LOINC code."""
    alerts: tuple[tuple[str, str, str], ...] = ()
    """Priority, title and state."""
    news2: News2 | None = None

    @property
    def priority(self) -> str | None:
        """The gravest priority among the open alerts."""
        return self.alerts[0][0] if self.alerts else None

    @property
    def newest(self) -> datetime:
        """The instant of the latest reading."""
        return max(reading.observed_at for reading in self.readings.values())


def code(name: str) -> str:
    """LOINC code of a signal by its short name."""
    return signal_by_name()[name].code


def ward_tiles(latest: "pd.DataFrame", alerts: "pd.DataFrame", scores: Mapping[str, News2]) -> list[Tile]:
    """One tile a patient with a value, those in greatest need first; ``scores`` are by patient.

    Need: the gravest open alert, the most that NEWS2 can be, how many alerts are open, how many values are beyond a
    limit now; then unit and bed.
    """
    titles: dict[str, list[tuple[str, str, str]]] = {}
    for alert in alerts.to_dict("records"):
        titles.setdefault(alert["patient_id"], []).append((alert["priority"], alert["title"], alert["state"]))
    found = [
        Tile(
            patient_id,
            _text(rows[0]["unit"]),
            _text(rows[0]["bed"]),
            {row["code"]: _reading(row) for row in rows},
            tuple(sorted(titles.get(patient_id, ()), key=lambda alert: (PRIORITIES[alert[0]].rank, alert[1]))),
            scores.get(patient_id),
        )
        for patient_id, rows in _grouped(latest.to_dict("records")).items()
    ]
    return sorted(found, key=_need)


def _grouped(rows: Iterable[Mapping[Any, Any]]) -> dict[str, list[Mapping[Any, Any]]]:
    by_patient: dict[str, list[Mapping[Any, Any]]] = {}
    for row in rows:
        by_patient.setdefault(row["patient_id"], []).append(row)
    return by_patient


def _reading(row: Mapping[Any, Any]) -> Reading:
    value = row["value"]
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    return Reading(row["code"], None if missing else value, row["band"], _text(row["fault"]), row["observed_at"])


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _need(tile: Tile) -> tuple[int, int, int, int, str, str, str]:
    gravest = PRIORITIES[tile.priority].rank if tile.priority else len(PRIORITIES)
    beyond = sum(reading.band == "breach" for reading in tile.readings.values())
    most = tile.news2.most if tile.news2 else 0
    return gravest, -most, -len(tile.alerts), -beyond, tile.unit or "~", tile.bed or "~", tile.patient_id
