"""What is asked of a Spark cluster, and what is said where it cannot be had."""

from pathlib import Path

import pytest

from lakehouse.cluster import Absence, Cluster, ClusterError, address_towards, require_shared_address, settings, too_few

HERE = "spark://127.0.0.1:7077"
ELSEWHERE = Cluster("spark://192.0.2.1:7077", 3, 4, "2g", driver_host="198.51.100.7")


@pytest.fixture
def jars(tmp_path: Path) -> Path:
    for name in ("delta.jar", "kafka.jar", "delta.pom"):
        (tmp_path / name).touch()
    return tmp_path


def test_an_application_takes_its_executors_and_leaves_the_rest_of_the_cluster(jars: Path) -> None:
    assert settings(ELSEWHERE, [jars]) == {
        "spark.driver.host": "198.51.100.7",
        "spark.driver.bindAddress": "0.0.0.0",  # noqa: S104 - what is expected
        "spark.executor.instances": "3",
        "spark.executor.cores": "4",
        "spark.cores.max": "12",
        "spark.executor.memory": "2g",
        "spark.dynamicAllocation.enabled": "false",
        "spark.sql.shuffle.partitions": "12",
        "spark.databricks.delta.snapshotPartitions": "12",
        "spark.jars": f"{jars}/delta.jar,{jars}/kafka.jar",
    }


def test_jars_that_workers_have_already_are_not_sent(jars: Path) -> None:
    asked = settings(Cluster(HERE, 2, 2, executor_jars="/opt/wardhouse/jars"), [jars])

    assert asked["spark.executor.extraClassPath"] == "/opt/wardhouse/jars/*"
    assert "spark.jars" not in asked


def test_a_driver_beside_its_master_is_reached_and_listens_on_the_loopback_address_alone(jars: Path) -> None:
    asked = settings(Cluster(HERE, 1, 1), [jars])

    assert (asked["spark.driver.host"], asked["spark.driver.bindAddress"]) == ("127.0.0.1", "127.0.0.1")


@pytest.mark.parametrize("master", ["spark://127.0.0.1:7077,127.0.0.2:7077", "k8s://https://127.0.0.1:6443"])
def test_the_first_of_several_masters_and_a_kubernetes_server_say_where_the_way_goes(master: str) -> None:
    assert address_towards(master) == "127.0.0.1"


def test_a_master_whose_name_is_unknown_is_an_error_that_says_what_to_correct() -> None:
    with pytest.raises(ClusterError, match=r"no way to the Spark master spark://no-such-host\.invalid:7077 .*--master"):
        address_towards("spark://no-such-host.invalid:7077")


@pytest.mark.parametrize("master", ["yarn", "127.0.0.1:7077"])
def test_what_names_no_master_is_refused(master: str) -> None:
    with pytest.raises(ClusterError, match=f"{master} names no Spark master: give spark://HOST:PORT"):
        address_towards(master)


@pytest.mark.parametrize("bootstrap", ["127.0.0.1:9092", "localhost:9092,[::1]:9093"])
def test_executors_elsewhere_cannot_use_a_broker_at_a_loopback_address(
    bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse.cluster.address_towards", lambda _: "198.51.100.7")

    with pytest.raises(ClusterError, match=r"cannot reach the broker at .* KAFKA_BOOTSTRAP_SERVERS"):
        require_shared_address(ELSEWHERE.master, bootstrap)


def test_executors_elsewhere_may_use_a_broker_that_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakehouse.cluster.address_towards", lambda _: "198.51.100.7")

    require_shared_address(ELSEWHERE.master, "kafka-1.ward.example:9092,127.0.0.1:9092")


def test_executors_on_this_machine_may_use_its_loopback_address() -> None:
    require_shared_address(HERE, "127.0.0.1:9092")


def test_a_cluster_with_too_few_slots_is_told_with_what_was_asked_and_what_to_do() -> None:
    assert too_few(ELSEWHERE, 8, 10, "real-time mode holds one for each of the 10 partitions of vitals") == (
        "spark://192.0.2.1:7077 gives 8 task slots, and 10 are needed: real-time mode holds one for each of the 10"
        " partitions of vitals. Asked for were 3 executors of 4 cores and 2g: free or add workers with as many cores"
        " and as much memory, or ask for others with --executors, --executor-cores and WARD_SPARK_EXECUTOR_MEMORY"
    )


def test_executors_that_stay_away_for_a_minute_are_told_once_and_again_after_they_have_been_there() -> None:
    absence = Absence(ELSEWHERE)

    told = [
        absence.look(there, now) for there, now in ((3, 0), (0, 10), (0, 69), (0, 70), (0, 200), (1, 201), (0, 202))
    ]

    assert [text is not None for text in told] == [False, False, False, True, False, False, False]
    assert str(told[3]).startswith("spark://192.0.2.1:7077 gives 0 task slots, and 1 are needed: one to run any task.")
    assert absence.look(0, 262) == told[3]
