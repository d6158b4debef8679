"""Rounds of scores beside the ward on a real registry: another model, a lost one, a broker that is away."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError

from lakehouse import progress, reader
from lakehouse.datadir import DataDir
from lakehouse.models.drift import reference
from lakehouse.models.evaluation import evaluate, out_of_fold
from lakehouse.models.gate import Gate
from lakehouse.models.registry import Registry, connect
from lakehouse.models.risk import fit
from lakehouse.models.serving import Serving
from lakehouse.tables import PATIENT, RISK_SCORE, SCORE_INPUT, VITAL_SIGN_MINUTE
from streaming.risk_score import Scorer
from tests.fixtures.delta import append
from tests.fixtures.landmarks import QUICK, made_up
from tests.fixtures.observations import NOON

_MINUTE = timedelta(minutes=1)


@dataclass
class Ward:
    """A scorer, and what it sent and told."""

    data: DataDir
    registry: Registry
    sent: list[tuple[str, int]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    broker: bool = True

    def scorer(self) -> Scorer:
        return Scorer(self.data, Serving(self.registry), self._send, self.told.append, self.data.progress("risk_score"))

    def _send(self, rows: list[dict[str, Any]]) -> None:
        if not self.broker:
            raise KafkaTimeoutError("no answer")
        self.sent += [(row["patient_id"], row["model_version"]) for row in rows]

    def minute(self, number: int) -> None:
        """A minute of the patient arrives in gold."""
        value = dict.fromkeys(("min", "mean", "max", "first", "last"), 80.0)
        row = {"patient_id": "mrn/1", "code": "8867-4", "minute": NOON + number * _MINUTE, "unit": "/min", "count": 1}
        append(self.data, VITAL_SIGN_MINUTE, row | value)

    def rows(self) -> list[tuple[int, str, int]]:
        """Minute after noon, role and version of every row, in order."""
        found = reader.open(self.data, RISK_SCORE).project("landmark_at, role, model_version").fetchall()
        return sorted(((at - NOON) // _MINUTE, role, version) for at, role, version in found)

    def file(self, version: int) -> Path:
        run = self.registry.version(version).run
        return self.data.models / "files" / run / "artifacts" / "model.skops"


@pytest.fixture
def ward(data: DataDir) -> Ward:
    for table in (VITAL_SIGN_MINUTE, SCORE_INPUT, PATIENT, RISK_SCORE):
        append(data, table)
    return Ward(data, connect(data, None))


@pytest.fixture(scope="module")
def register() -> Callable[[Registry], int]:
    """Registers a version that the gate lets through."""
    rows = made_up()
    model = fit(rows.x, rows.event, rows.patients, QUICK, seed=1)
    good = replace(evaluate(rows, out_of_fold(rows, QUICK), QUICK), calibration_error=0.01)
    return lambda registry: (
        registry.register(model, good, QUICK, reference(rows.x, model.risks(rows.x), rows.patients), {}, None).version
    )


def test_another_model_takes_over_without_a_restart_and_its_shadow_is_sent_to_nobody(
    ward: Ward, register: Callable[[Registry], int]
) -> None:
    scorer = ward.scorer()
    for _ in range(2):
        register(ward.registry)
    ward.registry.promote(1, Gate())
    ward.minute(0)

    counts = [scorer.round(NOON + _MINUTE), scorer.round(NOON + _MINUTE)]
    ward.registry.shadow(2)
    ward.minute(1)
    counts.append(scorer.round(NOON + 2 * _MINUTE))
    ward.registry.promote(2, Gate())
    ward.minute(2)
    counts.append(ward.scorer().round(NOON + 3 * _MINUTE))

    assert counts == [1, 0, 2, 1]
    assert ward.rows() == [(0, "in_service", 1), (1, "in_service", 1), (1, "shadow", 2), (2, "in_service", 2)]
    assert ward.sent == [("mrn/1", 1), ("mrn/1", 1), ("mrn/1", 2)]
    assert ward.told == []
    assert progress.last(ward.data.progress("risk_score")) is not None


def test_a_model_that_is_lost_is_told_once_its_shadow_goes_on_and_its_return_is_told(
    ward: Ward, register: Callable[[Registry], int]
) -> None:
    assert ward.scorer().round(NOON) == 0
    assert ward.told.pop().startswith("risk scores: no model is in service: `ward model train`")
    for _ in range(2):
        register(ward.registry)
    ward.registry.promote(1, Gate())
    ward.registry.shadow(2)
    content = ward.file(1).read_bytes()
    ward.file(1).write_bytes(content[:100])
    scorer = ward.scorer()

    for number in (0, 1):
        ward.minute(number)
        assert scorer.round(NOON + (number + 1) * _MINUTE) == 1
    assert ward.rows() == [(0, "shadow", 2), (1, "shadow", 2)]
    assert ward.sent == []
    assert len(ward.told) == 1
    assert "version 1 is damaged: its SHA-256 is" in ward.told[0]

    ward.file(1).write_bytes(content)
    assert scorer.round(NOON + 2 * _MINUTE) == 1
    assert ward.sent == [("mrn/1", 1)]
    assert ward.told[1:] == ["risk scores: all is well again"]


def test_without_a_broker_risks_are_kept_and_it_is_told_once(ward: Ward, register: Callable[[Registry], int]) -> None:
    register(ward.registry)
    ward.registry.promote(1, Gate())
    ward.broker = False
    scorer = ward.scorer()

    for number in (0, 1):
        ward.minute(number)
        scorer.round(NOON + (number + 1) * _MINUTE)

    assert ward.rows() == [(0, "in_service", 1), (1, "in_service", 1)]
    assert ward.told == ["risk scores: rules do not see risks, the broker took none: KafkaTimeoutError"]
