from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from lakehouse.tables import DEAD_LETTER, OBSERVATION, OBSERVATION_QUARANTINE
from streaming.audit import audit

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

COORDINATES = "topic STRING, `partition` INT, `offset` BIGINT"
NOW = datetime(2026, 3, 1, tzinfo=UTC)

Audit = Callable[..., dict[str, int]]


def at(offset: int) -> tuple[str, int, int]:
    return ("vitals", 0, offset)


@pytest.fixture(scope="module")
def audited(spark: "SparkSession") -> Audit:
    """Three records were sent: one clean, one with a sentinel, one that is not JSON. Call it with what landed."""

    def frame(rows: list[Any], schema: str) -> "DataFrame":
        return spark.createDataFrame(rows, f"{COORDINATES}{schema}")

    sent = frame(
        [
            (*at(0), "parsed", 2, None),
            (*at(1), "parsed", 2, {"sensor_disconnected": 1}),
            (*at(2), "dead_letter:empty", 0, {}),
        ],
        ", expect STRING, observations INT, quarantined MAP<STRING, INT>",
    )

    def call(
        *,
        bronze: tuple[int, ...] = (0, 1, 2),
        silver: tuple[int, ...] = (0, 0, 1),
        quarantine: tuple[tuple[int, str], ...] = ((1, "sensor_disconnected"),),
        dead: tuple[tuple[int, str], ...] = ((2, "empty"),),
    ) -> dict[str, int]:
        claimed = frame([at(offset) for offset in bronze], "")
        tables = {
            OBSERVATION.full_name: frame([at(offset) for offset in silver], ""),
            OBSERVATION_QUARANTINE.full_name: frame(
                [(*at(offset), [reason]) for offset, reason in quarantine], ", failed_constraints ARRAY<STRING>"
            ),
            DEAD_LETTER.full_name: frame([(*at(offset), reason) for offset, reason in dead], ", reason STRING"),
        }
        checks = audit(sent, claimed, claimed, tables)
        return {check.name.removeprefix("truth: ").split()[1]: check.count for check in checks}

    return call


def test_what_landed_as_it_was_sent_holds(audited: Audit) -> None:
    assert audited() == {"record": 0, "dead": 0, "message's": 0}


def test_a_record_that_is_not_in_bronze_is_lost(audited: Audit) -> None:
    assert audited(bronze=(1, 2))["record"] == 1


def test_a_dead_letter_that_is_missing_or_has_another_reason_is_found(audited: Audit) -> None:
    assert audited(dead=())["dead"] == 1
    assert audited(dead=((2, "tombstone"),))["dead"] == 2
    assert audited(dead=((2, "empty"), (0, "empty")))["dead"] == 1


def test_a_value_too_few_too_many_or_under_another_reason_is_found(audited: Audit) -> None:
    assert audited(silver=(0, 1))["message's"] == 1
    assert audited(silver=(0, 0, 0, 1))["message's"] == 1
    assert audited(quarantine=((1, "out_of_range"),))["message's"] == 1
    assert audited(silver=(0, 0, 1, 1), quarantine=())["message's"] == 1
