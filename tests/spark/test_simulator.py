"""What the simulator's truth expects of each fault is what the silver transform makes of it."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from alerting.bands import arms
from alerting.evaluation import decode
from alerting.offline import evaluate
from alerting.pack import load
from lakehouse.transforms.message import parse
from lakehouse.transforms.observation import observations
from streaming.alert_limits import build
from streaming.simulator.faults import FAULTS
from streaming.simulator.simulation import Options, Record, Simulation

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

START = datetime(2026, 3, 1, 8, tzinfo=UTC)
SCHEMA = "topic string, partition int, offset bigint, received_at timestamp, value binary"


def faulty() -> list[Record]:
    """Sixty messages of each fault (two of a mebibyte each), nothing else."""
    made: list[Record] = []
    for fault in FAULTS:
        options = Options(START, 60, seed=5, fault_rates={fault.name: 1.0}, episodes_per_hour=0)
        messages = 2 if fault.name == "oversized" else 60
        items = Simulation(options).records(duration=messages / 60)
        made += [item for item in items if isinstance(item, Record) and item.topic == "vitals"]
    return made


def test_every_fault_becomes_what_the_truth_expects(spark: "SparkSession") -> None:
    records = faulty()
    received_at = START + timedelta(seconds=1)
    rows = [
        ("vitals", 0, offset, received_at, None if record.value is None else bytearray(record.value))
        for offset, record in enumerate(records)
    ]
    found = observations(parse(spark.createDataFrame(rows, SCHEMA)))
    actual: dict[int, Counter[str]] = {offset: Counter() for offset in range(len(records))}
    for row in found.select("offset", "dead_letter_reason", "failed_constraints").collect():
        if row.dead_letter_reason:
            actual[row.offset][f"dead_letter:{row.dead_letter_reason}"] += 1
        else:
            actual[row.offset].update(["parsed", *row.failed_constraints])
    expected: dict[int, Counter[str]] = {}
    for offset, record in enumerate(records):
        line = record.line
        dead = line["expect"].startswith("dead_letter:")
        expected[offset] = Counter({line["expect"]: 1} if dead else {"parsed": line["observations"]})
        expected[offset].update(line.get("quarantined", {}))
    assert actual == expected


def test_the_alert_flow_and_its_double_in_python_judge_every_fault_alike(spark: "SparkSession") -> None:
    adult = load("adult")
    records = [record for record in faulty() if record.value is not None]
    received_at = START + timedelta(seconds=1)
    rows = [("vitals", 0, offset, received_at, bytearray(one.value)) for offset, one in enumerate(records) if one.value]
    judged = [decode(row.value.encode()) for row in build(spark.createDataFrame(rows, SCHEMA), adult).collect()]
    assert len(judged) > 20 * 60
    limits, at = arms(adult), round(received_at.timestamp() * 1000)
    for found in judged:
        message = json.loads(records[found.offset].value or b"")
        assert evaluate(message, at, limits, adult.label, found.offset) == found
