"""One Spark session for every test of this folder, and small builders of frames."""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lakehouse.session import build_session
from tests.fixtures.vitals import NOW

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

RECORD = "topic STRING, partition INT, offset BIGINT, received_at TIMESTAMP, key BINARY, value BINARY"


@pytest.fixture(scope="session")
def spark() -> Iterator["SparkSession"]:
    session = build_session("wardhouse-tests", Path(".jars"), cores=2, memory="1g")
    yield session
    session.stop()


@pytest.fixture(scope="session")
def records(spark: "SparkSession") -> Callable[..., "DataFrame"]:
    """Bronze records of these values, at offsets from ``first`` in their order."""

    def make(*values: bytes | None, first: int = 0, topic: str = "vitals", received_at: datetime = NOW) -> "DataFrame":
        rows = [(topic, 0, first + n, received_at, b"mrn/1", value) for n, value in enumerate(values)]
        return spark.createDataFrame(rows, RECORD).coalesce(1)

    return make
