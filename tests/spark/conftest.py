"""One Spark session for every test of this folder, and small builders of frames."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lakehouse import delta
from lakehouse.datadir import DataDir
from lakehouse.session import build_session
from lakehouse.tables import TABLES
from streaming.config import StreamConfig
from tests.fixtures.streams import config_of
from tests.fixtures.vitals import NOW

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

RECORD = "topic STRING, partition INT, offset BIGINT, received_at TIMESTAMP, key BINARY, value BINARY"


@pytest.fixture(scope="session")
def spark() -> Iterator["SparkSession"]:
    # One session serves hundreds of tests, each with plans and tables of its own.
    session = build_session("wardhouse-tests", Path(".jars"), cores=2, memory="2g", java_options="-XX:+UseSerialGC")
    # A test's few rows are done before their Java would be generated and compiled. Tests of whole runs do that.
    session.conf.set("spark.sql.codegen.wholeStage", "false")
    session.conf.set("spark.sql.codegen.factoryMode", "NO_CODEGEN")
    yield session
    session.stop()


@pytest.fixture(scope="session")
def frame(spark: "SparkSession") -> Callable[..., "DataFrame"]:
    """A frame of these rows (tuples), in one partition, under a DDL schema."""
    import pyarrow as pa
    from pyspark.sql.pandas.types import to_arrow_schema
    from pyspark.sql.types import StructType

    def make(rows: Sequence[tuple[Any, ...]], ddl: str) -> "DataFrame":
        # By Arrow: a list of rows would start Python workers, again in each job that reads it.
        schema = StructType.fromDDL(ddl)
        arrow = to_arrow_schema(schema, timezone="UTC")
        columns = [pa.array([row[n] for row in rows], field.type) for n, field in enumerate(arrow)]
        return spark.createDataFrame(pa.Table.from_arrays(columns, schema=arrow), schema).coalesce(1)

    return make


@pytest.fixture(scope="session")
def records(frame: Callable[..., "DataFrame"]) -> Callable[..., "DataFrame"]:
    """Bronze records of these values, at offsets from ``first`` in their order."""

    def make(*values: bytes | None, first: int = 0, topic: str = "vitals", received_at: datetime = NOW) -> "DataFrame":
        rows = [(topic, 0, first + n, received_at, b"mrn/1", value) for n, value in enumerate(values)]
        return frame(rows, RECORD)

    return make


@pytest.fixture
def stream_config(tmp_path: Path) -> StreamConfig:
    """Settings of a stream on an empty data dir; no broker is there."""
    return config_of(DataDir(tmp_path / "ward"))


@pytest.fixture(scope="session")
def empty_tables(spark: "SparkSession", tmp_path_factory: pytest.TempPathFactory) -> DataDir:
    """A data dir with every declared table, empty. Copy it: creating them takes seconds."""
    data = DataDir(tmp_path_factory.mktemp("empty") / "ward")
    for table in TABLES:
        delta.create(spark, table, data.table(table))
    return data


@pytest.fixture
def lake(empty_tables: DataDir, stream_config: StreamConfig) -> StreamConfig:
    """Settings of a stream on a data dir of its own with every declared table, empty."""
    shutil.copytree(empty_tables.root, stream_config.data.root)
    return stream_config
