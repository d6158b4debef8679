"""The dbt project on a real Spark Thrift server, whose catalog is its own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import deltalake
import pyspark
import pytest

from lakehouse.datadir import DataDir
from lakehouse.session import CONF
from lakehouse.tables import OBSERVATION
from tests.fixtures.delta import append
from tests.fixtures.vitals import NOW
from wardhouse.commands.dbt import SOURCES

BIN = Path(sys.executable).parent
SPARK = Path(pyspark.__file__).parent
LONGEST_S = 180


@pytest.fixture
def server(tmp_path: Path, jars: Path) -> Iterator[int]:
    """The port of a Thrift server with Delta and an empty catalog."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = tmp_path / "server"
    place.mkdir()
    conf = {
        **{name: CONF[name] for name in ("spark.sql.extensions", "spark.sql.catalog.spark_catalog")},
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "2",
        "spark.driver.extraClassPath": f"{jars}/spark/*",
        "spark.ui.enabled": "false",
        "spark.sql.warehouse.dir": str(place / "warehouse"),
        "spark.hadoop.javax.jdo.option.ConnectionURL": f"jdbc:derby:;databaseName={place}/metastore;create=true",
        "spark.hadoop.hive.server2.thrift.bind.host": "127.0.0.1",
        "spark.hadoop.hive.server2.thrift.port": str(port),
    }
    options = [text for name, value in conf.items() for text in ("--conf", f"{name}={value}")]
    main = ["--class", "org.apache.spark.sql.hive.thriftserver.HiveThriftServer2", "spark-internal"]
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [SPARK / "bin" / "spark-submit", "--master", "local[2]", *options, *main],
            env={**os.environ, "SPARK_HOME": str(SPARK)},
            cwd=place,
            stdout=log,
            stderr=log,
        )
    try:
        _wait(process, port, place / "log")
        yield port
    finally:
        process.kill()
        process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + LONGEST_S
    while True:
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)


def test_models_are_built_by_a_server_whose_catalog_names_the_tables(server: int, data: DataDir) -> None:
    for table in SOURCES:
        append(data, table)
    for number, value in enumerate((80.0, 90.0)):
        one = {"observation_id": number.to_bytes(16, "big"), "patient_id": "mrn/1", "status": "final", "unit": "/min"}
        at = dict.fromkeys(("observed_at", "received_at", "recorded_at"), NOW)
        append(data, OBSERVATION, {**one, **at, "value": value, "code": "8867-4"})
    environment = {**os.environ, "WARD_THRIFT_PORT": str(server)}

    def dbt(*arguments: str) -> None:
        command = [BIN / "ward", "dbt", *arguments, "--target", "server", "--data-dir", data.root]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    dbt("run-operation", "register_tables")
    dbt("run", "--select", "vital_sign_hourly")

    built = deltalake.DeltaTable(data.table_root / "mart" / "vital_sign_hourly").to_pyarrow_table().to_pylist()
    assert [(row["count"], row["mean"]) for row in built] == [(2, 85.0)]
