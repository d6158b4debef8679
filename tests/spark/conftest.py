"""One Spark session for every test of this folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lakehouse.session import build_session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="session")
def spark() -> Iterator["SparkSession"]:
    session = build_session("wardhouse-tests", Path(".jars"), cores=2, memory="1g")
    yield session
    session.stop()
