"""The sizes of docs/deployment.md are what the measured figures come to."""

from pathlib import Path

from bench.bench_sizing import MEASURED, Bytes, size, table


def test_the_table_of_the_docs_is_the_one_that_is_worked_out() -> None:
    assert table(MEASURED) in Path("docs/deployment.md").read_text()


def test_a_hundred_hospitals() -> None:
    found = size(50_000, Bytes(kafka=1_000, tables=500))

    assert (found.rate, found.routers, found.partitions) == (50_000, 21, 21)  # 50,000 x 203 us = 10.15 cores, half busy
    assert (found.alert_cores, found.lakehouse_cores, found.broker_cores) == (22, 52, 25)
    assert found.kafka_gb == 50_000 * 86_400 * 7 * 3 * 1_000 / 1e9
    assert found.tables_gb_a_day == 50_000 * 86_400 * 500 / 1e9


def test_a_small_hospital_has_two_partitions_and_a_core_of_each() -> None:
    found = size(100, Bytes(kafka=1_000, tables=500))

    assert (found.partitions, found.routers, found.alert_cores, found.broker_cores) == (2, 1, 1, 1)
    assert found.lakehouse_cores == 2
