"""The cluster that the environment names."""

import pytest

from lakehouse.cluster import Cluster
from wardhouse.cluster import cluster_of
from wardhouse.settings import Settings


@pytest.mark.parametrize("master", [None, "local[4]"])
def test_without_a_cluster_sessions_run_on_this_machine(master: str | None) -> None:
    assert cluster_of(Settings(spark_master=master), 3) is None


def test_executors_have_at_least_the_slots_that_an_application_wants() -> None:
    assert cluster_of(Settings(spark_master="spark://m:7077"), 3) == Cluster("spark://m:7077", 2, 2, "2g")


def test_a_site_says_how_large_its_executors_are() -> None:
    asked = {
        "spark_master": "k8s://https://k:6443",
        "spark_executors": 5,
        "spark_executor_cores": 4,
        "spark_executor_memory": "6g",
        "spark_driver_host": "ward-stream.ward.svc",
        "spark_executor_jars": "/opt/wardhouse/jars",
    }
    expected = Cluster("k8s://https://k:6443", 5, 4, "6g", "ward-stream.ward.svc", "/opt/wardhouse/jars")

    assert cluster_of(Settings(**asked), 3) == expected
